"""A key of one's own, and the request to have it certified."""

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class KeyWithRequest:
    """PEM texts: the private key, which stays here, and the signing request for it."""

    key: str
    request: str


def new_key(name: str) -> KeyWithRequest:
    """A fresh P-256 key for ``name``."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = request.sign(key, hashes.SHA256())
    return KeyWithRequest(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
        signed.public_bytes(serialization.Encoding.PEM).decode(),
    )
