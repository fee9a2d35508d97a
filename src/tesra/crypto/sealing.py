"""Sealing to a public key: everybody can seal, only who has the private half opens.

X25519 with a key of one use, HKDF-SHA256 over both public keys and the context, AES-256-GCM.
"""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tesra.crypto.aead import KEY_BYTES, SealBroken, Sealer

_LABEL = b"tesra sealed 1"


def public_of(private: bytes) -> bytes:
    """The public half of a private key; any 32 bytes are one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def seal_to(public: bytes, plain: bytes, context: bytes) -> bytes:
    """``public key of one use (32) | sealed``; raises ``ValueError`` for what is no public key."""
    once = X25519PrivateKey.generate()
    ours = once.public_key().public_bytes_raw()
    shared = once.exchange(X25519PublicKey.from_public_bytes(public))
    return ours + Sealer(_derived(shared, ours, public)).seal(plain, context)


def open_sealed(private: bytes, sealed: bytes, context: bytes) -> bytes:
    """What ``seal_to`` was given; ``SealBroken`` for another key or context, or a changed bit."""
    theirs = sealed[:KEY_BYTES]
    own = X25519PrivateKey.from_private_bytes(private)
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(theirs))
    except ValueError as error:
        raise SealBroken("is not sealed to a public key") from error
    key = _derived(shared, theirs, own.public_key().public_bytes_raw())
    return Sealer(key).open(sealed[KEY_BYTES:], context)


def _derived(shared: bytes, once: bytes, public: bytes) -> bytes:
    derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_LABEL + once + public)
    return derivation.derive(shared)
