"""``Idempotency-Key``: the same call with the same key happens once and is answered the same.

The answer is stored, sealed, in the transaction that did the work: either both are there or
neither is. A call that failed left nothing, so that its key may be tried again.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Header, Request
from pydantic import BaseModel

from tesra.db import idempotency
from tesra.db.engine import Tx
from tesra.identity.model import Principal
from tesra.kit.errors import Conflict
from tesra.web.context import Services

AnswerModel = TypeVar("AnswerModel", bound=BaseModel | None)
Keep = Callable[[Tx, BaseModel], Awaitable[None]]


class KeyReused(Conflict):
    """This idempotency key was used for another request."""


class CallKey(str):
    """An idempotency key that knows the call (method and path) it came with."""

    __slots__ = ("call",)
    call: str

    @classmethod
    def of(cls, key: str, call: str) -> "CallKey":
        made = cls(key)
        made.call = call
        return made


async def _call_key(
    request: Request,
    key: Annotated[
        str | None, Header(alias="Idempotency-Key", min_length=1, max_length=128)
    ] = None,
) -> CallKey | None:
    return None if key is None else CallKey.of(key, f"{request.method} {request.url.path}")


IdempotencyKey = Annotated[CallKey | None, Depends(_call_key)]


async def once(
    services: Services,
    caller: Principal,
    key: str | None,
    request: BaseModel,
    act: Callable[[Tx], Awaitable[AnswerModel]],
) -> AnswerModel:
    """``act`` in one transaction, or the stored answer of the same call with the same key.

    Raises ``KeyReused`` when the key came with another request or another path before.
    """
    async with services.database.begin() as tx:
        if key is None:
            return await act(tx)
        await idempotency.lock(tx, caller.user_id, key)
        found, known = await _find(tx, services, caller, key, request)
        if found:
            return cast(AnswerModel, known)
        answer = await act(tx)
        await _store(tx, services, caller, key, request, answer)
        return answer


async def once_elsewhere(
    services: Services,
    caller: Principal,
    key: str | None,
    request: BaseModel,
    act: Callable[[Keep], Awaitable[AnswerModel]],
) -> AnswerModel:
    """The same for what has a transaction of its own: there ``act`` keeps its answer, by what it is
    given, together with the work."""

    async def keep(work: Tx, answer: BaseModel) -> None:
        if key is not None:
            await _store(work, services, caller, key, request, answer)

    if key is None:
        return await act(keep)
    async with services.database.begin() as tx:  # holds the lock alone
        await idempotency.lock(tx, caller.user_id, key)
        found, known = await _find(tx, services, caller, key, request)
        return cast(AnswerModel, known) if found else await act(keep)


async def refuse_other(
    services: Services, caller: Principal, key: str | None, request: BaseModel
) -> None:
    """Raises ``KeyReused`` now, for a call that does most of its work before ``once``."""
    if key is not None:
        async with services.database.begin() as tx:
            await _find(tx, services, caller, key, request)


async def _store(
    tx: Tx,
    services: Services,
    caller: Principal,
    key: str,
    request: BaseModel,
    answer: BaseModel | None,
) -> None:
    sealed = services.sealer.seal(_freeze(answer), _context(caller, key))
    request_hash = _request_hash(key, request)
    await idempotency.store(tx, caller.user_id, key, request_hash=request_hash, answer=sealed)


async def _find(
    tx: Tx, services: Services, caller: Principal, key: str, request: BaseModel
) -> tuple[bool, BaseModel | None]:
    """Whether this call was made before, and its answer; raises ``KeyReused`` for another call."""
    stored = await idempotency.find(tx, caller.user_id, key)
    if stored is None:
        return False, None
    if stored.request_hash != _request_hash(key, request):
        raise KeyReused(way_out="Use a new key for a new request.")
    return True, _revive(services.sealer.open(stored.answer, _context(caller, key)))


def _context(caller: Principal, key: str) -> bytes:
    return f"idempotency:{caller.user_id}:{key}".encode()


def _request_hash(key: str, request: BaseModel) -> bytes:
    call = key.call if isinstance(key, CallKey) else ""
    text = f"{call}\n{_name_of(type(request))}\n{request.model_dump_json()}"
    return hashlib.sha256(text.encode()).digest()


def _freeze(answer: BaseModel | None) -> bytes:
    if answer is None:
        return json.dumps({"model": None}).encode()
    body = answer.model_dump(mode="json")
    return json.dumps({"model": _name_of(type(answer)), "body": body}).encode()


def _revive(frozen: bytes) -> BaseModel | None:
    stored = json.loads(frozen)
    if stored["model"] is None:
        return None
    for model in _models(BaseModel):
        if _name_of(model) == stored["model"]:
            return model.model_validate(stored["body"])
    raise KeyReused("This key's answer was given by another version and can't be repeated.")


def _models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from _models(model)


def _name_of(model: type[BaseModel]) -> str:
    return f"{model.__module__}:{model.__qualname__}"
