"""Work in a thread that waits for the event loop now and then.

Such a thread is none of the loop's own pool: what it waits for needs those, and a pool whose
threads all wait for each other's work never gets done.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


async def aside(work: Callable[[], Result]) -> Result:
    """What ``work`` gives, done in a thread of its own."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="aside")
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, work)
    finally:
        thread.shutdown(wait=False)


@asynccontextmanager
async def scratch(folder: Path | None = None) -> AsyncIterator[Path]:
    """A folder for a while. It is removed in a thread: 100,000 files take many seconds."""
    place = Path(tempfile.mkdtemp(prefix="tesra-scratch-", dir=folder))
    try:
        yield place
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, place, ignore_errors=True))
