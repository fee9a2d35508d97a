"""Argon2id in a thread: slow on purpose, so never on the event loop and never many at once."""

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# Each hash takes 64 MiB and some 50 ms of several cores (RFC 9106, second recommendation):
# two at a time bound what a flood of logins can take.
CONCURRENT_HASHES = 2


class Passwords:
    """Hashes and checks passwords; an unknown user costs as much as a wrong password."""

    def __init__(
        self, hasher: PasswordHasher | None = None, *, concurrent: int = CONCURRENT_HASHES
    ) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turn = asyncio.Semaphore(concurrent)
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        async with self._turn:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password fits; None is nobody's hash and takes the same time to refuse."""
        if self._nobody is None:
            self._nobody = await self.hash("nobody has this password")
        async with self._turn:
            fits = await asyncio.to_thread(self._fits, password_hash or self._nobody, password)
        return fits and password_hash is not None

    def outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than are used now."""
        return self._hasher.check_needs_rehash(password_hash)

    def _fits(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
