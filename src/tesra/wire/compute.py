"""What is on offer: device classes."""

from tesra.wire.common import Answer


class DeviceClass(Answer):
    """``rating_t`` is the highest rating among its devices; the bill uses each device's own."""

    device_class: str
    rating_t: str
    total: int
    free: int
    largest_gang: int
    price_cny_per_hour: str


class Node(Answer):
    id: str
    name: str
    site: str
    online: bool
    devices: int
    free: int
