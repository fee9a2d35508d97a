"""``--data`` on the server: what a run is given, who may read it, and what is refused."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from sqlalchemy import select

from factories.clusters import FreshDatabase
from factories.network import NetworkDouble, network_on
from tesra.app.bootstrap import LOCAL_SITE
from tesra.drive.intake import Intake
from tesra.drive.model import PackUnknown
from tesra.kit.ids import AttemptId, RunId, SnapshotId, UserId
from tesra.storage.editing import parse_path
from tesra.training.data import DataMissing, DataNamesClash, DataPathInvalid, PrivateData
from tesra.training.holdings import Holdings, node_data
from tesra.training.queue_rows import QueueRows
from tesra.web.routes.data import bring
from tesra.web.routes.site import authorise_attempt
from tesra.wire.data import PacksWanted, RunData
from tesra.wire.files import Changes, Remove
from tesra.wire.record import Recorded
from tesra.wire.site import Started

pytestmark = pytest.mark.postgres

MNIST = "xingpan:/datasets/mnist"


@pytest_asyncio.fixture
async def network(fresh_database: FreshDatabase) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        await network.site.enrol(2)
        yield network


@pytest_asyncio.fixture
async def ann(network: NetworkDouble) -> UserId:
    ann = await network.user("ann")
    await network.project(ann)
    await put(network, ann, "/datasets/mnist/train.csv", "1,2,3\n" * 100)
    await put(network, ann, "/datasets/mnist/test.csv", "4,5,6\n")
    return ann


async def put(network: NetworkDouble, owner: UserId, path: str, text: str) -> None:
    file = network.folder / "put.txt"
    file.write_text(text)
    services = network.services
    entry = await Intake(services.database, services.drive).entry(owner, file)
    parts = parse_path(path)
    await services.files.put(owner, {parts: replace(entry, name=parts[-1])}, words="put")


async def readable(network: NetworkDouble, attempt: str, fence: int) -> set[str]:
    right = await authorise_attempt(attempt, network.services, LOCAL_SITE, fence)
    return {str(one) for one in right.readable or ()}


async def test_a_run_has_the_data_as_it_was_when_it_was_submitted(
    network: NetworkDouble, ann: UserId
) -> None:
    run = await network.submit(ann, data=[RunData(path=MNIST)])
    await put(network, ann, "/datasets/mnist/train.csv", "changed")
    await network.dispatch()
    [assignment] = await network.site.assignments()
    [given] = assignment.spec.data
    assert (given.path, given.name) == (MNIST, None)
    assert (given.file_count, given.size_bytes) == (2, 606)
    assert given.snapshot in await readable(network, assignment.attempt, assignment.fence)
    files = await network.services.drive.list_files(given.snapshot, owner=ann)
    assert [file.size_bytes for file in files] == [6, 600]
    assert run.data == [given]


async def test_the_record_names_the_snapshots_and_a_rerun_has_them_again(
    network: NetworkDouble, ann: UserId
) -> None:
    first = await network.submit(ann, data=[RunData(path=MNIST)])
    await network.dispatch()
    [assignment] = await network.site.assignments()
    await network.site.train(assignment)
    signed = await network.services.records.record(ann, RunId(first.id))
    recorded = Recorded.model_validate(signed.record)
    assert recorded.start.data == first.data
    await network.pay(ann, (await network.run(ann, first.id)).bill)
    await network.services.files.change(ann, Changes(changes=[Remove(path="/datasets")]))
    again = await network.submit(ann, data=recorded.start.data)
    assert again.data == first.data


async def test_several_data_have_names(network: NetworkDouble, ann: UserId) -> None:
    run = await network.submit(
        ann,
        data=[
            RunData(path=MNIST),
            RunData(path="xingpan:/datasets/mnist/test.csv", name="test"),
        ],
    )
    assert [(one.name, one.file_count) for one in run.data] == [("mnist", 2), ("test", 1)]
    with pytest.raises(DataNamesClash, match="2 data are called 'mnist'"):
        await network.submit(ann, data=[RunData(path=MNIST), RunData(path=MNIST)])


async def test_what_cannot_be_data_is_refused_at_once(network: NetworkDouble, ann: UserId) -> None:
    with pytest.raises(DataMissing, match="nothing at 'xingpan:/datasets/none'"):
        await network.submit(ann, data=[RunData(path="xingpan:/datasets/none")])
    with pytest.raises(PrivateData, match="private drive 'diary'"):
        await network.submit(ann, data=[RunData(path="xingpan:diary:/x")])
    with pytest.raises(DataPathInvalid, match="no path of your drive"):
        await network.submit(ann, data=[RunData(path="./data")])


async def test_nobody_gets_the_data_of_another(network: NetworkDouble, ann: UserId) -> None:
    run = await network.submit(ann, data=[RunData(path=MNIST)])
    bob = await network.user("bob")
    await network.project(bob)
    with pytest.raises(DataMissing):
        await network.submit(bob, data=[RunData(path=MNIST)])
    with pytest.raises(DataMissing, match="any more"):
        await network.submit(bob, data=run.data)
    await network.submit(bob)
    await network.dispatch()
    for assignment in await network.site.assignments():
        seen = await readable(network, AttemptId(assignment.attempt), assignment.fence)
        assert (run.data[0].snapshot in seen) is (assignment.run == run.id)


async def test_a_run_goes_where_its_data_is(network: NetworkDouble, ann: UserId) -> None:
    await network.submit(ann, data=[RunData(path=MNIST)])
    await network.dispatch()
    [assignment] = await network.site.assignments()
    await network.site.say(assignment, Started(at=datetime.now(UTC)))
    async with network.services.database.begin() as tx:
        rows = list(await tx.execute(select(node_data.c.node_id, node_data.c.snapshot_id)))
    assert [tuple(row) for row in rows] == [("node-1", assignment.spec.data[0].snapshot)]
    await network.submit(ann, data=[RunData(path=MNIST)])
    await network.submit(ann)
    async with network.services.database.begin() as tx:
        queue = await QueueRows().queued(tx, 10)
        near = await Holdings().near(tx, queue)
    assert list(near.values()) == [frozenset({"node-1"})]


async def test_a_node_has_its_peer_bring_only_what_its_run_may_read(
    network: NetworkDouble, ann: UserId
) -> None:
    await network.submit(ann, data=[RunData(path=MNIST)])
    await network.dispatch()
    [assignment] = await network.site.assignments()
    services = network.services
    rights = await authorise_attempt(assignment.attempt, services, LOCAL_SITE, assignment.fence)
    plan = await services.drive.plan_for_site(SnapshotId(str(assignment.spec.data[0].snapshot)))
    packs = sorted({chunk.pack for chunk in plan.chunks.values()})
    answer = await bring(PacksWanted(peer="peer_unknown", packs=packs), services, rights)
    assert answer.coming == []
    with pytest.raises(PackUnknown):
        await bring(PacksWanted(peer="peer_unknown", packs=["ab" * 32]), services, rights)
