"""The kinds of error that a domain raises; only ``web.problems`` knows their HTTP status.

A concrete error subclasses one kind; its docstring is the message. ``detail`` replaces the
message when the case has more to say; ``way_out`` says what the person can do next.
"""

from typing import Any


class TesraError(Exception):
    """Something went wrong."""

    def __init__(
        self, detail: str | None = None, *, way_out: str | None = None, **fields: Any
    ) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip().split("\n")[0]
        self.way_out = way_out
        self.fields = fields
        super().__init__(self.detail)

    @property
    def code(self) -> str:
        """Stable machine-readable name, e.g. ``voucher_spent`` for ``VoucherSpent``."""
        name = type(self).__name__
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class NotFound(TesraError):
    """There is no such thing, or you may not see it."""


class Gone(NotFound):
    """This was here once, and is not any more."""


class Conflict(TesraError):
    """This does not fit the present state."""


class Unauthenticated(TesraError):
    """Sign in first: the token is missing, unknown or expired."""


class Forbidden(TesraError):
    """You are not allowed to do this."""


class Invalid(TesraError):
    """The request is not valid."""


class Unavailable(TesraError):
    """This is not available right now."""


class PaymentDue(TesraError):
    """A bill has to be paid first."""


class QuotaExceeded(TesraError):
    """The storage quota is used up."""


class TooMany(TesraError):
    """Too many attempts: wait a little and try again."""
