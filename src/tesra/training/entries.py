"""What a run's entry names, checked against the files of its snapshot. Pure."""

import json
from collections.abc import Collection
from pathlib import PurePosixPath

from tesra.kit.errors import Invalid
from tesra.kit.saying import Said, said


class EntryMissing(Invalid):
    """The entry is not in the project."""


class OutputPathInvalid(Invalid):
    """The output path must be a folder or file inside the project."""


def check_entry(entry: str | list[str], files: Collection[str]) -> None:
    """Raise unless the entry's file or module is among ``files`` (paths in the project, ``/`` between).

    A list of arguments is taken as it is: its program may come from the environment.
    """
    if isinstance(entry, list):
        if not entry or not entry[0]:
            raise EntryMissing(
                "The entry is an empty list of arguments.", way_out="Name a program."
            )
        return
    if not entry.strip():
        raise EntryMissing("The entry is empty.", way_out=_proposal(files))
    candidates = entry_files(entry)
    if not any(candidate in files for candidate in candidates):
        raise EntryMissing(f"The entry '{entry}' is not in the project.", way_out=_proposal(files))


def entry_files(entry: str) -> list[str]:
    """The files, any of which would make ``entry`` exist."""
    if entry.endswith(".py") or "/" in entry:
        return [str(PurePosixPath(entry))]
    module = entry.partition(":")[0].replace(".", "/")
    files = [
        f"{module}.py",
        f"{module}/__init__.py",
        f"src/{module}.py",
        f"src/{module}/__init__.py",
    ]
    return (
        files
        if ":" in entry
        else [entry, *files, f"{module}/__main__.py", f"src/{module}/__main__.py"]
    )


def check_output_path(output: str) -> None:
    """Raise unless ``output`` stays inside the project."""
    path = PurePosixPath(output)
    if not output.strip() or path.is_absolute() or ".." in path.parts or "\0" in output:
        raise OutputPathInvalid(
            f"The output path '{output}' leaves the project.",
            way_out="Give a relative path such as 'out'.",
        )


def _proposal(files: Collection[str]) -> Said:
    scripts = sorted((f for f in files if f.endswith(".py")), key=lambda f: (f.count("/"), f))
    if not scripts:
        return said("The project has no Python file: import the folder that holds your script.")
    found = ", ".join(json.dumps(script, ensure_ascii=False) for script in scripts[:8])
    return said(f"Files found: {found}.")
