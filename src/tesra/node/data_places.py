"""Where a run finds its data: pure."""

from collections.abc import Sequence
from pathlib import Path

from tesra.node.workspace import AttemptFolders
from tesra.wire.data import RunData
from tesra.wire.site import RunSpec

DATA_VARIABLE = "TESRA_DATA_DIR"


def data_places(folders: AttemptFolders, data: Sequence[RunData]) -> list[Path]:
    """Where each appears: one without a name at ``TESRA_DATA_DIR`` itself, others below it."""
    return [folders.data / one.name if one.name else folders.data for one in data]


def data_variables(folders: AttemptFolders, spec: RunSpec) -> dict[str, str]:
    return {DATA_VARIABLE: str(folders.data)} if spec.data else {}
