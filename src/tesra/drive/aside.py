"""Work in a thread that waits for the event loop now and then.

Such a thread is none of the loop's own pool: what it waits for needs those, and a pool whose
threads all wait for each other's work never gets done.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


async def aside(work: Callable[[], Result]) -> Result:
    """What ``work`` gives, done in a thread of its own."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="aside")
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, work)
    finally:
        thread.shutdown(wait=False)
