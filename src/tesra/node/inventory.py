"""What a node offers: itself and its devices, under ids and ratings that stay the same.

The first look measures CPU slots; the result is kept in ``devices.json``, so that the same devices have the
same ids and ratings at every later start.
"""

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tesra.kit.ids import new_id
from tesra.node.devices import DeviceUnmeasured, FoundDevice, deal, find_devices, measure
from tesra.node.orders import AgentConfig
from tesra.wire.site import EnrolDevice, EnrolNode

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inventory:
    """The file of one node's identity and ratings."""

    path: Path

    def node_id(self) -> str:
        """This node's id; drawn once."""
        kept = self._load()
        if "node" not in kept:
            kept["node"] = new_id("nod")
            self._save(kept)
        return str(kept["node"])

    def rating(self, device: FoundDevice) -> int:
        """As it was measured, in micro-T; 0 if it has not been."""
        known = self._load().get("devices", {}).get(_key(device), {})
        return int(known.get("measured_micro_t", 0))

    def keep(self, device: FoundDevice, micro_t: int) -> None:
        """A device's rating, for good; a device that is new gets its id."""
        kept = self._load()
        known = kept.setdefault("devices", {}).setdefault(_key(device), {"id": new_id("dev")})
        known["measured_micro_t"] = micro_t
        self._save(kept)

    async def describe(
        self, node: AgentConfig, address: str, found: list[FoundDevice]
    ) -> EnrolNode:
        """The node with those of its devices that are rated; measures CPU slots that are new.

        One slot stands for all of its size. GPUs are measured before: ``rating.rate_gpus``.
        """
        fresh: dict[tuple[str, int], int] = {}
        for device in found:
            if device.kind == "cpu" and not self.rating(device):
                if _kind(device) not in fresh:
                    fresh[_kind(device)] = await _measured(device)
                if fresh[_kind(device)]:
                    self.keep(device, fresh[_kind(device)])
        kept = self._load()
        known = kept.get("devices", {})
        return EnrolNode(
            id=str(kept["node"]),
            name=node.name,
            address=address,
            cores=max(1, (os.cpu_count() or 1) // node.node_count),
            memory_bytes=psutil.virtual_memory().total // node.node_count,
            devices=[
                EnrolDevice(
                    id=known[_key(device)]["id"],
                    index=device.index,
                    device_class=device.device_class,
                    name=device.name,
                    measured_micro_t=rating,
                )
                for device in found
                if (rating := self.rating(device)) > 0
            ],
        )

    def _load(self) -> dict[str, Any]:
        try:
            kept: dict[str, Any] = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}
        return kept

    def _save(self, kept: dict[str, Any]) -> None:
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps(kept, indent=1))
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.rename(self.path)


def node_devices(node: AgentConfig) -> list[FoundDevice]:
    """The node's share of its machine's devices."""
    found = find_devices(node.devices, nodes=node.node_count)
    return deal(found, node.node_count)[node.place]


async def _measured(device: FoundDevice) -> int:
    """0 for a device that cannot be measured: it is not offered."""
    try:
        return await measure(device)
    except DeviceUnmeasured as error:
        _log.error("not offered: %s", error.detail)
        return 0


def _kind(device: FoundDevice) -> tuple[str, int]:
    return device.device_class, device.threads


def _key(device: FoundDevice) -> str:
    """What makes it the same device next time: a GPU's uuid, a slot's place and share."""
    return device.uuid or f"{device.device_class}:{device.index}:{device.threads}"
