"""How a metric's value is said, and which metrics tell most, by their names alone.

JSON has no number for what is not finite: such a value is one of the texts nan, inf, -inf.
"""

import math
import re
from collections.abc import Iterable
from typing import Literal

Value = float | Literal["nan", "inf", "-inf"]

_LOWER = re.compile(
    r"loss|(^|[^a-z])(err|error|nll|ppl|perplexity|mae|mse|rmse|wer|cer|fid)([^a-z]|$)"
)
_HIGHER = re.compile(
    r"acc(uracy)?([^a-z]|$)|(^|[^a-z])(f1|auc|auroc|map|iou|dice|bleu|rouge|recall|precision|r2|"
    r"reward|return|score|psnr|ssim)([^a-z]|$)"
)
_HELD_OUT = re.compile(r"(^|[^a-z])(val|valid|validation|eval|test|dev)([^a-z]|$)")


def said(value: float) -> Value:
    """A number as JSON can hold it."""
    if math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def better(name: str) -> Literal["min", "max"] | None:
    """Whether a metric of this name is better low or high; None when the name does not say."""
    lower = name.lower()
    if _LOWER.search(lower):
        return "min"
    return "max" if _HIGHER.search(lower) else None


def telling(names: Iterable[str]) -> list[str]:
    """The names, the most telling first: losses, then scores, then the rest; short before long."""
    return sorted(names, key=_place)


def _place(name: str) -> tuple[int, int, int, str]:
    lower = name.lower()
    direction = better(name)
    kind = 2 if direction is None else 1 if direction == "max" else 0
    return kind, 0 if "loss" in lower or kind else 1, -1 if _HELD_OUT.search(lower) else 0, name
