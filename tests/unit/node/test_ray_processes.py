"""Ray's folder is private and its sockets' paths fit, wherever the home lies."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from tesra.node.ray_processes import _temp_folder, auth_environ, load_core, stop_core

LONGEST_SOCKET = "r/session_2026-11-23_21-04-05_275982_4194304/sockets/plasma_store"


@pytest.mark.parametrize("depth", [0, 3])
def test_folder_is_private_and_short_enough_for_sockets(depth: int) -> None:
    base = Path(tempfile.mkdtemp(prefix="t-"))
    folder = base.joinpath(*["a-folder-with-a-long-name"] * depth)
    temp = _temp_folder(folder)
    try:
        assert stat.S_IMODE(temp.stat().st_mode) == 0o700
        assert len(os.fsencode(temp / LONGEST_SOCKET)) <= 107
    finally:
        shutil.rmtree(temp)
        shutil.rmtree(base, ignore_errors=True)


def test_token_is_private_and_stays_the_same(tmp_path: Path) -> None:
    first = auth_environ(tmp_path)
    token = Path(first["RAY_AUTH_TOKEN_PATH"])
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    before = token.read_text()
    assert auth_environ(tmp_path) == first
    assert token.read_text() == before
    assert len(before) == 64


def test_nothing_to_stop_is_no_error(tmp_path: Path) -> None:
    assert load_core(tmp_path) is None
    stop_core(tmp_path)
