"""Metrics taken in by the real server over HTTP, in lines as a node sends them, and drawn again.

The floor is PostgreSQL's own: COPY of as many plain rows of the same points into a bare table.
CPU is that of the server and of PostgreSQL, for 5,000 points a second, in parts of one core.
"""

import json
import secrets
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import psutil
import psycopg
from bench._harness import report, run_bench
from bench.dispatch import NoOpRunner, Server, make_users, ok, server, signed_in

FIGURE = "metric_points_taken_per_s"
TARGET = 5_000.0
DRAWN = "metric_million_points_drawn_s"
DRAWN_TARGET_S = 1.0
POINTS = 300_000
MILLION = 1_000_000
DELIVERY_BYTES = 2**20
SHAPES = {  # names, values a line, bytes a delivery
    "one value a line": (1, 1, DELIVERY_BYTES),
    "ten values a line": (10, 10, DELIVERY_BYTES),
    "a thousand names": (1000, 50, DELIVERY_BYTES),
    "a thousand names, five points of each a delivery": (1000, 50, 150_000),
}


@dataclass
class Spool:
    """The node's end of one attempt's spool."""

    site: httpx.Client
    attempt: str
    fence: int
    offset: int = 0

    def deliver(self, data: bytes) -> None:
        path = f"/site/v1/attempts/{self.attempt}/metrics"
        query = {"source": 0, "offset": self.offset, "fence": self.fence}
        self.offset = ok(self.site.put(path, params=query, content=data))["offset"]


def measure() -> None:
    with server() as running:
        NoOpRunner(running).enrol()
        (user,) = make_users(running, 1)
        floor = copied_per_s(running.database_url)
        for shape, (names, at_once, size) in SHAPES.items():
            _, spool = start_run(running, user)
            pieces = list(deliveries(POINTS, names, at_once, size))
            before = cpu_s(running)
            began = time.monotonic()
            for piece in pieces:
                spool.deliver(piece)
            took = time.monotonic() - began
            used = [after - was for after, was in zip(cpu_s(running), before, strict=True)]
            share = [round(one / POINTS * TARGET, 3) for one in used]
            versus = {
                "shape": shape,
                "copy_rows_per_s": round(floor),
                "server_cores_at_5000_per_s": share[0],
                "postgres_cores_at_5000_per_s": share[1],
                "points": POINTS,
            }
            report(FIGURE, round(POINTS / took), target=TARGET, at_least=True, versus=versus)
        draw_a_million(running, user)


def draw_a_million(running: Server, user: httpx.Client) -> None:
    run, spool = start_run(running, user)
    for piece in deliveries(MILLION, 1, 1, DELIVERY_BYTES):
        spool.deliver(piece)
    took = []
    for axis in ("step", "time", "step", "time", "step"):
        began = time.monotonic()
        found = ok(
            user.get(f"/api/v1/runs/{run}/metrics/history", params={"name": "m0", "x": axis})
        )
        took.append(time.monotonic() - began)
    shown = len(found["series"][0]["steps"])
    versus = {"points": MILLION, "shown": shown, "slowest_s": round(max(took), 3)}
    report(DRAWN, round(statistics.median(took), 3), target=DRAWN_TARGET_S, versus=versus)


def start_run(running: Server, user: httpx.Client) -> tuple[str, Spool]:
    """A run that is placed; its id, and where its node delivers."""
    request = {"project": "noop", "entry": "train.py"}
    run = ok(user.post("/api/v1/runs", json=request))["id"]
    site = signed_in(running.url, running.site_token)
    version = 0
    while True:
        found = ok(site.get("/site/v1/assignments", params={"after": version, "wait_s": 5}))
        version = found["version"]
        for one in found["assignments"]:
            if one["run"] == run:
                return run, Spool(site, one["attempt"], one["fence"])


def deliveries(points: int, names: int, at_once: int, most: int) -> Iterator[bytes]:
    """Lines in pieces of at most ``most`` bytes; ``at_once`` values a line, of ``names`` in turn."""
    part, size, now = [], 0, time.time()
    for number in range(points // at_once):
        step, first = divmod(number * at_once, names)
        values = {
            f"m{first + k}": (number * 2_654_435_761 + k) % 2**32 / 2**32 for k in range(at_once)
        }
        line = {"k": "m", "r": 0, "o": "log", "t": round(now + number / 1000, 3), "s": step}
        text = json.dumps(line | {"v": values}, separators=(",", ":")).encode() + b"\n"
        if size + len(text) > most:
            yield b"".join(part)
            part, size = [], 0
        part.append(text)
        size += len(text)
    yield b"".join(part)


def copied_per_s(url: str) -> float:
    """Rows a second that PostgreSQL itself takes: what no store on top of it can beat by much."""
    rows = [("run", "m0", 0, step, 1.7e9 + step, step / 7) for step in range(POINTS)]
    table = f"bench_{secrets.token_hex(4)}"
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE {table} (run text, name text, rank int, step bigint, t float8, v float8)"
        )
        connection.commit()
        began = time.monotonic()
        with cursor.copy(f"COPY {table} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        connection.commit()
        took = time.monotonic() - began
        cursor.execute(f"DROP TABLE {table}")
        connection.commit()
    return POINTS / took


def cpu_s(running: Server) -> list[float]:
    """Seconds of CPU so far: of the server, of PostgreSQL with all its processes."""
    database = psutil.Process(running.database_pid)
    return [
        sum(sum(process.cpu_times()[:2]) for process in some)
        for some in (
            [psutil.Process(running.pid)],
            [database, *database.children(recursive=True)],
        )
    ]


if __name__ == "__main__":
    run_bench(measure, FIGURE, TARGET)
