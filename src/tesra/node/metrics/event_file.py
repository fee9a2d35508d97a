"""TensorBoard's event files, as far as they hold numbers: a small decoder of our own. Pure.

A file is a row of TFRecords: length (8 bytes, little endian), its masked CRC-32C, the event, its
masked CRC-32C. An event is a protocol buffer (tensorflow/core/util/event.proto: ``wall_time = 1``,
``step = 2``, ``summary = 5``), a summary a list of ``Value {tag = 1, simple_value = 2,
tensor = 8, metadata = 9}``. Numbers may stand there as ``simple_value`` (torch) or as a tensor
without dimensions (TensorFlow 2). Nothing is trusted: every length is checked.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAX_EVENT = 2**20  # larger ones hold pictures and graphs, not numbers: they are passed over
_HEADER = 12
_FOOTER = 4
_MASK = 0xA282EAD8
_POLYNOMIAL = 0x82F63B78
_SCALARS = frozenset((b"", b"scalars"))
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PACKED = {1: ("<f", 5), 2: ("<d", 6)}  # of float and double tensors: format and field
_WHOLE = {3: 7, 9: 10}  # of int32 and int64 tensors: the field
_HALF, _BFLOAT16, _HALVES = 19, 14, 13
_SIZES = {1: 4, 2: 8, 3: 4, 9: 8, _HALF: 2, _BFLOAT16: 2}
_CONTENT = {1: "<f", 2: "<d", 3: "<i", 9: "<q", _HALF: "<e"}


class Damaged(Exception):
    """This is no sound event file from here on; the argument says why."""


@dataclass(frozen=True, slots=True)
class Event:
    """The numbers of one event; ``values`` may be empty."""

    wall_time: float
    step: int
    values: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """Events of a piece of a file; it goes on ``used`` bytes later, after ``skip`` more."""

    events: list[Event]
    used: int
    skip: int = 0
    damage: str = ""


def read_events(data: bytes) -> Cut:
    """The whole events at the beginning of ``data``; up to the damage, if there is some."""
    events: list[Event] = []
    at = 0
    try:
        while (length := _length(data, at)) is not None:
            end = at + _HEADER + length + _FOOTER
            if length > MAX_EVENT:
                return Cut(events, at, skip=end - at)
            if end > len(data):
                break
            event = _event(data, at + _HEADER, length)
            if event is not None:
                events.append(event)
            at = end
    except Damaged as error:
        return Cut(events, at, damage=str(error))
    return Cut(events, at)


def masked_crc(data: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and shifted as TFRecords have it."""
    crc = 0xFFFFFFFF
    even = len(data) & ~1
    for (word,) in struct.iter_unpack("<H", data[:even]):
        crc = _TABLE[(crc ^ word) & 0xFFFF] ^ (crc >> 16)
    if even != len(data):
        crc = _SMALL[(crc ^ data[-1]) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def _length(data: bytes, at: int) -> int | None:
    """The next event's; ``None`` when its header is not there yet."""
    if at + _HEADER > len(data):
        return None
    length, crc = struct.unpack_from("<QI", data, at)
    if _length_crc(length) != crc:
        raise Damaged("a wrong checksum of a length")
    return int(length)


def _length_crc(length: int) -> int:
    known = _LENGTHS.get(length)
    if known is None:
        known = masked_crc(length.to_bytes(8, "little"))
        if len(_LENGTHS) < MAX_EVENT // 100:
            _LENGTHS[length] = known
    return known


def _event(data: bytes, start: int, length: int) -> Event | None:
    """The numbers of an event whose checksum is right; ``None`` for one that has none."""
    end = start + length
    values: list[tuple[str, float]] = []
    wall_time, step = 0.0, 0
    for field, kind, value, size in _fields(data, start, end):
        if field == 1 and kind == _FIXED64:
            (wall_time,) = struct.unpack_from("<d", data, value)
        elif field == 2 and kind == _VARINT:
            step = value - 2**64 if value >= 2**63 else value
        elif field == 5 and kind == _BYTES:
            values += _summary(data, value, value + size)
    if not values:
        return None  # its checksum does not matter
    (crc,) = struct.unpack_from("<I", data, end)
    if masked_crc(data[start:end]) != crc:
        raise Damaged("a wrong checksum of an event")
    return Event(wall_time, step, tuple(values))


def _summary(data: bytes, start: int, end: int) -> Iterator[tuple[str, float]]:
    for field, kind, value, size in _fields(data, start, end):
        if field == 1 and kind == _BYTES:
            found = _value(data, value, value + size)
            if found is not None:
                yield found


def _value(data: bytes, start: int, end: int) -> tuple[str, float] | None:
    tag, number, plugin = b"", None, b""
    for field, kind, value, size in _fields(data, start, end):
        if field == 1 and kind == _BYTES:
            tag = data[value : value + size]
        elif field == 2 and kind == _FIXED32:
            (number,) = struct.unpack_from("<f", data, value)
        elif field == 8 and kind == _BYTES:
            number = _scalar(data, value, value + size)
        elif field == 9 and kind == _BYTES:
            plugin = _plugin(data, value, value + size)
    if number is None or not tag or plugin not in _SCALARS:
        return None
    return tag.decode("utf-8", errors="replace"), number


def _plugin(data: bytes, start: int, end: int) -> bytes:
    """``SummaryMetadata.plugin_data.plugin_name``."""
    for field, kind, value, size in _fields(data, start, end):
        if field == 1 and kind == _BYTES:
            for inner, form, place, length in _fields(data, value, value + size):
                if inner == 1 and form == _BYTES:
                    return data[place : place + length]
    return b""


def _scalar(data: bytes, start: int, end: int) -> float | None:
    """A tensor of one number: ``dtype = 1``, ``shape = 2``, ``content = 4``, else typed values."""
    dtype, found = 0, {}
    for field, kind, value, size in _fields(data, start, end):
        if field == 1 and kind == _VARINT:
            dtype = value
        elif field == 2 and kind == _BYTES and not _no_dimension(data, value, value + size):
            return None
        else:
            found[field] = (kind, value, size)
    if 4 in found:
        return _content(data, dtype, found[4])
    if dtype in _PACKED:
        form, field = _PACKED[dtype]
        kind, place, _size = found.get(field, (_VARINT, 0, 0))
        return None if kind == _VARINT else float(struct.unpack_from(form, data, place)[0])
    if dtype in _WHOLE or dtype in (_HALF, _BFLOAT16):
        return _small(data, dtype, found.get(_WHOLE.get(dtype, _HALVES)))
    return None


def _content(data: bytes, dtype: int, found: tuple[int, int, int]) -> float | None:
    kind, place, size = found
    if kind != _BYTES or size != _SIZES.get(dtype):
        return None
    if dtype == _BFLOAT16:
        return _bfloat16(int.from_bytes(data[place : place + 2], "little"))
    return float(struct.unpack_from(_CONTENT[dtype], data, place)[0])


def _small(data: bytes, dtype: int, found: tuple[int, int, int] | None) -> float | None:
    """Integers and halves stand as varints, packed or alone."""
    if found is None:
        return None
    kind, place, size = found
    if kind == _BYTES:
        place, _end = _varint(data, place, place + size)
    elif kind != _VARINT:
        return None
    if dtype == _HALF:
        return float(struct.unpack("<e", (place & 0xFFFF).to_bytes(2, "little"))[0])
    if dtype == _BFLOAT16:
        return _bfloat16(place & 0xFFFF)
    return float(place - 2**64 if place >= 2**63 else place)


def _bfloat16(bits: int) -> float:
    return float(struct.unpack("<f", (bits << 16).to_bytes(4, "little"))[0])


def _no_dimension(data: bytes, start: int, end: int) -> bool:
    """Or dimensions of size 1 only."""
    for field, kind, value, size in _fields(data, start, end):
        if field != 2 or kind != _BYTES:
            continue
        sizes = [
            place for inner, _kind, place, _size in _fields(data, value, value + size) if inner == 1
        ]
        if sizes != [1]:
            return False
    return True


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, kind, and the value of a varint or the place and size of anything else."""
    while at < end:
        key, at = _varint(data, at, end)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at, end)
            yield key >> 3, kind, value, 0
            continue
        if kind == _BYTES:
            size, at = _varint(data, at, end)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise Damaged("an unknown kind of field")
        if at + size > end:
            raise Damaged("a field that is longer than its event")
        yield key >> 3, kind, at, size
        at += size


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = data[at] if at < end else 0x80
    if value < 0x80:
        return value, at + 1
    value, shift = 0, 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
        shift += 7
    raise Damaged("a number that does not end")


def _small_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table


_SMALL = _small_table()
_TABLE = [
    _SMALL[(_SMALL[word & 0xFF] ^ (word >> 8)) & 0xFF] ^ (_SMALL[word & 0xFF] >> 8)
    for word in range(65536)
]
_LENGTHS: dict[int, int] = {}
