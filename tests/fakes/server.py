"""A Tesra server as a site sees it: the site protocol over real HTTP, in memory.

State outlives ``stop`` and ``start``, as a real server's database does, so a test can take the
server away in the middle of a run and bring it back.
"""

import asyncio
import io
import json
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tesra.storage.format import EpochKeys, new_keys
from tesra.storage.packing import Pack, PackEntry, read_index
from tesra.storage.uploading import upload_folder
from tesra.wire.drive import ChunkAt, ChunkQuery, MissingChunks, PackReceipt, ReadPlan, UploadGrant
from tesra.wire.site import (
    Acknowledged,
    Assignment,
    Assignments,
    Delivery,
    DeliveryTaken,
    Ended,
    Enrolled,
    Enrolment,
    Message,
    Messages,
    Piece,
    PieceTaken,
    Renewal,
    Renewed,
    Usage,
)

TOKEN = "site-token-of-the-tests"
PACK_LIMIT = 300 * 2**20

Found = TypeVar("Found")


class FakeDrive:
    """One epoch; implements ``storage.sending.PackSink`` for seeding it directly."""

    def __init__(self) -> None:
        self.keys: EpochKeys = new_keys("epoch_1")
        self.packs: dict[str, bytes] = {}
        self.chunks: dict[bytes, tuple[str, PackEntry]] = {}
        self.roots: dict[str, str] = {}
        self.full = False

    def missing(self, ids: list[bytes]) -> set[bytes]:
        return {chunk for chunk in ids if chunk not in self.chunks}

    def put_pack(self, pack: Pack) -> None:
        self.keep(pack.id, b"".join(pack.pieces))

    def keep(self, pack_id: str, data: bytes) -> None:
        self.packs[pack_id] = data
        for entry in read_index(io.BytesIO(data), len(data)):
            self.chunks[entry.chunk_id] = (pack_id, entry)

    def import_folder(self, folder: Path, snapshot: str) -> str:
        self.roots[snapshot] = upload_folder(self, self.keys, folder).root.hex()
        return self.roots[snapshot]

    def plan(self, snapshot: str) -> ReadPlan:
        chunks = {
            chunk.hex(): ChunkAt(
                pack=pack,
                offset=entry.offset,
                length=entry.length,
                size=entry.plain_size,
                key=self.keys.chunk_key(chunk).hex(),
            )
            for chunk, (pack, entry) in self.chunks.items()
        }
        return ReadPlan(snapshot=snapshot, root=self.roots[snapshot], chunks=chunks)


