"""The second factor, decided purely: RFC 6238, drift, replay, recovery codes, the QR code."""

from datetime import UTC, datetime
from xml.etree import ElementTree

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesra.identity import second_factor
from tesra.identity.qr import qr_svg
from tesra.identity.second_factor import accepted_step, code_of, normalise_code, step_at
from tesra.kit.ids import UserId

SECRET = pyotp.random_base32(32)
RFC_SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # "12345678901234567890" of RFC 6238, appendix B
STEPS = st.integers(min_value=3, max_value=2**31 // 30)


def at(step: int, second: int = 0) -> datetime:
    return datetime.fromtimestamp(step * 30 + second, UTC)


@pytest.mark.parametrize(
    ("time", "code"),
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_codes_are_those_of_the_rfc(time: int, code: str) -> None:
    now = datetime.fromtimestamp(time, UTC)
    assert accepted_step(RFC_SECRET, code, now=now, last_step=None) == time // 30


@given(STEPS, st.integers(-1, 1), st.integers(0, 29))
def test_a_clock_may_be_one_step_apart(step: int, drift: int, second: int) -> None:
    code = code_of(SECRET, step + drift)
    found = accepted_step(SECRET, code, now=at(step, second), last_step=None)
    assert found is not None
    assert code_of(SECRET, found) == code


@given(STEPS, st.sampled_from([-3, -2, 2, 3]))
def test_a_clock_two_steps_apart_is_refused(step: int, drift: int) -> None:
    near = {code_of(SECRET, step + one) for one in (-1, 0, 1)}
    code = code_of(SECRET, step + drift)
    found = accepted_step(SECRET, code, now=at(step), last_step=None)
    assert (found is not None) == (code in near)  # two steps may have the same six digits


@given(STEPS, st.lists(st.integers(-1, 1), min_size=2, max_size=8))
def test_accepted_steps_only_rise(step: int, drifts: list[int]) -> None:
    last: int | None = None
    for drift in drifts:
        accepted = accepted_step(
            SECRET, code_of(SECRET, step + drift), now=at(step), last_step=last
        )
        if accepted is not None:
            assert last is None or accepted > last
            last = accepted
    assert accepted_step(SECRET, code_of(SECRET, last or 0), now=at(step), last_step=last) is None


@given(st.text(max_size=12))
def test_any_text_is_compared_and_not_feared(text: str) -> None:
    step = 1_000_000
    near = {code_of(SECRET, step + one) for one in (-1, 0, 1)}
    found = accepted_step(SECRET, text, now=at(step), last_step=None)
    assert (found is not None) == (normalise_code(text) in near)


@pytest.mark.parametrize("typed", ["123456", "123 456", "123-456", "１２３４５６", " 123456 "])
def test_a_code_is_read_as_it_is_meant(typed: str) -> None:
    assert second_factor.is_app_code(typed)
    assert normalise_code(typed) == "123456"


def test_recovery_codes_are_ten_and_none_is_like_another() -> None:
    codes = second_factor.new_recovery_codes()
    assert len(set(codes)) == 10
    assert not any(second_factor.is_app_code(code) for code in codes)


def test_a_recovery_code_is_read_as_it_is_meant_and_is_its_owners_alone() -> None:
    kept = second_factor.recovery_hash(UserId("usr_1"), "0abc-1def-2ghj-3kmn")
    for typed in ("OABC-IDEF-2GHJ-3KMN", "0abc1def2ghj3kmn", "oabc ldef 2ghj 3kmn"):
        assert second_factor.recovery_hash(UserId("usr_1"), typed) == kept
    assert second_factor.recovery_hash(UserId("usr_2"), "0abc-1def-2ghj-3kmn") != kept
    assert second_factor.recovery_hash(UserId("usr_1"), "\udc80") != kept


def test_the_uri_is_read_back_whatever_the_name() -> None:
    made = second_factor.enrolment(SECRET, "小明 & co?")
    read = pyotp.parse_uri(made.uri)
    assert isinstance(read, pyotp.TOTP)
    assert (read.secret, read.name, read.issuer) == (SECRET, "小明 & co?", "Tesra")
    assert (read.digits, read.interval) == (6, 30)


def test_a_qr_code_has_neither_style_nor_script() -> None:
    svg = qr_svg(second_factor.enrolment(SECRET, "<script>").uri, title="<b>&")
    root = ElementTree.fromstring(svg)
    tags = {element.tag.split("}")[-1] for element in root.iter()}
    assert tags == {"svg", "path", "title"}
    assert not any(
        "style" in e.attrib or any(a.startswith("on") for a in e.attrib) for e in root.iter()
    )
    assert "viewBox" in root.attrib


@given(st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.just(UTC)))
def test_a_step_has_thirty_seconds(moment: datetime) -> None:
    step = step_at(moment)
    assert at(step) <= moment < at(step + 1)
