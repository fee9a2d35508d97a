"""Sizes as people write them: ``50GB``, ``1.5 TiB``, ``800M``."""

import re
from decimal import Decimal

from tesra.kit.errors import Invalid

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)


_LEAST_DISK_BYTES = 10**6
_SHOWN = ("B", "KiB", "MiB", "GiB", "TiB")


class SizeInvalid(Invalid):
    """This is no size."""


def parse_size(text: str) -> int:
    """Bytes; ``GB`` counts in thousands, ``GiB`` in 1,024s."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise SizeInvalid(f"'{text}' is no size.", way_out="Write it as 50GB, 1.5TiB or 800MB.")
    unit = (match[2] or "").lower()
    return int(Decimal(match[1]) * {**_UNITS, **_BINARY}[unit])


def parse_disk(text: str) -> int:
    """The same for a disk that is contributed; what is too little for anything is refused."""
    size = parse_size(text)
    if size < _LEAST_DISK_BYTES:
        raise SizeInvalid(
            f"A disk of {show_size(size)} keeps nothing.", way_out="Write it as 50GB or 1.5TiB."
        )
    return size


def show_size(size_bytes: int) -> str:
    """``1.5 MiB``."""
    value, unit = float(size_bytes), _SHOWN[0]
    for unit in _SHOWN:
        if value < 1024 or unit == _SHOWN[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
