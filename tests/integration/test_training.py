"""Runs from submission to bill, on a real database; the site is played by the test."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from sqlalchemy import text

from factories.network import NetworkDouble, network_on
from factories.storage import pack_of
from tesra.app.bootstrap import LOCAL_SITE
from tesra.kit.errors import Invalid, NotFound, PaymentDue, TesraError
from tesra.kit.ids import AttemptId, RunId
from tesra.storage.format import EpochKeys
from tesra.training.attempts import StaleFence
from tesra.training.logs import LogPiece
from tesra.wire.drive import SnapshotCommit
from tesra.wire.site import Ended, Preparing, Started, Usage
from tesra.wire.stalls import Stalled, StalledRank

pytestmark = pytest.mark.postgres


@pytest_asyncio.fixture
async def network(fresh_database) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database()) as network:
        await network.site.enrol(2)
        yield network


async def test_a_run_goes_from_the_queue_to_a_bill(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann, devices=2)
    assert run.state == "queued"
    assert await network.dispatch() == 1
    (assignment,) = await network.site.assignments()
    assert [device.index for device in assignment.devices] == [0, 1]
    await network.site.say(assignment, Preparing(phase="building"))
    assert (await network.run(ann, run.id)).phase == "building"
    await wait_ms(network, assignment.attempt, 2000)
    await network.site.train(assignment, ms=1800)
    done = await network.run(ann, run.id)
    assert (done.state, done.exit_code) == ("succeeded", 0)
    assert done.bill is not None
    # 2 devices x 1 T x 1.8 s = 0.001 T.H = CNY 0.0005, rounded up to the fen
    assert (done.th, done.amount_cny) == ("0.001", "0.01")
    assert await network.site.assignments() == []


async def test_a_stall_is_told_in_the_timeline_and_in_words_while_it_lasts(
    network: NetworkDouble,
) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann, devices=2)
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    now = datetime.now(UTC)
    await network.site.say(assignment, Started(at=now))
    first, second = StalledRank(rank=0, node="host/1"), StalledRank(rank=1, node="host/2")
    fact = Stalled(since=now, idle_s=22, ranks=[second], waiting=[first])
    await network.site.say(assignment, fact)
    seen = await network.run(ann, run.id)
    assert seen.state == "running"
    assert seen.phase == (
        f"rank 1 on node host/2 has made no progress since {now:%H:%M:%S} UTC;"
        " the other waits for it"
    )
    await network.site.say(assignment, Stalled(over=True))
    assert (await network.run(ann, run.id)).phase is None
    await network.stop(ann, run.id)
    await network.site.say(assignment, fact)
    assert (await network.run(ann, run.id)).phase == "stopping"
    async with network.services.database.begin() as tx:
        events = await network.services.training.events(tx, ann, RunId(run.id), after=0, limit=50)
    told = [event.text for event in events if event.kind == "stalled"]
    assert told[:2] == [
        "Rank 1 on node host/2 has made no progress for 22 s; the other waits for it.",
        "The ranks go on again.",
    ]


async def wait_ms(network: NetworkDouble, attempt: str, ms: int) -> None:
    """Let the attempt be that old: usage is never more than the time since it was placed."""
    async with network.services.database.begin() as tx:
        await tx.execute(
            text(
                "UPDATE attempts SET created_at = created_at - make_interval(secs => :s) WHERE id = :a"
            ),
            {"s": ms / 1000, "a": attempt},
        )


async def test_usage_beyond_the_time_since_placing_is_not_billed(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann)
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    await network.site.train(assignment, ms=600_000)
    assert float((await network.run(ann, run.id)).th) < 0.01


async def test_an_unpaid_bill_refuses_the_next_run_until_it_is_paid(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    first = await _trained(network, ann)
    with pytest.raises(PaymentDue) as refused:
        await network.submit(ann)
    assert first.bill in str(refused.value.detail)
    assert first.bill in str(refused.value.way_out)
    await network.pay(ann, first.bill)
    assert (await network.submit(ann)).state == "queued"


async def test_queued_runs_wait_for_payment_and_then_go_on(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    first, second = await network.submit(ann, devices=2), await network.submit(ann, devices=2)
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    await network.site.train(assignment)
    assert await network.dispatch() == 0
    waiting = await network.run(ann, second.id)
    bill = (await network.run(ann, first.id)).bill
    assert (waiting.state, waiting.phase) == ("queued", "payment due")
    assert str(bill) in str(waiting.reason)
    await network.pay(ann, bill)
    assert await network.dispatch() == 1
    assert (await network.run(ann, second.id)).phase is None


async def test_two_starts_that_race_with_a_bill_never_both_slip_through(
    network: NetworkDouble,
) -> None:
    ann = await network.user()
    await network.project(ann)
    await network.submit(ann)
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    racing = await asyncio.gather(
        network.site.train(assignment),
        network.submit(ann),
        network.submit(ann),
        return_exceptions=True,
    )
    assert all(not isinstance(r, Exception) or isinstance(r, PaymentDue) for r in racing)
    assert await network.dispatch() == 0  # whoever got into the queue waits there


async def test_a_repeated_message_changes_nothing(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann)
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    await wait_ms(network, assignment.attempt, 60_000)
    usage = Usage(number=1, started_at=datetime.now(UTC), duration_ms=36_000)
    await network.site.say(assignment, Started(at=datetime.now(UTC)))
    for _ in range(3):
        assert await network.site.say(assignment, usage, seq=2)
    network.site.seq = 2
    ended = Ended(outcome="succeeded", exit_code=0)
    assert await network.site.say(assignment, ended)
    assert await network.site.say(assignment, ended, seq=3)
    assert (await network.run(ann, run.id)).th == "0.01"


async def test_a_fact_under_a_stale_fence_is_refused(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann)
    await network.dispatch()
    (old,) = await network.site.assignments()
    await network.site.say(old, Ended(outcome="lost", reason="the node is gone"))
    assert (await network.run(ann, run.id)).state == "queued"
    await network.dispatch()
    (new,) = await network.site.assignments()
    assert new.fence > old.fence
    assert not await network.site.say(old, Ended(outcome="succeeded", exit_code=0))
    assert (await network.run(ann, run.id)).state == "placing"
    with pytest.raises(StaleFence):
        await network.site.log(old, b"x")


async def test_what_a_lost_attempt_used_is_not_billed(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann)
    await network.dispatch()
    (lost,) = await network.site.assignments()
    await wait_ms(network, lost.attempt, 400_000)
    await network.site.say(lost, Started(at=datetime.now(UTC)))
    await network.site.say(lost, Usage(number=1, started_at=datetime.now(UTC), duration_ms=360_000))
    await network.site.say(lost, Ended(outcome="lost"))
    await network.dispatch()
    (again,) = await network.site.assignments()
    await wait_ms(network, again.attempt, 60_000)
    await network.site.train(again, ms=36_000)
    assert (await network.run(ann, run.id)).th == "0.01"


async def test_a_run_whose_lease_ran_out_is_queued_again(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann)
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    assert await network.services.attempts.expire() == 0
    async with network.services.database.begin() as tx:
        await tx.execute(text("UPDATE attempts SET lease_until = now() - interval '1 second'"))
        held = [(AttemptId(assignment.attempt), assignment.fence)]
    assert await network.services.attempts.expire() == 1
    again = await network.run(ann, run.id)
    assert again.state == "queued"
    assert "10 minutes" in str(again.reason)
    async with network.services.database.begin() as tx:
        assert await network.services.attempts.renew(tx, LOCAL_SITE, held) == set()


async def test_nothing_is_placed_on_a_site_that_is_silent(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann)
    async with network.services.database.begin() as tx:
        await tx.execute(text("UPDATE sites SET last_seen = now() - interval '50 seconds'"))
    assert await network.dispatch() == 0
    async with network.services.database.begin() as tx:
        assert [offer.free for offer in await network.services.compute.offers(tx)] == [0]
    await network.site.assignments()  # it polls again
    assert await network.dispatch() == 1
    assert (await network.run(ann, run.id)).state == "placing"


async def test_a_queued_run_stops_at_once_and_costs_nothing(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann)
    stopped = await network.stop(ann, run.id)
    assert (stopped.state, stopped.amount_cny) == ("stopped", "0.00")
    assert (await network.submit(ann)).state == "queued"  # nothing is due


async def test_a_running_run_is_stopped_by_its_site(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann)
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    await network.site.say(assignment, Started(at=datetime.now(UTC)))
    await network.stop(ann, run.id)
    (told,) = await network.site.assignments()
    assert told.stop == "user"
    await network.site.say(told, Ended(outcome="stopped", exit_code=143))
    assert (await network.run(ann, run.id)).state == "stopped"


async def test_a_run_that_cannot_be_prepared_costs_nothing(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann)
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    await network.site.say(assignment, Ended(outcome="refused", reason="no such package: nope"))
    failed = await network.run(ann, run.id)
    assert (failed.state, failed.amount_cny) == ("failed", "0.00")
    assert "nope" in str(failed.reason)


async def test_an_output_that_is_not_there_becomes_a_warning(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann)
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    async with network.services.database.begin() as tx:
        grant = await network.services.drive.open_upload(tx, ann, purpose=f"run:{run.id}")
    commit = SnapshotCommit(epoch=grant.epoch, root="ab" * 32, file_count=1, size_bytes=1)
    await network.site.say(assignment, Ended(outcome="succeeded", exit_code=0, output=commit))
    done = await network.run(ann, run.id)
    assert (done.state, done.output) == ("succeeded", None)
    assert done.warnings


async def test_an_output_that_did_not_fit_takes_no_quota(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann)
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    drive, database = network.services.drive, network.services.database

    async def used() -> int:
        async with database.begin() as tx:
            return (await drive.quota(tx, ann)).used_bytes

    before = await used()
    async with database.begin() as tx:
        grant = await drive.open_upload(tx, ann, purpose=f"run:{run.id}")
    keys = EpochKeys(grant.epoch, bytes.fromhex(grant.id_key), bytes.fromhex(grant.data_key))
    pack = pack_of(b"half of an output", keys=keys)

    async def stream() -> AsyncIterator[bytes]:
        yield pack.data

    await drive.receive_pack(ann, grant.epoch, pack.id, stream(), purpose=f"run:{run.id}")
    assert await used() > before
    await network.site.say(assignment, Ended(outcome="succeeded", exit_code=0))
    assert await used() == before


async def test_the_log_is_kept_in_order_without_doubles_or_gaps(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann)
    await network.dispatch()
    (assignment,) = await network.site.assignments()

    async def send(offset: int, data: bytes, rank: int = 0) -> int:
        return await network.site.log(assignment, data, rank=rank, offset=offset)

    assert await send(0, b"one\n") == 4
    assert await send(0, b"one\n") == 4  # repeated
    assert await send(2, b"e\ntwo\n") == 8  # overlaps
    assert await send(99, b"gap\n") == 8  # must begin at 8
    assert set(await asyncio.gather(*(send(8, b"three\n") for _ in range(4)))) == {14}
    await asyncio.gather(*(send(0, f"rank {n}\n".encode(), rank=n) for n in range(1, 6)))
    async with network.services.database.begin() as tx:
        segments = await network.services.training.log(tx, RunId(run.id), after=0, rank=None)
    assert b"".join(s.data for s in segments if s.rank == 0) == b"one\ntwo\nthree\n"
    assert [s.seq for s in segments] == list(range(1, len(segments) + 1))
    assert {s.rank for s in segments} == set(range(6))


async def test_pieces_of_many_logs_are_taken_together_each_by_itself(
    network: NetworkDouble,
) -> None:
    ann = await network.user()
    await network.project(ann)
    runs = [await network.submit(ann) for _ in range(2)]
    await network.dispatch()
    first, second = sorted(await network.site.assignments(), key=lambda one: one.run)
    await network.site.log(first, b"zero\n")
    held, other = (first.attempt, first.fence), (second.attempt, second.fence)
    pieces = [
        LogPiece(*held, 0, 0, b"zero\n"),  # repeated
        LogPiece(*held, 1, 0, b"one\n"),
        LogPiece(*held, 2, 7, b"gap\n"),
        LogPiece(*held, 3, 0, b"three\n"),
        LogPiece(*other, 0, 0, b"other\n"),
        LogPiece(second.attempt, second.fence + 1, 1, 0, b"stale\n"),
    ]
    taken = await network.services.attempts.append_logs(LOCAL_SITE, pieces)
    assert taken[:5] == [5, 4, 0, 6, 6]
    assert isinstance(taken[5], StaleFence)
    async with network.services.database.begin() as tx:
        logs = [
            await network.services.training.log(tx, RunId(run.id), after=0, rank=None)
            for run in runs
        ]
    assert [(s.seq, s.rank, s.data) for s in logs[0]] == [
        (1, 0, b"zero\n"),
        (2, 1, b"one\n"),
        (3, 3, b"three\n"),
    ]
    assert [(s.seq, s.data) for s in logs[1]] == [(1, b"other\n")]


async def test_secrets_reach_the_site_and_are_forgotten_at_the_end(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann, secrets={"API_KEY": "hush"})
    assert run.secrets == ["API_KEY"]
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    assert assignment.spec.secrets == {"API_KEY": "hush"}
    async with network.services.database.begin() as tx:
        row = (await tx.execute(text("SELECT secrets, spec::text FROM runs"))).one()
    assert b"hush" not in bytes(row.secrets)
    assert "hush" not in row.spec
    await network.site.train(assignment)
    async with network.services.database.begin() as tx:
        assert (await tx.execute(text("SELECT secrets FROM runs"))).scalar_one() is None


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"engine": "caffe"}, "caffe"),
        ({"engine": "pytorch==0.1"}, "0.1"),
        ({"entry": "nope.py"}, "nope.py"),
        ({"devices": 0}, "at least one"),
        ({"devices": 3}, "at most 2"),
        ({"device_class": "H900"}, "H900"),
        ({"output": "../x"}, "leaves"),
    ],
)
async def test_what_cannot_work_is_refused_with_a_way_out(
    network: NetworkDouble, request_: dict, words: str
) -> None:
    ann = await network.user()
    await network.project(ann)
    with pytest.raises(Invalid) as refused:
        await network.submit(ann, **request_)
    assert words in f"{refused.value.detail} {refused.value.way_out}"


async def test_another_users_run_and_project_are_not_to_be_seen(network: NetworkDouble) -> None:
    ann, bob = await network.user("ann"), await network.user("bob")
    project = await network.project(ann)
    run = await network.submit(ann)
    for attempt in (network.run(bob, run.id), network.stop(bob, run.id)):
        with pytest.raises(NotFound):
            await attempt
    await network.project(bob)
    for stolen in ({"project": project.id}, {"snapshot": project.snapshot}):
        with pytest.raises(TesraError):
            await network.submit(bob, **stolen)


async def _trained(network: NetworkDouble, owner):  # type: ignore[no-untyped-def]
    run = await network.submit(owner)
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    await network.site.train(assignment)
    return await network.run(owner, run.id)
