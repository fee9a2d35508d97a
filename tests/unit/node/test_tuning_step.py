"""Which step a change is for: no rank has passed it, and no rank can pass it unknowing."""

import random
from dataclasses import replace

import pytest

from tesra.node.tuning.decide import merged, orders_now
from tesra.node.tuning.model import ROUNDS, Order, Promise, RankTuning, Took, TuningReport
from tesra.node.tuning.told import tuned
from tesra.wire.tuning import TuneOrder

WANTED = [TuneOrder(seq=1, values={"lr": 0.1})]
ASKED = Order(1, {"lr": 0.1})
NAMED = replace(ASKED, step=42)


def rank(number: int, limit: int | None = None, **facts: object) -> RankTuning:
    promise = None if limit is None else Promise(1, 1, limit)
    return RankTuning(number, **({"live": True, "promise": promise} | facts))  # type: ignore[arg-type]


def report(*ranks: RankTuning, orders: tuple[Order, ...] = ()) -> TuningReport:
    return TuningReport(ranks, orders)


def test_nobody_is_asked_before_all_ranks_step() -> None:
    assert orders_now(WANTED, [report(rank(0), rank(1, live=False))]) == ()
    assert orders_now(WANTED, [report(rank(0), rank(1))]) == (ASKED,)


def test_the_step_is_behind_every_promise_and_named_when_all_have_promised() -> None:
    held = (ASKED,)
    assert orders_now(WANTED, [report(rank(0, 41), rank(1), orders=held)]) == (ASKED,)
    assert orders_now(WANTED, [report(rank(0, 41), rank(1, 7), orders=held)]) == (NAMED,)


def test_ranks_of_all_nodes_count() -> None:
    first, second = report(rank(0, 41), orders=(ASKED,)), report(rank(1), orders=())
    assert orders_now(WANTED, [first, second]) == (ASKED,)
    assert orders_now(WANTED, [first, report(rank(1, 12), orders=(ASKED,))]) == (NAMED,)


def test_a_named_step_is_never_named_anew_whatever_ranks_say_later() -> None:
    parts = [report(rank(0, 99), rank(1, declined=(1, 1)), orders=(NAMED,)), report(rank(2))]
    assert orders_now(WANTED, parts) == (NAMED,)


def test_a_promise_for_another_round_does_not_count() -> None:
    second = replace(ASKED, round=2)
    assert orders_now(WANTED, [report(rank(0, 41), orders=(second,))]) == (second,)


def test_a_rank_that_declines_is_asked_again_and_then_given_up() -> None:
    order = ASKED
    for asked in range(1, ROUNDS):
        parts = [report(rank(0), rank(1, declined=(1, asked)), orders=(order,))]
        (order,) = orders_now(WANTED, parts)
        assert order.round == asked + 1
    parts = [report(rank(0), rank(1, declined=(1, ROUNDS)), orders=(order,))]
    (order,) = orders_now(WANTED, parts)
    assert order.failed
    fact = tuned([report(rank(0), rank(1, declined=(1, ROUNDS)), orders=(order,))])
    assert fact is not None
    assert fact.changes[0].state == "failed"
    assert "rank 1" in str(fact.changes[0].reason)


def test_changes_are_made_one_after_the_other() -> None:
    both = [*WANTED, TuneOrder(seq=2, values={"lr": 0.2})]
    assert [order.seq for order in orders_now(both, [report(rank(0))])] == [1]
    done = rank(0, took=(Took(1, 42),))
    now = orders_now(both, [report(done, orders=(NAMED,))])
    assert [(order.seq, order.step) for order in now] == [(1, 42), (2, None)]


def test_a_change_withdrawn_before_its_step_is_named_is_forgotten() -> None:
    assert orders_now([], [report(rank(0, 41), orders=(ASKED,))]) == ()
    assert orders_now([], [report(rank(0, 41), orders=(NAMED,))]) == (NAMED,)
    assert orders_now([], [report(rank(0, took=(Took(1, 42),)), orders=(NAMED,))]) == ()


def test_a_rank_that_has_ended_holds_nobody_up_and_is_told() -> None:
    gone = rank(1, gone=True, live=True)
    assert orders_now(WANTED, [report(rank(0, 41), gone, orders=(ASKED,))]) == (NAMED,)
    fact = tuned([report(rank(0, took=(Took(1, 42),)), gone, orders=(NAMED,))])
    assert fact is not None
    assert (fact.changes[0].state, fact.changes[0].reason) == (
        "applied",
        "rank 1 had ended before that step",
    )


def test_a_message_that_was_overtaken_takes_nothing_back() -> None:
    assert merged([NAMED], [ASKED]) == (NAMED,)
    assert merged([ASKED], [NAMED]) == (NAMED,)
    assert merged([replace(ASKED, round=2)], [ASKED]) == (replace(ASKED, round=2),)
    assert merged([NAMED], []) == ()


def test_a_change_counts_as_made_only_when_every_rank_has_made_it() -> None:
    some = report(rank(0, took=(Took(1, 42),)), rank(1), orders=(NAMED,))
    every = report(rank(0, took=(Took(1, 42),)), rank(1, took=(Took(1, 42),)), orders=(NAMED,))
    assert [fact.changes[0].state for part in (some, every) if (fact := tuned([part]))] == [
        "decided",
        "applied",
    ]


class ModelRank:
    """A rank as the protocol has it, at a speed of its own; its messages take as long as they like."""

    def __init__(self, number: int, ahead: int) -> None:
        self.number, self.ahead = number, ahead
        self.done = 1
        self.promise: Promise | None = None
        self.told: Order | None = None
        self.took: list[int] = []

    def hear(self, order: Order) -> None:
        self.told = order
        if order.step is None and self.promise is None:
            self.promise = Promise(order.seq, order.round, self.done + self.ahead)

    def advance(self) -> None:
        if self.told and self.told.step == self.done + 1:
            self.took.append(self.done + 1)
        elif self.told and self.told.step is None and self.done >= self.limit:
            return  # it waits
        self.done += 1

    @property
    def limit(self) -> int:
        return self.promise.limit if self.promise else 2**62

    def says(self) -> RankTuning:
        took = tuple(Took(1, step) for step in self.took)
        return RankTuning(self.number, live=True, promise=self.promise, took=took)


@pytest.mark.parametrize("seed", range(60))
def test_all_ranks_take_it_at_the_same_step_in_any_order_of_events(seed: int) -> None:
    chance = random.Random(seed)
    ranks = [ModelRank(number, chance.randint(1, 20)) for number in range(chance.randint(1, 5))]
    speeds = [chance.randint(1, 5) for _ in ranks]
    reports = [report(rank.says()) for rank in ranks]  # each a node of its own, and stale
    orders: tuple[Order, ...] = ()
    for _ in range(5_000):
        place = chance.randrange(len(ranks))
        match chance.choice(["step", "step", "report", "decide", "hear"]):
            case "step":
                for _ in range(speeds[place]):
                    ranks[place].advance()
            case "report":
                reports[place] = report(ranks[place].says(), orders=orders)
            case "decide":
                orders = merged(orders, orders_now(WANTED, reports)) or orders
            case "hear":
                for order in orders:
                    ranks[place].hear(order)
        if all(rank.took for rank in ranks):
            break
    steps = [rank.took for rank in ranks]
    assert len(steps[0]) == 1
    assert steps == [steps[0]] * len(ranks)
