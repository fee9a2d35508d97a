"""``tesra.params``: the run's parameters, as attributes and as items; standard library only.

Within a run they come from the file that ``TESRA_PARAMS_FILE`` names, and follow ``tesra tune``
from step to step; outside there are none but those for which the script gives a default.
"""

from __future__ import annotations  # engines may bring an older Python

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tesra.sdk.runtime.tuner import Tuner

FILE_VARIABLE = "TESRA_PARAMS_FILE"

Values = Mapping[str, Any]


class Params(Mapping[str, Any]):
    """``params.lr``, ``params["lr"]``, ``params.get("lr", 0.1)``; read only.

    ``source`` is asked at every access, so that values may change while the run goes on.
    ``params.batch_size`` finds ``batch-size`` too.
    """

    def __init__(
        self, source: Callable[[], Values], declared: Callable[..., None] | None = None
    ) -> None:
        object.__setattr__(self, "_source", source)
        object.__setattr__(self, "_defaults", {})
        object.__setattr__(self, "_declared", declared)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The run's value; without one the default, which the name then has."""
        return self[name] if name in self else self._defaults.setdefault(name, default)

    def declare(
        self,
        name: str,
        default: Any,
        *,
        low: float | None = None,
        high: float | None = None,
        choices: Sequence[Any] | None = None,
    ) -> Any:
        """Let ``tesra tune`` change it, within the range; the value that it has now.

        Its type is the default's: an int, a float, a bool or a text. Raises ``TypeError`` or
        ``ValueError`` for a declaration that makes no sense.
        """
        if not isinstance(default, (bool, int, float, str)):
            raise TypeError(f"tesra.params.declare: {name!r} is no number, bool or text.")
        if low is not None and high is not None and low > high:
            raise ValueError(f"tesra.params.declare: {name!r} has a low end above its high end.")
        if choices is not None and default not in choices:
            raise ValueError(f"tesra.params.declare: {default!r} is none of the choices.")
        value = self.setdefault(name, default)
        if self._declared is not None:
            self._declared(
                name,
                value=value,
                low=low,
                high=high,
                choices=None if choices is None else list(choices),
                origin="script",
            )
        return value

    def __getitem__(self, name: str) -> Any:
        for values in (self._source(), self._defaults):
            for spelling in (name, name.replace("_", "-")):
                if spelling in values:
                    return values[spelling]
        raise KeyError(name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copy and pickle ask for their own
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"This run has no parameter {name!r}: give it with `--param {name}=VALUE`,"
                f" or in the script with tesra.params.setdefault({name!r}, VALUE)."
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"tesra.params is read only: {name!r} can't be set.")

    def __iter__(self) -> Iterator[str]:
        return iter({**self._defaults, **self._source()})

    def __len__(self) -> int:
        return len({**self._defaults, **self._source()})

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name, self) is not self

    def __reduce__(self) -> tuple[Any, ...]:
        """What another process gets: the values of now."""
        return (_fixed, (dict(self),))

    def __repr__(self) -> str:
        return f"tesra.params({dict(self)!r})"


def _fixed(values: Values) -> Params:
    return Params(lambda: values)


def live(tuner: Tuner) -> tuple[Callable[[], Values], Callable[..., None]]:
    """The file's parameters with the changes in force, and where to declare more of them."""
    start = read_once()
    merged: list[Any] = [-1, {}]

    def values() -> Values:
        if merged[0] != tuner.version:
            if merged[0] < 0:
                tuner.reached(["*"], "tesra.params")
            merged[:] = [tuner.version, {**start(), **tuner.values}]
        found: Values = merged[1]
        return found

    return values, tuner.declare


def read_once() -> Callable[[], Values]:
    """The parameters of the file, read at the first need; a file that is spoilt counts as empty."""
    known: list[Values] = []

    def values() -> Values:
        if not known:
            known.append(_read(os.environ.get(FILE_VARIABLE)))
        return known[0]

    return values


def _read(path: str | None) -> Values:
    if not path:
        return {}
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is slow to import
            found = json.load(file)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"tesra: the parameters in {path} can't be read: {error}\n")
        return {}
    return found if isinstance(found, dict) else {}
