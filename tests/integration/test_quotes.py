"""Quotes and forecasts, on a real database."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from sqlalchemy import text

from factories.network import NetworkDouble, network_on
from tesra.kit.errors import Invalid
from tesra.kit.ids import RunId, UserId
from tesra.wire.quotes import Quote, QuoteRequest
from tesra.wire.site import Started, Usage

pytestmark = pytest.mark.postgres


@pytest_asyncio.fixture
async def network(fresh_database) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database(), welcome_voucher_micros=10_000_000) as network:
        await network.site.enrol(4, rating_micro_t=2_000_000)
        async with network.services.database.begin() as tx:
            await tx.execute(
                text("UPDATE devices SET rating_micro_t = 2000000 + 1000000 * (index % 2)")
            )
        yield network


async def quote(network: NetworkDouble, owner: UserId, **wishes: object) -> Quote:
    async with network.services.database.begin() as tx:
        return await network.services.quotes.quote(tx, owner, QuoteRequest(**wishes))  # type: ignore[arg-type]


async def test_a_quote_says_rate_start_caps_and_cover(network: NetworkDouble) -> None:
    ann = await network.user()
    found = await quote(network, ann, devices=4, max_cost_cny="2.00", max_time_s=7200)
    assert (found.rating_t_low, found.rating_t_high) == ("10", "10")
    assert found.cny_per_hour_high == "5.00"
    assert (found.place, found.free_devices, found.total_devices) == (None, 4, 4)
    assert (found.at_most_cny, found.stops_after_s) == ("2.00", 1440)
    assert (found.vouchers_cny, found.covered_s) == ("10.00", 7200)
    assert found.line == "CNY 5.00 an hour, at most CNY 2.00; your vouchers cover all of this"
    open_end = await quote(network, ann, devices=4)
    assert open_end.line == "CNY 5.00 an hour; your vouchers cover 2 h of this"
    assert open_end.at_most_cny is None
    with pytest.raises(Invalid):
        await quote(network, ann, devices=5)
    with pytest.raises(Invalid):
        await quote(network, ann, max_cost_cny="free")


async def test_a_quote_for_busy_devices_has_a_range_and_a_place(network: NetworkDouble) -> None:
    ann, bob = await network.user("ann"), await network.user("bob")
    await network.project(ann)
    await network.submit(ann, devices=4)
    await network.dispatch()
    await network.submit(ann)
    found = await quote(network, ann, devices=2)
    assert (found.place, found.free_devices) == (2, 0)
    assert (found.cny_per_hour_low, found.cny_per_hour_high) == ("2.00", "3.00")
    assert "place 2 in the queue: 0 of 4" in " ".join(found.lines)
    assert (await quote(network, bob, devices=2)).place == 1  # who holds nothing is next


async def test_a_forecast_comes_from_metrics_and_parameters(network: NetworkDouble) -> None:
    ann = await network.user()
    await network.project(ann)
    run = await network.submit(ann, devices=4, params={"epochs": 10})
    forecasts, database = network.services.forecasts, network.services.database
    async with database.begin() as tx:
        assert await forecasts.of(tx, RunId(run.id)) is None
    await network.dispatch()
    (assignment,) = await network.site.assignments()
    now = datetime.now(UTC)
    async with database.begin() as tx:
        await tx.execute(text("UPDATE attempts SET created_at = created_at - interval '1 hour'"))
    await network.site.say(assignment, Started(at=now))
    await network.site.say(assignment, Usage(number=1, started_at=now, duration_ms=360_000))
    async with database.begin() as tx:
        await tx.execute(text("UPDATE attempts SET started_at = now() - interval '30 min'"))
        early = await forecasts.of(tx, RunId(run.id))
    assert early is not None
    assert (early.cost_so_far, early.cost_to_finish, early.finish_at) == ("0.50", None, None)
    lines = [
        {
            "k": "m",
            "r": 0,
            "o": "log",
            "t": (now - timedelta(seconds=360 * (4 - n))).timestamp(),
            "s": n,
            "v": {"epoch": n, "loss": 1 / n},
        }
        for n in range(1, 5)
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    await network.site.points(assignment, data)
    async with database.begin() as tx:
        found = await forecasts.of(tx, RunId(run.id))
    assert found is not None
    assert found.based_on == "epoch 4 of 10, 6 min each"
    assert found.cost_to_finish in ("2.99", "3.00")
    assert found.finish_at is not None
    assert abs((found.finish_at - now).total_seconds() - 2160) < 60
    assert not found.ends_at_cap
