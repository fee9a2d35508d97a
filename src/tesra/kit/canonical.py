"""One text for one JSON value, so that it can be hashed and signed.

UTF-8; names sorted by code point; no spaces; numbers as Python writes them (the shortest that reads
back the same); nothing that is not finite.
"""

import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Raises ``ValueError`` for numbers that are not finite, ``TypeError`` for what is not JSON."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()
