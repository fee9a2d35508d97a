"""The space that a sweep searches, as it is written: ``loguniform(1e-5, 1e-1)``. Pure.

    uniform(a, b)        a real number; uniform(a, b, step=s), also quniform(a, b, s), in steps
    loguniform(a, b)     a real number, each order of magnitude as likely as the next
    int(a, b)            a whole number, both ends included, also randint; int(a, b, step=s)
    logint(a, b)         a whole number, small ones tried as much as large ones
    choice(x, y, ...)    one of these; a text with commas or brackets in quotation marks

Anything else is one fixed value.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from tesra.kit.errors import Invalid
from tesra.kit.saying import Said, said
from tesra.kit.values import Value, typed

MAX_CHOICES = 1000
MAX_NUMBER = 1e300
WAY_OUT = (
    "Write uniform(a,b), loguniform(a,b), int(a,b), logint(a,b) or choice(x,y), such as"
    " --param lr='loguniform(1e-5,1e-1)'."
)
_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*\(")


class SpaceInvalid(Invalid):
    """A parameter's range can't be read."""


@dataclass(frozen=True, slots=True)
class Real:
    """A float from ``low`` to ``high``; with ``step``, ``high`` is the last one that it reaches."""

    low: float
    high: float
    log: bool = False
    step: float | None = None


@dataclass(frozen=True, slots=True)
class Whole:
    """An int from ``low`` to ``high``, both included."""

    low: int
    high: int
    log: bool = False
    step: int = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these values."""

    options: tuple[Value, ...]


Distribution = Real | Whole | Choice
Space = Mapping[str, Distribution]


def parse(name: str, text: str) -> Distribution | Value:
    """What a parameter may be: a distribution, or its one fixed value.

    Raises ``SpaceInvalid``, which says at which character.
    """
    if not _CALL.match(text):
        return typed(text)
    return _Reader(name, text).distribution()


def is_range(text: str) -> bool:
    """Whether this is written as a distribution."""
    return _CALL.match(text) is not None


def parse_space(texts: Mapping[str, str]) -> dict[str, Distribution]:
    """All parameters of a space; a fixed value among them is a choice of one."""
    found = {name: parse(name, text) for name, text in texts.items()}
    return {
        name: one if isinstance(one, Real | Whole | Choice) else Choice((one,))
        for name, one in found.items()
    }


def first_point(space: Space) -> dict[str, Value]:
    """Some point of the space."""
    return {
        name: one.options[0] if isinstance(one, Choice) else one.low for name, one in space.items()
    }


def grid_values(name: str, distribution: Distribution) -> Sequence[Value]:
    """All values, in order; raises ``SpaceInvalid`` for a real number without a step."""
    match distribution:
        case Choice(options=options):
            return options
        case Whole(low=low, high=high, step=step):
            return range(low, high + 1, step)
        case Real(low=low, high=high, step=float(step)):
            count = round((high - low) / step) + 1
            return [_rounded(low + index * step) for index in range(count)]
        case Real():
            raise SpaceInvalid(
                f"{name} is continuous: a grid can't try all of it.",
                way_out=f"Give it a step, such as {name}='uniform(0,1,step=0.1)', or choose from"
                " values with choice(...); or use --algorithm random or tpe.",
            )


def grid_size(space: Space) -> int:
    """How many points a grid has."""
    return math.prod(len(grid_values(name, one)) for name, one in space.items())


def grid_point(space: Space, number: int) -> dict[str, Value]:
    """The point with this number, from 0 on; the last parameter changes fastest."""
    point: dict[str, Value] = {}
    for name in reversed(list(space)):
        values = grid_values(name, space[name])
        number, index = divmod(number, len(values))
        point[name] = values[index]
    return {name: point[name] for name in space}


