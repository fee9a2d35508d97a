"""Who gets which devices."""

from dataclasses import replace

from tesra.compute.model import ClassTable, Device
from tesra.compute.scheduling import (
    PATIENCE_S,
    Standing,
    Waiting,
    classes_on_offer,
    place_runs,
    possible,
    queue_order,
)
from tesra.kit.ids import AttemptId, DeviceId, NodeId, RunId, SiteId, UserId

ANN, BOB = UserId("ann"), UserId("bob")


def device(name: str, node: str = "n1", site: str = "s1", device_class: str = "cpu") -> Device:
    return Device(
        DeviceId(name), NodeId(node), SiteId(site), int(name[1:]), device_class, 1_000_000
    )


def waiting(
    run: str,
    owner: UserId = ANN,
    devices: int = 1,
    waited_s: float = 1.0,
    one_node: bool = False,
    priority: int = 0,
) -> Waiting:
    return Waiting(RunId(run), owner, devices, None, one_node, waited_s, priority)


def placed(
    *runs: Waiting, free: list[Device], standings: dict[UserId, Standing] | None = None
) -> dict[str, list[str]]:
    found = place_runs(runs, free, standings or {})
    return {p.run: [d.id for d in p.devices] for p in found}


def test_a_gang_gets_all_its_devices_or_none() -> None:
    free = [device("d0"), device("d1")]
    assert placed(waiting("a", devices=3), free=free) == {}
    assert placed(waiting("a", devices=2), free=free) == {"a": ["d0", "d1"]}


def test_a_gang_never_spans_sites_or_classes() -> None:
    two_sites = [device("d0", site="s1"), device("d1", node="n2", site="s2")]
    two_classes = [device("d0"), device("d1", device_class="gpu")]
    assert placed(waiting("a", devices=2), free=two_sites) == {}
    assert placed(waiting("a", devices=2), free=two_classes) == {}


def test_who_holds_less_goes_first() -> None:
    runs = [waiting("a", ANN, waited_s=9), waiting("b", BOB, waited_s=1)]
    holds_two = {ANN: Standing(held_micro_t=2_000_000)}
    assert placed(*runs, free=[device("d0")], standings=holds_two) == {"b": ["d0"]}
    assert placed(*runs, free=[device("d0")]) == {"a": ["d0"]}


def test_who_used_much_lately_waits_behind_who_used_nothing() -> None:
    runs = [waiting("a", ANN, waited_s=60), waiting("b", BOB, waited_s=1)]
    used = {ANN: Standing(used_micro_th=5e6, idle_s=60.0)}
    assert placed(*runs, free=[device("d0")], standings=used) == {"b": ["d0"]}


def test_waiting_makes_up_for_use() -> None:
    used = {ANN: Standing(used_micro_th=5e6)}
    runs = [waiting("a", ANN, waited_s=2 * 3600), waiting("b", BOB, waited_s=1)]
    assert placed(*runs, free=[device("d0")], standings=used) == {"a": ["d0"]}
    just_served = {ANN: Standing(used_micro_th=5e6, idle_s=60.0)}
    assert placed(*runs, free=[device("d0")], standings=just_served) == {"b": ["d0"]}


def test_within_a_user_priority_comes_before_age() -> None:
    runs = [waiting("old", waited_s=9), waiting("urgent", waited_s=1, priority=50)]
    assert placed(*runs, free=[device("d0")]) == {"urgent": ["d0"]}
    assert queue_order(runs, {}, [device("d0")]) == ["urgent", "old"]


def test_a_priority_gains_nothing_over_other_users() -> None:
    runs = [waiting("a", ANN, waited_s=1, priority=100), waiting("b", BOB, waited_s=2, priority=-9)]
    assert placed(*runs, free=[device("d0")]) == {"b": ["d0"]}


def test_users_take_turns_when_all_is_free() -> None:
    runs = [waiting("a1"), waiting("a2"), waiting("b1", BOB, waited_s=0.5)]
    free = [device("d0"), device("d1")]
    assert set(placed(*runs, free=free)) == {"a1", "b1"}


def test_within_a_user_nothing_overtakes() -> None:
    runs = [waiting("large", devices=2), waiting("small")]
    assert placed(*runs, free=[device("d0")]) == {}


def test_a_large_gang_that_waited_long_is_not_starved() -> None:
    free = [device("d0")]
    large = waiting("large", ANN, devices=2, waited_s=PATIENCE_S + 1)
    assert placed(large, waiting("small", BOB), free=free) == {}
    patient = waiting("large", ANN, devices=2, waited_s=PATIENCE_S - 1)
    assert placed(patient, waiting("small", BOB), free=free) == {"small": ["d0"]}


def test_a_gang_that_no_site_can_hold_now_stands_in_nobodys_way() -> None:
    there = [device("d0"), device("d1", node="n2")]
    whole, split, small = (
        waiting("whole", devices=3),
        waiting("split", devices=2, one_node=True),
        waiting("small", devices=2),
    )
    assert possible([whole, split, small], there) == [small]
    away = replace(there[1], reachable=False)
    assert possible([whole, split, small], [there[0], away]) == []


def test_a_run_for_a_class_that_is_gone_stands_in_nobodys_way() -> None:
    gpu = Waiting(RunId("a"), ANN, 1, "gpu", False, 1.0)
    assert possible([gpu, waiting("b")], [device("d0")]) == [waiting("b")]


def test_a_single_launch_stays_on_one_node() -> None:
    free = [device("d0", node="n1"), device("d1", node="n2")]
    assert placed(waiting("a", devices=2, one_node=True), free=free) == {}
    assert placed(waiting("a", devices=2), free=free) == {"a": ["d0", "d1"]}


def test_the_best_fitting_node_is_taken() -> None:
    free = [device("d0", "n1"), device("d1", "n1"), device("d2", "n1"), device("d3", "n2")]
    assert placed(waiting("a"), free=free) == {"a": ["d3"]}


def test_an_offer_counts_free_and_busy_devices() -> None:
    busy = Device(DeviceId("d9"), NodeId("n1"), SiteId("s1"), 9, "cpu", 2_000_000, AttemptId("x"))
    (offer,) = classes_on_offer([device("d0"), busy])
    assert (offer.total, offer.free, offer.largest_gang, offer.rating_micro_t) == (
        2,
        1,
        2,
        2_000_000,
    )


def test_a_rating_is_capped_by_its_class() -> None:
    table = ClassTable(caps={"cpu": 4_000_000}, default=100_000_000)
    assert table.rating("cpu", 9_000_000) == 4_000_000
    assert table.rating("cpu", 1_000_000) == 1_000_000
    assert table.rating("unheard of", 900_000_000) == 100_000_000
