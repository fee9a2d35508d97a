"""How things are said to a person. Pure: the same words on a terminal and in a pipe."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from unicodedata import combining, east_asian_width

from tesra.kit.sizes import show_size

if TYPE_CHECKING:
    from tesra.wire.data import RunData

_HARMLESS = frozenset("\u00a0\u3000\u200c\u200d")  # blanks, and what joins emoji and letters


def size(size_bytes: int | None) -> str:
    """``1.5 MiB``."""
    return "-" if size_bytes is None else show_size(size_bytes)


def duration(seconds: float) -> str:
    """``12.3 s``, ``4 min 5 s``, ``2 h 3 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def moment(at: datetime | None) -> str:
    """The local time, to the second."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else "-"


def between(start: datetime | None, end: datetime | None) -> str:
    """How long something took, or has taken so far."""
    if start is None:
        return "-"
    return duration(max(0.0, ((end or datetime.now(UTC)) - start).total_seconds()))


def money(amount_cny: str | None) -> str:
    return "-" if amount_cny is None else f"CNY {amount_cny}"


def number(value: float | str | None) -> str:
    """Four digits of it: ``0.1234``, ``12340``, ``1.234e-05``; texts (nan) as they are."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def caps(max_cost_cny: str | None, max_time_s: int | None) -> str:
    """``CNY 2.00, 2 h 0 min``; empty without any."""
    said = [money(max_cost_cny)] if max_cost_cny else []
    return ", ".join([*said, duration(max_time_s)] if max_time_s else said)


def plural(count: int, noun: str) -> str:
    """``1 file``, ``3 files``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())


def visible(text: str, *, keep: str = "") -> str:
    """The text with characters that move the cursor, colour or turn round what follows written out:
    ``\\x1b``, ``\\n``. Whoever named a file may have meant a terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable() or letter in _HARMLESS or letter in keep
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def gist(text: str) -> str:
    """The first line, which says what happened, and the last, which mostly says why."""
    lines = [line for line in map(one_line, text.splitlines()) if line]
    if len(lines) < 2:
        return "".join(lines)
    return f"{lines[0]} {'… ' if len(lines) > 2 else ''}{lines[-1]}"


def width(text: str) -> int:
    """The columns that a terminal gives it: Chinese takes two for a character."""
    if text.isascii():
        return len(text)
    return sum(
        0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text
    )


def short(identifier: str) -> str:
    """The end of an id, which is random: enough to tell a user's own apart."""
    return identifier[-8:]


def entry(value: str | list[str]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def data(value: "RunData") -> str:
    """``train=xingpan:/datasets/mnist (snp_…)``."""
    name = f"{value.name}=" if value.name else ""
    return f"{name}{value.path} ({value.snapshot})"
