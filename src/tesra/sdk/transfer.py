"""Folders go up to the drive and snapshots come down, over HTTP, in bounded memory.

Used by the command line, the client and the node alike; what differs is the door: its prefix and
its credentials. Uploads are encrypted here; downloads are verified here, chunk by chunk.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from tesra.kit import errors
from tesra.sdk.fetch import fetch_planned
from tesra.storage.format import EpochKeys
from tesra.storage.listing import Warn, unheard
from tesra.storage.packing import Pack
from tesra.storage.progress import Progress, Report, silent
from tesra.storage.sending import PackSink
from tesra.storage.uploading import UploadedTree, upload_folder
from tesra.wire.common import Problem
from tesra.wire.data import PacksComing, PacksWanted
from tesra.wire.drive import (
    PREFIX_BYTES,
    ChunkQuery,
    KnownChunks,
    MissingChunks,
    PackReceipt,
    ReadPlan,
    SnapshotCommit,
    UploadGrant,
)

__all__ = ["HttpDoor", "Progress", "fetch_snapshot", "open_epoch", "upload_tree"]

_LEARN_AT = 2  # windows: a short upload asks no more than it has to
PATIENCE_S = 120.0  # a server restart takes seconds; a connection that is gone longer is an error
_PASSING = frozenset({502, 503, 504})
_KINDS: Mapping[int, type[errors.TesraError]] = {
    400: errors.Invalid,
    401: errors.Unauthenticated,
    402: errors.PaymentDue,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.QuotaExceeded,
    422: errors.Invalid,
    429: errors.TooMany,
    503: errors.Unavailable,
    507: errors.QuotaExceeded,
}


class HttpDoor:
    """The drive as seen through one prefix of the server's API with one set of credentials.

    ``client`` has the server's base URL. ``prefix`` is ``/api/v1/drive`` for users and
    ``/site/v1/attempts/<id>/drive`` for sites. Every request may be repeated, so a lost
    connection is tried again for ``patience_s``.
    """

    def __init__(
        self,
        client: httpx.Client,
        prefix: str = "/api/v1/drive",
        headers: Mapping[str, str] | None = None,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._client = client
        self._prefix = prefix.rstrip("/")
        self._headers = dict(headers or {})
        self._patience_s = patience_s

    def grant(self) -> UploadGrant:
        """Keys of the epoch that this door may write under."""
        return UploadGrant.model_validate_json(self._send("POST", "/uploads"))

    def missing(self, epoch: str, ids: list[str]) -> set[str]:
        """Those of the chunk ids (hex) that the drive does not hold under the epoch."""
        query = ChunkQuery(epoch=epoch, ids=ids).model_dump_json().encode()
        answer = self._send(
            "POST", "/chunks/missing", content=query, headers={"Content-Type": "application/json"}
        )
        return set(MissingChunks.model_validate_json(answer).missing)

    def known(self, epoch: str) -> frozenset[bytes] | None:
        """The beginnings of the ids of all chunks of the epoch; None when they are too many."""
        answer = KnownChunks.model_validate_json(self._send("GET", f"/chunks/known?epoch={epoch}"))
        if answer.prefixes is None:
            return None
        joined = base64.b64decode(answer.prefixes)
        starts = range(0, len(joined), PREFIX_BYTES)
        return frozenset(joined[start : start + PREFIX_BYTES] for start in starts)

    def put_pack(self, epoch: str, pack: Pack) -> PackReceipt:
        """Hand a pack over; it is on the server's disk when this returns."""
        answer = self._send(
            "PUT",
            f"/packs/{pack.id}?epoch={epoch}",
            content=pack.pieces,
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(pack.size_bytes),
            },
        )
        return PackReceipt.model_validate_json(answer)

    def plan(self, snapshot_id: str) -> ReadPlan:
        """Where the chunks of a snapshot lie, and the keys that open them."""
        return ReadPlan.model_validate_json(self._send("GET", f"/snapshots/{snapshot_id}/plan"))

    def read_pack(self, pack_id: str, start: int, end: int) -> bytes:
        """Bytes ``start`` up to (not with) ``end`` of a pack."""
        return self._read(f"/packs/{pack_id}", start, end)

    def read_again(self, pack_id: str, start: int, end: int) -> bytes:
        """The same, after bytes that were not what the pack holds: the server looks at its copy
        first, and brings a good one if it can."""
        return self._read(f"/packs/{pack_id}?doubt=true", start, end)

    def bring(self, peer: str, packs: list[str]) -> list[str]:
        """Have a storage peer fetch these over the swarm; those that are coming. Sites' doors only."""
        wanted = PacksWanted(peer=peer, packs=packs).model_dump_json().encode()
        answer = self._send(
            "POST", "/packs/bring", content=wanted, headers={"Content-Type": "application/json"}
        )
        return PacksComing.model_validate_json(answer).coming

    def _read(self, path: str, start: int, end: int) -> bytes:
        answer = self._send("GET", path, headers={"Range": f"bytes={start}-{end - 1}"})
        if len(answer) != end - start:
            raise errors.Unavailable(f"The server sent {len(answer)} of {end - start} bytes.")
        return answer

    def _send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        for attempt in Retrying(
            retry=retry_if_exception(_passes),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            stop=stop_after_delay(self._patience_s),
            reraise=True,
        ):
            with attempt, _plain_words():
                return self._send_once(method, path, content, {**self._headers, **(headers or {})})
        raise AssertionError("tenacity re-raises the last failure")  # pragma: no cover

    def _send_once(
        self,
        method: str,
        path: str,
        content: bytes | Iterable[bytes] | None,
        headers: Mapping[str, str],
    ) -> bytes:
        """The body of a good answer.

        Request and response of httpx refer to each other, so what they hold stays until the
        collector comes by: they are given neither a pack's pieces nor an answer to hold.
        """
        body = _Body(content) if content is not None and not isinstance(content, bytes) else None
        try:
            with self._client.stream(
                method, self._prefix + path, content=body or content, headers=headers
            ) as response:
                if not response.is_success:
                    response.read()
                    raise refusal(response)
                return b"".join(response.iter_bytes())
        finally:
            if body is not None:
                body.let_go()


