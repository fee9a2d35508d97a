"""(interface; body follows)"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tesra.kit.errors import Invalid
from tesra.wire.site import EngineSpec


class EnvironmentRefused(Invalid):
    """The requirements of this run cannot be installed."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A ready virtual environment: ``lock`` is the text of everything that is in it."""

    root: Path
    python: Path
    key: str
    lock: str


class EnvironmentBuilder:
    """One per node agent; several processes may share ``cache``."""

    def __init__(self, cache: Path, *, gpu: bool) -> None:
        self._cache = cache
        self._gpu = gpu

    async def ensure(
        self, engine: EngineSpec, packages: Sequence[str], project: Path,
        report: Callable[[str], None],
    ) -> Environment:
        """The environment, built if need be. ``report`` gets lines of progress, in the loop's thread.

        Raises ``EnvironmentRefused``. Cancelling ends the build.
        """
        raise NotImplementedError

    def is_warm(self, engine: EngineSpec, packages: Sequence[str], project: Path) -> bool:
        """Whether ``ensure`` would return at once."""
        raise NotImplementedError
