"""What the command line makes of the doctor's report: the gaps of a run filled, and the report shown. Pure."""

import shlex
from collections.abc import Iterator
from typing import Any

from tesra.doctor.report import DEFAULT_ENGINE, Evidence, Report
from tesra.kit.errors import Invalid

GAPS = ("entry", "engine", "output")
DEFAULT_LAUNCH = "gang"
_SHOWN = 8


class EntryUnknown(Invalid):
    """Which script to run is not said."""


def complete(given: dict[str, Any], report: Report, project: str) -> tuple[dict[str, Any], str]:
    """``given`` with its gaps (None) filled from the report, and the line that says with what.

    Raises ``EntryUnknown`` when the entry is a gap and no file, or more than one, could be it.
    """
    proposed = {
        "entry": report.entry.entry,
        "engine": report.engine.name or DEFAULT_ENGINE,
        "output": report.output.path,
    }
    if given["entry"] is None:
        _check_entry(report, project)
    filled = {name: proposed[name] for name in GAPS if given[name] is None}
    words = " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in filled.items())
    line = f"from the code: {words}; `tesra doctor {shlex.quote(project)}` says more"
    return {**given, **filled}, line


def shortcomings(report: Report, *, devices: int, launch: str) -> list[str]:
    """Warnings for one who starts a run and did not ask for the report, a line each."""
    missing = report.requirements.missing
    lines = []
    if devices > 1 and launch == DEFAULT_LAUNCH and report.launch.launch != DEFAULT_LAUNCH:
        lines.append(
            f"{report.launch.reason}: each of the {devices} processes trains by itself;"
            " --launch single starts one that sees all devices"
        )
    if missing:
        modules = ", ".join(dict.fromkeys(one.module.partition(".")[0] for one in missing))
        options = " ".join(f"--with {one.package}" for one in missing)
        lines.append(f"{modules}: imported, but no requirements file names it; add {options}")
    broken = [one for one in report.warnings if one.kind in {"unreadable", "input"}]
    lines += [f"{one.place} {one.text}" for one in broken[:_SHOWN]]
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


def _check_entry(report: Report, project: str) -> None:
    entry = report.entry
    if len(entry.ambiguous) > 1:
        names = _or([shlex.quote(name) for name in entry.ambiguous[:_SHOWN]])
        raise EntryUnknown(
            f"{project} has more than one file to start: {names}.",
            way_out=f"Say which: --entry {shlex.quote(entry.ambiguous[0])}.",
        )
    if entry.entry is None:
        raise EntryUnknown(
            f"{project} has no Python file that does something when it is started.",
            way_out="Say what to run: --entry FILE, package.module or module:function.",
        )


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
