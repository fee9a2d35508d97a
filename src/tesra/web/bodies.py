"""Bodies of requests that are too large for memory."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from fastapi import Request


async def take_body(request: Request, file: Path, *, check: Callable[[int], None]) -> None:
    """Write the body to a new file; ``check`` hears how much has come and may refuse more."""
    size = 0
    with file.open("xb", buffering=0) as target:
        async for piece in request.stream():
            size += len(piece)
            check(size)
            await asyncio.to_thread(target.write, piece)
