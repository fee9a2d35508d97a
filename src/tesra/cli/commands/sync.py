"""``tesra drive sync``: what it says; ``sdk.sync`` does it."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tesra.cli.context import Session
from tesra.cli.words import visible

if TYPE_CHECKING:
    from tesra.sdk.sync.folder import Synced

_WATCH_S = 2.0


@dataclass(frozen=True, slots=True)
class SyncWish:
    folder: Path
    path: str
    delete: bool
    dry_run: bool
    watch: bool


def sync_command(session: Session, wish: SyncWish) -> None:
    from tesra.sdk.sync.folder import FolderSync, watch  # brings the ciphers

    sync = FolderSync(session.client, wish.folder, wish.path, delete=wish.delete)
    if wish.dry_run:
        _tell(session, sync.preview())
        return
    with session.out.transfer("Syncing") as report:
        if not wish.watch:
            done = sync.run(report)
        else:
            watch(sync, lambda done: _tell(session, done), lambda: time.sleep(_WATCH_S), report)
            return
    _tell(session, done)


def _tell(session: Session, done: "Synced") -> None:
    session.out.answer(asdict(done), lambda: _lines(session, done))
    session.out.flush()
    for warning in done.warnings:
        session.out.aside(f"Warning: {warning}")
    if done.plan.left and not session.out.as_json:
        session.out.aside(
            f"{len(done.plan.left)} gone on one side and kept on the other: --delete carries that"
            " over."
        )


def _lines(session: Session, done: "Synced") -> None:
    plan = done.plan
    for path, beside in plan.renamed:
        session.out.say(f"conflict      {visible(path)} -> {visible(beside)}")
    for words, paths in (
        ("upload", plan.upload),
        ("download", plan.download),
        ("delete here", plan.remove_here),
        ("delete there", plan.remove_there),
        ("kept", plan.left),
        ("next time", done.skipped),
    ):
        for path in paths:
            session.out.say(f"{words:<12}  {visible(path)}")
    if plan.empty:
        session.out.say("Nothing to do: both sides are equal." if not plan.left else "No changes.")
