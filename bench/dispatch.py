"""2,000 queued runs of 100 users on autopay, over HTTP, with a runner that ends each run at once.

The server, its dispatcher, PostgreSQL and the bills are real; only the machines are left out.
Counted from the moment the runner takes its first assignment until the last run has its bill.
"""

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from bench._harness import BenchFailed, report, run_bench

from tesra.app.choices import free_port
from tesra.app.preparation import prepare
from tesra.db.embedded import EmbeddedPostgres
from tesra.kit.settings import Home, Settings
from tesra.sdk.transfer import HttpDoor, upload_tree

FIGURE = "dispatch_runs_per_s"
TARGET = 50.0
USERS = 100
RUNS = 2_000
DEVICES = 64
DEADLINE_S = 300.0


@dataclass
class Server:
    """A server without a site, its pid and PostgreSQL's."""

    url: str
    operator_token: str
    site_token: str
    pid: int
    database_pid: int
    database_url: str


def measure() -> None:
    with server() as running:
        runner = NoOpRunner(running)
        runner.enrol()
        users = make_users(running)
        queued_s = queue_runs(users)
        used, began = psutil.Process(running.pid).cpu_times(), time.monotonic()
        runner.run_all(RUNS)
        took, now = time.monotonic() - began, psutil.Process(running.pid).cpu_times()
        cpu_s = now.user + now.system - used.user - used.system
        check_bills(users)
    report(
        FIGURE,
        round(RUNS / took, 1),
        target=TARGET,
        at_least=True,
        versus={
            "runs": RUNS,
            "users": USERS,
            "seconds": round(took, 2),
            "submitted_per_s": round(RUNS / queued_s, 1),
            "server_cpu_ms_per_run": round(cpu_s / RUNS * 1000, 1),
        },
    )


@contextmanager
def server() -> Iterator[Server]:
    """PostgreSQL and one server process in a temporary home."""
    folder = Path(tempfile.mkdtemp(prefix="tesra-bench-"))
    home = Home(folder / "home")
    home.create()
    postgres = EmbeddedPostgres(home)
    port = free_port("127.0.0.1")
    process = None
    try:
        settings = Settings(home=home, cache=folder, database_url=postgres.start())
        _, token = asyncio.run(prepare(settings, None, site_runs=True))
        with (home.logs / "server.log").open("wb") as log:
            command = [sys.executable, "-m", "tesra.app.main", "server", "--home", str(home.root)]
            environ = os.environ | {"TESRA_REGISTRATIONS_PER_HOUR": "100000"}  # all from here
            process = subprocess.Popen(
                [*command, "--port", str(port)], env=environ, stdout=log, stderr=log
            )
        url = f"http://127.0.0.1:{port}"
        _wait_for(url)
        site_token = (home.keys / "site.token").read_text().strip()
        yield Server(url, token, site_token, process.pid, postgres.pid() or 0, postgres.url())
    finally:
        if process is not None:
            process.terminate()
            process.wait(20)
        postgres.stop()
        shutil.rmtree(folder)


def make_users(running: Server, count: int = USERS) -> list[httpx.Client]:
    """Users with money, autopay and one project each."""
    operator = signed_in(running.url, running.operator_token)
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(4) as threads:
        (Path(name) / "train.py").write_text("print('hello')\n")

        def make(_: int) -> httpx.Client:
            user = f"bench-{secrets.token_hex(4)}"
            body = {"name": user, "password": secrets.token_hex(8)}
            session = ok(httpx.post(f"{running.url}/api/v1/register", json=body, timeout=60))
            ok(operator.post("/api/v1/operator/topups", json={"user": user, "amount_cny": "100"}))
            client = signed_in(running.url, session["token"])
            ok(client.put("/api/v1/wallet/autopay", json={"on": True}))
            commit = upload_tree(HttpDoor(client), Path(name)).model_dump()
            ok(client.post("/api/v1/projects", json={"name": "noop", "snapshot": commit}))
            return client

        return list(threads.map(make, range(count)))


def queue_runs(users: list[httpx.Client]) -> float:
    """Submit all runs; the seconds it took."""
    began = time.monotonic()
    with ThreadPoolExecutor(8) as threads:

        def submit(number: int) -> None:
            body = {"project": "noop", "entry": "train.py"}
            ok(users[number % USERS].post("/api/v1/runs", json=body))

        list(threads.map(submit, range(RUNS)))
    return time.monotonic() - began


def check_bills(users: list[httpx.Client]) -> None:
    """Every run succeeded and is paid."""
    for user in users:
        runs = ok(user.get("/api/v1/runs", params={"limit": 200}))["items"]
        if len(runs) != RUNS // USERS or any(run["state"] != "succeeded" for run in runs):
            raise BenchFailed("not every run has succeeded")
        bills = ok(user.get("/api/v1/bills", params={"limit": 200}))["items"]
        if any(bill["state"] != "paid" for bill in bills):
            raise BenchFailed("not every bill is paid")


class NoOpRunner:
    """A site whose runs last no time."""

    def __init__(self, running: Server) -> None:
        self._http = signed_in(running.url, running.site_token)
        self._boot = secrets.token_hex(8)
        self._seq = 0
        self._done: set[str] = set()

    def enrol(self) -> None:
        cards = [
            {
                "id": f"dev-{index}",
                "index": index,
                "device_class": "cpu",
                "name": "slot",
                "measured_micro_t": 1_000_000,
            }
            for index in range(DEVICES)
        ]
        node = {
            "id": "node-1",
            "name": "node-1",
            "address": "127.0.0.1",
            "cores": 4,
            "memory_bytes": 2**30,
            "devices": cards,
        }
        body = {"site": "local", "boot_id": self._boot, "nodes": [node]}
        ok(self._http.post("/site/v1/enrol", json=body))

    def run_all(self, count: int) -> None:
        version, deadline = 0, time.monotonic() + DEADLINE_S
        while len(self._done) < count:
            if time.monotonic() > deadline:
                raise BenchFailed(f"only {len(self._done)} of {count} runs came")
            found = ok(
                self._http.get("/site/v1/assignments", params={"after": version, "wait_s": 5})
            )
            version = found["version"]
            self._finish([a for a in found["assignments"] if a["attempt"] not in self._done])

    def _finish(self, assignments: list[dict[str, Any]]) -> None:
        now = datetime.now(UTC).isoformat()
        messages = []
        for assignment in assignments:
            for body in (
                {"kind": "started", "at": now},
                {"kind": "usage", "number": 1, "started_at": now, "duration_ms": 50},
                {"kind": "ended", "outcome": "succeeded", "exit_code": 0},
            ):
                self._seq += 1
                names = {"attempt": assignment["attempt"], "fence": assignment["fence"]}
                messages.append({"seq": self._seq, **names, "body": body})
            self._done.add(assignment["attempt"])
        for start in range(0, len(messages), 999):
            body = {"boot_id": self._boot, "messages": messages[start : start + 999]}
            ok(self._http.post("/site/v1/messages", json=body))


def signed_in(url: str, token: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)


def ok(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise BenchFailed(f"{answer.request.url}: {answer.status_code} {answer.text[:300]}")
    body: dict[str, Any] = answer.json()
    return body


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/api/v1/health").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise BenchFailed("the server did not start")


if __name__ == "__main__":
    run_bench(measure, FIGURE, TARGET)
