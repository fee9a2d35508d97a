"""What the command line shows of the doctor: its report, and what it filled of a run. Pure."""

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tesra.cli import words
from tesra.doctor.report import DEFAULT_ENGINE, Evidence, Report

if TYPE_CHECKING:
    from tesra.wire.training import Run

_SHOWN = 8


def filled(wishes: dict[str, Any], run: "Run", project: str) -> list[str]:
    """What the server read from the code for what the wishes left out, in lines."""
    lines = []
    values = {"entry": words.entry(run.entry), "engine": run.engine, "output": run.output_path}
    values = {name: value for name, value in values.items() if wishes[name] is None}
    if values:
        said = " ".join(f"--{name} {shlex.quote(value)}" for name, value in values.items())
        lines.append(f"from the code: {said}; `tesra doctor {shlex.quote(project)}` says more")
    if wishes["launch"] is None and run.launch_reason:
        other = "gang" if run.launch == "single" else "single"
        lines.append(
            f"launch: {run.launch}, because {run.launch_reason}; --launch {other} overrides"
        )
    return lines


def facts(report: Report) -> list[tuple[str, str]]:
    """The report as names and values."""
    rows = [
        ("Engine", f"{_engine(report)}: {report.engine.reason}"),
        ("Entry", _entry(report)),
        ("Launch", f"{report.launch.launch}: {report.launch.reason}"),
        ("Output", f"{report.output.path}: {report.output.reason}"),
        ("Packages", _packages(report)),
    ]
    rows += [("Missing", line) for line in _missing(report)]
    rows += [
        (
            "Data",
            f"{one.path}{_told(one.evidence)}{' (not in the project)' * (one.present is False)}",
        )
        for one in report.data[:_SHOWN]
    ]
    rows += [("Parameter", _parameter(one)) for one in report.parameters]
    rows += [("Warning", f"{one.place} {one.text}".strip()) for one in report.warnings]
    return rows


def command(report: Report, project: str) -> str:
    """The proposed command, ready to be typed."""
    return shlex.join(report.command(project))


def _engine(report: Report) -> str:
    engine = report.engine
    name = engine.name or DEFAULT_ENGINE
    name += f" on {engine.backend}" if engine.backend else ""
    return name + (f" (also uses {', '.join(engine.others)})" if engine.others else "")


def _entry(report: Report) -> str:
    entry = report.entry
    if entry.entry is None:
        return "none found: say --entry"
    if entry.ambiguous:
        return f"{_or(entry.ambiguous[:_SHOWN])}: all could be meant, --entry chooses"
    return f"{entry.entry}: {', '.join(entry.candidates[0].reasons) or 'the only candidate'}"


def _packages(report: Report) -> str:
    found = report.requirements
    if not found.files:
        return "no requirements file"
    return f"{', '.join(found.files)} ({len(found.named)} named)"


def _missing(report: Report) -> Iterator[str]:
    for one in report.requirements.missing:
        yield f"{one.package}: {one.evidence.place} imports {one.module}"


def _parameter(one: Any) -> str:
    name = one.name if one.positional else f"--{one.name}"
    default = "" if one.default is None else f" = {one.default}"
    choices = f" of {', '.join(map(str, one.choices))}" if one.choices else ""
    needed = ", required" if one.required else ""
    return f"{name} ({one.type}{choices}{needed}){default}"


def _told(evidence: Evidence) -> str:
    return f" ({evidence.place})"


def _or(names: Any) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else str(last)
