"""A stored checkpoint comes back to where its files lay, before any rank starts.

The script has not run yet, so nobody changes a folder meanwhile; but the project may hold links,
and none of them is followed.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tesra.node.checkpoint_files import look
from tesra.node.checkpoint_store import MANIFEST, OUTPUT, OWN
from tesra.node.projects import fetch_patiently
from tesra.node.workspace import AttemptFolders, has_no_link
from tesra.sdk.transfer import HttpDoor
from tesra.wire.site import ResumeFrom

RESUME_VARIABLE = "TESRA_RESUME_FROM"


@dataclass(frozen=True, slots=True)
class Restored:
    """``newest`` is what ``TESRA_RESUME_FROM`` is to say."""

    newest: Path
    files: list[Path]


async def restore(
    door: HttpDoor, resume: ResumeFrom, folders: AttemptFolders, say: Callable[[str], None]
) -> Restored:
    """Bring the files back to where they lay."""
    draft = folders.root / "resume"
    await fetch_patiently(door, resume.snapshot, draft)
    manifest = await asyncio.to_thread(_manifest, draft)
    files, left_out = await asyncio.to_thread(_put_back, draft, manifest, folders)
    plural = "" if len(files) == 1 else "s"
    say(f"Goes on from checkpoint {resume.number}: {len(files)} file{plural}.")
    for place in left_out:
        say(f"'{place}' of the checkpoint was not put back: a link or a folder is in its way.")
    newest = _target(resume.newest, manifest, folders) if resume.newest else None
    return Restored(
        newest if newest is not None and newest.exists() else folders.checkpoints, files
    )


def _put_back(
    draft: Path, manifest: dict[str, Any], folders: AttemptFolders
) -> tuple[list[Path], list[str]]:
    """The files, and the paths of those that could not be put back.

    The names are those that were fetched, which a tree's own rules keep inside; the manifest came
    from another node, and only gives times.
    """
    files: list[Path] = []
    left_out: list[str] = []
    for place in _places(draft):
        target = _target(place, manifest, folders)
        if target is None or not has_no_link(folders.root, target.parent) or target.is_dir():
            left_out.append(place)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        (draft / place).replace(target)
        written_ns = manifest["written_ns"].get(place)
        if isinstance(written_ns, int) and 0 <= written_ns < 2**63:
            os.utime(target, ns=(written_ns, written_ns), follow_symlinks=False)
        files.append(target)
    shutil.rmtree(draft)
    return files, left_out


def _places(draft: Path) -> list[str]:
    return [f"{kind}/{name}" for kind in (OWN, OUTPUT) for name in look(draft, kind)]


def _manifest(draft: Path) -> dict[str, Any]:
    """Of one that can't be read, nothing but the files themselves is known."""
    try:
        found = json.loads((draft / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        found = None
    found = found if isinstance(found, dict) else {}
    written = found.get("written_ns")
    return {
        "written_ns": written if isinstance(written, dict) else {},
        "output_is_file": found.get("output_is_file") is True,
    }


def _target(place: str, manifest: dict[str, Any], folders: AttemptFolders) -> Path | None:
    """Where a path of the snapshot belongs in this attempt."""
    kind, *parts = place.split("/")
    if kind not in (OWN, OUTPUT) or any(part in ("", ".", "..") for part in parts):
        return None
    if kind == OWN:
        return folders.checkpoints.joinpath(*parts)
    single = manifest["output_is_file"]
    base = folders.output_path.parent if single else folders.output_path
    return base.joinpath(*parts)
