"""Ed25519 signatures: a key of the server's own, and what checks them with its public half."""

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tesra.crypto.keys import load_or_create_master_key

ALGORITHM = "ed25519"
_ID_CHARS = 16


class Signer:
    """Signs with one private key; ``public`` is what others need."""

    def __init__(self, key: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(key)
        self.public = self._private.public_key().public_bytes_raw()

    @classmethod
    def at(cls, path: Path) -> "Signer":
        """The key in a file of its own, made on first use."""
        return cls(load_or_create_master_key(path))

    @property
    def key_id(self) -> str:
        """The first of the public key, in hex."""
        return self.public.hex()[:_ID_CHARS]

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


def is_signed(message: bytes, signature: bytes, public: bytes) -> bool:
    """Whether the private half of ``public`` signed exactly this; False for malformed ones too."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
