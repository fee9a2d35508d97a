"""Runs as the API shows them."""

from tesra.kit.money import format_cny, format_micros
from tesra.training.repository import RunRow
from tesra.wire.parameters import DEFAULT_FORMAT
from tesra.wire.training import CHECKPOINT_EVERY_S, QueuePlace, ResumedFrom, Run, RunEvent


def show_run(row: RunRow, *, micro_th_so_far: int, queue: QueuePlace | None = None) -> Run:
    """The training record of one row; before there is a bill, it shows the use so far."""
    billed = row.billed_micros is not None
    exact = row.bill_subject is not None  # a share of a bill that is rounded as a whole
    spec = row.spec
    return Run(
        id=row.id,
        project=row.project_id,
        project_name=row.project_name,
        snapshot=row.snapshot_id,
        state=row.state,
        phase=row.phase,
        reason=row.reason or None,
        warnings=row.warnings,
        engine=f"{row.engine_spec['name']}=={row.engine_spec['version']}",
        backend=row.engine_spec.get("backend"),
        entry=spec["entry"],
        args=spec["args"],
        output_path=spec["output"],
        devices=row.devices,
        device_class=row.device_class,
        launch=row.launch,
        params=spec["params"],
        param_format=spec.get("param_format", DEFAULT_FORMAT),
        env=spec["env"],
        secrets=spec["secrets"],
        packages=spec["packages"],
        attempt=row.attempts,
        exit_code=row.exit_code,
        output=row.output_id,
        output_size_bytes=row.output_size_bytes,
        bill=row.bill_id,
        amount_cny=_amount(row.billed_micros, exact=exact) if billed else None,
        th=format_micros(row.billed_micro_th if billed else micro_th_so_far),
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        launch_reason=row.launch_reason,
        priority=row.priority,
        queue=queue,
        sweep=row.sweep_id,
        trial=row.trial,
        rerun_of=spec.get("rerun_of"),
        max_cost_cny=None if row.max_cost_micros is None else format_cny(row.max_cost_micros),
        max_time_s=None if row.max_time_ms is None else row.max_time_ms // 1000,
        smoke=row.smoke,
        checkpoint_every_s=spec.get("checkpoint_every_s", CHECKPOINT_EVERY_S),
        max_restarts=row.max_restarts,
        restarts=row.restarts,
        resumed_from=_resumed_from(row),
        data=spec.get("data", []),
        tags=row.tags,
        note=row.note,
    )


def _amount(micros: int, *, exact: bool) -> str:
    return format_micros(micros) if exact else format_cny(micros)


def _resumed_from(row: RunRow) -> ResumedFrom | None:
    if row.origin_number is None:
        return None
    return ResumedFrom(run=row.origin_run, checkpoint=row.origin_number)


def show_event(row: RunRow) -> RunEvent:
    """One step of a timeline."""
    return RunEvent(seq=row.seq, at=row.at, kind=row.kind, text=row.text)
