"""The text of API tokens: ``tsr_<id>_<secret>``; only a SHA-256 of the secret is ever stored.

The secret has 256 random bits, so that a fast hash is enough: there is nothing to guess.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass

from tesra.kit.ids import TokenId, new_id

ID_PREFIX = "tok"
_FORM = re.compile(r"tsr_([0-9a-z]{26})_([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class TokenKey:
    """What finds a token and proves it."""

    id: TokenId
    secret_hash: bytes


def mint() -> tuple[TokenKey, str]:
    """A fresh token: what to store, and the text to show once."""
    token_id = TokenId(new_id(ID_PREFIX))
    secret = secrets.token_hex(32)
    text = f"tsr_{token_id.removeprefix(ID_PREFIX + '_')}_{secret}"
    return TokenKey(token_id, _hash(secret)), text


def parse(text: str) -> TokenKey | None:
    """The key of a token's text, None when it has not the form of one."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    return TokenKey(TokenId(f"{ID_PREFIX}_{match[1]}"), _hash(match[2]))


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
