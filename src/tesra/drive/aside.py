"""Work beside the event loop: in a thread of its own, in a folder of its own.

A thread that waits for the loop now and then is none of the loop's own pool: what it waits for
needs those, and a pool whose threads all wait for each other's work never gets done.
"""

import asyncio
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

_SCRATCH = "scratch-"
_LOCKED_WITHIN_S = 60.0  # of its making


async def aside(work: Callable[[], Result]) -> Result:
    """What ``work`` gives, done in a thread of its own."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="aside")
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, work)
    finally:
        thread.shutdown(wait=False)


@asynccontextmanager
async def scratch(folder: Path) -> AsyncIterator[Path]:
    """A private folder within this one for a while; that of a process that dies, ``clear_scratch``
    removes. It is removed in a thread: 100,000 files take many seconds."""
    place = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=folder))
    held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # the kernel lets go of it when the process ends
        yield place
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, place, ignore_errors=True))
        os.close(held)


def clear_scratch(folder: Path, *, age_s: float = _LOCKED_WITHIN_S) -> None:
    """Remove the scratch folders that nobody holds any more."""
    for place in folder.glob(f"{_SCRATCH}*"):
        try:
            held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            if time.time() - os.fstat(held).st_mtime >= age_s:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(held)
