"""Parameter values as people write them."""

import math
import re

Value = str | int | float | bool

_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[+-]?0[0-9]+")


def typed(text: str) -> Value:
    """An int, a finite float, true or false, else the text as it is (``007`` stays text)."""
    if text in {"true", "false"}:
        return text == "true"
    if _LEADING_ZERO.fullmatch(text):
        return text
    if _WHOLE.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text
