"""A new run that goes on from a checkpoint of one that has ended: ``tesra resume``."""

from dataclasses import dataclass
from typing import Any

from tesra.db.engine import Tx
from tesra.kit.errors import Conflict, Invalid
from tesra.kit.ids import RunId, UserId
from tesra.training.checkpoints.service import CheckpointService
from tesra.training.domains import Domains
from tesra.training.model import CheckpointRef, RunState
from tesra.training.proposals import Prepared
from tesra.training.repository import RunRepository, RunRow
from tesra.training.service import RunNotFound, TrainingService
from tesra.training.tuning.facts import TuningFacts
from tesra.training.tuning.model import Value, start_values
from tesra.wire.checkpoints import ResumeRequest
from tesra.wire.training import Run, RunRequest

_ITS_OWN = {"notes", "secrets", "smoke", "rerun_of", "max_cost_cny", "max_time_s"}


class StillRuns(Conflict):
    """This run has not ended: it goes on by itself."""


class SecretsMissing(Invalid):
    """The run had secrets, and they are forgotten."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """What is to be run, and from where on."""

    prepared: Prepared
    origin: CheckpointRef


class ResumeService:
    """Goes on from where another run came to: the same snapshot and wishes, save what is changed."""

    def __init__(self, domains: Domains, training: TrainingService) -> None:
        self._database = domains.database
        self._training = training
        self._checkpoints = CheckpointService(domains)
        self._tuning = TuningFacts(domains)
        self._runs = RunRepository()

    async def check(self, owner: UserId, run: RunId, ask: ResumeRequest) -> Resumption:
        """Refuse what cannot work. Reads the project, so outside a transaction."""
        async with self._database.begin() as tx:
            row = await self._runs.run(tx, run, owner=owner)
            if row is None:
                raise RunNotFound(way_out="List yours with `tesra runs`.")
            if not RunState(row.state).terminal:
                raise StillRuns(
                    f"{run} has not ended: it goes on by itself when its node is lost.",
                    way_out=f"Stop it first with `tesra stop {run}`.",
                )
            _check_secrets(row, ask)
            origin = await self._checkpoints.find(tx, run, ask.checkpoint)
            changes = (await self._tuning.changes_of(tx, [run])).get(run, [])
        held = start_values(row.spec["params"], changes, row.attempts + 1)
        request = _request(row, ask, held)
        return Resumption(await self._training.check(owner, request), origin)

    async def submit(self, tx: Tx, owner: UserId, resumption: Resumption) -> Run:
        """Queue it; refused with ``PaymentDue`` while a bill is unpaid."""
        await self._checkpoints.pin(tx, resumption.origin.id)
        return await self._training.submit(
            tx, owner, resumption.prepared, origin=resumption.origin.id
        )


def _check_secrets(row: RunRow, ask: ResumeRequest) -> None:
    missing = sorted(set(row.spec["secrets"]) - ask.secrets.keys())
    if missing:
        flags = " ".join(f"--secret {name}" for name in missing)
        raise SecretsMissing(
            f"{row.id} had secrets ({', '.join(missing)}), which were forgotten at its end.",
            way_out=f"Give them again: `tesra resume {row.id} {flags}`.",
        )


def _request(row: RunRow, ask: ResumeRequest, params: dict[str, Value]) -> RunRequest:
    """The wishes of the run that ended, with the parameters that it had then, and the new ones.

    Its caps are used up, so they do not come along.
    """
    spec = {name: value for name, value in row.spec.items() if name not in _ITS_OWN}
    engine = row.engine_spec
    changes: dict[str, Any] = {
        "project": row.project_id,
        "snapshot": row.snapshot_id,
        "engine": f"{engine['name']}=={engine['version']}",
        "backend": engine.get("backend"),
        "launch": row.launch,
        "params": params | ask.params,
        "secrets": ask.secrets,
        "max_cost_cny": ask.max_cost_cny,
        "max_time_s": ask.max_time_s,
    }
    for name in ("devices", "max_restarts"):
        wish = getattr(ask, name)
        if wish is not None:
            changes[name] = wish
    return RunRequest.model_validate(spec | changes)
