"""Whether a file is whole, as far as a few reads can tell. Strangers wrote it: reads are bounded.

Some formats end in something that only a finished file has; a file of one that passes is *proven*.
Of others it is only known that nothing speaks against them.
"""

import json
import os
import struct
from enum import Enum

_ZIP_SUFFIXES = (".keras", ".npz")
_NEVER_EMPTY = (*_ZIP_SUFFIXES, ".pt", ".pth", ".ckpt", ".safetensors", ".h5", ".params")
_END = 22  # bytes of a zip's last record, without its comment
_LONGEST_TAIL = _END + 0xFFFF
_MOST_JSON = 4 * 2**20
_HDF5 = b"\x89HDF\r\n\x1a\n"
_HDF5_END = {0: 40, 1: 44, 2: 28, 3: 28}  # where the address of the end stands, by version


class Wholeness(Enum):
    """What a look into a file says."""

    PROVEN = "proven"
    OPEN = "open"
    TORN = "torn"


def wholeness(descriptor: int, name: str, size: int) -> Wholeness:
    """Judge a file by its name, its beginning and its end."""
    try:
        return _judge(descriptor, name, size)
    except (OSError, struct.error):
        return Wholeness.TORN


def _judge(descriptor: int, name: str, size: int) -> Wholeness:
    if size == 0:
        return Wholeness.TORN if name.endswith(_NEVER_EMPTY) else Wholeness.OPEN
    head = os.pread(descriptor, 16, 0)
    if head.startswith(b"PK\x03\x04") or name.endswith(_ZIP_SUFFIXES):
        return _told(_zip_ends(descriptor, size))
    if name.endswith(".safetensors"):
        return _told(_safetensors_ends(descriptor, size))
    if head.startswith(_HDF5):
        return Wholeness.OPEN if _hdf5_fits(descriptor, size) else Wholeness.TORN
    if name.endswith(".json"):
        return _json(descriptor, size)
    return Wholeness.OPEN


def _told(whole: bool) -> Wholeness:
    return Wholeness.PROVEN if whole else Wholeness.TORN


def _zip_ends(descriptor: int, size: int) -> bool:
    """The directory of a zip stands at its end, and is written last (APPNOTE 4.3.16)."""
    tail_at = max(0, size - _LONGEST_TAIL)
    tail = os.pread(descriptor, size - tail_at, tail_at)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END:
        return False
    length, offset, comment = struct.unpack_from("<IIH", tail, at + 12)
    if at + _END + comment != len(tail):
        return False
    end = tail_at + at
    large = _zip64(descriptor, end)  # PyTorch writes these records into small files too
    if large is not None:
        length, offset, end = large
    return offset + length == end and (
        length == 0 or os.pread(descriptor, 4, offset) == b"PK\x01\x02"
    )


def _zip64(descriptor: int, end: int) -> tuple[int, int, int] | None:
    """Length and place of the directory of a large zip, and where it ends."""
    locator = os.pread(descriptor, 20, max(0, end - 20))
    if not locator.startswith(b"PK\x06\x07"):
        return None
    (at,) = struct.unpack_from("<Q", locator, 8)
    record = os.pread(descriptor, 56, at) if at < end else b""
    if not record.startswith(b"PK\x06\x06"):
        return None
    length, offset = struct.unpack_from("<QQ", record, 40)
    return length, offset, at


def _safetensors_ends(descriptor: int, size: int) -> bool:
    """The header says where each tensor ends; the last one ends with the file."""
    (length,) = struct.unpack("<Q", os.pread(descriptor, 8, 0))
    if not 2 <= length <= min(size - 8, _MOST_JSON):
        return bool(_MOST_JSON < length <= size - 8)
    header = _parsed(os.pread(descriptor, length, 8))
    if not isinstance(header, dict):
        return False
    ends = [
        entry["data_offsets"][1]
        for name, entry in header.items()
        if name != "__metadata__" and _has_offsets(entry)
    ]
    return bool(8 + length + max(ends, default=0) == size)


def _has_offsets(entry: object) -> bool:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    return (
        isinstance(offsets, list)
        and len(offsets) == 2
        and all(isinstance(value, int) for value in offsets)
    )


def _hdf5_fits(descriptor: int, size: int) -> bool:
    """The superblock says where the file ends (HDF5 format specification III)."""
    head = os.pread(descriptor, 64, 0)
    at = _HDF5_END.get(head[8])
    if at is None or len(head) < at + 8:
        return False
    (end,) = struct.unpack_from("<Q", head, at)
    return bool(len(_HDF5) < end <= size)


def _json(descriptor: int, size: int) -> Wholeness:
    if size > _MOST_JSON:
        return Wholeness.OPEN
    found = _parsed(os.pread(descriptor, size, 0))
    if isinstance(found, dict | list):
        return Wholeness.PROVEN
    return Wholeness.TORN if found is None else Wholeness.OPEN


def _parsed(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
