"""The output of a run goes into the drive, from the node, in the owner's name."""

import asyncio
import logging
from dataclasses import dataclass

from tesra.kit.errors import QuotaExceeded, TesraError, Unavailable
from tesra.kit.saying import Said, said
from tesra.node.site_client import SiteClient, StaleFence, meaning
from tesra.node.workspace import AttemptFolders, output_files
from tesra.sdk.transfer import upload_tree
from tesra.wire.drive import SnapshotCommit

KEEP_S = 24 * 3600.0
_RETRY_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """``kept``: the output stays on the node for a day, because the drive did not take it."""

    commit: SnapshotCommit | None
    warnings: tuple[str, ...]
    kept: bool = False


async def store_output(
    client: SiteClient, folders: AttemptFolders, attempt: str, fence: int, *, missing_matters: bool
) -> Stored:
    """Upload what the run left; waits as long as the server is away. Raises ``StaleFence``."""
    output = await asyncio.to_thread(output_files, folders)
    warnings = tuple(output.warnings)
    if not output.files:
        if missing_matters and not warnings:
            warnings = (said(f"The run wrote no output: '{folders.output}' is missing or empty."),)
        return Stored(None, warnings)
    paths = [output.root / file.path for file in output.files]
    door = client.drive(attempt, fence)
    while True:
        try:
            commit = await asyncio.to_thread(upload_tree, door, output.root, paths)
        except Unavailable as error:
            _log.warning("%s: output waits for the server: %s", attempt, error.detail)
            await asyncio.sleep(_RETRY_S)
        except QuotaExceeded as error:
            return Stored(None, (*warnings, _over_quota(error)), kept=True)
        except TesraError as error:
            if isinstance(meaning(error), StaleFence):
                raise StaleFence from error
            words = said(
                f"The output could not be stored: {error.detail} It stays on the node for 24 h."
            )
            return Stored(None, (*warnings, words), kept=True)
        else:
            return Stored(commit, warnings)


async def leave_output(folders: AttemptFolders, node: str) -> tuple[str, ...]:
    """For a node whose output is not the run's: a warning if there is any."""
    output = await asyncio.to_thread(output_files, folders)
    written = [file.path for file in output.files if file.kind != "dir"]
    if not written:
        return ()
    count = said("1 file" if len(written) == 1 else f"{len(written)} files")
    words = said(
        f"Not kept: {count} that node {node} wrote to '{folders.output}', such as '{written[0]}'. "
        "The output of a run is what the node of rank 0 wrote there: let rank 0 save, or gather "
        "there what the others have."
    )
    return (words,)


def _over_quota(error: QuotaExceeded) -> Said:
    return said(
        f"The output was not stored, because your storage quota is used up: {error.detail} "
        "It waits on the node for 24 h: ask the operator for a larger quota, and for it."
    )
