"""The authority issues what it says, and is one and the same for all who race for it."""

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from factories.peers import identity_of
from tesra.crypto.requests import new_key
from tesra.security.authority import PEER_HOURS, Authority, RequestRefused


def test_ten_that_start_at_once_have_one_root(tmp_path: Path) -> None:
    with ThreadPoolExecutor(10) as pool:
        roots = list(pool.map(lambda _: Authority(tmp_path / "ca").certificate, range(10)))
    assert len(set(roots)) == 1
    assert [path.name for path in (tmp_path / "ca").iterdir()] == ["root.pem"]
    assert stat.S_IMODE((tmp_path / "ca" / "root.pem").stat().st_mode) == 0o600


def certificate_of(folder: Path, name: str = "peer_1") -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity_of(name, folder).certificate.encode())


def root_of(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Authority(folder).certificate.encode())


def test_a_peers_certificate_names_it_and_ends_soon(tmp_path: Path) -> None:
    certificate = certificate_of(tmp_path)
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "peer_1"
    assert certificate.not_valid_after_utc < datetime.now(UTC) + timedelta(hours=PEER_HOURS + 1)
    certificate.verify_directly_issued_by(root_of(tmp_path))


def test_it_is_asked_to_be_renewed_before_it_ends(tmp_path: Path) -> None:
    signed = Authority(tmp_path).sign_peer("peer_1", new_key("peer_1").request)
    assert 0 < signed.renew_after_s < PEER_HOURS * 3600


def test_a_root_that_was_replaced_is_another_one_for_every_process(tmp_path: Path) -> None:
    one, other = Authority(tmp_path), Authority(tmp_path)
    before = one.sign_peer("peer_1", new_key("peer_1").request)
    one.replace()
    assert other.mark == one.mark != before.mark
    after = other.sign_peer("peer_1", new_key("peer_1").request)
    assert (after.mark, after.authority) == (one.mark, one.certificate)
    assert after.authority != before.authority


def test_another_authoritys_certificate_is_not_this_ones(tmp_path: Path) -> None:
    stranger = certificate_of(tmp_path / "theirs")
    with pytest.raises(InvalidSignature):
        stranger.verify_directly_issued_by(root_of(tmp_path / "ours"))


def test_a_clock_that_is_an_hour_off_still_takes_it(tmp_path: Path) -> None:
    certificate = certificate_of(tmp_path)
    assert certificate.not_valid_before_utc <= datetime.now(UTC) - timedelta(hours=1)


def test_a_request_that_was_changed_is_refused(tmp_path: Path) -> None:
    lines = new_key("peer_1").request.splitlines()
    lines[2] = lines[2][::-1]
    for request in ("", "no request", "\n".join(lines)):
        with pytest.raises(RequestRefused):
            Authority(tmp_path).sign_peer("peer_1", request)
