"""``--data``: what stands at a path of the drive when a run is submitted is its data for ever."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from tesra.drive.files.service import FileService
from tesra.drive.service import DriveService
from tesra.kit.errors import Forbidden, Invalid, NotFound
from tesra.kit.ids import SnapshotId, UserId
from tesra.wire.data import RunData

SCHEME = "xingpan:"


class DataPathInvalid(Invalid):
    """Data is a path of your drive, such as xingpan:/datasets/mnist."""


class DataMissing(NotFound):
    """There is no such data in your drive."""


class PrivateData(Forbidden):
    """Nodes can't read a private drive: its keys are on your devices alone."""


class DataNamesClash(Invalid):
    """Each of several data needs a name of its own."""


class DataService:
    """Makes snapshots of the paths that runs are to train on."""

    def __init__(self, drive: DriveService, files: FileService) -> None:
        self._drive = drive
        self._files = files

    async def freeze(self, owner: UserId, wanted: Sequence[RunData]) -> list[RunData]:
        """The same with their snapshots, by which a later run can have them again."""
        return [await self._freeze(owner, one) for one in named(wanted)]

    async def _freeze(self, owner: UserId, wanted: RunData) -> RunData:
        try:
            if wanted.snapshot is None:
                found = await self._files.freeze(owner, inside(wanted.path))
            else:
                found = await self._drive.snapshot(SnapshotId(wanted.snapshot), owner=owner)
        except NotFound as error:
            path = wanted.path[:200]
            raise DataMissing(
                f"There is nothing at '{path}' in your drive any more (snapshot {wanted.snapshot})."
                if wanted.snapshot
                else f"There is nothing at '{path}' in your drive.",
                way_out="`tesra drive ls xingpan:/` shows what is there;"
                f" `tesra drive put DIR {path}` brings it.",
            ) from error
        return wanted.model_copy(
            update={
                "snapshot": found.id,
                "root": found.root.hex(),
                "file_count": found.file_count,
                "size_bytes": found.size_bytes,
            }
        )


def inside(path: str) -> str:
    """The path within the default drive; raises ``DataPathInvalid`` or ``PrivateData``."""
    rest = path.removeprefix(SCHEME)
    if rest == path:
        raise DataPathInvalid(
            f"'{path[:200]}' is no path of your drive.",
            way_out=f"Write it as {SCHEME}/{path[:200].lstrip('/')}; what lies here goes there with"
            " `tesra drive put`.",
        )
    first = rest.partition("/")[0]
    if first.endswith(":"):
        raise PrivateData(
            f"Nodes can't read the private drive '{first[:-1]}': its keys are on your devices alone.",
            way_out=f"`tesra drive get {path[:200]} DIR`, then `tesra drive put DIR {SCHEME}/PATH`:"
            " in your default drive the network can read it.",
        )
    return "/" + rest.lstrip("/")


def named(wanted: Sequence[RunData]) -> list[RunData]:
    """One alone may go without a name; several are called as their paths end, unless they say."""
    if len(wanted) == 1:
        return list(wanted)
    found = [
        one.model_copy(update={"name": one.name or PurePosixPath(one.path).name}) for one in wanted
    ]
    for name, count in Counter(one.name for one in found).items():
        if count > 1 or not name or name.startswith("."):
            raise DataNamesClash(
                f"{count} data are called '{name}'." if name else "The whole drive has no name.",
                way_out="Name them: `--data train=xingpan:/a --data test=xingpan:/b`.",
            )
    return [RunData.model_validate(one.model_dump()) for one in found]
