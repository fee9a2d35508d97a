"""What is said of a file's copies is never better than what is known."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tesra.drive.peers.wellness import GoodCopy, of_pack
from tesra.storage.wellness import DEGRADED, GOOD, LOCKED, OFFLINE, say, worst

DAY = datetime(2026, 1, 1, tzinfo=UTC)
copies = st.lists(
    st.builds(
        GoodCopy,
        machine=st.sampled_from(["m1", "m2", "m3"]),
        reachable=st.booleans(),
        proven_at=st.none() | st.integers(0, 9).map(lambda n: DAY + timedelta(days=n)),
    ),
    max_size=5,
)


@given(copies, st.integers(2, 4))
def test_only_as_many_copies_as_wanted_on_as_many_machines_are_good(
    found: list[GoodCopy], goal: int
) -> None:
    pack = of_pack(found, goal)
    assert pack.copies == sum(copy.reachable for copy in found)
    assert pack.copies + pack.away == len(found)
    if pack.state == GOOD:
        assert pack.copies >= goal
        assert pack.machines >= goal
    assert (pack.state == LOCKED) == (not found)
    assert (pack.state == OFFLINE) == (bool(found) and not any(c.reachable for c in found))
    assert "safe" not in say(pack)


@given(copies)
def test_nothing_is_called_proven_before_every_copy_was(found: list[GoodCopy]) -> None:
    there = [copy for copy in found if copy.reachable] or found
    proofs = [copy.proven_at for copy in there]
    assert of_pack(found).last_proof == (
        min(at for at in proofs if at) if found and all(proofs) else None
    )


@given(st.lists(copies, min_size=1, max_size=4))
def test_a_file_is_as_well_kept_as_the_worst_of_its_packs(several: list[list[GoodCopy]]) -> None:
    parts = [of_pack(found) for found in several]
    whole = worst(parts)
    assert whole is not None
    assert whole.copies == min(part.copies for part in parts)
    assert whole.state in {part.state for part in parts}
    assert (whole.state == GOOD) == all(part.state == GOOD for part in parts)
    assert (whole.last_proof is None) == any(part.last_proof is None for part in parts)


def test_one_machine_is_said_to_be_one() -> None:
    pack = of_pack([GoodCopy("m1", reachable=True, proven_at=None)] * 3)
    assert (pack.state, say(pack)) == (DEGRADED, "3 copies, 1 machine")
    assert say(of_pack([])).startswith("no good copy")
    away = of_pack([GoodCopy("m1", r, None) for r in (True, True, False)])
    assert say(away) == "2 copies, 1 machine, and up to 1 more with peers that are away"
    assert say(None) == "nothing is stored here"
