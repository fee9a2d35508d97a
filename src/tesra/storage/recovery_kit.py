"""The recovery kit: a secret on paper that opens a private drive when its password is lost.

32 random bytes in four rows of 16 characters that are hard to misread; each row has a check of its
own, over the drive's id too, so that a torn kit, a slip in typing or another drive's kit is told.
"""

import base64
import os
import re
from dataclasses import dataclass
from datetime import datetime

from blake3 import blake3

from tesra.kit.errors import Invalid

SECRET_BYTES = 32
_ROWS = 4
_ROW_BYTES = 8
_CHECK_BYTES = 2
_GROUP = 4
_TITLE = "TESRA RECOVERY KIT 1"
_STANDARD = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_OURS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U
_MISREAD = str.maketrans("OIL", "011")
_WRITE = str.maketrans(_STANDARD, _OURS)
_READ = str.maketrans(_OURS, _STANDARD)
_ROW = re.compile(r"^\s*([1-4])\s*[:.]\s*(.*?)\s*$")


class KitBroken(Invalid):
    """This is no whole recovery kit."""


@dataclass(frozen=True, slots=True)
class RecoveryKit:
    """``secret`` is the private key of the drive's holder of kind ``kit``."""

    drive: str
    name: str
    secret: bytes

    def __repr__(self) -> str:
        return f"RecoveryKit({self.drive!r})"


def new_kit(drive: str, name: str) -> RecoveryKit:
    return RecoveryKit(drive, name, os.urandom(SECRET_BYTES))


def write_kit(kit: RecoveryKit, made_at: datetime) -> str:
    """The kit as a page to print or to keep."""
    rows = [f"  {number}: {_row(kit, number)}" for number in range(1, _ROWS + 1)]
    return "\n".join(
        [
            _TITLE,
            "",
            f"Drive: {kit.name}",
            f"Drive id: {kit.drive}",
            f"Made: {made_at:%Y-%m-%d}",
            "",
            *rows,
            "",
            "Whoever has this page, and your account, can read everything in the drive.",
            "Keep it where you keep papers, not on the computer that uses the drive.",
            "Without this page and without the password, what is in the drive is lost for ever.",
            "Lost the password? tesra drive recover --recovery-kit FILE sets a new one.",
            "",
        ]
    )


def read_kit(text: str) -> RecoveryKit:
    """The kit on a page; ``KitBroken`` says which part is missing or was changed."""
    if _TITLE not in text:
        raise KitBroken(
            "This is no recovery kit of a private drive, or its first line is missing.",
            way_out=f"A kit begins with '{_TITLE}'.",
        )
    drive, name = _field(text, "Drive id"), _field(text, "Drive")
    rows: dict[int, str] = {}
    for line in text.splitlines():
        found = _ROW.match(line)
        if found:
            rows[int(found[1])] = found[2]
    secret = b""
    for number in range(1, _ROWS + 1):
        if number not in rows:
            raise KitBroken(
                f"Row {number} of the recovery kit is missing: it has four.",
                way_out="The file was cut short: use a whole copy.",
            )
        secret += _read_row(rows[number], drive, number)
    return RecoveryKit(drive, name, secret)


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}:\s*(\S.*?)\s*$", text, re.MULTILINE)
    if found is None:
        raise KitBroken(
            f"The line '{name}:' of the recovery kit is missing.",
            way_out="The file was cut short: use a whole copy.",
        )
    return found[1]


def _row(kit: RecoveryKit, number: int) -> str:
    start = (number - 1) * _ROW_BYTES
    part = kit.secret[start : start + _ROW_BYTES]
    written = base64.b32encode(part + _check(kit.drive, number, part)).decode().translate(_WRITE)
    return "-".join(written[i : i + _GROUP] for i in range(0, len(written), _GROUP))


def _read_row(text: str, drive: str, number: int) -> bytes:
    written = re.sub(r"[\s-]", "", text.upper()).translate(_MISREAD)
    wrong = KitBroken(
        f"Row {number} of the recovery kit is not as it was written.",
        way_out="Compare it with the paper, letter by letter, and the drive's id too.",
    )
    if len(written) != (_ROW_BYTES + _CHECK_BYTES) * 8 // 5 or set(written) - set(_OURS):
        raise wrong
    data = base64.b32decode(written.translate(_READ))
    part, check = data[:_ROW_BYTES], data[_ROW_BYTES:]
    if check != _check(drive, number, part):
        raise wrong
    return part


def _check(drive: str, number: int, part: bytes) -> bytes:
    return blake3(f"{_TITLE}:{drive}:{number}:".encode() + part).digest(_CHECK_BYTES)
