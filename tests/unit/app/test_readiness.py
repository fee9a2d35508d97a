import os
from pathlib import Path

import httpx
import pytest

from tesra.app.choices import Choices
from tesra.app.progress import EndAsked, Progress
from tesra.app.readiness import NotStarted, lacking, tail, wait_ready
from tesra.app.supervisor import ProcessRecord, start_mark

CHOICES = Choices("127.0.0.1", 9, devices=2, sandbox=True)  # nobody listens on port 9


def client(health: int = 200, devices: int = 200, totals: tuple[int, ...] = ()) -> httpx.Client:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/health"):
            return httpx.Response(health)
        assert request.headers["Authorization"] == "Bearer secret"
        return httpx.Response(devices, json={"items": [{"total": total} for total in totals]})

    return httpx.Client(base_url="http://server", transport=httpx.MockTransport(answer))


def mine(name: str, started: str | None = None) -> dict[str, ProcessRecord]:
    mark = started or start_mark(os.getpid()) or ""
    return {name: ProcessRecord(name, os.getpid(), mark)}


def test_nothing_is_lacking_when_all_devices_are_offered() -> None:
    assert lacking(client(totals=(1, 1)), "secret", 2) is None


@pytest.mark.parametrize(("totals", "devices"), [((), None), ((1,), 2)])
def test_site_is_lacking_until_its_devices_are_offered(
    totals: tuple[int, ...], devices: int | None
) -> None:
    assert lacking(client(totals=totals), "secret", devices) == "site"


@pytest.mark.parametrize("answers", [{"health": 503}, {"devices": 500}])
def test_server_is_lacking_until_it_answers_well(answers: dict[str, int]) -> None:
    assert lacking(client(**answers), "secret", 2) == "server"


def test_server_is_lacking_while_nobody_listens() -> None:
    with httpx.Client(base_url=CHOICES.url) as nobody:
        assert lacking(nobody, "secret", 2) == "server"


def test_wait_ends_with_the_log_when_a_process_has_ended(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="The server ended") as caught:
        wait_ready(
            CHOICES,
            "secret",
            mine("server", started="another start"),
            lambda name: tmp_path / f"{name}.log",
            Progress(lambda: False),
        )
    assert caught.value.log == tmp_path / "server.log"


def test_wait_ends_when_somebody_asks_for_it(tmp_path: Path) -> None:
    with pytest.raises(EndAsked):
        wait_ready(CHOICES, "secret", mine("server"), lambda _: tmp_path, Progress(lambda: True))


def test_tail_is_the_end_of_what_the_present_process_has_said(tmp_path: Path) -> None:
    log = tmp_path / "site.log"
    assert tail(log) == []
    before = "--- started yesterday\nold trouble\n"
    log.write_text(before + "--- started now\nfirst\nsecond\n")
    assert tail(log) == ["first", "second"]
    log.write_text(before + "--- started now\n" + "".join(f"{n}\n" for n in range(100)))
    assert tail(log)[-1] == "99"
    assert len(tail(log)) < 20
