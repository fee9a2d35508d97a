"""Tesra's own authority: one root, and short-lived certificates of those who may speak.

The root's key is sealed on disk like every other key. A certificate says who holds it (the
common name), what for (its extended usage), and ends soon; who is let in is the server's word
besides, since a certificate proves membership, not permission.
"""

import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tesra.crypto.keys import sync_folder
from tesra.kit.errors import Invalid

ROOT_NAME = "Tesra authority"
ROOT_DAYS = 3650
PEER_HOURS = 72
SKEW = timedelta(hours=2)  # a peer's clock may be off by an hour


class RequestRefused(Invalid):
    """This is no certificate signing request for an elliptic key."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate and the authority's own (PEM); ask for the next one after ``renew_after_s``."""

    certificate: str
    authority: str
    renew_after_s: int


class Authority:
    """Issues certificates under one root that is made once, at ``folder``."""

    def __init__(self, folder: Path) -> None:
        """Loads the root, or makes it; ``root.key`` is its owner's alone (0600)."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / "root.pem"
        if not path.exists():
            _make_root(path)
        text = path.read_bytes()
        key = serialization.load_pem_private_key(text, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._certificate = x509.load_pem_x509_certificate(text)

    @property
    def certificate(self) -> str:
        """The root's certificate (PEM): public."""
        return _pem(self._certificate)

    def sign_peer(self, name: str, request_pem: str, *, now: datetime | None = None) -> Signed:
        """For a storage peer: it may serve and fetch packs. The key never leaves the peer.

        Raises ``RequestRefused`` for what is no sound signing request.
        """
        moment = now or datetime.now(UTC)
        try:
            request = x509.load_pem_x509_csr(request_pem.encode())
            key = request.public_key()
            sound = request.is_signature_valid and isinstance(key, ec.EllipticCurvePublicKey)
        except (ValueError, UnsupportedAlgorithm):
            sound = False
        if not sound:
            raise RequestRefused
        assert isinstance(key, ec.EllipticCurvePublicKey)
        ends = moment + timedelta(hours=PEER_HOURS)
        certificate = (
            _builder(name, self._certificate.subject, key, moment, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("*")]), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return Signed(_pem(certificate), self.certificate, renew_after_s=PEER_HOURS * 1800)


def _make_root(path: Path) -> None:
    """Key and certificate in one file, linked into place whole, the same for all who race for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = _name(ROOT_NAME)
    certificate = (
        _builder(ROOT_NAME, subject, key.public_key(), now, now + timedelta(days=ROOT_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(_key_pem(key) + _pem(certificate))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return  # another process was first; its root is the root
        sync_folder(path.parent)
    finally:
        draft.unlink()


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins - SKEW)
        .not_valid_after(ends)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
