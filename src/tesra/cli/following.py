"""A followed run: the script's lines on stdout, untouched and in blocks; Tesra's own on stderr.

A million lines cost no more than writing them: text is never parsed, styled or split, unless
several ranks have to be told apart.
"""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, TextIO

from tesra.cli import words
from tesra.cli.output import is_terminal

if TYPE_CHECKING:
    from tesra.wire.training import LogChunk, Run

TESRA = -1  # the rank of Tesra's own lines
ENDED = frozenset({"succeeded", "failed", "stopped"})


class Voice(Protocol):
    """How Tesra speaks beside the script; ``interrupts``: in the same place, so on a line of its own."""

    interrupts: bool

    def say(self, text: str) -> None: ...

    def wait(self, text: str) -> None: ...

    def quiet(self) -> None: ...


class PlainVoice:
    """Lines on stderr, marked."""

    interrupts = False

    def say(self, text: str) -> None:
        sys.stderr.write("".join(f"tesra: {line}\n" for line in text.splitlines()))
        sys.stderr.flush()

    def wait(self, text: str) -> None:
        pass

    def quiet(self) -> None:
        pass


def voice() -> Voice:
    """A moving one when both streams are a terminal."""
    if not (is_terminal(sys.stdout) and is_terminal(sys.stderr)):
        return PlainVoice()
    from tesra.cli.progress import TerminalVoice  # rich: only a terminal needs it

    return TerminalVoice()


class LogPrinter:
    """Shows the chunks of one run in the order they come; ``state`` is the last one heard of."""

    def __init__(self, run: "Run", voice: Voice, out: TextIO, *, rank: int | None = None) -> None:
        self._several = rank is None and run.launch == "gang" and run.devices > 1
        self._voice = voice
        self._out = out
        self._open_rank: int | None = None  # whose last line has no end yet
        self._told = ""
        self._held: list[str] = []  # said when the script's open line has ended
        self.state: str = run.state

    def show_all(self, chunks: Iterable["LogChunk"]) -> None:
        """Show until there is no more, and leave the cursor at the start of a line."""
        try:
            for chunk in chunks:
                self._show(chunk)
        finally:
            self._end_line()
            self._voice.quiet()

    def _show(self, chunk: "LogChunk") -> None:
        if chunk.dropped_bytes:
            self._speak(f"{words.size(chunk.dropped_bytes)} were left out: the viewer was too slow")
        if chunk.state is not None:
            self._change(chunk)
        if chunk.text:
            if chunk.rank == TESRA:
                self._speak(chunk.text.rstrip("\n"))
            else:
                self._write(chunk.rank, chunk.text)

    def _change(self, chunk: "LogChunk") -> None:
        self.state = chunk.state or self.state
        says_more = chunk.phase and chunk.phase != chunk.state
        told = f"{chunk.state}: {chunk.phase}" if says_more else str(chunk.state)
        if chunk.reason:
            told = f"{told} ({words.gist(chunk.reason)})"
        if told == self._told:
            return  # said again after a reconnection
        self._told = told
        self._speak(told)
        if self.state not in ENDED and self.state != "running":
            self._voice.wait(told)
        else:
            self._voice.quiet()

    def _write(self, rank: int, text: str) -> None:
        self._voice.quiet()
        if self._open_rank != rank:
            self._end_line()
        ended = text.endswith("\n")
        self._out.write(self._prefixed(rank, text) if self._several else text)
        self._out.flush()
        self._open_rank = None if ended else rank
        if ended:
            self._say_held()

    def _prefixed(self, rank: int, text: str) -> str:
        prefix = f"[{rank}] "
        body = text[:-1] if text.endswith("\n") else text
        first = "" if self._open_rank == rank else prefix
        return first + body.replace("\n", f"\n{prefix}") + text[len(body) :]

    def _speak(self, text: str) -> None:
        if self._open_rank is not None and not self._voice.interrupts:
            self._held.append(text)  # the script's own bytes stay as they are
            return
        self._end_line()
        self._voice.say(text)

    def _end_line(self) -> None:
        if self._open_rank is not None:
            self._out.write("\n")
            self._out.flush()
            self._open_rank = None
        self._say_held()

    def _say_held(self) -> None:
        held, self._held = self._held, []
        for text in held:
            self._voice.say(text)


def summary(run: "Run", *, owed: bool) -> list[str]:
    """How a run ended, what it cost, and what to do next; ``owed``: its bill is not paid yet.

    Why it did not succeed has been said with its last state.
    """
    code = f", exit code {run.exit_code}" if run.exit_code is not None else ""
    head = f"{run.id} {run.state}{code}, {words.between(run.started_at, run.ended_at)}"
    if run.started_at is None:
        head = f"{run.id} {run.state}{code}, never ran"
    lines = [f"{head}, {run.th} T·H, {words.money(run.amount_cny)}"]
    lines.extend(f"warning: {words.one_line(warning)}" for warning in run.warnings)
    following = []
    if run.output:
        following.append(f"tesra download {run.id}")
    if run.bill:
        following.append(f"tesra {'pay' if owed else 'bill'} {run.bill}")
    if following:
        lines.append("next: " + " | ".join(following))
    return lines


def detached(run: str) -> list[str]:
    """What to say when somebody stops watching."""
    return [
        f"You stopped watching; {run} goes on.",
        f"Watch it: tesra logs {run} --follow | Stop it: tesra stop {run}",
    ]
