"""What a node keeps on disk of each attempt, so that an agent started anew can clean up after it.

No secret of the run is in it. A file of lines, of which the last whole one counts: to replace a
file costs a file system more than all else that a short run does there, and whoever does it waits.
It outlives processes, not the machine, so it is not fsynced.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as fields_in
from datetime import datetime
from pathlib import Path
from typing import Any

from tesra.node.orders import AttemptStatus, Stage, Verdict
from tesra.node.workspace import AttemptFolders
from tesra.wire.drive import SnapshotCommit
from tesra.wire.site import Checkpoint

_NAME = "attempt.json"
_LONG_BYTES = 1 << 18  # then the file begins anew


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """``pid`` and ``pid_started`` identify the gang's outermost process; ``ranks`` are those here.

    ``ran``: it may have an output to store. ``node_rank`` counts the nodes of the gang.
    ``kept_until`` (seconds since the epoch) is set when the output could not be stored.
    ``checkpoints``: this node stores them.
    """

    status: AttemptStatus
    output_path: str
    ranks: tuple[int, ...] = ()
    ran: bool = False
    pid: int | None = None
    pid_started: float = 0.0
    kept_until: float | None = None
    node_rank: int = 0
    checkpoints: bool = False

    def with_status(self, **changes: Any) -> "AttemptRecord":
        return replace(self, status=replace(self.status, **changes))


def save_record(folder: Path, record: AttemptRecord) -> None:
    """What the record in an attempt's folder says from now on."""
    fields, status = _fields_of(record), _fields_of(record.status)
    fields["status"] = status
    if record.status.started_at is not None:
        status["started_at"] = record.status.started_at.isoformat()
    if record.status.output is not None:
        status["output"] = record.status.output.model_dump(mode="json")
    if record.status.checkpoint is not None:
        status["checkpoint"] = record.status.checkpoint.model_dump(mode="json")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _append(folder / _NAME, json.dumps(fields, default=asdict))


def _append(path: Path, text: str) -> None:
    with path.open("ab") as file:
        if file.tell() < _LONG_BYTES:
            file.write(b"\n" + text.encode())  # before it, since what is there may be torn
            return
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.rename(path)


def _fields_of(one: AttemptRecord | AttemptStatus) -> dict[str, Any]:
    """One level of it: to take all apart and copy it costs more than to write it."""
    return {field.name: getattr(one, field.name) for field in fields_in(one)}


def load_records(attempts: Path) -> list[AttemptRecord]:
    """All records below a folder of attempts; a folder without one was never begun."""
    found = [_load(path) for path in sorted(attempts.glob(f"*/{_NAME}"))]
    return [record for record in found if record is not None]


def folders_of(attempts: Path, record: AttemptRecord) -> AttemptFolders:
    """Where an attempt that was prepared earlier has its files."""
    return AttemptFolders(root=attempts / record.status.attempt, output=record.output_path)


def _load(path: Path) -> AttemptRecord | None:
    for line in reversed(path.read_bytes().splitlines()):
        with suppress(ValueError):
            return _record_of(json.loads(line))
    return None


def _record_of(fields: dict[str, Any]) -> AttemptRecord:
    status = fields.pop("status")
    if status["started_at"] is not None:
        status["started_at"] = datetime.fromisoformat(status["started_at"])
    if status["output"] is not None:
        status["output"] = SnapshotCommit.model_validate(status["output"])
    if status.get("checkpoint") is not None:
        status["checkpoint"] = Checkpoint.model_validate(status["checkpoint"])
    if status["verdict"] is not None:
        status["verdict"] = Verdict(**status["verdict"])
    status["stage"] = Stage(status["stage"])
    status["warnings"], status["progress"] = tuple(status["warnings"]), ()
    fields["ranks"] = tuple(fields["ranks"])
    return AttemptRecord(status=AttemptStatus(**status), **fields)
