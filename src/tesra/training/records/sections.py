"""The sections of a training record: each a plain value, made from what is stored."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select

from tesra.billing import pricing
from tesra.billing.model import Bill
from tesra.billing.pricing import Stretch
from tesra.db.engine import Tx
from tesra.drive.model import StoredSnapshot
from tesra.kit.ids import RunId
from tesra.kit.money import format_cny, format_micros
from tesra.training.repository import RunRow
from tesra.training.tables import attempts
from tesra.wire.drive import FileEntry
from tesra.wire.parameters import DEFAULT_FORMAT

Section = dict[str, Any]


def identity(row: RunRow) -> Section:
    """Which run it is, and how it ended."""
    return {
        "run": row.id,
        "state": row.state,
        "reason": row.reason or None,
        "exit_code": row.exit_code,
        "warnings": row.warnings,
        "created_at": when(row.created_at),
        "started_at": when(row.started_at),
        "ended_at": when(row.ended_at),
        "rerun_of": row.spec.get("rerun_of"),
        "sweep": row.sweep_id,
        "trial": row.trial,
    }


def code(row: RunRow, snapshot: StoredSnapshot, files: Sequence[FileEntry]) -> Section:
    """The snapshot that was trained; ``root`` stands for all of its content within its drive."""
    return {
        "project": row.project_id,
        "project_name": row.project_name,
        "snapshot": snapshot.id,
        "root": snapshot.root.hex(),
        "file_count": snapshot.file_count,
        "size_bytes": snapshot.size_bytes,
        "files_sha256": files_digest(files),
    }


def output(snapshot: StoredSnapshot | None) -> Section | None:
    """What the run left behind."""
    if snapshot is None:
        return None
    return {
        "snapshot": snapshot.id,
        "root": snapshot.root.hex(),
        "file_count": snapshot.file_count,
        "size_bytes": snapshot.size_bytes,
    }


def files_digest(files: Iterable[FileEntry]) -> str:
    """SHA-256 over ``kind size path`` of every file and link, a line each, in the order of paths."""
    lines = sorted(
        f"{file.kind} {file.size_bytes} {file.path}\n" for file in files if file.kind != "dir"
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def start(row: RunRow) -> Section:
    """All that it was started with; of secrets the names alone."""
    spec = row.spec
    return {
        "entry": spec["entry"],
        "args": spec["args"],
        "output": spec["output"],
        "devices": row.devices,
        "device_class": row.device_class,
        "launch": row.launch,
        "launch_reason": row.launch_reason,
        "params": spec["params"],
        "ranges": spec.get("ranges", {}),
        "param_format": spec.get("param_format", DEFAULT_FORMAT),
        "env": spec["env"],
        "secrets": spec["secrets"],
        "packages": spec["packages"],
        "data": spec.get("data", []),
    }


async def tries(tx: Tx, run: RunId, nodes: dict[str, str]) -> list[Section]:
    """Every attempt with its devices, by class, rating and node."""
    rows = await tx.execute(
        select(attempts).where(attempts.c.run_id == run).order_by(attempts.c.number)
    )
    return [
        {
            "attempt": row.id,
            "number": row.number,
            "site": row.site_id,
            "created_at": when(row.created_at),
            "started_at": when(row.started_at),
            "ended_at": when(row.ended_at),
            "usage_ms": row.usage_ms,
            "devices": [
                {
                    "device": device["device"],
                    "class": device["device_class"],
                    "rating_micro_t": device["rating_micro_t"],
                    "node": device["node"],
                    "node_name": nodes.get(device["node"]),
                }
                for device in row.devices
            ],
        }
        for row in rows
    ]


def usage(stretches: Iterable[Stretch]) -> list[Section]:
    """Usage records, those that follow each other on the same devices added up."""
    ordered = sorted(stretches, key=lambda one: (one.started_at, one.attempt_id, one.first_seq))
    return [
        {
            "attempt": one.attempt_id,
            "first": one.first_seq,
            "last": one.last_seq,
            "started_at": when(one.started_at),
            "ended_at": when(one.ended_at),
            "duration_ms": one.duration_ms,
            "devices": [
                {"class": device.device_class, "rating_micro_t": device.rating_micro_t}
                for device in one.devices
            ],
        }
        for one in ordered
    ]


def bill(made: Bill | None) -> Section | None:
    """The bill with its lines and payments; None before there is one."""
    if made is None:
        return None
    return {
        "bill": made.id,
        "state": made.state,
        "amount_micros": made.amount_micros,
        "amount_cny": made.amount_cny,
        "th": format_micros(made.micro_th),
        "note": made.note,
        "created_at": when(made.created_at),
        "paid_at": when(made.paid_at),
        "lines": [
            {
                "attempt": line.attempt,
                "started_at": when(line.started_at),
                "ended_at": when(line.ended_at),
                "duration_ms": line.duration_ms,
                "devices": line.devices,
                "class": line.device_class,
                "rating_micro_t": line.rating_micro_t,
                "micro_th": line.micro_th,
                "price_micros_per_th": line.price_micros,
                "amount_micros": line.amount_micros,
                "explanation": pricing.explain(line),
            }
            for line in made.lines
        ],
        "payments": [
            {
                "source": one.source,
                "amount_cny": format_cny(one.amount_micros),
                "at": when(one.at),
            }
            for one in made.payments
        ],
    }


def timeline(events: Iterable[RunRow]) -> list[Section]:
    """What happened, in order."""
    return [
        {"seq": row.seq, "at": when(row.at), "kind": row.kind, "text": row.text} for row in events
    ]


def when(moment: datetime | None) -> str | None:
    """ISO 8601 with the zone."""
    return None if moment is None else moment.isoformat()
