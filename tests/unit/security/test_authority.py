"""The authority issues what it says, and is one and the same for all who race for it."""

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from tesra.security.authority import PEER_HOURS, Authority


def test_ten_that_start_at_once_have_one_root(tmp_path: Path) -> None:
    with ThreadPoolExecutor(10) as pool:
        roots = list(pool.map(lambda _: Authority(tmp_path / "ca").certificate, range(10)))
    assert len(set(roots)) == 1
    assert [path.name for path in (tmp_path / "ca").iterdir()] == ["root.pem"]
    assert stat.S_IMODE((tmp_path / "ca" / "root.pem").stat().st_mode) == 0o600


def test_a_peers_certificate_names_it_and_ends_soon(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue_peer("peer_1")
    certificate = x509.load_pem_x509_certificate(issued.certificate.encode())
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "peer_1"
    assert certificate.not_valid_after_utc < datetime.now(UTC) + timedelta(hours=PEER_HOURS + 1)
    assert issued.renew_at < certificate.not_valid_after_utc
    key = load_pem_private_key(issued.key.encode(), None)
    assert key.public_key() == certificate.public_key()
    certificate.verify_directly_issued_by(
        x509.load_pem_x509_certificate(authority.certificate.encode())
    )


def test_another_authoritys_certificate_is_not_this_ones(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "a"), Authority(tmp_path / "b")
    stranger = x509.load_pem_x509_certificate(theirs.issue_peer("peer_1").certificate.encode())
    with pytest.raises(InvalidSignature):
        stranger.verify_directly_issued_by(
            x509.load_pem_x509_certificate(ours.certificate.encode())
        )


def test_a_clock_that_is_an_hour_off_still_takes_it(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue_peer("peer_1")
    certificate = x509.load_pem_x509_certificate(issued.certificate.encode())
    assert certificate.not_valid_before_utc <= datetime.now(UTC) - timedelta(hours=1)
