"""Sites, nodes, devices and what they are rated at. Pure.

A device's rating is what the node measured, capped by the class table: a host that claims more
than its card can do gains nothing by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tesra.kit.ids import AttemptId, DeviceId, NodeId, SiteId

CPU_CLASS = "cpu"


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU, or one declared CPU slot. ``attempt`` holds it, or it is free.

    ``reachable`` says that its site has spoken lately; nothing is placed where it has not.
    """

    id: DeviceId
    node: NodeId
    site: SiteId
    index: int
    device_class: str
    rating_micro_t: int
    attempt: AttemptId | None = None
    reachable: bool = True
    node_name: str = ""

    @property
    def free(self) -> bool:
        """A gang can be placed on it now."""
        return self.attempt is None and self.reachable


@dataclass(frozen=True, slots=True)
class ClassTable:
    """The highest rating that each device class can have, in micro-T; ``default`` for unknown ones."""

    caps: Mapping[str, int]
    default: int

    def rating(self, device_class: str, measured_micro_t: int) -> int:
        """The rating that is billed: the measured one, never above the class's cap."""
        return min(measured_micro_t, self.caps.get(device_class, self.default))


@dataclass(frozen=True, slots=True)
class NodeOnOffer:
    """How many devices of a class one node has."""

    name: str
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class ClassOnOffer:
    """What a user can ask for now."""

    device_class: str
    rating_micro_t: int
    total: int
    free: int
    largest_gang: int
    nodes: tuple[NodeOnOffer, ...] = ()
