"""From what the nodes report of an attempt to what the server must be told. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tesra.node.orders import AttemptStatus, Outcome, Stage, Verdict, by_cause
from tesra.node.spool import Body, Note
from tesra.node.stalls import news
from tesra.node.tuning.told import digest, tuned
from tesra.wire.drive import SnapshotCommit
from tesra.wire.site import Checkpoint, Ended, Phase, Preparing, Started, Usage
from tesra.wire.stalls import Stalled
from tesra.wire.tuning import Tuned

USAGE_EVERY_MS = 10_000
_LONGEST_USAGE_MS = 600_000
_MOST_WARNINGS = 20
# A rank fails when the node of another is lost: that is no failure of the script.
_SEVERITY: dict[Outcome, int] = {"lost": 0, "failed": 1, "refused": 2, "stopped": 3, "succeeded": 4}


@dataclass(frozen=True, slots=True)
class GangStatus:
    """An attempt on all its nodes: as far as the slowest, as long as all ran, as bad as the worst.

    ``broken`` says that one node's part has ended badly while another's goes on.
    """

    stage: Stage
    phase: str
    started_at: datetime | None
    ran_ms: int
    verdict: Verdict | None
    warnings: tuple[str, ...]
    output: SnapshotCommit | None
    lock: str | None
    broken: bool
    tuned: Tuned | None = None
    checkpoint: Checkpoint | None = None
    resumed: bool = False
    stall: Stalled | None = None
    settled: bool = True


def combine(parts: Sequence[AttemptStatus], *, stall: Stalled | None = None) -> GangStatus:
    """The gang's status from its nodes', node 0's first: output and checkpoints are node 0's."""
    slowest = min(parts, key=lambda part: part.stage)
    starts = [part.started_at for part in parts if part.started_at is not None]
    ran = len(starts) == len(parts)
    verdicts = [part.verdict for part in parts if part.verdict is not None]
    bad = [verdict for verdict in verdicts if verdict.outcome != "succeeded"]
    return GangStatus(
        stage=slowest.stage,
        phase=slowest.phase,
        started_at=max(starts) if ran else None,
        ran_ms=min(part.ran_ms for part in parts) if ran else 0,
        verdict=min(verdicts, key=_severity) if verdicts else None,
        warnings=tuple(warning for part in parts for warning in part.warnings),
        output=parts[0].output,
        lock=parts[0].lock,
        broken=bool(bad) and len(verdicts) < len(parts),
        tuned=tuned([part.tuning for part in parts]),
        checkpoint=parts[0].checkpoint,
        resumed=any(part.resumed for part in parts),
        stall=stall,
        settled=slowest.settled,
    )


def _severity(verdict: Verdict) -> tuple[int, bool, float]:
    """Of equals the cause, which the others followed from."""
    return _SEVERITY[verdict.outcome], *by_cause(verdict)


def to_tell(note: Note, gang: GangStatus) -> list[Body]:
    """The facts that are new since ``note``, in the order in which the server must learn them."""
    if note.ended:
        return []
    facts: list[Body] = []
    if gang.started_at is not None and not note.started:
        facts.append(Started(at=gang.started_at, environment_lock=gang.lock))
    if gang.started_at is not None:
        facts += _usage(note, gang, gang.started_at)
    if gang.started_at is not None and gang.tuned and digest(gang.tuned) != note.tuned:
        facts.append(gang.tuned)
    if gang.stage is Stage.RUNNING and (stalled := news(note.stalled, gang.stall)):
        facts.append(stalled)
    if gang.checkpoint is not None and _has_new_checkpoint(note, gang):
        facts.append(gang.checkpoint.model_copy(update={"resumed": gang.resumed}))
    if gang.stage is Stage.ENDED and gang.verdict is not None:
        last = ended(gang.verdict, gang.warnings, gang.output)
        return [*facts, last.model_copy(update={"resumed": gang.resumed})]
    news_of_phase = gang.settled and gang.phase != note.phase
    if news_of_phase and gang.stage is Stage.PREPARING:
        facts.append(Preparing(phase=gang.phase))
    if news_of_phase and gang.stage is Stage.STORING:
        facts.append(Phase(phase=gang.phase))
    return facts


def ended(
    verdict: Verdict, warnings: Sequence[str] = (), output: SnapshotCommit | None = None
) -> Ended:
    """The last fact about an attempt."""
    return Ended(
        outcome=verdict.outcome,
        exit_code=verdict.exit_code,
        rank=verdict.rank,
        reason=verdict.reason[:8192] if verdict.reason else None,
        warnings=list(warnings[:_MOST_WARNINGS]),
        output=output,
    )


def _usage(note: Note, gang: GangStatus, started_at: datetime) -> list[Body]:
    """Records that cover exactly what has run and is not reported yet."""
    new_ms = gang.ran_ms - note.reported_ms
    due = gang.stage is not Stage.RUNNING or new_ms >= USAGE_EVERY_MS
    if new_ms <= 0 or not (due or _has_new_checkpoint(note, gang)):  # its use goes before it
        return []
    records: list[Body] = []
    reported_ms, number = note.reported_ms, note.usage
    while reported_ms < gang.ran_ms:
        number += 1
        duration_ms = min(gang.ran_ms - reported_ms, _LONGEST_USAGE_MS)
        begin = started_at + timedelta(milliseconds=reported_ms)
        records.append(Usage(number=number, started_at=begin, duration_ms=duration_ms))
        reported_ms += duration_ms
    return records


def _has_new_checkpoint(note: Note, gang: GangStatus) -> bool:
    return gang.checkpoint is not None and gang.checkpoint.number > note.checkpoint
