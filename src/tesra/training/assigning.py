"""What a site is told of an attempt: the run's row as an assignment."""

import json

from tesra.crypto.aead import Sealer
from tesra.training.repository import RunRow
from tesra.wire.parameters import DEFAULT_FORMAT
from tesra.wire.site import AssignedDevice, Assignment, EngineSpec, RunSpec


def assignment_of(row: RunRow, sealer: Sealer) -> Assignment:
    """An attempt's row with its run's; the secrets are opened here and nowhere else."""
    spec = row.spec
    secrets = sealer.open(row.secrets, row.run_id.encode()) if row.secrets else b"{}"
    return Assignment(
        run=row.run_id,
        attempt=row.id,
        number=row.number,
        fence=row.fence,
        devices=[AssignedDevice.model_validate(device) for device in row.devices],
        stop=row.stop,
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
            params=spec["params"],
            param_format=spec.get("param_format", DEFAULT_FORMAT),
            env=spec["env"],
            secrets=json.loads(secrets),
            notes=spec.get("notes", []),
        ),
    )
