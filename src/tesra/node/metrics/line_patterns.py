"""What a training prints, as patterns: pure, linear in the line's length, and rather blind than wrong.

A number counts only if nothing hangs on it that would make it a time, a version, a size or a path.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_UNIT = r"(?:[kKMGT]i?B|bytes|ms|us|s|secs?|seconds|mins?|minutes|h|hours|\w+/s|s/\w+)\b"
_PLAIN = r"(?:[-+]?(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?\d++)?+|[-+]?(?:nan|inf(?:inity)?)\b)"
_END = rf"(?![\w@%(/]|[.:\-|]\w|,\d|%?\||\s?{_UNIT})"
_NUMBER = rf"(?:tensor\(|np\.float\d\d\()?['\"]?(?P<number>{_PLAIN})(?P<percent>\s?%)?+{_END}"
_BEGIN = r"(?<![\w./\\@=?&+-])"

_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test", "eval": "eval", "evaluation": "eval", "dev": "dev",
}  # fmt: skip
_SPLIT = "|".join(sorted(_SPLITS, key=len, reverse=True))
_KNOWN = (
    r"loss|accuracy|acc|lr|learning[ _]rate|f1(?:[_-]score)?|auc|auroc|error|err|perplexity|ppl"
    r"|mse|rmse|mae|r2|bleu|m?iou|precision|recall|dice|psnr|ssim|wer|cer|reward|nll"
    r"|grad[ _]norm|top-?[15]|(?:训练|验证|测试)?(?:损失|准确率|精度|学习率)"
)
_NAMED = re.compile(
    rf"{_BEGIN}(?P<name>"
    rf"(?:(?:{_SPLIT})[ _/.-])?(?:(?:average|avg|mean|running|total|best)[ _])?"
    rf"(?:{_KNOWN})(?:[_@/]\w++)?"
    rf"|[a-z]\w*?_(?:loss|acc|accuracy)|(?:{_SPLIT})[_/]\w[\w/@-]*+"
    rf")['\"]?(?P<mark>\s{{0,3}}[:=：]\s{{0,3}}|\s{{1,4}})"
    rf"(?:(?P<part>\d++)/(?P<whole>\d++)(?![\w./])|{_NUMBER})",
    re.IGNORECASE,
)
_ANY = re.compile(
    rf"{_BEGIN}['\"]?(?P<name>[^\W\d][\w/@-]{{0,60}}+)['\"]?\s{{0,2}}[:=：]\s{{0,3}}{_NUMBER}",
    re.IGNORECASE,
)
_OF = r"(?:\s?(?:/|of)\s?(?P<of>\d++))?+(?![\w%]|[.:/-]\w|,\d)"
_EPOCH = re.compile(
    rf"{_BEGIN}['\"]?(?P<word>epochs?)['\"]?\s{{0,2}}[:=#]?\s{{0,2}}[\[(]?\s{{0,3}}"
    rf"['\"]?(?P<at>\d++(?:\.\d++)?+)['\"]?[\])]?{_OF}",
    re.IGNORECASE,
)
_ROUND = re.compile(
    r"第\s{0,2}(?P<at>\d++)(?:\s?/\s?(?P<of>\d++))?+\s{0,2}(?:轮|个?\s?epoch)", re.I
)
_STEP = re.compile(
    rf"{_BEGIN}['\"]?(?:(?:global|train|training)[ _])?(?P<word>steps?|iter|iteration|batch)['\"]?"
    rf"\s{{0,2}}[:=#]?\s{{0,2}}[\[(]?\s{{0,3}}(?P<at>\d++)[\])]?{_OF}",
    re.IGNORECASE,
)
_BRACKET = re.compile(r"\[\s{0,6}(?P<at>\d++)/(?P<of>\d++)\s?(?:\(\s{0,3}\d++(?:\.\d++)?%\))?\]")
_TQDM = re.compile(
    r"^(?P<about>[^|]{0,200}?):?\s{0,9}\d{1,3}%\|[^|]{0,400}\|\s?(?P<at>\d++)/(?P<of>\d++)\s"
    r"\[[\d:?]++<[^,\]]{1,20}(?:,\s?[^,\]]{1,30})?(?:,\s?(?P<after>[^\]]{0,1000}))?\]"
)
_KERAS = re.compile(r"^\s{0,9}(?P<at>\d++)/(?P<of>\d++)\s(?:[━╸╺─\s]|\[[=>.]{3,80}\]|-\s)")
_HEAD = re.compile(rf"^\W{{0,8}}(?P<split>{_SPLIT})\b", re.IGNORECASE)
_DULL = re.compile(r"^(?:average|avg|mean|running)_", re.IGNORECASE)
_NO_METRIC = frozenset(
    [
        "epoch",
        "epochs",
        "step",
        "steps",
        "iter",
        "iteration",
        "batch",
        "line",
        "pid",
        "rank",
        "seed",
        "port",
        "eta",
        "of",
    ]
)
_WEAK = frozenset(("error", "err"))  # what programs print for other reasons too


@dataclass(frozen=True, slots=True)
class Count:
    """``at`` of ``of``."""

    at: float
    of: int | None


@dataclass(frozen=True, slots=True)
class Bar:
    """A progress bar; ``text``: what stands before and after it."""

    count: Count
    text: str
    keras: bool

    @property
    def full(self) -> bool:
        return self.count.at == self.count.of


def find_bar(line: str) -> Bar | None:
    """One of tqdm's or Keras' bars."""
    found = _TQDM.match(line)
    if found:
        return Bar(_count(found), f"{found['about']} {found['after'] or ''}", keras=False)
    found = _KERAS.match(line)
    return Bar(_count(found), line[found.end() :], keras=True) if found else None


def find_epoch(line: str) -> Count | None:
    found = _marker(_EPOCH, line)
    chinese = None if found else _ROUND.search(line)
    return _count(chinese) if chinese else found


def find_step(line: str) -> Count | None:
    """``step 3/10``, or ``[3/10]`` in a line that has an epoch."""
    found = _marker(_STEP, line)
    if found is not None:
        return found
    bracket = next(
        (one for one in _BRACKET.finditer(line) if not _ends_with_epoch(line[: one.start()])), None
    )
    return _count(bracket) if bracket and _EPOCH.search(line) else None


def find_values(line: str, *, marked: bool) -> Iterator[tuple[str, float]]:
    """Names and values; of unknown names only in a line that also has an epoch or a step."""
    split = _HEAD.match(line)
    head = _SPLITS[split["split"].lower()] if split else ""
    taken: list[tuple[int, int]] = []
    for found in _NAMED.finditer(line):
        if marked or _plausible(found):
            taken.append(found.span())
            yield _known_name(found["name"], head), _value(found)
    if not marked:
        return
    for found in _ANY.finditer(line):
        start, end = found.span()
        free = all(end <= begun or start >= done for begun, done in taken)
        if free and found["name"].lower() not in _NO_METRIC:
            yield found["name"], _value(found)


def _marker(pattern: re.Pattern[str], line: str) -> Count | None:
    found = pattern.search(line)
    if found is None:
        return None
    if found["word"].lower().endswith("s") and found["of"] is None:  # epochs=10: how many at all
        return None
    return _count(found)


def _count(found: re.Match[str]) -> Count:
    return Count(float(found["at"][:18]), int(found["of"][:18]) if found["of"] else None)


def _ends_with_epoch(before: str) -> bool:
    return before.rstrip(" :").lower().endswith("epoch")


def _plausible(found: re.Match[str]) -> bool:
    """Enough for a metric where the line says nothing of epochs or steps."""
    if found["part"] is not None:
        return found["name"].lower() not in _WEAK
    number = found["number"]
    broken = bool(found["percent"]) or not number.lstrip("+-").isdigit()
    explicit = found["mark"].strip() != ""
    if found["name"].lower() in _WEAK or not explicit:
        return broken
    return True


def _known_name(name: str, head: str) -> str:
    """``Validation loss`` → ``val_loss``; ``Average loss`` in a line of the test set → ``test_loss``."""
    if " " not in name and "_" in name:
        return name
    first, mark, rest = name.replace(" ", "_").lower().partition("_")
    if first in _SPLITS and mark:
        return f"{_SPLITS[first]}_{_DULL.sub('', rest)}"
    plain = _DULL.sub("", name.replace(" ", "_").lower())
    return f"{head}_{plain}" if head and not plain.startswith(tuple(_SPLITS)) else plain


def _value(found: re.Match[str]) -> float:
    groups = found.groupdict()
    if groups.get("part") is not None:
        whole = float(groups["whole"])
        return float(groups["part"]) / whole if whole else float("nan")
    value = float(groups["number"])
    return value / 100 if groups["percent"] else value
