"""The folders of one attempt on one node.

What a script has written is never followed: no link is resolved and nothing but plain files is
listed, so that a node that runs as root cannot be led out of the output.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from tesra.kit.errors import Invalid
from tesra.kit.saying import said
from tesra.node.sandbox import give

TESRA_RANK = -1  # Tesra's own lines in a run's log
_SKIPPED_LIMIT = 20


class OutputOutside(Invalid):
    """The output path must lie inside the project."""


@dataclass(frozen=True, slots=True)
class AttemptFolders:
    """``work``, ``checkpoints``, ``metrics``, ``tmp``, ``home`` are the script's to write; the rest is ours."""

    root: Path
    output: str

    @property
    def work(self) -> Path:
        """The project's files; where the ranks start."""
        return self.root / "work"

    @property
    def output_path(self) -> Path:
        """Where the script is expected to leave its model; a folder or a single file."""
        return self.work / self.output

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def metrics(self) -> Path:
        """Where ``tesra.log`` writes. What lies there is the script's: never follow a link."""
        return self.root / "metrics"

    @property
    def tmp(self) -> Path:
        """Inside the sandbox this is /tmp."""
        return self.root / "tmp"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def params(self) -> Path:
        """The run's parameters (JSON), readable by the script."""
        return self.root / "params.json"

    @property
    def tuning(self) -> Path:
        """What the ranks are told of changes of parameters; readable by the script."""
        return self.root / "tuning"

    @property
    def orders(self) -> Path:
        return self.tuning / "orders.json"

    @property
    def stopping(self) -> Path:
        """Is there when the run was asked to end; beside the orders, where ranks can read."""
        return self.tuning / "stopping"

    @property
    def tuned(self) -> Path:
        """What the ranks answer, a file each; the folder is ours, the files are the script's."""
        return self.root / "tuned"

    def status_of(self, rank: int) -> Path:
        return self.tuned / f"rank-{rank}"

    def failing_of(self, rank: int) -> Path:
        """Where a rank of a gang notes that it fails (``failing``); a file as those above."""
        return self.tuned / f"failing-{rank}"

    @property
    def data(self) -> Path:
        """What the run trains on, read-only: a link to it, or a folder of such links."""
        return self.root / "data"

    @property
    def writable(self) -> tuple[Path, ...]:
        """What belongs to the script."""
        return (self.work, self.checkpoints, self.metrics, self.tmp, self.home)

    def metrics_of(self, rank: int) -> Path:
        """One rank's metrics, a line of JSON each (``sdk/runtime/metrics``)."""
        return self.metrics / f"rank-{rank}.jsonl"

    def log_of(self, rank: int) -> Path:
        """Standard output and error of one rank."""
        return self.logs / f"rank-{rank}.log"


@dataclass(frozen=True, slots=True)
class OutputFile:
    """``path`` is relative to ``Output.root``, with slashes; ``target`` only for a link that stays inside."""

    path: str
    kind: Literal["file", "dir", "link"]
    size_bytes: int
    mode: int
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """What a run left in its output path; an empty ``files`` says that it wrote none."""

    root: Path
    files: list[OutputFile]
    warnings: list[str]


def prepare(attempts: Path, attempt: str, output: str) -> AttemptFolders:
    """Make the folders, private to the node; raises ``OutputOutside``. Fill ``work``, then ``hand_over``."""
    folders = AttemptFolders(root=attempts / attempt, output=inside_path(output))
    for folder in (folders.root, folders.logs, *folders.writable):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folders


def inside_path(output: str) -> str:
    """The normal form of a path relative to the project; raises ``OutputOutside``."""
    path = PurePosixPath(output.strip())
    if not output.strip() or path.is_absolute() or ".." in path.parts or "\0" in output:
        raise OutputOutside(
            f"The output path '{output}' leaves the project.",
            way_out="Give a path relative to the project's folder, such as 'out'.",
        )
    return str(path)


def hand_over(folders: AttemptFolders) -> None:
    """Make the script's folders belong to the ranks' user.

    The output folder is made first, so that a script may write into it at once; a path with a
    suffix ("model.pt") is taken to be a file, and only its folder is made.
    """
    path = folders.output_path
    if has_no_link(folders.work, path):
        (path.parent if path.suffix else path).mkdir(parents=True, exist_ok=True)
    for folder in folders.writable:
        give(folder)


def output_files(folders: AttemptFolders) -> Output:
    """List the output without ever following a link. Call it when the gang is gone."""
    path = folders.output_path
    if not has_no_link(folders.work, path):
        return Output(
            path,
            [],
            [said(f"The output path '{folders.output}' is a symbolic link: it was not kept.")],
        )
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return Output(path, [], [])
    if stat.S_ISREG(mode):
        return Output(path.parent, [_plain(path, path.name)], [])
    if not stat.S_ISDIR(mode):
        return Output(
            path,
            [],
            [
                said(
                    f"The output '{folders.output}' is neither a folder nor a file: it was not kept."
                )
            ],
        )
    files: list[OutputFile] = []
    skipped: list[str] = []
    for entry in _walk(path):
        name = entry.relative_to(path).as_posix()
        found, why = _look_at(entry, name, path)
        if found is not None:
            files.append(found)
        else:
            skipped.append(said(f"Not kept from the output: '{name}' ({why})."))
    if all(file.kind == "dir" for file in files):
        files = []
    return Output(path, files, _shorten(skipped))


def size_bytes(path: Path) -> int:
    """Bytes of all plain files below, links not followed."""
    return sum(
        entry.lstat().st_size for entry in _walk(path) if stat.S_ISREG(entry.lstat().st_mode)
    )


def remove(folders: AttemptFolders) -> None:
    """Delete the attempt's folders; links are deleted, not followed. None there is no error."""
    if folders.root.exists():
        shutil.rmtree(folders.root)


def has_no_link(root: Path, path: Path) -> bool:
    parts = path.relative_to(root).parts
    steps = [root.joinpath(*parts[: count + 1]) for count in range(len(parts))]
    return not any(step.is_symlink() for step in steps)


def _walk(root: Path) -> Iterator[Path]:
    """Everything below, folders before what they hold, sorted; links are leaves."""
    for entry in sorted(os.scandir(root), key=lambda found: found.name):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))


def _look_at(entry: Path, name: str, root: Path) -> tuple[OutputFile | None, str]:
    mode = entry.lstat().st_mode
    if stat.S_ISDIR(mode):
        return OutputFile(name, "dir", 0, stat.S_IMODE(mode)), ""
    if stat.S_ISREG(mode):
        return _plain(entry, name), ""
    if not stat.S_ISLNK(mode):
        return None, said("neither a file nor a folder")
    target = str(entry.readlink())
    landing = os.path.normpath(entry.parent / target)
    if Path(target).is_absolute() or not Path(landing).is_relative_to(root):
        return None, said("a link that leaves the output")
    return OutputFile(name, "link", 0, 0o777, target), ""


def _plain(path: Path, name: str) -> OutputFile:
    known = path.lstat()
    return OutputFile(name, "file", known.st_size, stat.S_IMODE(known.st_mode))


def _shorten(skipped: list[str]) -> list[str]:
    more = len(skipped) - _SKIPPED_LIMIT
    return skipped if more <= 0 else [*skipped[:_SKIPPED_LIMIT], said(f"… and {more:d} more.")]
