"""Languages: which one a visitor gets, how values are written, and that catalogues are whole."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from tesra.web.ui.language import FOLDER, accepted_tag, known_tag, language

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("header", "tag"),
    [
        (None, "en"),
        ("", "en"),
        ("zh", "zh-CN"),
        ("zh-TW,zh;q=0.9,en;q=0.8", "zh-CN"),
        ("en-GB,zh;q=0.9", "en"),
        ("fr;q=0.9,zh;q=0.5,en;q=0.4", "zh-CN"),
        ("zh;q=0", "en"),
        (";;;,q=,zh;q=x", "en"),
    ],
)
def test_the_first_of_our_languages_that_a_browser_takes(header: str | None, tag: str) -> None:
    assert accepted_tag(header) == tag


def test_no_cookie_makes_a_language() -> None:
    assert known_tag("../../etc") is None
    assert known_tag("ZH_cn") == "zh-CN"


def test_money_is_written_in_the_readers_form() -> None:
    assert language("en").cny(1_234_560_000) == "¥1,234.56"
    assert language("zh-CN").cny("0.5") == "¥0.50"
    assert language("en").cny(1_234_567, exact=True) == "¥1.234567"


def test_lengths_of_time_have_two_units_at_most() -> None:
    assert language("en").duration(0.2) == "0s"
    assert language("en").duration(3 * 3600 + 62) == "3h 1m"
    assert language("zh-CN").duration(86_400 * 2 + 3600) == "2天 1小时"


def test_times_are_told_from_now() -> None:
    now = datetime(2026, 11, 30, tzinfo=UTC)
    assert language("en").ago(now - timedelta(minutes=3), now) == "3 minutes ago"
    assert language("zh-CN").ago(now + timedelta(days=2), now) == "2天后"


def test_sizes_are_written_in_the_unit_that_reads_best() -> None:
    assert language("en").size(1023) == "1,023 B"
    assert language("en").size(10 * 2**30) == "10 GiB"


def test_what_is_counted_is_told_in_chinese() -> None:
    one, many = "%(num)s other session has ended.", "%(num)s other sessions have ended."
    assert language("zh-CN").say_many(one, many, 3) == "已结束 3 个其他会话。"
    assert language("en").say_many(one, many, 3) == "3 other sessions have ended."


def test_every_text_of_the_pages_has_its_chinese() -> None:
    command = [sys.executable, str(ROOT / "tools" / "messages.py"), "--check"]
    gaps = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert gaps.splitlines() == []


def test_a_text_has_one_chinese_wherever_it_stands() -> None:
    found: dict[object, set[tuple[str, object]]] = {}
    for path in sorted((FOLDER / "zh_CN").glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale="zh_CN"):
                if message.id:
                    found.setdefault((message.id, message.context), set()).add(
                        (path.stem, _text(message.string))
                    )
    several = {key: said for key, said in found.items() if len({text for _, text in said}) > 1}
    assert several == {}


def _text(said: object) -> object:
    return tuple(said) if isinstance(said, list) else said
