"""A small Tesra over real HTTP, in memory: enough of the API to drive the client and the CLI.

``breaks`` cuts the log stream off in the middle of a chunk, as a dying server does.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tesra.doctor.examine import examine

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).isoformat()
RUN = "run_01kaaaaaaaaaaaaaaaaaaaaaaa"
OLDER_RUN = "run_01kaaaaaaaaaaaaaaaaaaaaaab"
BILL = "bil_01kaaaaaaaaaaaaaaaaaaaaaac"
ENDED = {"succeeded", "failed", "stopped"}


def run_record(**changes: Any) -> dict[str, Any]:
    """A run that succeeded, but for the changes."""
    return {
        "id": RUN,
        "project": "prj_1",
        "project_name": "digits",
        "snapshot": "snap_1",
        "state": "succeeded",
        "phase": None,
        "reason": None,
        "warnings": [],
        "engine": "pytorch==2.13.0",
        "entry": "train.py",
        "args": [],
        "output_path": "out",
        "devices": 1,
        "device_class": None,
        "launch": "gang",
        "params": {},
        "env": {},
        "secrets": [],
        "packages": [],
        "attempt": 1,
        "exit_code": 0,
        "output": "snap_2",
        "output_size_bytes": 2048,
        "bill": BILL,
        "amount_cny": "0.01",
        "th": "0.0042",
        "created_at": NOW,
        "started_at": NOW,
        "ended_at": NOW,
        **changes,
    }


def bill_record(**changes: Any) -> dict[str, Any]:
    """An unpaid bill of one line, but for the changes."""
    line = {
        "attempt": 1,
        "started_at": NOW,
        "ended_at": NOW,
        "duration_ms": 60_000,
        "devices": 2,
        "device_class": "cpu-slot",
        "rating_micro_t": 145_000,
        "micro_th": 4833,
        "th": "0.004833",
        "price_cny": "0.5",
        "amount_micros": 2416,
        "amount_cny": "0.002416",
    }
    return {
        "id": BILL,
        "run": RUN,
        "state": "unpaid",
        "amount_cny": "0.01",
        "amount_micros": 10_000,
        "th": "0.004833",
        "created_at": NOW,
        "paid_at": None,
        "lines": [line],
        "payments": [],
        "note": None,
        **changes,
    }


def chunk(number: int, **changes: Any) -> dict[str, Any]:
    return {"cursor": str(number), "attempt": 1, "rank": 0, **changes}


@dataclass
class Network:
    """What the server holds, and what it saw."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    chunks: list[dict[str, Any]] = field(default_factory=list)
    bills: list[dict[str, Any]] = field(default_factory=list)
    refusals: dict[tuple[str, str], tuple[int, dict[str, Any]]] = field(default_factory=dict)
    proposed: dict[str, Any] = field(default_factory=dict)  # of a run's record, from its code
    files: dict[str, str] = field(default_factory=lambda: {"main.py": "print('hello')\n"})
    breaks: list[int] = field(default_factory=list)  # cursors, each of which is cut off once
    requests: list[tuple[str, str, Any, dict[str, str]]] = field(default_factory=list)
    hang_at: threading.Event | None = None  # the log stops here, until the test lets it go on

    def refuse(self, method: str, path: str, status: int, code: str, detail: str, way: str) -> None:
        self.refusals[method, path] = (
            status,
            {
                "type": f"urn:tesra:problem:{code}",
                "title": code,
                "status": status,
                "detail": detail,
                "code": code,
                "way_out": way,
                "fields": {"detail": "kept apart", "bill": BILL},
            },
        )

    def sent(self, method: str, path: str) -> list[tuple[Any, dict[str, str]]]:
        """Bodies and headers of the requests that came to a path."""
        return [
            (body, headers)
            for verb, at, body, headers in self.requests
            if (verb, at) == (method, path)
        ]


