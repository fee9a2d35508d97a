"""The two kinds of file between an agent and its ranks: orders to all, and each rank's own status.

Ranks can only read the orders. A status is the script's to write, so nothing in it is believed
that does not have the right form, and the agent reads it through a descriptor that it opened
before the script ran: there is no path for a script to bend.
"""

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from tesra.node.sandbox import give
from tesra.node.tuning.model import Order, Promise, RankTuning, Took
from tesra.node.workspace import AttemptFolders
from tesra.wire.tuning import MAX_STEP, FoundParameter

STATUS_BYTES = 32_768
_MOST_FOUND = 100
_MOST_TOOK = 64


def make_files(folders: AttemptFolders, ranks: Sequence[int]) -> None:
    """The empty files, before any rank starts."""
    for folder in (folders.tuning, folders.tuned):
        folder.mkdir(mode=0o755, exist_ok=True)
        folder.chmod(0o755)
    for rank in ranks:
        path = folders.status_of(rank)
        path.write_bytes(b"")
        path.chmod(0o600)
        give(path)
    write_orders(folders, ())


def write_orders(folders: AttemptFolders, orders: Sequence[Order]) -> None:
    """Replace what the ranks are told, all at once."""
    listed = [
        {
            "seq": order.seq,
            "round": order.round,
            "step": order.step,
            "values": dict(order.values),
        }
        for order in orders
        if not order.failed
    ]
    draft = folders.orders.with_suffix(".new")
    draft.write_text(json.dumps({"orders": listed}))
    draft.chmod(0o644)
    draft.rename(folders.orders)


class StatusFile:
    """One rank's status: ``read`` gives the last that was whole."""

    def __init__(self, folders: AttemptFolders, rank: int) -> None:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(folders.status_of(rank), flags)
        self._seen = b""
        self._known = RankTuning(rank)

    def read(self) -> RankTuning:
        data = os.pread(self._descriptor, STATUS_BYTES, 0).partition(b"\n")[0]
        if data != self._seen:
            self._seen = data
            self._known = _parsed(data, self._known)
        return self._known

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _parsed(line: bytes, before: RankTuning) -> RankTuning:
    """What the line says; what was known before, if it says nothing that can be."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return before
    try:
        fields = json.loads(text)
        return RankTuning(
            rank=before.rank,
            live=fields["live"] is True,
            promise=_promise(fields["ask"]),
            declined=_declined(fields["declined"]),
            took=tuple(_took(entry) for entry in fields["took"][-_MOST_TOOK:]),
            found=tuple(_found(fields["found"], fields["where"])),
            readers=tuple(_places(fields["where"], "*")),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return before


def _promise(value: Any) -> Promise | None:
    if value is None:
        return None
    seq, asked, limit = value
    return Promise(_whole(seq), _whole(asked), _whole(limit))


def _declined(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    seq, asked = value
    return _whole(seq), _whole(asked)


def _took(value: Any) -> Took:
    seq, step, note = value
    return Took(_whole(seq), _whole(step), None if note is None else str(note)[:500])


def _whole(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < MAX_STEP:
        raise ValueError("not a number of steps")
    return value


def _found(found: Mapping[str, Any], where: Mapping[str, Any]) -> list[FoundParameter]:
    """What the rank has declared, and what takes changes there; what is malformed is left out."""
    names = [*found, *(name for name in where if name not in found)]
    parameters = []
    for name in names[:_MOST_FOUND]:
        facts = {key: found.get(name, {}).get(key) for key in ("value", "low", "high", "choices")}
        origin = found.get(name, {}).get("origin", "run")
        try:
            parameters.append(
                FoundParameter(name=name, origin=origin, where=_places(where, name), **facts)
            )
        except ValidationError:
            continue
    return parameters


def _places(where: Mapping[str, Any], name: str) -> list[str]:
    return [str(place)[:64] for place in where.get(name, [])[:10]]