class FakeServer:
    """``facts`` holds every message that was applied, in order; ``logs`` the bytes of each rank."""

    def __init__(self) -> None:
        self.drive = FakeDrive()
        self.enrolments: list[Enrolment] = []
        self.high_water: dict[str, int] = {}
        self.facts: list[Message] = []
        self.logs: defaultdict[tuple[str, int], bytearray] = defaultdict(bytearray)
        self.metrics: defaultdict[tuple[str, int], bytearray] = defaultdict(bytearray)
        self.refuse_metrics = False
        self.log_puts = 0
        self.renewals = 0
        self.stale: set[str] = set()
        self.version = 0
        self.listed: dict[str, Assignment] = {}
        self._changed = threading.Condition()
        self._port = _free_port()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        config = uvicorn.Config(
            self._app(),
            host="127.0.0.1",
            port=self._port,
            log_level="error",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        self.until(lambda: self._server is not None and self._server.started)

    def stop(self) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._server.should_exit = True
        self._thread.join(10)

    def want(self, assignment: Assignment) -> None:
        """Put an attempt on the site's list, or replace what the list says of it."""
        self.listed[assignment.attempt] = assignment
        self.version += 1

    def unlist(self, attempt: str) -> None:
        self.listed.pop(attempt, None)
        self.version += 1

    def kinds(self, attempt: str) -> list[str]:
        return [fact.body.kind for fact in self.facts if fact.attempt == attempt]

    def ended(self, attempt: str) -> Ended | None:
        bodies = [fact.body for fact in self.facts if fact.attempt == attempt]
        return next((body for body in bodies if isinstance(body, Ended)), None)

    def usage(self, attempt: str) -> "list[Usage]":
        bodies = [fact.body for fact in self.facts if fact.attempt == attempt]
        return [body for body in bodies if isinstance(body, Usage)]

    def log(self, attempt: str, rank: int = 0) -> str:
        return self.logs[attempt, rank].decode(errors="replace")

    def points(self, attempt: str, source: int = 0) -> list[dict[str, Any]]:
        """What a node has told of an attempt's metrics, line by line."""
        return [json.loads(line) for line in self.metrics[attempt, source].splitlines()]

    def until(self, condition: Callable[[], Found], timeout_s: float = 30) -> Found:
        """Wait until something is true (and give it back); fail after the deadline."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not (found := condition()):
                assert time.monotonic() < deadline, "it did not come true in time"
                self._changed.wait(0.02)
            return found

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def signed_in(request: Request, call_next: Any) -> Response:
            if request.headers.get("Authorization") != f"Bearer {TOKEN}":
                return _problem(401, "unauthenticated")
            return await call_next(request)

        @app.post("/site/v1/enrol")
        async def enrol(body: Enrolment) -> Enrolled:
            self.enrolments.append(body)
            high_water = self.high_water.setdefault(body.boot_id, 0)
            return Enrolled(site=body.site, high_water=high_water, lease_s=600)

        @app.post("/site/v1/messages")
        async def messages(body: Messages) -> Response:
            return self._apply(body)

        @app.post("/site/v1/renew")
        async def renew(body: Renewal) -> Renewed:
            self.renewals += 1
            names = [ref.attempt for ref in body.attempts]
            return Renewed(
                renewed=[name for name in names if name not in self.stale],
                gone=[name for name in names if name in self.stale],
            )

        @app.get("/site/v1/assignments")
        async def assignments(after: int, wait_s: float) -> Assignments:
            deadline = time.monotonic() + wait_s
            while self.version == after and time.monotonic() < deadline and not self._leaving():
                await asyncio.sleep(0.005)
            return Assignments(version=self.version, assignments=list(self.listed.values()))

        self._add_deliveries(app)
        self._add_drive(app)
        return app

    def _add_deliveries(self, app: FastAPI) -> None:
        @app.post("/site/v1/deliveries")
        async def deliver(request: Request) -> DeliveryTaken:
            line, _, data = (await request.body()).partition(b"\n")
            taken = []
            for piece in Delivery.model_validate_json(line).pieces:
                taken.append(self._take(piece, data[: piece.size]))
                data = data[piece.size :]
            return DeliveryTaken(pieces=taken)

    def _take(self, piece: Piece, data: bytes) -> PieceTaken:
        if piece.attempt in self.stale:
            return PieceTaken(refused="stale_fence")
        if piece.kind == "metrics" and self.refuse_metrics:
            return PieceTaken(refused="invalid")
        self.log_puts += piece.kind == "log"
        held = (self.logs if piece.kind == "log" else self.metrics)[piece.attempt, piece.of]
        if piece.offset == len(held):
            held += data
        return PieceTaken(offset=len(held))

    def _apply(self, body: Messages) -> Response:
        if body.boot_id not in self.high_water:
            return _problem(409, "unknown_boot")
        stale = set()
        for message in body.messages:
            seq = self.high_water[body.boot_id]
            if message.seq <= seq:
                continue
            if message.seq != seq + 1:
                return _problem(409, "conflict")
            self.high_water[body.boot_id] = message.seq
            if message.attempt in self.stale:
                stale.add(message.attempt)
            else:
                self.facts.append(message)
            if isinstance(message.body, Ended):
                self.unlist(message.attempt)
        answer = Acknowledged(seq=self.high_water[body.boot_id], stale=sorted(stale))
        return Response(answer.model_dump_json())

    def _add_drive(self, app: FastAPI) -> None:
        prefix = "/site/v1/attempts/{attempt}/drive"
        drive = self.drive

        @app.post(prefix + "/uploads")
        async def uploads(attempt: str) -> UploadGrant:
            return UploadGrant(
                drive="drive_1",
                epoch=drive.keys.id,
                id_key=drive.keys.id_key.hex(),
                data_key=drive.keys.data_key.hex(),
                quota_left_bytes=2**30,
            )

        @app.post(prefix + "/chunks/missing")
        async def missing(attempt: str, body: ChunkQuery) -> MissingChunks:
            found = drive.missing([bytes.fromhex(chunk) for chunk in body.ids])
            return MissingChunks(missing=[chunk.hex() for chunk in found])

        @app.put(prefix + "/packs/{pack}")
        async def put_pack(attempt: str, pack: str, request: Request) -> Response:
            data = await request.body()
            if drive.full:
                return _problem(413, "quota_exceeded")
            drive.keep(pack, data)
            receipt = PackReceipt(pack=pack, new_bytes=len(data), quota_left_bytes=2**30)
            return Response(receipt.model_dump_json())

        @app.get(prefix + "/packs/{pack}")
        async def get_pack(attempt: str, pack: str, request: Request) -> Response:
            first, last = request.headers["Range"].removeprefix("bytes=").split("-")
            return Response(drive.packs[pack][int(first) : int(last) + 1], status_code=206)

        @app.get(prefix + "/snapshots/{snapshot}/plan")
        async def plan(attempt: str, snapshot: str) -> ReadPlan:
            return drive.plan(snapshot)

    def _leaving(self) -> bool:
        return self._server is None or self._server.should_exit


def _problem(status: int, code: str) -> JSONResponse:
    body = {"type": "about:blank", "title": code, "status": status, "detail": code, "code": code}
    return JSONResponse(body, status_code=status, media_type="application/problem+json")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
