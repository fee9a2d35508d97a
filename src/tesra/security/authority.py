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
    """A certificate and the authority's own (PEM); ask for the next one after ``renew_after_s``.

    ``mark``: which authority it is; another one has taken its place when that is not ``mark`` any
    more of ``Authority``.
    """

    certificate: str
    authority: str
    renew_after_s: int
    mark: str


class Authority:
    """Issues certificates under one root, at ``folder``, until ``replace`` puts another in its place:
    that is how a certificate is revoked, since all but its holder get new ones."""

    def __init__(self, folder: Path) -> None:
        """Loads the root, or makes it; ``root.pem`` is its owner's alone (0600)."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / "root.pem"
        if not self._path.exists():
            _make_root(self._path)
        self._root = _load_root(self._path)

    @property
    def certificate(self) -> str:
        """The root's certificate (PEM): public."""
        return _pem(self._current().certificate)

    @property
    def mark(self) -> str:
        """Names the root that signs now."""
        return self._current().mark

    def replace(self) -> None:
        """From now on another root signs, in every process; what the one before has signed is worth
        nothing to who has heard of this one."""
        _make_root(self._path, instead=True)

    def _current(self) -> "_Root":
        if _seen(self._path) != self._root.seen:
            self._root = _load_root(self._path)
        return self._root

    def sign_peer(self, name: str, request_pem: str, *, now: datetime | None = None) -> Signed:
        """For a storage peer: it may serve and fetch packs. The key never leaves the peer.

        Raises ``RequestRefused`` for what is no sound signing request.
        """
        moment, root = now or datetime.now(UTC), self._current()
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
            _builder(name, root.certificate.subject, key, moment, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("*")]), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .sign(root.key, hashes.SHA256())
        )
        return Signed(
            _pem(certificate),
            _pem(root.certificate),
            renew_after_s=PEER_HOURS * 1800,
            mark=root.mark,
        )


@dataclass(frozen=True, slots=True)
class _Root:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    mark: str
    seen: tuple[int, int]


def _seen(path: Path) -> tuple[int, int]:
    """Another one when the file has been replaced."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def _load_root(path: Path) -> _Root:
    seen = _seen(path)
    text = path.read_bytes()
    key = serialization.load_pem_private_key(text, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    certificate = x509.load_pem_x509_certificate(text)
    return _Root(key, certificate, certificate.fingerprint(hashes.SHA256()).hex()[:32], seen)


def _make_root(path: Path, *, instead: bool = False) -> None:
    """Key and certificate in one file, linked into place whole, the same for all who race for it;
    ``instead`` of the one that is there."""
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
            if instead:
                draft.rename(path)
            else:
                path.hardlink_to(draft)
        except FileExistsError:
            return  # another process was first; its root is the root
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


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
