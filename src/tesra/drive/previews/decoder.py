"""Decoding of what strangers made, in a process of its own that may use little of anything.

Run by its path, alone: it imports nothing of Tesra. Bytes come by standard input, one JSON object
goes out: the result, or ``{"refused": why}``. The parent ends it when it takes too long; memory
and processor time are limited here, before a decoder is loaded.
"""

import base64
import io
import json
import resource
import sys
from collections.abc import Callable
from typing import Any

MEMORY_BYTES = 1024 * 2**20  # of address space: Python and its libraries take 200 MB of it
PROCESSOR_S = 20
MAX_PIXELS = 64_000_000
EDGE = 512
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
MAX_TENSORS = 1000
MAX_METADATA = 50
MAX_WORDS = 300
TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li",
    "ol", "p", "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16,
    "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


class Refused(Exception):
    """The content can't be shown, and why."""


def image(data: bytes) -> dict[str, Any]:
    """An image made small."""
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # ours is stricter, and is asked before anything is decoded
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as found:
            width, height = found.size
            if width * height > MAX_PIXELS:
                raise Refused(f"It has {width} x {height} pixels; up to {MAX_PIXELS:,} are shown.")
            frames = getattr(found, "n_frames", 1) if len(data) < 2**20 else 1
            found.seek(0)
            found.draft("RGB", (EDGE, EDGE))
            found.thumbnail((EDGE, EDGE))
            clear = found.mode in {"RGBA", "LA", "PA"} or "transparency" in found.info
            small = ImageOps.exif_transpose(found).convert("RGBA" if clear else "RGB")
            out = io.BytesIO()
            plain = Image.new(small.mode, small.size)  # without anything that came along
            plain.paste(small)
            plain.save(out, "PNG" if clear else "JPEG", quality=85)
            return {
                "format": found.format,
                "width": width,
                "height": height,
                "frames": frames,
                "thumbnail_type": "image/png" if clear else "image/jpeg",
                "thumbnail": base64.b64encode(out.getvalue()).decode(),
            }
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError) as error:
        raise Refused("It is damaged, or no image.") from error


def markdown(data: bytes) -> dict[str, Any]:
    """Markdown as HTML that may stand on a page of ours."""
    import nh3
    from markdown_it import MarkdownIt

    renderer = MarkdownIt("commonmark", {"html": False, "maxNesting": 20})
    renderer.enable(["table", "strikethrough"])
    return {
        "html": nh3.clean(
            renderer.render(data.decode()),
            tags=TAGS,
            attributes={"a": {"href", "title"}, "ol": {"start"}},
            url_schemes={"http", "https", "mailto"},
            link_rel="noopener noreferrer nofollow",
        )
    }


def tensors(data: bytes) -> dict[str, Any]:
    """The header of a safetensors file, checked."""
    try:
        header = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Refused("Its header is not JSON.") from error
    if not isinstance(header, dict):
        raise Refused("Its header is no object.")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise Refused("Its metadata is no object.")
    found = sorted(((name, _tensor(name, said)) for name, said in header.items()), key=_place)
    return {
        "count": len(found),
        "parameters": sum(one["parameters"] for _, one in found),
        "size_bytes": sum(one["size_bytes"] for _, one in found),
        "tensors": [
            {"name": name[:MAX_WORDS]} | {key: one[key] for key in ("dtype", "shape", "size_bytes")}
            for name, one in found[:MAX_TENSORS]
        ],
        "metadata": {
            str(key)[:MAX_WORDS]: str(value)[:MAX_WORDS]
            for key, value in list(metadata.items())[:MAX_METADATA]
        },
    }


def _tensor(name: str, said: Any) -> dict[str, Any]:
    match said:
        case {
            "dtype": str() as dtype,
            "shape": [*shape],
            "data_offsets": [int() as begin, int() as end],
        } if dtype in BITS and 0 <= begin <= end < 2**60 and len(shape) <= 32:
            parameters = 1
            for size in shape:
                if type(size) is not int or not 0 <= size < 2**60:
                    break
                parameters = min(parameters * size, 2**60)
            else:
                if parameters * BITS[dtype] == (end - begin) * 8:
                    return {
                        "dtype": dtype,
                        "shape": shape,
                        "size_bytes": end - begin,
                        "parameters": parameters,
                        "begin": begin,
                    }
    raise Refused(f"What its header says of the tensor '{name[:60]}' can't be true.")


def _place(item: tuple[str, dict[str, Any]]) -> tuple[int, str]:
    return item[1]["begin"], item[0]


WAYS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "image": image,
    "markdown": markdown,
    "tensors": tensors,
}


def main() -> None:
    for kind, limit in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, PROCESSOR_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    try:
        said = WAYS[sys.argv[1]](sys.stdin.buffer.read())
    except Refused as error:
        said = {"refused": str(error)}
    except (MemoryError, RecursionError):
        said = {"refused": str(Refused("It takes more memory than a preview may."))}
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
