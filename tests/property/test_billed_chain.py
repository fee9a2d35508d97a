"""Runs that are lost, resumed and rolled back in any order: each step that is kept is paid for once."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from factories.billing import HALF_YUAN, usage
from tesra.billing.model import RatedDevice
from tesra.billing.pricing import bill_lines, stretch_of
from tesra.kit.ids import AttemptId, CheckpointId
from tesra.training.checkpoints.chain import Made, Try, billed_parts

RATED = RatedDevice("cpu", 1_000_000)


@dataclass
class Attempt:
    """``work``: a mark for each ms that it computed; ``state``: all the work that its model holds."""

    id: AttemptId
    number: int
    base: CheckpointId | None
    state: list[object]
    work: list[object] = field(default_factory=list)
    end: str = "live"


@dataclass
class Simulation:
    """A run as it would really go: checkpoints hold the work that went into them."""

    attempts: list[Attempt] = field(default_factory=list)
    stored: dict[CheckpointId, tuple[Made, list[object]]] = field(default_factory=dict)
    head: CheckpointId | None = None
    asked_for: list[object] = field(default_factory=list)  # done at the user's wish, then set aside

    def place(self) -> Attempt:
        number = len(self.attempts) + 1
        state = list(self.stored[self.head][1]) if self.head in self.stored else []
        attempt = Attempt(AttemptId(f"att_{number}"), number, self.head, state)
        self.attempts.append(attempt)
        return attempt

    def work(self, attempt: Attempt, ms: int) -> None:
        done = [object() for _ in range(ms)]
        attempt.work += done
        attempt.state += done

    def checkpoint(self, attempt: Attempt) -> None:
        name = CheckpointId(f"ckp_{len(self.stored) + 1}")
        made = Made(attempt.id, len(attempt.work))
        self.stored[name] = (made, list(attempt.state))

    def last_of(self, attempt: Attempt) -> CheckpointId | None:
        own = [name for name, (made, _) in self.stored.items() if made.attempt == attempt.id]
        return own[-1] if own else attempt.base

    def kept(self) -> list[object]:
        """The work that the user has: in the last model, or in what the next attempt begins with."""
        last = self.attempts[-1]
        if last.end != "lost":
            return last.state
        return self.stored[self.head][1] if self.head in self.stored else []


@st.composite
def histories(draw: st.DrawFn) -> Simulation:
    run = Simulation(head=draw(st.sampled_from([None, CheckpointId("ckp_foreign")])))
    for _ in range(draw(st.integers(1, 5))):
        attempt = run.place()
        for ms in draw(st.lists(st.integers(0, 7), max_size=4)):
            run.work(attempt, ms)
            if draw(st.booleans()):
                run.checkpoint(attempt)
        attempt.end = draw(st.sampled_from(["lost", "lost", "restarted", "failed", "succeeded"]))
        if attempt.end == "lost":
            run.head = run.last_of(attempt)
        elif attempt.end == "restarted":
            run.asked_for += attempt.state
            run.head = draw(st.sampled_from([None, *run.stored, attempt.base]))
        else:
            break
    return run


def billed(run: Simulation) -> dict[int, int]:
    """Billed ms of each attempt, through the very lines of the bill."""
    tries = [Try(a.id, a.number, a.base, lost=a.end == "lost") for a in run.attempts]
    made = {name: one for name, (one, _) in run.stored.items()}
    parts = billed_parts(tries, made, run.head)
    records = [
        usage(
            a.id, seq, start_s=seq, duration_ms=len(a.work[seq * 5 : seq * 5 + 5]), devices=(RATED,)
        )
        for a in run.attempts
        for seq in range((len(a.work) + 4) // 5)
    ]
    lines = bill_lines(map(stretch_of, records), (HALF_YUAN,), parts)
    ms: dict[int, int] = {}
    for line in lines:
        ms[line.attempt] = ms.get(line.attempt, 0) + line.duration_ms
    return ms


@given(histories())
def test_every_step_that_the_user_has_is_paid_for_exactly_once_and_no_other(
    run: Simulation,
) -> None:
    """What the user asked to be set aside counts as had: it was done as wished."""
    paid = {
        id(mark)
        for attempt in run.attempts
        for mark in attempt.work[: billed(run).get(attempt.number, 0)]
    }
    had = {id(mark) for mark in [*run.kept(), *run.asked_for]}
    assert paid == had


@given(histories())
def test_a_bill_is_never_more_than_the_time_that_ran(run: Simulation) -> None:
    paid = billed(run)
    for attempt in run.attempts:
        assert 0 <= paid.get(attempt.number, 0) <= len(attempt.work)
