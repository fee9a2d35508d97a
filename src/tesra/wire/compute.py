"""What is on offer: device classes, and where they are."""

from tesra.wire.common import Answer


class NodeDevices(Answer):
    """How many devices of a class are on one node."""

    name: str
    total: int
    free: int


class DeviceClass(Answer):
    """``rating_t`` is the highest rating among its devices; the bill uses each device's own."""

    device_class: str
    rating_t: str
    total: int
    free: int
    largest_gang: int
    price_cny_per_hour: str
    nodes: list[NodeDevices] = []
