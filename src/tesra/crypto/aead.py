"""Authenticated encryption of small secrets: what was sealed for one context opens in no other."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16


class SealBroken(Exception):
    """The sealed bytes were changed, or belong to another key or context."""


class Sealer:
    """Seals and opens under one key with AES-256-GCM; a random nonce stands in front.

    A random 96-bit nonce is safe for 2**32 messages under one key, far above the number of
    secrets that a network keeps. Bulk data has keys of its own (``storage.format``).
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a sealing key has {KEY_BYTES} bytes, not {len(key)}")
        self._aead = AESGCM(key)

    def seal(self, plain: bytes, context: bytes) -> bytes:
        """Ciphertext that only ``open`` with the same context accepts."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The plain bytes; ``SealBroken`` when one bit of ciphertext or context differs."""
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise SealBroken("too short to be a sealed message")
        try:
            return self._aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
        except InvalidTag as error:
            raise SealBroken("does not open with this key and context") from error
