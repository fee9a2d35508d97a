import io
from typing import Any

import pytest

from fakes.tesra_server import chunk, run_record
from tesra.cli.following import LogPrinter, summary
from tesra.wire.training import LogChunk, Run


class Notes:
    """A voice that only remembers."""

    def __init__(self, *, interrupts: bool = False) -> None:
        self.interrupts = interrupts
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def wait(self, text: str) -> None:
        pass

    def quiet(self) -> None:
        pass


def shown(chunks: list[dict[str, Any]], **run: Any) -> tuple[str, list[str]]:
    out, notes = io.StringIO(), Notes()
    printer = LogPrinter(Run(**run_record(**run)), notes, out)
    printer.show_all(LogChunk(**one) for one in chunks)
    return out.getvalue(), notes.said


def test_one_rank_is_shown_as_it_is() -> None:
    text = "loss 1\n  loss\t2 [bold]\r\n"
    assert shown([chunk(1, text=text)]) == (text, [])


def test_several_ranks_are_told_apart() -> None:
    chunks = [chunk(1, text="a\nb\n"), chunk(2, rank=1, text="c\n")]
    assert shown(chunks, devices=2)[0] == "[0] a\n[0] b\n[1] c\n"


def test_one_process_with_several_devices_needs_no_prefix() -> None:
    assert shown([chunk(1, text="a\n")], devices=2, launch="single")[0] == "a\n"


def test_a_rank_that_was_asked_for_alone_needs_no_prefix() -> None:
    out = io.StringIO()
    printer = LogPrinter(Run(**run_record(devices=2)), Notes(), out, rank=1)
    printer.show_all([LogChunk(**chunk(1, rank=1, text="a\n"))])
    assert out.getvalue() == "a\n"


def test_a_long_line_in_pieces_stays_one_line() -> None:
    chunks = [chunk(1, text="aaa"), chunk(2, text="bbb\nc\n")]
    assert shown(chunks)[0] == "aaabbb\nc\n"
    assert shown(chunks, devices=2)[0] == "[0] aaabbb\n[0] c\n"


def test_a_line_without_an_end_is_ended_before_somebody_else_speaks() -> None:
    chunks = [chunk(1, text="no end"), chunk(2, rank=1, text="c\n"), chunk(3, text="again")]
    assert shown(chunks, devices=2)[0] == "[0] no end\n[1] c\n[0] again\n"


@pytest.mark.parametrize(("interrupts", "text"), [(False, "abc\n"), (True, "a\nbc\n")])
def test_an_open_line_stays_whole_unless_the_voice_is_on_the_same_terminal(
    interrupts: bool, text: str
) -> None:
    out, notes = io.StringIO(), Notes(interrupts=interrupts)
    chunks = [chunk(1, text="a"), chunk(2, rank=-1, text="full\n"), chunk(3, text="bc\n")]
    printer = LogPrinter(Run(**run_record()), notes, out)
    printer.show_all(LogChunk(**one) for one in chunks)
    assert (out.getvalue(), notes.said) == (text, ["full"])


def test_the_platform_speaks_beside_the_script() -> None:
    chunks = [chunk(1, rank=-1, text="building\ninstalled\n"), chunk(2, text="a\n")]
    assert shown(chunks) == ("a\n", ["building\ninstalled"])


def test_a_state_that_is_told_again_after_a_reconnection_is_said_once() -> None:
    state = {"rank": -1, "state": "preparing", "phase": "building", "reason": "first\nuse"}
    chunks = [chunk(1, **state), chunk(1, **state), chunk(2, rank=-1, state="running")]
    assert shown(chunks)[1] == ["preparing: building (first use)", "running"]


def test_a_phase_that_says_no_more_than_the_state_is_not_said() -> None:
    assert shown([chunk(1, rank=-1, state="preparing", phase="preparing")])[1] == ["preparing"]


def test_of_a_traceback_the_first_and_the_last_line_are_said() -> None:
    reason = "Rank 0 ended with exit code 1.\nTraceback\n  File x\nValueError: no"
    assert shown([chunk(1, rank=-1, state="failed", reason=reason)])[1] == [
        "failed (Rank 0 ended with exit code 1. … ValueError: no)"
    ]


def test_lost_output_is_told() -> None:
    assert shown([chunk(1, text="a\n", dropped_bytes=2048)])[1] == [
        "2.0 KiB were left out: the viewer was too slow"
    ]


def test_a_million_lines_are_shown_quickly() -> None:
    block = "step 12345 loss 0.123\n" * 1000
    chunks = [chunk(number, text=block) for number in range(1000)]
    out, _ = shown(chunks, devices=2)
    assert out.count("\n") == 1_000_000


def test_the_summary_says_how_it_ended_and_what_comes_next() -> None:
    lines = summary(Run(**run_record()), owed=True)
    assert "succeeded, exit code 0, 0.0 s, 0.0042 T·H, CNY 0.01" in lines[0]
    assert "tesra pay bil_" in lines[-1]
    assert "tesra download run_" in lines[-1]


def test_the_summary_of_a_paid_run_asks_for_no_payment() -> None:
    lines = summary(Run(**run_record()), owed=False)
    assert "tesra pay" not in lines[-1]
    assert "tesra bill bil_" in lines[-1]


@pytest.mark.parametrize("state", ["failed", "stopped"])
def test_the_summary_does_not_repeat_why_a_run_did_not_succeed(state: str) -> None:
    run = run_record(
        state=state, reason="Rank 0\nleft with 3.", output=None, bill=None, exit_code=3
    )
    assert summary(Run(**run), owed=False) == [
        f"{run['id']} {state}, exit code 3, 0.0 s, 0.0042 T·H, CNY 0.01"
    ]


def test_the_summary_of_a_run_that_never_ran_has_no_time() -> None:
    run = run_record(state="stopped", started_at=None, exit_code=None, amount_cny=None, bill=None)
    assert summary(Run(**run), owed=False)[0].endswith("stopped, never ran, 0.0042 T·H, -")