class _Reader:
    """Reads one ``name(argument, ...)``; knows where it is, to say so."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._at = 0
        self._places: list[int] = []

    def distribution(self) -> Distribution:
        head = _CALL.match(self._text)
        assert head is not None
        kind = head[1]
        self._at = head.end()
        words, options = self._arguments()
        readers: dict[str, Callable[[list[Value], dict[str, Value]], Distribution]] = {
            "uniform": self._uniform,
            "quniform": self._quniform,
            "loguniform": self._loguniform,
            "int": self._int,
            "randint": self._int,
            "logint": self._logint,
            "choice": self._choice,
        }
        if kind not in readers:
            self._fail(head.start(1), said(f"there is no '{kind}'"))
        return readers[kind](words, options)

    def _arguments(self) -> tuple[list[Value], dict[str, Value]]:
        words: list[Value] = []
        options: dict[str, Value] = {}
        while True:
            place, text, quoted, end = self._argument()
            key, equals, value = text.partition("=")
            if text == "" and not quoted and end == ")" and not words:
                break
            if text == "" and not quoted:
                self._fail(place, said("a value is missing"))
            if equals and not quoted and key.strip() == "step":
                options["step"] = typed(value.strip())
            else:
                words.append(text if quoted else typed(text))
                self._places.append(place)
            if end == ")":
                break
        rest = self._text[self._at :]
        if rest.strip():
            self._fail(
                self._at, said(f"nothing is expected after ')', but '{rest.strip()}' is there")
            )
        return words, options

    def _argument(self) -> tuple[int, str, bool, str]:
        """Where it begins, its text, whether it was quoted, and what ended it."""
        while self._peek().isspace():
            self._at += 1
        place = self._at
        quote = self._peek()
        if quote in {"'", '"'}:
            close = self._text.find(quote, place + 1)
            if close < 0:
                self._fail(place, said(f"the quotation mark {quote} is not closed"))
            self._at = close + 1
            while self._peek().isspace():
                self._at += 1
            text = self._text[place + 1 : close]
        else:
            while self._peek() not in {",", ")", "("}:
                self._at += 1
            text = self._text[place : self._at].strip()
        end = self._peek()
        if end not in {",", ")"}:
            self._fail(self._at, said(f"',' or ')' is expected, not '{end}'"))
        self._at += 1
        return place, text, quote in {"'", '"'}, end

    def _peek(self) -> str:
        if self._at >= len(self._text):
            self._fail(self._at, said("')' is missing"))
        return self._text[self._at]

    def _uniform(self, words: list[Value], options: dict[str, Value]) -> Real:
        low, high = self._bounds(words)
        step = options.get("step")
        return Real(low, high) if step is None else self._stepped(low, high, step)

    def _quniform(self, words: list[Value], options: dict[str, Value]) -> Real:
        if len(words) == 3 and not options:
            options = {"step": words.pop()}
        if "step" not in options:
            self._fail(
                len(self._text), said("quniform takes three numbers: quniform(low,high,step)")
            )
        return self._uniform(words, options)

    def _loguniform(self, words: list[Value], options: dict[str, Value]) -> Real:
        low, high = self._bounds(words)
        self._above_zero(low, options)
        return Real(low, high, log=True)

    def _int(self, words: list[Value], options: dict[str, Value]) -> Whole:
        low, high = self._whole_bounds(words)
        step = options.get("step", 1)
        if not isinstance(step, int) or isinstance(step, bool) or not 0 < step <= high - low:
            self._fail(
                self._text.find("step"), said(f"a step is a whole number from 1 to {high - low}")
            )
        return Whole(low, low + (high - low) // step * step, step=step)

    def _logint(self, words: list[Value], options: dict[str, Value]) -> Whole:
        low, high = self._whole_bounds(words)
        self._above_zero(low, options)
        return Whole(low, high, log=True)

    def _choice(self, words: list[Value], options: dict[str, Value]) -> Choice:
        if options:
            self._fail(self._text.find("step"), said("choice has no step"))
        if not words:
            self._fail(len(self._text) - 1, said("choice needs at least one value"))
        if len(words) > MAX_CHOICES:
            self._fail(self._places[MAX_CHOICES], said(f"choice has at most {MAX_CHOICES} values"))
        unique = {(type(word), word): word for word in words}
        return Choice(tuple(unique.values()))

    def _stepped(self, low: float, high: float, step: Value) -> Real:
        if not _is_number(step) or not 0 < float(step) <= high - low:
            self._fail(
                self._text.find("step"), said(f"a step is a number above 0, up to {high - low:g}")
            )
        size = float(step)
        count = math.floor((high - low) / size + 1e-9)
        if count >= MAX_CHOICES * 1000:
            self._fail(self._text.find("step"), said("the step is too small for this range"))
        return Real(low, _rounded(low + count * size), step=size)

    def _bounds(self, words: list[Value]) -> tuple[float, float]:
        self._two_numbers(words)
        low, high = float(words[0]), float(words[1])
        if not low < high:
            self._fail(self._places[1], said(f"the upper bound has to be above {words[0]}"))
        return low, high

    def _whole_bounds(self, words: list[Value]) -> tuple[int, int]:
        self._bounds(words)
        for place, word in zip(self._places, words, strict=True):
            if float(word) != int(float(word)) or abs(float(word)) >= 2**53:
                self._fail(place, said(f"{word} is not a whole number"))
        return int(words[0]), int(words[1])

    def _two_numbers(self, words: list[Value]) -> None:
        for place, word in zip(self._places, words, strict=False):
            if not _is_number(word):
                self._fail(place, said(f"'{word}' is not a number"))
        if len(words) != 2:
            self._fail(len(self._text) - 1, said(f"two numbers are expected, not {len(words)}"))
        del self._places[2:]

    def _above_zero(self, low: float, options: dict[str, Value]) -> None:
        if low <= 0:
            self._fail(self._places[0], said("a logarithmic range begins above 0"))
        if options:
            self._fail(self._text.find("step"), said("a logarithmic range has no step"))

    def _fail(self, at: int, why: Said) -> NoReturn:
        raise SpaceInvalid(
            f"--param {self._name}={self._text}: at character {max(at, 0) + 1}: {why}.",
            way_out=WAY_OUT,
        )


def _is_number(value: Value) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(float(str(value))) < MAX_NUMBER


def _rounded(value: float) -> float:
    """Without the noise of binary fractions: 0.30000000000000004 is 0.3."""
    return float(f"{value:.15g}")
