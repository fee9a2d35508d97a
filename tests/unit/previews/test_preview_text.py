"""Text and tables out of the first bytes of files, good and hostile."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesra.drive.previews.text import HEAD_BYTES, MAX_CELL, decode, table


def test_text_is_read_in_the_encodings_that_people_use() -> None:
    for said, encoding in (
        ("hello\n", "utf-8"),
        ("你好，世界\n", "utf-8"),
        ("你好，世界，这是一个文件\n", "gb18030"),
    ):
        decoded = decode(said.encode(encoding), whole=True)
        assert decoded is not None
        assert (decoded.text, decoded.encoding) == (said, encoding)
    marked = decode("\ufeffwide\n".encode("utf-16-le"), whole=True)
    assert marked is not None
    assert (marked.text, marked.encoding) == ("wide\n", "utf-16-le")


def test_a_character_that_is_cut_at_the_end_is_left_out() -> None:
    torn = "电池".encode()[:-1]
    decoded = decode(torn, whole=False)
    assert decoded is not None
    assert (decoded.text, decoded.encoding) == ("电", "utf-8")


def test_damaged_text_is_shown_as_damaged() -> None:
    decoded = decode(b"a line of text\n" * 100 + b"\xe7\xe7" + b"and more\n" * 100, whole=True)
    assert decoded is not None
    assert decoded.encoding == "utf-8 (damaged)"
    assert "\ufffd" in decoded.text


@pytest.mark.parametrize("head", [b"\x7fELF\0\0", bytes(range(256)) * 8, b"\x01\x02\x03" * 99])
def test_binary_is_no_text(head: bytes) -> None:
    assert decode(head, whole=True) is None


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_text_that_can_be_sent_or_none(head: bytes, whole: bool) -> None:
    decoded = decode(head, whole=whole)
    if decoded is not None:
        decoded.text.encode()
        table(decoded.text, whole=whole)


def test_columns_have_names_and_types() -> None:
    found = table(
        "n,share,day,ok,who\n1,0.5,2026-01-02,true,a\n2,1e3,2026-01-03,false,\n", whole=True
    )
    assert [(one.name, one.type) for one in found.columns] == [
        ("n", "integer"),
        ("share", "number"),
        ("day", "date"),
        ("ok", "boolean"),
        ("who", "text"),
    ]
    assert found.rows[1] == ["2", "1e3", "2026-01-03", "false", ""]


def test_a_table_without_heading_and_with_another_delimiter() -> None:
    found = table("1;2,5\n3;4,5\n", whole=True)
    assert found.delimiter == ";"
    assert [one.name for one in found.columns] == ["column 1", "column 2"]
    assert found.rows == [["1", "2,5"], ["3", "4,5"]]


def test_a_row_that_is_cut_is_left_out_and_an_endless_line_is_cut() -> None:
    assert table("a,b\nc,d\ne,", whole=False).rows == [["c", "d"]]
    before = csv.field_size_limit()
    found = table("x" * HEAD_BYTES, whole=False)
    assert csv.field_size_limit() == before
    assert (
        max(
            len(cell) for row in found.rows or [[one.name for one in found.columns]] for cell in row
        )
        <= MAX_CELL
    )
    assert len(table("," * HEAD_BYTES, whole=False).columns) == 100


def test_a_quote_that_never_ends_takes_no_more_than_was_read() -> None:
    found = table('a,b\n"' + "x\n" * 30_000, whole=False)
    assert len(found.columns) == 2