class FakeTesra:
    """The server; use it in a ``with`` block."""

    def __init__(self, network: Network | None = None) -> None:
        self.network = network or Network()
        handler = type("Handler", (_Handler,), {"network": self.network})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FakeTesra":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    network: Network
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass

    def do_GET(self) -> None:
        self._take("GET")

    def do_POST(self) -> None:
        self._take("POST")

    def do_DELETE(self) -> None:
        self._take("DELETE")

    def do_PUT(self) -> None:
        self._take("PUT")

    def _take(self, method: str) -> None:
        parts = urlsplit(self.path)
        path = parts.path.removeprefix("/api/v1")
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.network.requests.append((method, path, body, dict(self.headers)))
        if (method, path) in self.network.refusals:
            self._answer(*self.network.refusals[method, path])
            return
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        step = path.strip("/").split("/")
        for shape, act in _ROUTES.items():
            verb, _, pattern = shape.partition(" ")
            wanted = pattern.split("/")
            if (
                verb == method
                and len(wanted) == len(step)
                and all(want in {"*", have} for want, have in zip(wanted, step, strict=True))
            ):
                act(self, step, body, query)
                return
        self._answer(404, {"detail": "no such path"})

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _list(self, items: list[Any], query: dict[str, str]) -> None:
        start, limit = int(query.get("cursor", 0)), int(query.get("limit", 50))
        following = start + limit if start + limit < len(items) else None
        self._answer(
            200,
            {
                "items": items[start : start + limit],
                "next": None if following is None else str(following),
            },
        )

    def _signed_in(self, step: list[str], body: Any, query: dict[str, str]) -> None:
        user = {"id": "usr_1", "name": body["name"], "role": "user", "created_at": NOW}
        self._answer(200, {"token": f"tsr_{body['name']}", "expires_at": None, "user": user})

    def _me(self, step: list[str], body: Any, query: dict[str, str]) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer tsr_")
        if not token:
            self.network.refuse("GET", "/x", 401, "token_missing", "Sign in first.", "tesra login")
            self._answer(*self.network.refusals.pop(("GET", "/x")))
            return
        self._answer(200, {"id": "usr_1", "name": token, "role": "user", "created_at": NOW})

    def _run(self, step: list[str], body: Any, query: dict[str, str]) -> None:
        for run in self.network.runs:
            if run["id"] == step[1]:
                self._answer(200, run)
                return
        self._answer(404, {"detail": "no such run"})

    def _submit(self, step: list[str], body: Any, query: dict[str, str]) -> None:
        taken = {name: body[name] for name in ("engine", "entry", "args", "devices", "params")}
        given = {name: value for name, value in taken.items() if value is not None}
        run = {**self.network.runs[0], **self.network.proposed, **given}
        self._answer(201, run)

    def _doctor(self, step: list[str], body: Any, query: dict[str, str]) -> None:
        contents = {path: text.encode() for path, text in self.network.files.items()}
        report = examine(contents, entry=query.get("entry"))
        self._answer(
            200,
            {
                "project": "prj_1",
                "snapshot": "snap_1",
                "report": report.as_dict(),
                "command": report.command(step[1]),
            },
        )

    def _file(self, step: list[str], body: Any, query: dict[str, str]) -> None:
        content = self.network.files[step[-1]].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _log(self, step: list[str], body: Any, query: dict[str, str]) -> None:
        after, follow = int(query.get("after", 0)), query["follow"] == "true"
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for one in self.network.chunks:
            number = int(one["cursor"])
            if number <= after or ("state" in one and not follow):
                continue
            line = json.dumps(one).encode() + b"\n"
            if number in self.network.breaks:
                self.network.breaks.remove(number)
                self._part(line[: len(line) // 2])
                self.close_connection = True
                return
            self._part(line)
        if self.network.hang_at is not None:
            self.network.hang_at.wait(30)
        self.wfile.write(b"0\r\n\r\n")

    def _part(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _bill(self, step: list[str], body: Any, query: dict[str, str]) -> None:
        found = next(bill for bill in self.network.bills if bill["id"] == step[1])
        self._answer(200, found)

    def _pay(self, step: list[str], body: Any, query: dict[str, str]) -> None:
        found = next(bill for bill in self.network.bills if bill["id"] == step[1])
        found |= {
            "state": "paid",
            "paid_at": NOW,
            "payments": [{"source": "voucher", "amount_cny": "0.01", "at": NOW}],
        }
        self._answer(200, found)


def _fixed(body: Any) -> Callable[..., None]:
    return lambda handler, step, sent, query: handler._answer(200, body)


def _listed(items: Callable[[Network], list[Any]]) -> Callable[..., None]:
    return lambda handler, step, sent, query: handler._list(items(handler.network), query)


_PROJECT = {
    "id": "prj_1",
    "name": "digits",
    "snapshot": "snap_1",
    "snapshots": 1,
    "file_count": 2,
    "size_bytes": 4096,
    "created_at": NOW,
    "updated_at": NOW,
}
_WALLET = {
    "balance_cny": "0.00",
    "vouchers_cny": "5.00",
    "unpaid_cny": "0.01",
    "autopay": False,
    "vouchers": [],
    "entries": [{"at": NOW, "kind": "grant", "amount_cny": "5.00", "memo": "welcome"}],
}
_DEVICES = {
    "device_class": "cpu-slot",
    "rating_t": "0.145",
    "total": 4,
    "free": 3,
    "largest_gang": 4,
    "price_cny_per_hour": "0.0725",
}
_PRICE = {"id": 1, "price_cny_per_th": "0.5", "effective_from": NOW, "current": True}

_QUOTE = {
    "devices": 1,
    "device_class": None,
    "price_cny_per_th": "0.5",
    "rating_t_low": "2",
    "rating_t_high": "2",
    "cny_per_hour_low": "1.00",
    "cny_per_hour_high": "1.00",
    "free_devices": 1,
    "total_devices": 2,
    "place": None,
    "at_most_cny": None,
    "stops_after_s": None,
    "vouchers_cny": "5.00",
    "wallet_cny": "0.00",
    "covered_s": 18000,
    "line": "CNY 1.00 an hour; your vouchers cover 5 h of this",
    "lines": ["CNY 1.00 an hour: 1 device.", "It would start at once."],
}

_ROUTES: dict[str, Callable[..., None]] = {
    "POST register": _Handler._signed_in,
    "POST login": _Handler._signed_in,
    "POST logout": _fixed({}),
    "GET me": _Handler._me,
    "GET projects": _listed(lambda network: [_PROJECT]),
    "GET projects/*": _fixed(_PROJECT),
    "DELETE projects/*": _fixed({"project": "prj_1", "name": "digits", "removed": 1, "kept": 2}),
    "GET projects/*/doctor": _Handler._doctor,
    "GET drive/snapshots/*/files": _listed(
        lambda network: [
            {"path": path, "kind": "file", "size_bytes": len(text)}
            for path, text in network.files.items()
        ]
    ),
    "GET drive/snapshots/*/files/*": _Handler._file,
    "GET devices": _listed(lambda network: [_DEVICES]),
    "GET engines": _listed(
        lambda network: [{"name": "pytorch", "versions": ["2.13.0"], "default": "2.13.0"}]
    ),
    "GET runs": _listed(lambda network: network.runs),
    "POST runs": _Handler._submit,
    "POST quotes": _fixed(_QUOTE),
    "GET runs/*": _Handler._run,
    "POST runs/*/stop": _Handler._run,
    "GET runs/*/events": _listed(
        lambda network: [{"seq": 1, "at": NOW, "kind": "queued", "text": "Waits for devices."}]
    ),
    "GET runs/*/logs": _Handler._log,
    "GET bills": _listed(lambda network: network.bills),
    "GET bills/*": _Handler._bill,
    "POST bills/*/pay": _Handler._pay,
    "GET wallet": _fixed(_WALLET),
    "PUT wallet/autopay": _fixed({}),
    "POST vouchers/redeem": _fixed({}),
    "GET prices": _listed(lambda network: [_PRICE]),
    "POST operator/topups": _fixed({"user": "ann", "amount_cny": "100.00"}),
    "POST operator/vouchers": _fixed(
        {"code": "ABCD-EFGH", "amount_cny": "10.00", "for_user": "ann", "expires_at": NOW}
    ),
    "POST operator/prices": _fixed(_PRICE),
}
