"""What a site is told of an attempt: the run's row as an assignment."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tesra.crypto.aead import Sealer
from tesra.training.repository import RunRow
from tesra.training.tuning.model import Change, live_orders, start_values
from tesra.wire.parameters import DEFAULT_FORMAT
from tesra.wire.site import AssignedDevice, Assignment, EngineSpec, RunSpec
from tesra.wire.tuning import TuneOrder


def assignment_of(row: RunRow, sealer: Sealer, changes: Sequence[Change] = ()) -> Assignment:
    """An attempt's row with its run's; the secrets are opened here and nowhere else.

    ``changes``: of the run's parameters, the oldest first.
    """
    spec = row.spec
    params, orders = attempt_values(spec["params"], changes, row.number)
    secrets = sealer.open(row.secrets, row.run_id.encode()) if row.secrets else b"{}"
    return Assignment(
        run=row.run_id,
        attempt=row.id,
        number=row.number,
        fence=row.fence,
        devices=[AssignedDevice.model_validate(device) for device in row.devices],
        stop=row.stop,
        tuning=orders,
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
            notes=spec.get("notes", []),
            environment_lock=spec.get("environment_lock"),
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
