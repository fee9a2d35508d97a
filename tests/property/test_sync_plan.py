"""Plans of a sync, carried out on pictures of both sides: they agree after, and nothing is lost."""

from hypothesis import given
from hypothesis import strategies as st

from tesra.sdk.sync.plan import Leaves, Plan, plan_sync, uppermost

_PATHS = ["a", "b.txt", "a/x", "a/y", "a/x/z", "c/d"]
_CONTENTS = ["1", "2", "3"]


def _fits(leaves: dict[str, str]) -> bool:
    """No file is a folder as well."""
    return not any(other.startswith(f"{path}/") for path in leaves for other in leaves)


SIDES = st.dictionaries(st.sampled_from(_PATHS), st.sampled_from(_CONTENTS)).filter(_fits)


def carried_out(plan: Plan, here: Leaves, there: Leaves) -> tuple[dict[str, str], dict[str, str]]:
    ours, theirs = dict(here), dict(there)
    for path, beside in plan.renamed:
        ours[beside] = theirs[beside] = ours.pop(path)
    for path in plan.remove_there:
        del theirs[path]
    for path in plan.remove_here:
        del ours[path]
    for path in plan.upload:
        theirs[path] = here[path]
    for path in plan.download:
        ours[path] = there[path]
    return ours, theirs


@given(SIDES, SIDES, SIDES)
def test_both_sides_hold_the_same_after(base: Leaves, here: Leaves, there: Leaves) -> None:
    plan = plan_sync(base, here, there, delete=True, mark="x")
    ours, theirs = carried_out(plan, here, there)
    assert ours == theirs
    assert _fits(ours)
    assert not plan.left
    assert plan_sync(ours, ours, theirs, delete=True, mark="x").empty


@given(SIDES, SIDES, SIDES, st.booleans())
def test_what_a_side_changed_is_never_lost(
    base: Leaves, here: Leaves, there: Leaves, delete: bool
) -> None:
    plan = plan_sync(base, here, there, delete=delete, mark="x")
    ours, theirs = carried_out(plan, here, there)
    for side in (here, there):
        for path, content in side.items():
            if base.get(path) != content:
                assert content in ours.values()
                assert content in theirs.values()


@given(SIDES, SIDES, SIDES)
def test_without_leave_no_deletion_is_carried_over(
    base: Leaves, here: Leaves, there: Leaves
) -> None:
    plan = plan_sync(base, here, there, delete=False, mark="x")
    ours, theirs = carried_out(plan, here, there)
    assert _fits(ours)
    assert _fits(theirs)
    assert {*ours} ^ {*theirs} == {*plan.left}
    for path in {*here} & {*there}:
        assert path in ours or any(other.startswith(f"{path}/") for other in ours)


@given(SIDES, SIDES)
def test_a_first_sync_deletes_nothing(here: Leaves, there: Leaves) -> None:
    plan = plan_sync({}, here, there, delete=True, mark="x")
    assert not plan.remove_here
    assert not plan.remove_there


def test_a_conflict_keeps_both_under_names_that_say_so() -> None:
    plan = plan_sync({"d/a.txt": "1"}, {"d/a.txt": "2"}, {"d/a.txt": "3"}, delete=False, mark="me")
    assert plan.renamed == (("d/a.txt", "d/a (conflict me).txt"),)
    assert plan.download == ("d/a.txt",)


def test_a_folder_goes_as_a_whole() -> None:
    assert uppermost({"a/b/c", "a/b/d", "e"}, {"a/f"}) == ["a/b", "e"]
