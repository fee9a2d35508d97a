"""What can be rented now, and who holds it."""

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files

from tesra.compute.model import ClassOnOffer, ClassTable, Device
from tesra.compute.network_map import MappedSite, read_map
from tesra.compute.repository import ComputeRepository
from tesra.compute.scheduling import classes_on_offer
from tesra.compute.shares import UseShares
from tesra.compute.sites import SiteRegister
from tesra.db.engine import Tx
from tesra.kit.ids import AttemptId
from tesra.kit.money import MICROS
from tesra.wire.site import WarmEngine


def read_class_table() -> ClassTable:
    """The class table that ships with Tesra."""
    data = tomllib.loads(files("tesra.compute").joinpath("classes.toml").read_text("utf-8"))
    caps = {name: round(cap * MICROS) for name, cap in data["classes"].items()}
    return ClassTable(caps=caps, default=round(data["default"] * MICROS))


class ComputeService:
    """Devices on offer and their reservation; ``sites``: who contributes them, ``shares``: who has used them."""

    def __init__(self, classes: ClassTable) -> None:
        self._repository = ComputeRepository()
        self.shares = UseShares()
        self.sites = SiteRegister(classes, self._repository)

    async def offers(self, tx: Tx) -> list[ClassOnOffer]:
        """Device classes, the strongest first."""
        return classes_on_offer(await self._repository.devices(tx))

    async def online_devices(self, tx: Tx) -> list[Device]:
        """All devices of the network that are online, busy ones included."""
        return await self._repository.devices(tx)

    async def network(self, tx: Tx) -> list[MappedSite]:
        """Sites, nodes and devices, online or not, for an operator."""
        return await read_map(tx)

    async def node_names(self, tx: Tx) -> dict[str, str]:
        """By id: what each node is called, whether it is online or not."""
        return await self._repository.node_names(tx)

    async def warm_engines(self, tx: Tx) -> list[tuple[str, WarmEngine]]:
        """By node name: the engines whose environments have been built there."""
        return [
            (node, WarmEngine.model_validate(engine))
            for node, engines in await self._repository.engines_of_nodes(tx)
            for engine in engines
        ]

    async def lock_free_devices(self, tx: Tx) -> list[Device]:
        """Free devices of sites that spoke lately, locked until the transaction ends, so that no other placer takes them."""
        return await self._repository.lock_free_devices(tx)

    async def reserve(self, tx: Tx, gangs: Mapping[AttemptId, Sequence[Device]]) -> None:
        """Each attempt holds its devices until ``release``."""
        held = {device.id: attempt for attempt, gang in gangs.items() for device in gang}
        await self._repository.reserve(tx, held)

    async def release(self, tx: Tx, attempt: AttemptId) -> None:
        """The attempt's devices are free again; harmless when it holds none."""
        await self._repository.release(tx, attempt)
