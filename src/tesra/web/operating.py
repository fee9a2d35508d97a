"""What operators ask of the whole network, put together from its domains; routes and pages alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tesra.billing.books import Sums, TopUpMade, VoucherMade, people
from tesra.billing.model import Credit
from tesra.compute.network_map import DeviceCount, MappedSite, count_devices
from tesra.identity.model import User
from tesra.identity.second_factor import FactorState
from tesra.kit.ids import NodeId, UserId
from tesra.training.board import Board, NodeUse
from tesra.web.context import Services

NO_USE = NodeUse(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Machines:
    """The map, with what each node did within a day."""

    sites: Sequence[MappedSite]
    devices: DeviceCount
    use: Mapping[NodeId, NodeUse]

    def use_of(self, node: str) -> NodeUse:
        return self.use.get(NodeId(node), NO_USE)


@dataclass(frozen=True, slots=True)
class Totals:
    users: int
    money: Sums
    board: Board


@dataclass(frozen=True, slots=True)
class Stand:
    """A user, with what they owe and may owe."""

    user: User
    credit: Credit
    factor: FactorState


async def machines(services: Services) -> Machines:
    async with services.database.begin() as tx:
        sites = await services.compute.network(tx)
        use = await services.board.use_of_nodes(tx)
    return Machines(sites, count_devices(sites), use)


async def totals(services: Services) -> Totals:
    async with services.database.begin() as tx:
        return Totals(
            users=await services.identity.count(tx),
            money=await services.billing.books.sums(tx),
            board=await services.board.queue(tx, limit=10),
        )


async def board(services: Services) -> tuple[Board, dict[UserId, str]]:
    """The queue, and what its people are called."""
    async with services.database.begin() as tx:
        found = await services.board.queue(tx)
        named = {run.owner for run in found.runs} | {turn.owner for turn in found.turns}
        return found, await services.identity.names(tx, named)


async def stand_of(services: Services, user_id: UserId) -> Stand:
    """Raises ``UserUnknown``."""
    async with services.database.begin() as tx:
        user = await services.identity.user(tx, user_id)
        credit = (await services.billing.credits(tx, [user.id]))[user.id]
        factor = await services.factors.state(tx, user.id)
    return Stand(user, credit, factor)


async def topups(
    services: Services, before: str | None, limit: int
) -> tuple[list[TopUpMade], dict[UserId, str]]:
    async with services.database.begin() as tx:
        found = await services.billing.books.topups(tx, before, limit)
        return found, await services.identity.names(tx, people(found))


async def vouchers(
    services: Services, before: str | None, limit: int
) -> tuple[list[VoucherMade], dict[UserId, str]]:
    async with services.database.begin() as tx:
        found = await services.billing.books.vouchers(tx, before, limit)
        return found, await services.identity.names(tx, people(found))
