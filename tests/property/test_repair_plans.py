"""Whatever has happened to a pack's copies: repair ends, with as many good ones as can be had."""

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tesra.drive.peers.auditing import TRUST_AFTER, choose_blocks, is_overdue, standing_after
from tesra.drive.peers.placement import CONTAINED, FAILED, GOOD, Peer, choose
from tesra.drive.peers.repairing import (
    Copy,
    Drop,
    Forget,
    PackCopies,
    Want,
    locked,
    plan_repair,
    retry_after_s,
)
from tesra.kit.ids import PeerId
from tesra.storage.merkle import PackTree

SIZE = 100
STATES = ("held", "wanted", "lost", "bad", "dropping")

peers_ = st.lists(
    st.builds(
        lambda machine, site, owner, away_s, draining, standing, used: Peer(
            id=PeerId(""),
            owner=owner,
            machine=machine,
            host="h",
            port=1,
            capacity_bytes=10_000,
            used_bytes=used,
            reachable=away_s < 40,
            draining=draining,
            away_s=away_s,
            standing=standing,
            site=site,
        ),
        st.sampled_from(["m1", "m2", "m3", "m4"]),
        st.sampled_from(["", "s1", "s2"]),
        st.sampled_from(["o1", "o2"]),
        st.sampled_from([0.0, 0.0, 0.0, 60.0, 1000.0]),
        st.sampled_from([False, False, False, True]),
        st.sampled_from([GOOD, GOOD, GOOD, CONTAINED, FAILED]),
        st.integers(0, 9_000),
    ),
    min_size=1,
    max_size=7,
).map(
    lambda found: {
        PeerId(f"p{n}"): replace(
            one, id=PeerId(f"p{n}"), gateway=n == 0, draining=one.draining and n > 0
        )
        for n, one in enumerate(found)
    }
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[PackCopies, dict[PeerId, Peer]]:
    peers = draw(peers_)
    copies = tuple(
        Copy(
            peer,
            draw(st.sampled_from(STATES)),
            age_s=draw(st.sampled_from([0.0, 100.0, 10_000.0])),
            tries=draw(st.integers(0, 3)),
            sources=tuple(draw(st.lists(st.sampled_from(sorted(peers)), max_size=2))),
        )
        for peer in peers
        if draw(st.booleans())
    )
    return PackCopies("ab" * 32, SIZE, copies, goal=draw(st.integers(2, 5))), peers


def _held(pack: PackCopies) -> set[PeerId]:
    return {copy.peer for copy in pack.copies if copy.state == "held"}


def _carried_out(
    pack: PackCopies, peers: dict[PeerId, Peer], *, rebalance: bool
) -> tuple[PackCopies, bool]:
    """One round: the orders are made, and every peer that speaks does what it is told."""
    steps = plan_repair(pack, peers, rebalance=rebalance)
    copies = {copy.peer: copy for copy in pack.copies}
    for step in steps:
        match step:
            case Want(peer=peer, sources=sources):
                assert sources
                assert peer not in sources
                assert copies.get(peer) is None or copies[peer].state in {"lost", "wanted"}
                assert all(copies[source].state == "held" for source in sources)
                assert all(peers[source].reachable for source in sources)
                copies[peer] = Copy(peer, "wanted", sources=sources)
            case Drop(peer=peer):
                assert copies[peer].state == "held"
                copies[peer] = Copy(peer, "dropping")
            case Forget(peer=peer):
                assert copies[peer].state == "wanted"
                del copies[peer]
    done: list[Copy] = []
    for copy in copies.values():
        if not peers[copy.peer].reachable or peers[copy.peer].standing == CONTAINED:
            done.append(replace(copy, age_s=copy.age_s + 60))
        elif copy.state == "wanted" and any(
            copies[source].state == "held" and peers[source].reachable
            for source in copy.sources
            if source in copies
        ):
            done.append(Copy(copy.peer, "held"))
        elif copy.state not in {"dropping", "bad"}:
            done.append(replace(copy, age_s=copy.age_s + 60))
    return replace(pack, copies=tuple(done)), bool(steps)


@settings(max_examples=100)
@given(situations(), st.booleans())
def test_repair_comes_to_an_end_with_all_copies_that_can_be_had(
    situation: tuple[PackCopies, dict[PeerId, Peer]], rebalance: bool
) -> None:
    pack, peers = situation
    usable = any(peers[peer].reachable for peer in _held(pack))
    was_locked = locked(pack)
    for _ in range(60):
        before = _held(pack)
        pack, busy = _carried_out(pack, peers, rebalance=rebalance)
        assert bool(_held(pack)) == bool(before) or _held(pack)
        if not busy and not any(copy.state in {"bad", "dropping"} for copy in pack.copies):
            break
    for _ in range(80):  # those that wait out a pause after failed tries
        pack, busy = _carried_out(pack, peers, rebalance=rebalance)
    assert not busy
    assert locked(pack) == was_locked
    good = {p for p in _held(pack) if peers[p].away_s <= 300 and not peers[p].draining}
    able = {
        peer.id
        for peer in peers.values()
        if peer.reachable and not peer.draining and peer.standing != CONTAINED
    }
    if usable:
        assert len(good) >= min(pack.goal, len(able | good))
        assert PeerId("p0") not in able or PeerId("p0") in good


@given(situations())
def test_the_last_good_copies_are_never_dropped(
    situation: tuple[PackCopies, dict[PeerId, Peer]],
) -> None:
    pack, peers = situation
    dropped = {step.peer for step in plan_repair(pack, peers) if isinstance(step, Drop)}
    left = [peer for peer in _held(pack) - dropped if peers[peer].reachable]
    assert not dropped or len(left) >= 2


def test_what_is_as_it_should_be_is_left_alone() -> None:
    peers = {
        PeerId(f"p{n}"): Peer(PeerId(f"p{n}"), "o", "m", "h", 1, 1000, gateway=n == 0)
        for n in range(5)
    }
    copies = tuple(Copy(PeerId(f"p{n}"), "held") for n in range(3))
    assert plan_repair(PackCopies("ab" * 32, SIZE, copies), peers, rebalance=True) == []


def test_a_new_machine_takes_over_from_one_that_has_two_copies() -> None:
    peers = {
        PeerId(f"p{n}"): Peer(PeerId(f"p{n}"), "o", machine, "h", 1, 1000, gateway=n == 0)
        for n, machine in enumerate(["m1", "m1", "m1", "m2", "m3"])
    }
    pack = PackCopies("ab" * 32, SIZE, tuple(Copy(PeerId(f"p{n}"), "held") for n in range(3)))
    for _ in range(20):
        pack, _ = _carried_out(pack, peers, rebalance=True)
    assert _held(pack) == {PeerId("p0"), PeerId("p3"), PeerId("p4")}


def test_owners_come_before_sites_and_sites_before_machines() -> None:
    places = {
        "here": ("o", "s", "m"),
        "another machine": ("o", "s", "n"),
        "another site": ("o", "t", "n"),
        "another owner": ("p", "s", "n"),
    }
    peers = [
        Peer(PeerId(name), owner, machine, "h", 1, 1000, site=site)
        for name, (owner, site, machine) in places.items()
    ]
    first = peers[0]
    for found in (peers[1:], peers[1:3], peers[1:2]):
        (best,) = choose([first, *found], {first.id}, pack_id="a", size_bytes=1, count=1)
        assert best.id == found[-1].id


def test_a_peer_that_failed_to_fetch_is_asked_again_later_and_later() -> None:
    waits = [retry_after_s(tries) for tries in range(12)]
    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[-1] == 3600


@given(st.integers(1, 5000), st.integers(0, 2**32))
def test_challenges_name_different_blocks_of_the_pack(blocks: int, seed: int) -> None:
    tree = PackTree("ab" * 32, blocks * 16384 - 1, b"", b"")
    chosen = choose_blocks(tree, random.Random(seed).randrange)
    assert len(chosen) == len(set(chosen)) == min(4, blocks)
    assert all(0 <= block < blocks for block in chosen)


def test_silence_is_not_blamed_before_its_time() -> None:
    assert not is_overdue(29, scrub=False, queued_bytes=10**12)
    assert is_overdue(31, scrub=False, queued_bytes=0)
    assert not is_overdue(100, scrub=True, queued_bytes=10**9)
    assert is_overdue(300, scrub=True, queued_bytes=10**9)


def test_a_peer_earns_its_trust_back_by_proofs() -> None:
    assert standing_after(CONTAINED, 0, good=True) == (GOOD, 0)
    standing, proofs = standing_after(GOOD, 500, good=False)
    assert standing == FAILED
    for _ in range(TRUST_AFTER - 1):
        standing, proofs = standing_after(standing, proofs, good=True)
        assert standing == FAILED
    assert standing_after(standing, proofs, good=True) == (GOOD, 0)
