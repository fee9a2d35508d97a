"""A pack as a BitTorrent v2 torrent (BEP 52): what every peer that has the pack's tree makes alike.

No libtorrent: bytes only. The authority's certificate is part of what names the torrent, so that
its connections are TLS under that authority.
"""

import base64
from collections.abc import Mapping
from textwrap import wrap

from tesra.storage.merkle import PIECE_BYTES, PackTree

Bencoded = int | bytes | Mapping[bytes, "Bencoded"]


def torrent_of(tree: PackTree, authority_pem: str) -> bytes:
    """The torrent's metadata: private, v2 only, one file that is named by the pack's id."""
    name = tree.pack_id.encode()
    file: Bencoded = {b"": {b"length": tree.size_bytes, b"pieces root": tree.root}}
    info: Bencoded = {
        b"file tree": {name: file},
        b"meta version": 2,
        b"name": name,
        b"piece length": PIECE_BYTES,
        b"private": 1,
        b"ssl-cert": authority_pem.encode(),
    }
    layers: Bencoded = {tree.root: tree.layer} if tree.layer else {}
    return bencode({b"info": info, b"piece layers": layers})


def bencode(value: Bencoded) -> bytes:
    """BEP 3: keys in the order of their bytes."""
    match value:
        case int():
            return b"i%de" % value
        case bytes():
            return b"%d:%b" % (len(value), value)
        case _:
            items = (bencode(key) + bencode(value[key]) for key in sorted(value))
            return b"d" + b"".join(items) + b"e"


def _ffdhe2048() -> str:
    """The group of RFC 7919, appendix A.1, by its formula; libtorrent asks for one as PEM.

    TLS 1.2 and 1.3 agree on elliptic curves here, so it is never used.
    """
    prime = 2**2048 - 2**1984 + (_floor_e(1918) + 560316) * 2**64 - 1
    numbers = _der(2, b"\0" + prime.to_bytes(256)) + _der(2, b"\x02")
    body = "\n".join(wrap(base64.b64encode(_der(0x30, numbers)).decode(), 64))
    return f"-----BEGIN DH PARAMETERS-----\n{body}\n-----END DH PARAMETERS-----\n"


def _floor_e(bits: int) -> int:
    """The whole part of e times 2 to the power of ``bits``."""
    guard = 64
    total, term, divisor = 0, 1 << (bits + guard), 0
    while term:
        total += term
        divisor += 1
        term //= divisor
    return total >> guard


def _der(tag: int, body: bytes) -> bytes:
    size = len(body)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2)
    return bytes([tag]) + length + body


FFDHE2048_PEM = _ffdhe2048()
