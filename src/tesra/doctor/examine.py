"""The import doctor: from a project's files to a proposal of how to run it.

Pure: it is given the files' content, opens and executes nothing, and never fails, whatever the
files hold. What it can't know it leaves open, and it says from which line it knows the rest.
"""

import re
from collections.abc import Collection, Mapping

from tesra.doctor.cautions import find_cautions
from tesra.doctor.engine import propose_engine
from tesra.doctor.entry import propose_entry
from tesra.doctor.launch import propose_launch
from tesra.doctor.parameters import defaults_of, find_parameters, takes_no_others
from tesra.doctor.paths import find_read, find_written, propose_output
from tesra.doctor.project import MAX_FILE_BYTES, Code, Project, read_project
from tesra.doctor.report import EntryProposal, Report
from tesra.doctor.requirements import find_requirements
from tesra.doctor.source import Source

_WANTED = re.compile(
    r"(.*\.py|requirements[\w.\-]*\.(txt|in)|pyproject\.toml|environment\.ya?ml|setup\.cfg|Pipfile)"
)


def is_wanted(path: str, size_bytes: int) -> bool:
    """Whether the doctor looks into a file: Python, and what names requirements."""
    return size_bytes <= MAX_FILE_BYTES and bool(_WANTED.fullmatch(path))


def examine(
    contents: Mapping[str, bytes], paths: Collection[str] = (), *, entry: str | None = None
) -> Report:
    """Look at ``contents`` (by path, slashes between) of a project that holds ``paths``.

    ``entry``: what to start, if that is known; else the likeliest file is taken.
    """
    project = read_project(contents, paths)
    proposed = propose_entry(project)
    code = Code(project, _sources(project, proposed, entry))
    parameters = find_parameters(code)
    code = Code(project, code.sources, defaults_of(parameters))
    engine = propose_engine(code)
    written = find_written(code, parameters)
    output = propose_output(code, written)
    data = find_read(code, parameters, written)
    cautions = find_cautions(code, written, output, data)
    return Report(
        engine=engine,
        entry=proposed,
        launch=propose_launch(code),
        output=output,
        requirements=find_requirements(code, engine.name, engine.backend),
        data=data,
        parameters=parameters,
        warnings=(*project.warnings, *cautions),
        all_parameters=takes_no_others(code, parameters),
    )


def _sources(project: Project, proposed: EntryProposal, entry: str | None) -> list[Source]:
    """The files that a run of the entry executes; all of them when there is no entry."""
    file = _file_of(project, entry) if entry is not None else None
    if file is None and proposed.candidates:
        file = proposed.candidates[0].file
    return project.closure(file) if file is not None else list(project.sources.values())


def _file_of(project: Project, entry: str) -> str | None:
    """The file that ``train.py``, ``package.module`` or ``module:function`` names."""
    if entry in project.sources:
        return entry
    module = entry.partition(":")[0].replace(".", "/")
    for root in ("", "src/"):
        for name in (f"{module}.py", f"{module}/__main__.py", f"{module}/__init__.py"):
            if root + name in project.sources:
                return root + name
    return None
