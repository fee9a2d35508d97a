import pytest

from tesra.cli import words
from tesra.cli.output import columns, complaint, plain
from tesra.kit.errors import NotFound


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (2**30, "1.0 GiB"),
        (2**60, "1048576.0 TiB"),
    ],
)
def test_sizes_are_binary(size_bytes: int | None, text: str) -> None:
    assert words.size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (7400, "2 h 3 min"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_a_complaint_is_one_line_with_the_way_out() -> None:
    error = NotFound("It is\nnot there.", way_out="Look\n elsewhere.")
    assert complaint(error) == "It is not there. Look elsewhere."


def test_columns_are_aligned() -> None:
    assert columns([["a", "1"], ["bbb", "22"]], [False, True]) == ["a     1", "bbb  22"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a b.txt", "a b.txt"),
        ("数据 é\u3000👨\u200d👩.txt", "数据 é\u3000👨\u200d👩.txt"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("not\udcff", "not\\udcff"),
    ],
)
def test_a_name_does_not_steer_the_terminal(name: str, text: str) -> None:
    assert words.visible(name) == text
    assert complaint(NotFound(f"There is no '{name}'.")).isprintable() or text == name


def test_plain_data_stays_as_it_is() -> None:
    assert plain({"a": [1, ("b", None)]}) == {"a": [1, ["b", None]]}


def test_chinese_names_keep_the_columns_straight() -> None:
    lines = columns([("Name", "Files"), ("我的项目", "1"), ("digits", "12")], [False, True])
    assert lines == ["Name      Files", "我的项目      1", "digits       12"]
