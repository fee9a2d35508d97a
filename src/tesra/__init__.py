"""Tesra: a shared compute network for AI.

Exports lazily what users import, so that ``import tesra`` costs nothing:
``tesra.Client`` speaks to a server.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tesra.sdk.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    if name == "Client":
        from tesra.sdk.client import Client

        return Client
    raise AttributeError(f"module 'tesra' has no attribute {name!r}")
