"""The decoder, as it runs alone in its own process: what it makes, what it refuses."""

import base64
import io
import json
import struct
import subprocess
import sys
import zlib
from typing import Any

from PIL import Image

from tesra.drive.previews import decoder


def decoded(way: str, data: bytes) -> dict[str, Any]:
    """By a process with its limits, as the server starts it."""
    done = subprocess.run(
        [sys.executable, "-I", "-X", "utf8", decoder.__file__, way],
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
        env={},
    )
    return dict(json.loads(done.stdout)) if done.stdout else {"refused": "it burst"}


def png(width: int, height: int, rows: int) -> bytes:
    """A PNG that says a size, with so many rows of black in it."""
    data = zlib.compress(bytes((width + 7) // 8 + 1) * rows, 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def header(**tensors: Any) -> bytes:
    return json.dumps(tensors).encode()


def test_an_image_becomes_small_upright_and_forgets_what_the_camera_said() -> None:
    photo, out = Image.new("RGB", (1200, 800), "red"), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010F] = "a camera with a serial number"
    photo.save(out, "JPEG", exif=exif)
    said = decoded("image", out.getvalue())
    assert (said["format"], said["width"], said["height"]) == ("JPEG", 1200, 800)
    with Image.open(io.BytesIO(base64.b64decode(said["thumbnail"]))) as small:
        assert small.height == 512
        assert small.width < small.height
        assert not small.getexif()


def test_a_clear_image_stays_clear() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (20, 10), (0, 0, 0, 0)).save(out, "PNG")
    said = decoded("image", out.getvalue())
    assert said["thumbnail_type"] == "image/png"


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    assert "pixels" in decoded("image", png(60_000, 60_000, 4))["refused"]
    assert "refused" in decoded("image", png(2**31 - 1, 2**31 - 1, 1))


def test_a_torn_image_and_an_eps_are_refused() -> None:
    assert "refused" in decoded("image", png(8000, 800, 800)[:-40])
    assert "refused" in decoded("image", b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert "refused" in decoded("image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n")


def test_markdown_is_rendered_and_harmless() -> None:
    said = decoded(
        "markdown",
        "# Über\n\n<script>alert(1)</script> [x](javascript:alert(1)) ![i](https://e.test/i.png)\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n[good](https://example.test)".encode(),
    )["html"]
    assert "<h1>Über</h1>" in said
    assert "<table>" in said
    assert 'href="https://example.test"' in said
    for bad in ("<script", 'javascript:alert(1)"', "<img"):
        assert bad not in said


def test_markdown_that_is_nested_without_end_ends() -> None:
    assert decoded("markdown", b">" * 60_000).keys() & {"html", "refused"}
    assert decoded("markdown", b"[" * 60_000).keys() & {"html", "refused"}


def test_tensors_are_told_from_the_header() -> None:
    said = decoded(
        "tensors",
        header(
            __metadata__={"format": "pt"},
            b={"dtype": "BF16", "shape": [2, 3], "data_offsets": [16, 28]},
            a={"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        ),
    )
    assert (said["count"], said["parameters"], said["size_bytes"]) == (2, 10, 28)
    assert [one["name"] for one in said["tensors"]] == ["a", "b"]
    assert said["metadata"] == {"format": "pt"}


def test_a_header_that_lies_is_refused() -> None:
    for tensor in (
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 17]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2**59, 2**59], "data_offsets": [0, 16]},
        {"dtype": "no", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]},
        [],
    ):
        assert "can't be true" in decoded("tensors", header(a=tensor))["refused"]
    assert "refused" in decoded("tensors", b"[" * 1_000_000)
    assert "refused" in decoded("tensors", b"\xff\xfe")
    assert "refused" in decoded("tensors", b"9" * 10_000)
