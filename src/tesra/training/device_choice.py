"""Whether so many devices are to be had at all, and what a gang of them is rated at. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tesra.compute.model import Device
from tesra.compute.scheduling import largest_gangs, largest_single
from tesra.kit.errors import Invalid, Unavailable
from tesra.kit.saying import said


class DevicesInvalid(Invalid):
    """So many devices of this class are not to be had."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run asks for; ``one_node``: all on one machine (launch ``single``)."""

    devices: int
    device_class: str | None
    one_node: bool


def check_offer(devices: Sequence[Device], wanted: Wanted) -> None:
    """Refuse what no site has, busy devices counted."""
    if wanted.devices < 1:
        raise DevicesInvalid(
            f"A run needs at least one device, not {wanted.devices}.",
            way_out="Use `--devices 1` or more.",
        )
    if not devices:
        raise Unavailable(
            "No device is online now.", way_out="Try again in a minute: `tesra devices`."
        )
    largest = largest_single(devices) if wanted.one_node else largest_gangs(devices)
    if wanted.device_class is not None and wanted.device_class not in largest:
        offer = ", ".join(f"'{name}'" for name in sorted(largest))
        raise DevicesInvalid(
            f"There is no device class '{wanted.device_class}'.", way_out=f"On offer: {offer}."
        )
    most = largest[wanted.device_class] if wanted.device_class else max(largest.values())
    if wanted.devices > most:
        where = said("one node" if wanted.one_node else "one site")
        raise DevicesInvalid(
            f"{wanted.devices} devices are more than {where} has: {most}.",
            way_out=f"Ask for at most {most}: `tesra devices` shows what is on offer.",
        )


def gang_ratings(devices: Sequence[Device], wanted: Wanted) -> tuple[int, int]:
    """The lowest and the highest rating, in micro-T, that a gang can come to; of one class and place."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for device in devices:
        if wanted.device_class in (None, device.device_class):
            place = device.node if wanted.one_node else device.site
            groups[device.device_class, place].append(device.rating_micro_t)
    fitting = [sorted(group) for group in groups.values() if len(group) >= wanted.devices]
    lows = [sum(group[: wanted.devices]) for group in fitting]
    highs = [sum(group[-wanted.devices :]) for group in fitting]
    return min(lows, default=0), max(highs, default=0)
