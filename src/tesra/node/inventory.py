"""What a node offers: itself and its devices, under ids and ratings that stay the same.

The first look measures; the result is kept in ``devices.json``, so that the same devices have the
same ids and ratings at every later start.
"""

import json
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tesra.kit.ids import new_id
from tesra.node.devices import DeviceUnmeasured, FoundDevice, measure
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

    async def describe(self, address: str, found: list[FoundDevice]) -> EnrolNode:
        """The node with its devices; measures those that are new. One CPU slot stands for all."""
        kept = self._load()
        known: dict[str, Any] = kept.setdefault("devices", {})
        fresh: dict[tuple[str, int], int] = {}
        devices = []
        for device in found:
            key = _key(device)
            if key not in known:
                rating = fresh.get(_kind(device))
                if rating is None:
                    rating = await _rating(device)
                if device.kind == "cpu":
                    fresh[_kind(device)] = rating
                known[key] = {"id": new_id("dev"), "measured_micro_t": rating}
                self._save(kept)
            devices.append(
                EnrolDevice(
                    id=known[key]["id"],
                    index=device.index,
                    device_class=device.device_class,
                    name=device.name,
                    measured_micro_t=known[key]["measured_micro_t"],
                )
            )
        return EnrolNode(
            id=str(kept["node"]),
            name=socket.gethostname(),
            address=address,
            cores=os.cpu_count() or 1,
            memory_bytes=psutil.virtual_memory().total,
            devices=[device for device in devices if device.measured_micro_t > 0],
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


async def _rating(device: FoundDevice) -> int:
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