class _Body:
    """Pieces to send, which can be let go of."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def let_go(self) -> None:
        self._pieces = ()


class ServerUnreachable(errors.Unavailable):
    """The server does not answer."""


def upload_tree(
    door: HttpDoor,
    root: Path,
    files: Iterable[Path] | None = None,
    report: Report = silent,
    warn: Warn = unheard,
) -> SnapshotCommit:
    """Store the folder ``root`` and return what to commit; only what is new is sent.

    ``files`` limits it to these paths (absolute or relative to ``root``; files, links, empty
    folders); ``None`` takes everything. ``warn`` hears of what is left out. Same content gives
    the same root on every machine.
    """
    grant, keys, sink = open_epoch(door)
    tree: UploadedTree = upload_folder(sink, keys, root, files=files, report=report, warn=warn)
    return SnapshotCommit(
        epoch=grant.epoch,
        root=tree.root.hex(),
        file_count=tree.file_count,
        size_bytes=tree.size_bytes,
    )


def open_epoch(door: HttpDoor) -> tuple[UploadGrant, EpochKeys, PackSink]:
    """What is needed to send chunks through a door: the grant, its keys, and where packs go."""
    grant = door.grant()
    keys = EpochKeys(
        id=grant.epoch,
        id_key=bytes.fromhex(grant.id_key),
        data_key=bytes.fromhex(grant.data_key),
    )
    return grant, keys, EpochSink(door, grant.epoch)


def fetch_snapshot(door: HttpDoor, snapshot_id: str, dest: Path, report: Report = silent) -> None:
    """Bring the files of a snapshot into the folder ``dest`` (made if missing).

    Each file appears whole or not at all; one that is there already and equal is not fetched
    again; nothing outside ``dest`` is ever touched. Files that the snapshot lacks stay.
    """
    fetch_planned(door, door.plan(snapshot_id), dest, report)


def refusal(response: httpx.Response) -> errors.TesraError:
    """The error that an answer's status and problem body stand for."""
    kind = _KINDS.get(response.status_code, errors.TesraError)
    try:
        problem = Problem.model_validate_json(response.content)
    except ValueError:
        return kind(f"The server answered {response.status_code} {response.reason_phrase}.")
    return kind(
        problem.detail, way_out=problem.way_out, status=response.status_code, code=problem.code
    )


class EpochSink:
    """A door that is bound to the epoch of one upload.

    Where two windows in a row were all new, it learns how the ids begin of what is stored, and
    asks about those alone from then on.
    """

    def __init__(self, door: HttpDoor, epoch: str) -> None:
        self._door = door
        self._epoch = epoch
        self._new_windows = 0
        self._stored: frozenset[bytes] | None = None

    def missing(self, ids: list[bytes]) -> set[bytes]:
        new = set[bytes]()
        if self._stored is not None:
            new = {chunk for chunk in ids if chunk[:PREFIX_BYTES] not in self._stored}
        unsure = [chunk for chunk in ids if chunk not in new]
        if unsure:
            new |= self._asked(unsure)
        self._new_windows += len(new) == len(ids)
        if self._new_windows == _LEARN_AT:
            self._stored = self._door.known(self._epoch)
        return new

    def _asked(self, ids: list[bytes]) -> set[bytes]:
        found = self._door.missing(self._epoch, [chunk.hex() for chunk in ids])
        return {bytes.fromhex(chunk) for chunk in found}

    def put_pack(self, pack: Pack) -> None:
        self._door.put_pack(self._epoch, pack)


@contextmanager
def _plain_words() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise ServerUnreachable(
            f"The server does not answer: {error}.", way_out="Check its address, then try again."
        ) from error


def _passes(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, ServerUnreachable):
        return True
    return isinstance(error, errors.TesraError) and error.fields.get("status") in _PASSING
