"""Who watches runs hears of each change of state, in its own transaction."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from sqlalchemy import text

from factories.network import NetworkDouble, network_on
from tesra.db.engine import Tx
from tesra.kit.errors import Unavailable
from tesra.training.model import RunState, StopCause
from tesra.training.transitions import RunChange
from tesra.wire.site import Ended, Preparing, Started, Usage

pytestmark = pytest.mark.postgres


@pytest_asyncio.fixture
async def network(fresh_database) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        await network.site.enrol(2)
        yield network


async def test_an_observer_hears_of_each_change_once_and_of_nothing_else(
    network: NetworkDouble,
) -> None:
    seen: list[RunChange] = []

    async def note(tx: Tx, change: RunChange) -> None:
        state = await tx.scalar(text("SELECT state FROM runs WHERE id = :r"), {"r": change.run})
        assert state == change.after
        seen.append(change)

    network.services.observers.append(note)
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann)
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    now = datetime.now(UTC)
    for body in (
        Preparing(phase="building"),
        Preparing(phase="still building"),
        Started(at=now),
        Usage(number=1, started_at=now, duration_ms=10),
        Ended(outcome="lost", reason="The node is gone."),
    ):
        await network.site.say(assignment, body)
    await network.stop(ann, run.id)
    await network.stop(ann, run.id)
    assert [(change.before, change.after) for change in seen] == [
        (RunState.QUEUED, RunState.PLACING),
        (RunState.PLACING, RunState.PREPARING),
        (RunState.PREPARING, RunState.RUNNING),
        (RunState.RUNNING, RunState.QUEUED),
        (RunState.QUEUED, RunState.STOPPED),
    ]
    assert {(change.run, change.owner) for change in seen} == {(run.id, ann)}
    assert [change.attempt for change in seen[:4]] == [assignment.attempt] * 4
    assert "The node is gone." in str(seen[3].reason)
    last = seen[-1]
    assert (last.stop, last.amount_micros) == (StopCause.USER, 0)
    assert last.bill == (await network.run(ann, run.id)).bill


async def test_what_an_observer_refuses_has_not_happened(network: NetworkDouble) -> None:
    async def refuse(tx: Tx, change: RunChange) -> None:
        raise Unavailable("not now")

    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann)
    network.services.observers.append(refuse)
    with pytest.raises(Unavailable):
        await network.stop(ann, run.id)
    network.services.observers.clear()
    found = await network.run(ann, run.id)
    assert (found.state, found.bill) == ("queued", None)
