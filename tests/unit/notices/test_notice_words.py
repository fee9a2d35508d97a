"""What is told, to whom, in which words; where it may be sent; how it is signed."""

import base64
import hashlib
import hmac
import json
from itertools import product
from typing import get_args

import pytest

from tesra.app.tellings import event_of
from tesra.kit.addresses import is_public
from tesra.kit.ids import RunId, UserId
from tesra.kit.settings import SettingInvalid
from tesra.notices import model, words
from tesra.notices.mailing import MailServer, compose, read_mail_server
from tesra.notices.model import AddressInvalid, Event, Happening
from tesra.training.model import RunState, StopCause
from tesra.training.transitions import RunChange
from tesra.wire import notices as wire


def _as_it_is(language: str, text: str) -> str:
    return text


ENDED = Happening(
    Event.ENDED, "2026-11-24T01:02:03+00:00", "run_1", None, "digits", None, "1.20", "bill_1"
)


def test_the_events_on_the_wire_are_those_of_the_domain() -> None:
    assert get_args(wire.NoticeEvent) == wire.ALL_EVENTS == model.CHOOSABLE


@pytest.mark.parametrize(("event", "language"), list(product(Event, ("zh", "en"))))
def test_every_event_has_words_in_both_languages(event: Event, language: str) -> None:
    said = Happening(event, "now", run="run_1", sweep="swp_1", project="digits", bill="bill_1")
    assert "{" not in words.subject(said, language) + words.text(said, language, _as_it_is)


def test_a_notice_says_what_ended_what_it_costs_and_what_to_do() -> None:
    assert words.subject(ENDED, "en") == "Tesra: run run_1 (digits) has ended well"
    told = words.text(ENDED, "en", _as_it_is)
    assert "Bill bill_1: CNY 1.20, unpaid." in told
    assert "tesra pay bill_1" in told
    assert "tesra download run_1 model" in told
    assert "账单 bill_1：1.20 元，未支付。" in words.text(ENDED, "zh", _as_it_is)


def test_a_mail_says_the_end_and_its_bill_at_once_and_a_webhook_each() -> None:
    both = [ENDED, Happening(Event.BILL, "now", run="run_1", bill="bill_1")]
    everything = frozenset(model.CHOOSABLE)
    assert model.heard("email", everything, both) == both[:1]
    assert model.heard("email", frozenset({"bill"}), both) == both[1:]
    assert model.heard("webhook", everything, both) == both
    assert model.heard("webhook", frozenset({"failed"}), both) == []


def test_a_happening_comes_back_from_a_job_even_of_another_version() -> None:
    data = json.loads(json.dumps(ENDED.plain()))
    assert Happening.of(data | {"of_later": 1}) == ENDED
    del data["bill"]
    assert Happening.of(data).bill is None


@pytest.mark.parametrize(
    ("before", "after", "stop", "event"),
    [
        ("running", "succeeded", None, Event.ENDED),
        ("running", "failed", None, Event.FAILED),
        ("running", "stopped", "cap", Event.CAP),
        ("running", "stopped", "user", None),
        ("running", "queued", None, Event.AGAIN),
        ("queued", "placing", None, None),
    ],
)
def test_which_changes_are_told(
    before: str, after: str, stop: str | None, event: Event | None
) -> None:
    change = RunChange(
        RunId("r"),
        UserId("u"),
        RunState(before),
        RunState(after),
        None,
        None,
        StopCause(stop) if stop else None,
    )
    assert event_of(change) is event


def test_what_its_user_began_anew_is_not_told_as_a_loss() -> None:
    states = RunState.RUNNING, RunState.QUEUED
    change = RunChange(RunId("r"), UserId("u"), *states, None, None, None, anew=True)
    assert event_of(change) is None


# addresses


@pytest.mark.parametrize("address", ["a@b", "me+tag@example.org", "A.B_c@x-y.example"])
def test_a_plain_mailbox_is_taken(address: str) -> None:
    assert model.check_mailbox(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "a",
        "a@",
        "@b",
        "a@b\r\nBcc: c@d",
        "a@b, c@d",
        "a b@c",
        "a@-b",
        "a@b.",
        "a..b@c",
        '"a"@b',
        "甲@b",
        "a@b" * 100,
    ],
)
def test_what_could_be_more_or_less_than_one_mailbox_is_refused(address: str) -> None:
    with pytest.raises(AddressInvalid):
        model.check_mailbox(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "192.168.0.1",
        "172.16.0.1",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:0:1:2:3:4:5:6",
    ],
)
def test_no_inside_address_passes_for_a_public_one(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_pass(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org",
        "example.org",
        "http://",
        "http://a b/",
        "http://u:p@example.org/",
        "http://example.org/#x",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http://[::1",
        "http://ex\nample.org/",
        "http://例子/",
        "http://localhost/",
        "http://api.localhost/",
        "http://127.0.0.1:80/",
        "http://[::ffff:127.0.0.1]/",
    ],
)
def test_a_hook_goes_to_the_outside_by_http_or_not_at_all(url: str) -> None:
    with pytest.raises(AddressInvalid):
        model.check_hook_url(url, private=False)


def test_an_operator_may_allow_hooks_inside() -> None:
    for url in ("http://127.0.0.1:8080/a?b=c", "https://example.org/hook"):
        assert model.check_hook_url(url, private=True) == url


def test_a_webhook_is_signed_as_its_receiver_checks_it() -> None:
    secret = model.show_secret(bytes(range(32)))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = words.body(ENDED, "zh", _as_it_is)
    mac = hmac.new(key, b"msg_1.1700000000." + content, hashlib.sha256).digest()
    assert model.signature(key, "msg_1", 1700000000, content) == (
        "v1," + base64.b64encode(mac).decode()
    )
    message = json.loads(content)
    assert (message["type"], message["data"]["run"]) == ("run.ended", "run_1")
    assert message["timestamp"] == ENDED.at


# mail


def test_a_mail_server_is_read_from_one_setting() -> None:
    found = read_mail_server("smtp://me%40x:p%3As@mail.example:2525/?from=tesra@x.example")
    assert found == MailServer("mail.example", 2525, "tesra@x.example", user="me@x", password="p:s")
    assert "p:s" not in repr(found)
    other = read_mail_server("smtps://mail.example?from=a@b")
    assert (other.port, other.implicit_tls, other.user) == (465, True, None)


@pytest.mark.parametrize(
    "url",
    ["mail.example", "http://mail.example/?from=a@b", "smtp://mail.example/", "smtp://?from=a@b"],
)
def test_a_setting_that_names_no_mail_server_is_refused(url: str) -> None:
    with pytest.raises(SettingInvalid, match="TESRA_SMTP_URL"):
        read_mail_server(url)


def test_no_name_can_add_a_header_to_a_mail() -> None:
    evil = Happening(
        Event.ENDED, "now", run="run_1", project="a\r\nBcc: victim@example.org\r\n\r\nx"
    )
    server = MailServer("localhost", 25, "tesra@example.org")
    said = (words.subject(evil, "en"), words.text(evil, "en", _as_it_is))
    message = compose(server, "me@example.org", said, "msg_1")
    assert message["Bcc"] is None
    assert "Bcc: victim" in str(message["Subject"])
    assert message["Message-ID"] == "<msg_1@example.org>"
    with pytest.raises(AddressInvalid):
        compose(server, "me@example.org\r\nBcc: b@c", said, "msg_1")
