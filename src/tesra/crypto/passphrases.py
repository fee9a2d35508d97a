"""A key from a password: slow and hungry for memory on purpose, so that guessing costs (Argon2id)."""

import os
import unicodedata
from dataclasses import dataclass

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from tesra.crypto.aead import KEY_BYTES

SALT_BYTES = 16
_MAX_MEMORY_KIB = 2**21  # a stretch from elsewhere must not take all of a machine
_MAX_ITERATIONS = 64
_MAX_LANES = 64


class StretchRefused(Exception):
    """The costs of a stretch are not ones that a key can be made with."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """How a password becomes a key. About half a second and 256 MiB by default."""

    salt: bytes
    memory_kib: int = 256 * 2**10
    iterations: int = 3
    lanes: int = 4

    def key(self, password: str) -> bytes:
        """32 bytes; the same for all ways to type the same characters (NFKC)."""
        if (
            len(self.salt) != SALT_BYTES
            or not 8 * self.lanes <= self.memory_kib <= _MAX_MEMORY_KIB
            or not 1 <= self.iterations <= _MAX_ITERATIONS
            or not 1 <= self.lanes <= _MAX_LANES
        ):
            raise StretchRefused("is not a stretch that can be done")
        derivation = Argon2id(
            salt=self.salt,
            length=KEY_BYTES,
            iterations=self.iterations,
            lanes=self.lanes,
            memory_cost=self.memory_kib,
        )
        return derivation.derive(unicodedata.normalize("NFKC", password).encode())


def fresh_stretch() -> Stretch:
    """With a salt of its own."""
    return Stretch(os.urandom(SALT_BYTES))
