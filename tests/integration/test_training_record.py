"""The record of a run: whole, signed, the same each time, and nothing of a secret in it."""

import copy
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from factories.clusters import FreshDatabase
from factories.network import NetworkDouble, network_on
from tesra.kit.canonical import canonical_json
from tesra.kit.errors import NotFound
from tesra.kit.ids import RunId, UserId
from tesra.sdk.records import RecordUntrue, check_record
from tesra.wire.record import Recorded, SignedRecord

pytestmark = pytest.mark.postgres


@pytest_asyncio.fixture
async def network(fresh_database: FreshDatabase) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        await network.site.enrol(2)
        yield network


@pytest_asyncio.fixture
async def ann(network: NetworkDouble) -> UserId:
    ann = await network.user("ann")
    await network.project(ann)
    return ann


async def trained(network: NetworkDouble, owner: UserId) -> str:
    """A run of two devices that is over; its id."""
    run = await network.submit(
        owner, devices=2, params={"lr": 0.1}, secrets={"API_KEY": "hush-hush"}, packages=["tqdm"]
    )
    await network.dispatch()
    [assignment] = await network.site.assignments()
    await network.site.train(assignment)
    return run.id


async def test_the_record_tells_the_whole_story_and_is_the_same_each_time(
    network: NetworkDouble, ann: UserId
) -> None:
    run = await trained(network, ann)
    records = network.services.records
    signed = await records.record(ann, RunId(run))
    check_record(signed, records.keys().keys)
    assert await records.record(ann, RunId(run)) == signed

    told = signed.record
    assert (told["schema"], told["run"], told["state"]) == ("tesra-record/1", run, "succeeded")
    assert told["start"]["params"] == {"lr": 0.1}
    assert told["start"]["secrets"] == ["API_KEY"]
    assert b"hush-hush" not in canonical_json(told)
    assert told["code"]["file_count"] == 1
    assert len(told["code"]["root"]) == len(told["code"]["files_sha256"]) == 64
    [attempt] = told["attempts"]
    assert [device["node_name"] for device in attempt["devices"]] == ["node-1", "node-1"]
    assert told["events"][0]["kind"] == "queued"
    assert Recorded.model_validate(told).engine.name == "pytorch"

    [line], [used] = told["bill"]["lines"], told["usage"]
    assert line["duration_ms"] == used["duration_ms"] == attempt["usage_ms"]
    work = line["duration_ms"] * line["devices"] * line["rating_micro_t"]
    assert line["micro_th"] == work // 3_600_000
    assert told["output"] is None
    assert (told["tuning"], told["checkpoints"], told["metrics"]["names"]) == ([], [], [])


async def test_whoever_changes_a_record_is_found_out(network: NetworkDouble, ann: UserId) -> None:
    records = network.services.records
    signed = await records.record(ann, RunId(await trained(network, ann)))
    keys = records.keys().keys
    body = signed.model_dump()

    edited = copy.deepcopy(body)
    edited["record"]["bill"]["amount_micros"] = 0
    with pytest.raises(RecordUntrue, match="has been changed"):
        check_record(SignedRecord.model_validate(edited), keys)

    resealed = records.sign(edited["record"]).model_dump() | {"signature": body["signature"]}
    with pytest.raises(RecordUntrue, match="not this network's"):
        check_record(SignedRecord.model_validate(resealed), keys)
    with pytest.raises(RecordUntrue, match="comes from another"):
        check_record(signed, [])

    again = SignedRecord.model_validate_json(signed.model_dump_json(indent=2))
    check_record(again, keys)


async def test_metrics_and_changes_while_it_ran_are_in_the_record(
    network: NetworkDouble, ann: UserId
) -> None:
    run = await network.submit(ann, params={"lr": 0.1})
    async with network.services.database.begin() as tx:
        await network.services.tuning.tune(tx, ann, RunId(run.id), {"lr": 0.05})
    await network.dispatch()
    [assignment] = await network.site.assignments()
    lines = b"".join(
        b'{"k":"m","r":0,"o":"log","t":1.0,"s":%d,"v":{"loss":%s}}\n' % (step, loss)
        for step, loss in enumerate([b"0.9", b'"nan"', b"0.3"])
    )
    await network.site.points(assignment, lines)
    await network.site.train(assignment)
    signed = await network.services.records.record(ann, RunId(run.id))
    check_record(signed, network.services.records.keys().keys)
    assert signed.record["start"]["params"] == {"lr": 0.1}
    assert [change["values"] for change in signed.record["tuning"]] == [{"lr": 0.05}]
    [loss] = signed.record["metrics"]["names"]
    assert (loss["name"], loss["last"], loss["low"], loss["nonfinite"]) == ("loss", 0.3, 0.3, 1)
    [history] = signed.record["metrics"]["histories"]
    assert (history["steps"], history["values"]) == ([0, 1, 2], [0.9, None, 0.3])


async def test_a_run_that_waits_has_a_record_and_another_users_has_none(
    network: NetworkDouble, ann: UserId
) -> None:
    run = await network.submit(ann)
    told = (await network.services.records.record(ann, RunId(run.id))).record
    assert (told["state"], told["attempts"], told["usage"], told["bill"]) == (
        "queued",
        [],
        [],
        None,
    )
    ben = await network.user("ben")
    with pytest.raises(NotFound):
        await network.services.records.record(ben, RunId(run.id))
