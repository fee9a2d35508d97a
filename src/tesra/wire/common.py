"""Shapes that every part of the API shares."""

import math
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tesra.kit.saying import said

Item = TypeVar("Item")

Name = Annotated[str, Field(min_length=1, max_length=128)]

# A command needs few of all messages: what checks one is built when it first comes, under a lock.


class Wire(BaseModel):
    """A message: unknown fields are refused, so that a typing error is told, not swallowed.

    So is what the database can't hold: the character NUL, half a surrogate pair, numbers that
    are not finite or have more than 64 bits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        if isinstance(data, dict):
            _check_storable(data)
        return data


class Answer(BaseModel):
    """An answer: a client that is older than the server ignores what it does not know."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


class Page(Answer, Generic[Item]):
    """One page of a list; pass ``next`` as ``?cursor=`` to go on, ``null`` at the end."""

    items: list[Item]
    next: str | None = None


class Problem(Answer):
    """An error as RFC 9457 has it (``application/problem+json``)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    way_out: str | None = None
    fields: dict[str, Any] = {}


_MAX_DEPTH = 32


def _check_storable(value: Any, depth: int = 0) -> None:
    if isinstance(value, str):
        if "\x00" in value or not (value.isascii() or _encodable(value)):
            raise ValueError(said("Text can't hold the character NUL or half a surrogate pair."))
    elif isinstance(value, (dict, list)):
        if depth == _MAX_DEPTH:
            raise ValueError(said("This is nested too deeply."))
        for item in (*value, *value.values()) if isinstance(value, dict) else value:
            _check_storable(item, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(said("A number has to be finite."))
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(said("A number has at most 64 bits."))


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
