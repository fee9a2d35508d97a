"""Files that are whole, and the same cut short anywhere."""

import io
import json
import os
import struct
import zipfile
from pathlib import Path

import numpy
import pytest

from tesra.node.checkpoint_formats import Wholeness, wholeness


def npz() -> bytes:
    buffer = io.BytesIO()
    numpy.savez(buffer, weights=numpy.arange(500.0), step=numpy.array(3))
    return buffer.getvalue()


def zip64() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(66_000):
            archive.writestr(zipfile.ZipInfo(f"{number}"), b"")
    return buffer.getvalue()


def torch_zip() -> bytes:
    """A small zip with the records of a large one too, as torch.save writes it."""
    data = npz()
    end = data.rfind(b"PK\x05\x06")
    length, offset = struct.unpack_from("<II", data, end + 12)
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 2, 2, length, offset)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    return data[:end] + record + locator + data[end:]


def safetensors() -> bytes:
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [16, 24]},
        }
    ).encode()
    return struct.pack("<Q", len(header)) + header + bytes(24)


def hdf5(version: int) -> bytes:
    head = b"\x89HDF\r\n\x1a\n" + bytes([version])
    at = {0: 40, 2: 28}[version]
    return head.ljust(at, b"\0") + struct.pack("<Q", 800) + bytes(800 - at - 8)


def judged(tmp_path: Path, name: str, data: bytes) -> Wholeness:
    path = tmp_path / name
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return wholeness(descriptor, name, len(data))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("state.npz", npz()),
        ("model.pt", torch_zip()),
        ("large.ckpt", zip64()),
        ("model.safetensors", safetensors()),
        ("trainer_state.json", json.dumps({"step": 3, "log": [1, 2]}).encode()),
    ],
)
def test_a_file_that_ends_as_its_format_does_is_proven_and_no_shorter_one_is(
    tmp_path: Path, name: str, data: bytes
) -> None:
    assert judged(tmp_path, name, data) is Wholeness.PROVEN
    for length in {1, 7, 9, len(data) // 2, len(data) - 23, len(data) - 1}:
        assert judged(tmp_path, name, data[:length]) is not Wholeness.PROVEN, length
    for length in {len(data) // 2, len(data) - 1}:
        assert judged(tmp_path, name, data[:length]) is Wholeness.TORN, length


@pytest.mark.parametrize("version", [0, 2])
def test_an_hdf5_file_that_is_shorter_than_it_says_is_torn(tmp_path: Path, version: int) -> None:
    assert judged(tmp_path, "m.weights.h5", hdf5(version)) is Wholeness.OPEN
    assert judged(tmp_path, "m.weights.h5", hdf5(version)[:-1]) is Wholeness.TORN
    assert judged(tmp_path, "m.weights.h5", hdf5(version)[:20]) is Wholeness.TORN


def test_an_empty_file_is_no_checkpoint(tmp_path: Path) -> None:
    assert judged(tmp_path, "model.pt", b"") is Wholeness.TORN
    assert judged(tmp_path, "done", b"") is Wholeness.OPEN


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.safetensors", struct.pack("<Q", 2**63) + b"{}"),
        ("a.safetensors", struct.pack("<Q", 4) + b"null"),
        ("a.safetensors", struct.pack("<Q", 21) + b'{"w":{"data_offsets"}'),
        ("a.json", b"[" * 100_000),
        ("a.npz", b"PK\x05\x06" + b"\xff" * 18),
        (
            "a.pt",
            b"PK\x03\x04" + b"PK\x06\x07" + b"\xff" * 16 + b"PK\x05\x06" + b"\xff" * 16 + b"\0\0",
        ),
    ],
)
def test_a_file_made_to_mislead_is_torn_and_does_no_harm(
    tmp_path: Path, name: str, data: bytes
) -> None:
    assert judged(tmp_path, name, data) is Wholeness.TORN
