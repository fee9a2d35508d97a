"""What ranks say of tuning, and what they are told. Plain values: they cross process and machine."""

from collections.abc import Mapping
from dataclasses import dataclass

from tesra.wire.tuning import FoundParameter

Value = str | int | float | bool

ROUNDS = 3  # how often the ranks are asked for their promise, each time for a longer one


@dataclass(frozen=True, slots=True)
class Order:
    """A change as the ranks see it. ``step`` is None until all have promised where they wait.

    ``failed``: they were asked ``ROUNDS`` times in vain.
    """

    seq: int
    values: Mapping[str, Value]
    round: int = 1
    step: int | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Promise:
    """The rank will not do a step beyond ``limit`` before it knows the change's step."""

    seq: int
    round: int
    limit: int


@dataclass(frozen=True, slots=True)
class Took:
    """The rank made the change just before its step number ``step``."""

    seq: int
    step: int
    note: str | None = None


@dataclass(frozen=True, slots=True)
class RankTuning:
    """One rank, as it says itself: a script may write what it likes there, so nothing is certain.

    ``live``: it counts steps. ``gone``: its process has ended, so nothing more comes from it.
    """

    rank: int
    live: bool = False
    gone: bool = False
    promise: Promise | None = None
    declined: tuple[int, int] | None = None  # seq and round
    took: tuple[Took, ...] = ()
    found: tuple[FoundParameter, ...] = ()
    readers: tuple[str, ...] = ()  # what takes a change of any parameter there

    def step_of(self, seq: int) -> int | None:
        """Where it made the change, if it did."""
        return next((took.step for took in self.took if took.seq == seq), None)


@dataclass(frozen=True, slots=True)
class TuningReport:
    """An attempt's tuning on one node."""

    ranks: tuple[RankTuning, ...]
    orders: tuple[Order, ...] = ()
