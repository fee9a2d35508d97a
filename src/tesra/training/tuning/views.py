"""Changes of parameters as the API shows them, and in words. Pure but for reading rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tesra.kit.saying import Said, said
from tesra.training.model import RunState
from tesra.training.tuning.model import ChangeState, Parameter
from tesra.wire.tuning import RankTook, TunableParameter, TuneChange, TunedChange, Tuning

_NO_STEP = said(
    "Its ranks have not counted a step yet: the script has not called tesra.step(), and no known"
    " optimiser has stepped. If it does neither, the change can't be made while it runs:"
    " call tesra.step() after each step and read tesra.params, or start it again."
)


def show(
    run: Any,
    parameters: Iterable[Parameter],
    holds: Mapping[str, Any],
    changes: Sequence[Any],
    stepping: Sequence[int],
) -> Tuning:
    """``run`` and ``changes`` are rows; ``holds`` are the values of now."""
    ranks = 1 if run.launch == "single" else run.devices
    return Tuning(
        run=run.id,
        parameters=[
            TunableParameter(
                name=one.name,
                kind=one.kind,
                value=holds[one.name],
                start=one.start,
                low=one.low,
                high=one.high,
                choices=None if one.choices is None else list(one.choices),
                origin=one.origin,
                where=list(one.where),
            )
            for one in parameters
        ],
        changes=[_show_change(row, run, len(stepping) == ranks) for row in changes],
        stepping=list(stepping),
        ranks=ranks,
    )


def _show_change(row: Any, run: Any, all_step: bool) -> TuneChange:
    state, reason = row.state, row.reason
    if state == ChangeState.WAITING:
        state, reason = _waiting(row, run, all_step)
    return TuneChange(
        seq=row.seq,
        at=row.at,
        by=row.by,
        values=row.values,
        before=row.before,
        state=state,
        attempt=row.attempt,
        step=row.step,
        ranks=[RankTook.model_validate(took) for took in row.ranks],
        reason=reason,
        settled_at=row.settled_at,
    )


def _waiting(row: Any, run: Any, all_step: bool) -> tuple[str, Said]:
    """What a change waits for; one that waits in a run that has ended was never made."""
    if RunState(run.state).terminal:
        return ChangeState.FAILED.value, said("The run ended before the change was made.")
    if row.at_start or row.attempt != run.attempts or run.state == RunState.QUEUED:
        return row.state, said("It is in force when the run starts.")
    if run.state != RunState.RUNNING:
        return row.state, said(
            "The run is being prepared; the change is made once it has begun to step."
        )
    if row.step is not None:
        return row.state, said(f"All ranks make it at step {row.step}.")
    asked = said("Its ranks are being asked for the step.")
    return row.state, asked if all_step else _NO_STEP


def values_words(values: Mapping[str, Any], between: str = ", ") -> str:
    """``lr=0.003, momentum=0.9``."""
    return between.join(f"{name}={value}" for name, value in values.items())


def applied_words(change: TunedChange, *, withdrawn: bool) -> Said:
    """How a change was made, and every rank that made it otherwise than agreed."""
    same = [took for took in change.ranks if took.step == change.step]
    others = [took for took in change.ranks if took.step != change.step]
    ranks = said("1 rank") if len(same) == 1 else said(f"{len(same):d} ranks")
    parts = [said(f"made at step {change.step} on {ranks}")]
    parts += [
        said(f"rank {took.rank:d} was late and made it at step {took.step:d}") for took in others
    ]
    parts += [change.reason] if change.reason else []
    parts += dict.fromkeys(Said(took.note) for took in change.ranks if took.note)
    if withdrawn:
        parts.append(said("it was withdrawn too late, so set the old value to undo it"))
    changes = "; ".join(parts)
    return Said(f"{changes}.")
