"""What a session that was killed has left goes; what somebody works with stays."""

import subprocess
import sys
from pathlib import Path

from factories.leftovers import clear_leftovers, owned_prefix


def test_folders_of_processes_that_are_gone_are_cleared(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = [tmp_path / f"tesra-{kind}-{ended.pid}-ab12" for kind in ("net", "test")]
    kept = [tmp_path / f"{owned_prefix('net')}ab12", tmp_path / "tesra-test-ab12", tmp_path / "x"]
    for folder in (*gone, *kept):
        (folder / "home" / "peer-1").mkdir(parents=True)
    clear_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
