"""Text out of the first bytes of a file, and tables out of text. Pure; what comes in is short."""

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from tesra.wire.previews import PreviewColumn, PreviewTable

HEAD_BYTES = 64 * 2**10
MAX_ROWS = 50
MAX_COLUMNS = 100
MAX_CELL = 200
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DAMAGED_SHARE = 0.01  # of characters, up to which text counts as text that was damaged
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_INTEGER = re.compile(r"[+-]?\d{1,40}")
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,4})?|nan|NaN|[+-]?inf")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?")


@dataclass(frozen=True, slots=True)
class Decoded:
    text: str
    encoding: str


def decode(head: bytes, *, whole: bool) -> Decoded | None:
    """The text that these bytes begin, or None when they are none.

    A character that is cut at the end is left out unless this is the ``whole`` file.
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return _printable(_decoded(head[len(mark) :], encoding, "replace", whole), encoding)
    if b"\0" in head:
        return None
    plain = _decoded(head, "utf-8", "strict", whole)
    if plain is not None:
        return _printable(plain, "utf-8")
    damaged = _decoded(head, "utf-8", "replace", whole)
    if damaged is not None and damaged.count("\ufffd") <= max(1, len(damaged) * _DAMAGED_SHARE):
        return _printable(damaged, "utf-8 (damaged)")
    for encoding in ("gb18030", "cp1252"):
        found = _printable(_decoded(head, encoding, "strict", whole), encoding)
        if found is not None:
            return found
    return None


def table(text: str, *, whole: bool) -> PreviewTable:
    """The first rows of text with separated values; a row that is cut at the end is left out."""
    delimiter = _delimiter(text)
    rows: list[list[str]] = []
    try:
        reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
        rows.extend(
            [cell[:MAX_CELL] for cell in row[:MAX_COLUMNS]]
            for row in islice(reader, MAX_ROWS + 2)
            if row
        )
    except csv.Error:
        pass  # what was read before is shown
    if not whole and len(rows) > 1 and len(rows) < MAX_ROWS + 2:
        rows.pop()
    named = bool(rows) and _is_heading(rows)
    heading, body = (rows[0], rows[1:]) if named else ([], rows)
    body = body[:MAX_ROWS]
    width = max(map(len, rows), default=0)
    columns = [
        PreviewColumn(
            name=heading[at] if at < len(heading) else f"column {at + 1}",
            type=_type_of([row[at] for row in body if at < len(row)]),
        )
        for at in range(width)
    ]
    return PreviewTable(delimiter=delimiter, columns=columns, rows=body)


def _decoded(data: bytes, encoding: str, errors: str, whole: bool) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)(errors).decode(data, final=whole)
    except UnicodeDecodeError:
        return None


def _printable(text: str | None, encoding: str) -> Decoded | None:
    if text is None or len(_CONTROL.findall(text)) > len(text) * _DAMAGED_SHARE:
        return None
    clean = text.encode(errors="replace").decode() if encoding.startswith("utf-16") else text
    return Decoded(clean.replace("\0", "\ufffd"), encoding)


def _delimiter(text: str) -> str:
    """Which of the usual ones the first lines have most evenly."""
    lines = [line for line in text[:HEAD_BYTES].split("\n", 20)[:20] if line.strip()]
    first, best = lines[0] if lines else "", ","
    for candidate in (",", "\t", ";", "|"):
        if candidate in first and (best not in first or _even(lines, candidate, best)):
            best = candidate
    return best


def _even(lines: Sequence[str], candidate: str, than: str) -> bool:
    def differing(mark: str) -> tuple[int, int]:
        counts = [line.count(mark) for line in lines]
        return len(set(counts)), -counts[0]

    return differing(candidate) <= differing(than)


def _is_heading(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: all different, and none a value."""
    first = [cell.strip() for cell in rows[0]]
    return all(first) and len(set(first)) == len(first) and all(_kind(c) == "text" for c in first)


def _kind(cell: str) -> str:
    if _INTEGER.fullmatch(cell):
        return "integer"
    if _NUMBER.fullmatch(cell):
        return "number"
    if cell.lower() in {"true", "false"}:
        return "boolean"
    return "date" if _DATE.fullmatch(cell) else "text"


def _type_of(cells: Sequence[str]) -> str:
    kinds = {_kind(cell.strip()) for cell in cells if cell.strip()}
    if not kinds:
        return "empty"
    if kinds == {"integer", "number"}:
        return "number"
    return kinds.pop() if len(kinds) == 1 else "text"
