"""What a site is told of an attempt: the run's row as an assignment."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tesra.crypto.aead import Sealer
from tesra.training import caps
from tesra.training.metering import caps_of, spent_of
from tesra.training.model import StopCause
from tesra.training.repository import RunRow
from tesra.training.smoke import SMOKE_S
from tesra.training.tuning.model import Change, live_orders, start_values
from tesra.wire.parameters import DEFAULT_FORMAT
from tesra.wire.site import (
    AssignedDevice,
    Assignment,
    EngineSpec,
    ResumeFrom,
    RunLimit,
    RunSpec,
)
from tesra.wire.training import CHECKPOINT_EVERY_S
from tesra.wire.tuning import TuneOrder

STOP_GRACE_S = 15.0  # of a stop by hand


def assignment_of(
    row: RunRow, sealer: Sealer, changes: Sequence[Change] = (), *, price_micros: int
) -> Assignment:
    """An attempt's row with its run's; the secrets are opened here and nowhere else.

    ``changes``: of the run's parameters, the oldest first.
    """
    limit = _limit(row, price_micros)
    at_cap = row.stop == StopCause.CAP
    spec = row.spec
    params, orders = attempt_values(spec["params"], changes, row.number)
    secrets = sealer.open(row.secrets, row.run_id.encode()) if row.secrets else b"{}"
    return Assignment(
        run=row.run_id,
        attempt=row.id,
        number=row.number,
        fence=row.fence,
        devices=[AssignedDevice.model_validate(device) for device in row.devices],
        tuning=orders,
        grace_s=(limit.grace_s if limit else caps.GRACE_MS / 1000) if at_cap else STOP_GRACE_S,
        limit=limit,
        stop=row.stop or ("restart" if row.restart_why else None),
        resume=_resume(row),
        spec=RunSpec(
            owner=row.owner,
            project=row.project_name,
            snapshot=row.snapshot_id,
            engine=EngineSpec.model_validate(row.engine_spec),
            packages=spec["packages"],
            entry=spec["entry"],
            args=spec["args"],
            output=spec["output"],
            launch=row.launch,
            params=params,
            param_format=spec.get("param_format", DEFAULT_FORMAT),
            env=spec["env"],
            secrets=json.loads(secrets),
            checkpoint_every_s=spec.get("checkpoint_every_s", CHECKPOINT_EVERY_S),
            notes=spec.get("notes", []),
            environment_lock=spec.get("environment_lock"),
            data=spec.get("data", []),
            smoke_s=SMOKE_S if spec.get("smoke") else None,
        ),
    )


def attempt_values(
    params: Mapping[str, Any], changes: Sequence[Change], attempt: int
) -> tuple[dict[str, Any], list[TuneOrder]]:
    """What an attempt starts with, and what its ranks are to change."""
    orders = [
        TuneOrder(seq=change.seq, values=dict(change.values))
        for change in live_orders(changes, attempt)
    ]
    return start_values(params, changes, attempt), orders


def _limit(row: RunRow, price_micros: int) -> RunLimit | None:
    """When the node itself has to end the gang, at today's price; a dearer one the server notices."""
    spent = spent_of(row)
    left = caps.left_ms(
        caps_of(row), spent, rating_micro_t=row.rating_micro_t, price_micros=price_micros
    )
    if left is None:
        return None
    grace = caps.grace_ms(spent, left)
    return RunLimit(stop_after_ms=row.usage_ms + left - grace, grace_s=grace / 1000)


def _resume(row: RunRow) -> ResumeFrom | None:
    if row.resume_snapshot is None:
        return None
    return ResumeFrom(
        checkpoint=row.resume_checkpoint,
        number=row.resume_number,
        snapshot=row.resume_snapshot,
        newest=row.resume_newest,
    )
