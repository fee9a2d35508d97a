"""A TensorBoard of our own for a while: a child process over a temporary folder."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tesra.kit.errors import Conflict, Unavailable

HOST = "127.0.0.1"
START_S = 60.0
END_S = 5.0
POLL_S = 0.1
RELOAD_S = 5


class PortBusy(Conflict):
    """This port is in use by another program."""


class BoardFailed(Unavailable):
    """TensorBoard did not start."""


def choose_port(wanted: int | None) -> int:
    """The port that is wanted, if nobody listens there; else any that is free."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, wanted or 0))
        except OSError as error:
            raise PortBusy(
                f"Port {wanted} on {HOST} can't be used: {error.strerror}.",
                way_out="Leave out --port for any free one.",
            ) from error
        return int(listener.getsockname()[1])


@contextmanager
def running_board(folder: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A TensorBoard that answers; ended with the block, and by SIGTERM and SIGHUP too."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", HOST]
    command += ["--port", str(port), "--reload_interval", str(RELOAD_S)]
    before = {one: signal.signal(one, _interrupt) for one in (signal.SIGTERM, signal.SIGHUP)}
    environ = os.environ | {"TMPDIR": str(log.parent)}  # where it notes that it runs
    with log.open("wb") as output:
        board = subprocess.Popen(
            command, stdout=output, stderr=output, env=environ, start_new_session=True
        )
    try:
        _wait_for(board, port, log)
        yield board
    finally:
        _end(board)
        for one, handler in before.items():
            signal.signal(one, handler)


def _wait_for(board: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and board.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/", timeout=START_S):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(POLL_S)
    raise BoardFailed(f"TensorBoard did not start. {last_words(log)}")


def last_words(log: Path) -> str:
    """The last line that it printed, which mostly says why it ended."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _end(board: subprocess.Popen[bytes]) -> None:
    """It and what it has started (its data server) end, soon."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(board.pid, sign)
        except ProcessLookupError:
            break
        try:
            board.wait(END_S)
        except subprocess.TimeoutExpired:
            continue
    board.wait()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
