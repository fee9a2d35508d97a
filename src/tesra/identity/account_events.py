"""What happened to an account's security, and by whom: kept, and shown to its owner."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EventKind(StrEnum):
    FACTOR_ON = "second_factor_on"
    FACTOR_OFF = "second_factor_off"
    FACTOR_OFF_BY_OPERATOR = "second_factor_off_by_operator"
    CODES_RENEWED = "recovery_codes_renewed"
    CODE_USED = "recovery_code_used"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a word, not a secret


@dataclass(frozen=True, slots=True)
class AccountEvent:
    """``actor`` is the name of who did it; ``note`` is an operator's reason."""

    id: str
    kind: EventKind
    actor: str
    note: str | None
    at: datetime
