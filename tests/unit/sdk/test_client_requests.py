import json
from collections.abc import Callable

import httpx
import pytest

from fakes.tesra_server import bill_record, run_record
from tesra.kit.errors import (
    Conflict,
    Invalid,
    NotFound,
    PaymentDue,
    QuotaExceeded,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from tesra.sdk import connection
from tesra.sdk.client import Client
from tesra.sdk.errors import AnswerNotUnderstood, Unreachable, refusal


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PAUSES_S", (0.0, 0.0))


def client(answer: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client("http://tesra.test", "tsr_x", transport=httpx.MockTransport(answer))


def test_a_lost_answer_is_asked_for_again_under_the_same_key() -> None:
    keys = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) < 3:
            raise httpx.ReadError("gone")
        return httpx.Response(201, json=run_record())

    assert client(answer).run("digits", "train.py").id == run_record()["id"]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_every_payment_has_a_key_of_its_own() -> None:
    keys = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        return httpx.Response(200, json=bill_record())

    with client(answer) as tesra:
        tesra.pay("bill_1")
        tesra.pay("bill_1")
    assert len(set(keys)) == 2


def test_a_registration_whose_answer_is_lost_is_not_repeated() -> None:
    calls = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        raise httpx.ReadError("gone")

    with pytest.raises(Unreachable):
        client(answer).register("ann", "password")
    assert len(calls) == 1


def test_a_refused_connection_says_how_to_start_tesra() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(Unreachable) as caught:
        client(answer).whoami()
    assert isinstance(caught.value, Unavailable)
    assert "tesra up" in str(caught.value.way_out)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthenticated),
        (402, PaymentDue),
        (404, NotFound),
        (409, Conflict),
        (413, QuotaExceeded),
        (422, Invalid),
        (429, TooMany),
        (503, Unavailable),
    ],
)
def test_a_problem_is_the_error_that_the_server_raised(status: int, kind: type[Exception]) -> None:
    problem = {
        "type": "urn:x",
        "title": "T",
        "status": status,
        "detail": "This happened.",
        "code": "a_more_exact_code",
        "way_out": "Do that.",
        "fields": {"bill": "bill_1", "detail": "not this", "way_out": "nor this"},
    }
    error = refusal(status, json.dumps(problem).encode())
    assert isinstance(error, kind)
    assert (error.code, error.detail, error.way_out) == (
        "a_more_exact_code",
        "This happened.",
        "Do that.",
    )
    assert error.fields == {"bill": "bill_1"}


def test_a_refusal_without_a_problem_has_a_kind_and_a_way_out() -> None:
    error = refusal(502, b"<html>")
    assert isinstance(error, Unavailable)
    assert "502" in error.detail
    assert error.way_out


def test_an_answer_in_other_words_is_told() -> None:
    with pytest.raises(AnswerNotUnderstood):
        client(lambda request: httpx.Response(200, text="<html>")).whoami()


def test_lists_are_read_page_after_page() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        number = len(asked)
        page = {
            "items": [run_record(id=f"run_{number}")],
            "next": f"c{number}" if number < 3 else None,
        }
        return httpx.Response(200, json=page)

    assert [run.id for run in client(answer).runs(state="failed")] == ["run_1", "run_2", "run_3"]
    assert [query.get("cursor") for query in asked] == [None, "c1", "c2"]
    assert {query["state"] for query in asked} == {"failed"}


def test_a_limit_asks_for_no_more_than_that() -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["limit"])
        return httpx.Response(200, json={"items": [run_record()], "next": "more"})

    assert len(client(answer).runs(limit=1)) == 1
    assert asked == ["1"]


def test_a_wish_that_cannot_be_is_refused_before_it_is_sent() -> None:
    with pytest.raises(Invalid, match="launch"):
        client(lambda request: httpx.Response(500)).run("digits", "train.py", launch="rocket")


def test_a_run_without_output_says_why() -> None:
    record = run_record(output=None, state="failed")
    with pytest.raises(NotFound) as caught:
        client(lambda request: httpx.Response(200, json=record)).download("run_1", "nowhere")
    assert "tesra logs" in str(caught.value.way_out)


def test_an_id_cannot_leave_its_place_in_the_address() -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(200, json=run_record())

    client(answer).show("../me?x=1#")
    assert seen == [b"/api/v1/runs/..%2Fme%3Fx%3D1%23"]
