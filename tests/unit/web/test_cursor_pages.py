import contextlib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesra.web.pages import CursorInvalid, PageRequest, decode_cursor, encode_cursor, page_of


@given(st.text(min_size=1).filter(str.isprintable))
def test_a_cursor_gives_back_the_id_it_was_made_of(last_id: str) -> None:
    assert decode_cursor(encode_cursor(last_id)) == last_id


@given(st.text(min_size=1))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    with contextlib.suppress(CursorInvalid):
        assert decode_cursor(text)


@pytest.mark.parametrize("cursor", ["!", "ä", "AA", "a", "AAAA"])
def test_what_no_page_has_given_is_refused(cursor: str) -> None:
    with pytest.raises(CursorInvalid):
        decode_cursor(cursor)


def test_no_cursor_is_the_first_page() -> None:
    assert decode_cursor(None) is None
    assert decode_cursor("") is None


def test_a_page_without_a_row_more_is_the_last() -> None:
    page = page_of([SimpleNamespace(id="a"), SimpleNamespace(id="b")], 2)
    assert page.next is None
    assert len(page.items) == 2


def test_a_row_more_makes_a_cursor_of_the_last_row_shown() -> None:
    page = page_of([SimpleNamespace(id="a"), SimpleNamespace(id="b"), SimpleNamespace(id="c")], 2)
    assert [item.id for item in page.items] == ["a", "b"]
    assert decode_cursor(page.next) == "b"


def test_an_id_may_be_made_otherwise() -> None:
    page = page_of([1, 2], 1, id_of=lambda row: f"n{row}")
    assert decode_cursor(page.next) == "n1"


def test_a_numbered_list_goes_on_behind_a_number() -> None:
    assert PageRequest(None, 50).number_after == 0
    assert PageRequest("17", 50).number_after == 17


@pytest.mark.parametrize("after", ["x", "²", "-1", "1.5", "٣", "9" * 19])
def test_a_numbered_list_refuses_what_is_no_number(after: str) -> None:
    with pytest.raises(CursorInvalid):
        _ = PageRequest(after, 50).number_after
