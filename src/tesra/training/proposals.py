"""What a request leaves out, filled from what the doctor says of the code. Pure."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from tesra.doctor.parameters import unknown_parameters
from tesra.doctor.report import DEFAULT_ENGINE, Report
from tesra.kit.errors import Invalid
from tesra.wire.training import Launch, RunRequest, WholeRequest

GAPS = ("entry", "engine", "output")
_SHOWN = 8
_LAUNCHERS = frozenset(
    {"torchrun", "torch.distributed.run", "torch.distributed.launch", "accelerate", "deepspeed"}
    | {"horovodrun", "mpirun", "mpiexec"}
)


class EntryUnknown(Invalid):
    """Which script to run is not said."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that is whole, and what was found on the way. ``launch_reason`` only if we chose."""

    request: WholeRequest
    launch_reason: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """For the run's own log."""
        said = [f"warning: {warning}" for warning in self.warnings]
        if self.launch_reason is None:
            return said
        launch = self.request.launch
        other = "gang" if launch == "single" else "single"
        line = f"launch: {launch}, because {self.launch_reason}; --launch {other} overrides"
        return [line, *said]


def needs_doctor(request: RunRequest) -> bool:
    """Whether anything that has to be known stands in the code only."""
    gaps = any(getattr(request, name) is None for name in GAPS)
    return gaps or (request.launch is None and request.devices > 1) or _on_command_line(request)


def as_it_is(request: RunRequest) -> Prepared:
    """A request that needs no doctor; with one device, both launches are the same but for the names."""
    return Prepared(_whole(request, {"launch": request.launch or "gang"}))


def complete(
    request: RunRequest, report: Report, *, project: str, backends: Collection[str] = ()
) -> Prepared:
    """The request with its gaps filled. ``backends``: those of the engine that the code uses.

    Raises ``EntryUnknown`` when the entry is a gap and no file, or more than one, could be it.
    """
    filled: dict[str, Any] = {}
    if request.entry is None:
        filled["entry"] = _entry(report, project)
    if request.engine is None:
        filled["engine"] = report.engine.name or DEFAULT_ENGINE
        if request.backend is None and report.engine.backend in backends:
            filled["backend"] = report.engine.backend
    if request.output is None:
        filled["output"] = report.output.path
    launch, reason = _launch(request, report)
    whole = _whole(request, filled | {"launch": launch})
    return Prepared(whole, reason, tuple(_shortcomings(whole, report)))


def started_file(entry: str | list[str] | None) -> str | None:
    """What of an entry the doctor can look at: of an argument list, its first Python file or module."""
    if not isinstance(entry, list):
        return entry
    for before, word in zip(["", *entry], entry, strict=False):
        if word.endswith(".py") or (before == "-m" and word not in _LAUNCHERS):
            return word
    return None


def _whole(request: RunRequest, filled: dict[str, Any]) -> WholeRequest:
    return WholeRequest.model_validate(request.model_dump() | filled)


def _launch(request: RunRequest, report: Report) -> tuple[Launch, str | None]:
    if request.launch is not None:
        return request.launch, None
    if request.devices <= 1:
        return "gang", None
    launcher = _launcher(request.entry)
    if launcher is not None:
        return "single", f"{launcher} starts the processes itself"
    return report.launch.launch, report.launch.reason


def _on_command_line(request: RunRequest) -> bool:
    """Whether parameters reach the script as options of their names."""
    return bool(request.params) and request.param_format.startswith("--{name}")


def _launcher(entry: str | list[str] | None) -> str | None:
    words = entry if isinstance(entry, list) else []
    names = (PurePosixPath(word).name for word in words[:3])
    return next((name for name in names if name in _LAUNCHERS), None)


def _entry(report: Report, project: str) -> str:
    entry = report.entry
    if len(entry.ambiguous) > 1:
        *most, last = entry.ambiguous[:_SHOWN]
        raise EntryUnknown(
            f"{project} has more than one file to start: {', '.join(most)} or {last}.",
            way_out=f"Say which: --entry {entry.ambiguous[0]}.",
            candidates=list(entry.ambiguous[:_SHOWN]),
        )
    if entry.entry is None:
        seen = [one.text for one in report.warnings if one.kind == "limit"]
        raise EntryUnknown(
            f"Which file of {project} to start can't be told: {seen[0]}."
            if seen
            else f"{project} has no Python file that does something when it is started.",
            way_out="Say what to run: --entry FILE, package.module or module:function.",
            candidates=[],
        )
    return entry.entry


def _shortcomings(request: WholeRequest, report: Report) -> Iterator[str]:
    """What is likely to go wrong, a line each."""
    named = " ".join(request.packages).lower()
    missing = [one for one in report.requirements.missing if one.package.lower() not in named]
    if missing:
        modules = ", ".join(dict.fromkeys(one.module.partition(".")[0] for one in missing[:_SHOWN]))
        options = " ".join(f"--with {one.package}" for one in missing[:_SHOWN])
        yield f"{modules}: imported, but no requirements file names it; add {options}"
    if _on_command_line(request) and report.all_parameters:
        yield from unknown_parameters(request.params, report.parameters)
    broken = [one for one in report.warnings if one.kind in {"unreadable", "input"}]
    yield from (f"{one.place} {one.text}" for one in broken[:_SHOWN])
