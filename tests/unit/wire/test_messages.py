"""Messages are built when they first come: that each can be is shown here, not to a user."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

import tesra.wire
from tesra.wire.common import Answer, Wire


def below(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for one in kind.__subclasses__():
        yield one
        yield from below(one)


def messages() -> list[type[BaseModel]]:
    for module in pkgutil.iter_modules(tesra.wire.__path__):
        importlib.import_module(f"tesra.wire.{module.name}")
    found = {*below(Wire), *below(Answer)}
    return sorted(found, key=lambda one: f"{one.__module__}.{one.__qualname__}")


@pytest.mark.parametrize("message", messages(), ids=lambda one: one.__qualname__)
def test_a_message_can_be_built(message: type[BaseModel]) -> None:
    assert message.model_rebuild() is not False
    assert message.model_json_schema()["type"] == "object"
