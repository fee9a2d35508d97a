"""A refusal of the server becomes the same kind of error that the server raised.

``except PaymentDue`` works on either side of the wire; ``code`` is the server's own, so that a
program can tell ``voucher_spent`` from any other conflict.
"""

from collections.abc import Mapping

import httpx

from tesra.kit import errors
from tesra.kit.errors import TesraError
from tesra.wire.common import Problem

_KINDS: Mapping[int, type[TesraError]] = {
    400: errors.Invalid,
    401: errors.Unauthenticated,
    402: errors.PaymentDue,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.Invalid,
    409: errors.Conflict,
    410: errors.NotFound,
    413: errors.QuotaExceeded,
    422: errors.Invalid,
    429: errors.TooMany,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
    507: errors.QuotaExceeded,
}
_RESERVED = frozenset({"detail", "way_out"})


class Unreachable(errors.Unavailable):
    """Tesra does not answer."""


class AnswerNotUnderstood(errors.Unavailable):
    """The answer is not one that this client understands."""


def unreachable(url: str, error: httpx.TransportError) -> Unreachable:
    """No connection, or one that broke; says where and what to do."""
    reason = str(error) or type(error).__name__
    return Unreachable(
        f"Tesra does not answer at {url} ({reason}).",
        way_out="Is it running? `tesra up` starts it; `--url` or TESRA_URL names another one.",
    )


def not_understood(url: str) -> AnswerNotUnderstood:
    """Something answered, but not in words of ours."""
    return AnswerNotUnderstood(
        f"The answer from {url} is not one that this client understands.",
        way_out="Is this Tesra's address, and are client and server of the same version?",
    )


def refusal(status: int, body: bytes) -> TesraError:
    """The error that an answer with a status of 400 or more stands for."""
    try:
        problem = Problem.model_validate_json(body)
    except ValueError:
        kind = _KINDS.get(status, errors.Unavailable)
        return kind(
            f"The server answered with status {status} and no explanation.",
            way_out="Is this Tesra's address? `--url` or TESRA_URL names it.",
        )
    kind = _exact(_KINDS.get(status, TesraError), problem.code)
    fields = {name: value for name, value in problem.fields.items() if name not in _RESERVED}
    return kind(problem.detail, way_out=problem.way_out, **fields)


def _exact(kind: type[TesraError], code: str) -> type[TesraError]:
    """``kind`` itself, or a subclass of it that carries the server's more exact code."""
    if code == kind().code:
        return kind
    name = "".join(part.capitalize() for part in code.split("_")) or kind.__name__
    return type(name, (kind,), {"code": code, "__doc__": kind.__doc__})
