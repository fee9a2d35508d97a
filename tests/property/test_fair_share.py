"""Whoever waits, whatever was used: gangs are whole, turns are fair, nobody starves."""

import math
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tesra.compute.model import Device
from tesra.compute.scheduling import (
    CREDIT,
    HALF_LIFE_S,
    Standing,
    Waiting,
    decayed,
    gang_of,
    place_runs,
    queue_order,
)
from tesra.kit.ids import DeviceId, NodeId, RunId, SiteId, UserId

T = 1_000_000


def device(index: int, node: int = 0, device_class: str = "cpu") -> Device:
    return Device(DeviceId(f"d{index}"), NodeId(f"n{node}"), SiteId("s"), index, device_class, T)


users = st.sampled_from([UserId(f"u{n}") for n in range(4)])
gangs = st.builds(
    Waiting,
    run=st.uuids().map(lambda u: RunId(str(u))),
    owner=users,
    devices=st.integers(1, 4),
    device_class=st.sampled_from([None, "cpu", "gpu"]),
    one_node=st.booleans(),
    waited_s=st.floats(0, 1e6),
    priority=st.integers(-100, 100),
)
standings = st.dictionaries(
    users,
    st.builds(
        Standing,
        used_micro_th=st.floats(0, 1e12),
        held_micro_t=st.integers(0, 8).map(lambda n: n * T),
        idle_s=st.floats(0, 1e6),
    ),
)
pools = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["cpu", "gpu"])), max_size=10).map(
    lambda rows: [device(i, node, name) for i, (node, name) in enumerate(rows)]
)


@given(st.lists(gangs, max_size=12), pools, standings)
def test_a_gang_is_placed_whole_and_no_device_twice(
    waiting: list[Waiting], free: list[Device], standings: dict[UserId, Standing]
) -> None:
    wanted = {run.run: run for run in waiting}
    placements = place_runs(waiting, free, standings)
    taken = Counter(d.id for placement in placements for d in placement.devices)
    assert max(taken.values(), default=1) == 1
    for placement in placements:
        run = wanted[placement.run]
        assert len(placement.devices) == run.devices
        assert len({d.device_class for d in placement.devices}) == 1
        assert run.device_class in (None, placement.devices[0].device_class)
        assert not run.one_node or len({d.node for d in placement.devices}) == 1


@given(st.lists(gangs, max_size=12), standings)
def test_within_a_user_the_order_is_by_priority_then_age(
    waiting: list[Waiting], standings: dict[UserId, Standing]
) -> None:
    order = queue_order(waiting, standings, [device(0)])
    assert sorted(order) == sorted(run.run for run in waiting)
    of = {run.run: run for run in waiting}
    for user in {run.owner for run in waiting}:
        own = [of[run] for run in order if of[run].owner == user]
        ranks = [(-run.priority, -run.waited_s) for run in own]
        assert ranks == sorted(ranks)


@given(
    used=st.floats(1e-3, 1e12),
    held=st.integers(0, 8),
    waited_s=st.floats(0, 1e6),
    run=st.integers(1, 3),
)
def test_one_who_used_much_waits_behind_one_who_used_nothing(
    used: float, held: int, waited_s: float, run: int
) -> None:
    """Both have waited equally long, since their last use too."""
    heavy, light = UserId("heavy"), UserId("light")
    waiting = [
        Waiting(RunId("h"), heavy, run, None, False, waited_s),
        Waiting(RunId("l"), light, run, None, False, waited_s),
    ]
    known = {heavy: Standing(used, held * T, idle_s=waited_s), light: Standing()}
    (placement,) = place_runs(waiting, [device(n) for n in range(run)], known)
    assert placement.run == "l" or math.isclose(
        known[heavy].share(waited_s, T), known[light].share(waited_s, T)
    )


@given(st.floats(0, 1e15), st.floats(0, 1e6), st.floats(0, 1e6))
def test_decay_composes(used: float, first_s: float, then_s: float) -> None:
    at_once = decayed(used, first_s + then_s)
    assert math.isclose(decayed(decayed(used, first_s), then_s), at_once, rel_tol=1e-9)
    assert math.isclose(decayed(used, HALF_LIFE_S), used / 2)


@given(used_h=st.integers(0, 12), gang=st.integers(1, 3))
def test_nobody_starves_behind_an_endless_stream_of_new_users(used_h: int, gang: int) -> None:
    """Each minute a new user comes and trains for three minutes: that alone takes all devices."""
    devices, step_s, lasts_s = 3, 60, 180
    free_at = [0] * devices
    since: list[tuple[str, int]] = []
    bound_s = used_h * 3600 / CREDIT + 1800
    now = 0
    while now <= bound_s:
        since.append((f"user-{now}", now))
        waiting = [
            Waiting(RunId(name), UserId(name), 1, None, False, float(now - at))
            for name, at in since
        ]
        waiting.append(Waiting(RunId("big"), UserId("heavy"), gang, None, False, float(now)))
        used = decayed(used_h * T, now)
        free = [device(n) for n in range(devices) if free_at[n] <= now]
        for placement in place_runs(waiting, free, {UserId("heavy"): Standing(used, 0, now)}):
            if placement.run == "big":
                return
            since = [entry for entry in since if entry[0] != placement.run]
            for taken in placement.devices:
                free_at[taken.index] = now + lasts_s
        now += step_s
    raise AssertionError(f"not placed within {bound_s / 3600:.1f} h")


mixed = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["cpu", "gpu"]), st.integers(1, 2)), max_size=10
).map(
    lambda rows: [
        replace(device(i, node, name), rating_micro_t=rating * T * (3 if name == "gpu" else 1))
        for i, (node, name, rating) in enumerate(rows)
    ]
)


@given(gangs, pools, st.sets(st.integers(0, 3)))
def test_to_be_near_its_data_costs_a_run_nothing(
    run: Waiting, free: list[Device], held: set[int]
) -> None:
    near = replace(run, near=frozenset(NodeId(f"n{node}") for node in held))
    without, chosen = gang_of(run, free), gang_of(near, free)
    assert (chosen is None) == (without is None)
    if chosen is None or without is None:
        return
    assert chosen[0].rating_micro_t == without[0].rating_micro_t
    assert len({one.node for one in chosen}) == len({one.node for one in without})
    far = sum(one.node not in near.near for one in chosen)
    assert far <= sum(one.node not in near.near for one in without)


@given(gangs, pools, st.integers(0, 3))
def test_a_node_that_fits_and_has_the_data_is_taken(
    run: Waiting, free: list[Device], held: int
) -> None:
    node = NodeId(f"n{held}")
    per_class = Counter(one.device_class for one in free if one.node == node)
    fits_there = [
        name
        for name, count in per_class.items()
        if count >= run.devices and run.device_class in (None, name)
    ]
    if fits_there:
        chosen = gang_of(replace(run, near=frozenset({node})), free)
        assert chosen is not None
        assert {one.node for one in chosen} == {node}


@given(gangs, mixed, st.sets(st.integers(0, 3)))
def test_near_or_far_a_run_is_placed_all_the_same(
    run: Waiting, free: list[Device], held: set[int]
) -> None:
    near = replace(run, near=frozenset(NodeId(f"n{node}") for node in held))
    assert (gang_of(near, free) is None) == (gang_of(run, free) is None)
