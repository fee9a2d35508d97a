"""A scratch folder is there as long as its process is, and not much longer."""

import asyncio
import subprocess
import sys
from pathlib import Path

from tesra.drive.aside import clear_scratch, scratch

HOLDER = """
import asyncio, sys
from pathlib import Path
from tesra.drive.aside import scratch

async def hold():
    async with scratch(Path(sys.argv[1])) as place:
        (place / "content").write_text("somebody's")
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(hold())
"""


async def test_it_is_gone_after_the_block(tmp_path: Path) -> None:
    async with scratch(tmp_path) as place:
        (place / "folder").mkdir()
        await asyncio.to_thread(clear_scratch, tmp_path, age_s=0)
        assert (place / "folder").is_dir(), "it is held"
    assert list(tmp_path.iterdir()) == []


def test_that_of_a_killed_process_is_cleared_away(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        clear_scratch(tmp_path, age_s=0)
        assert len(list(tmp_path.iterdir())) == 1
        holder.kill()
    clear_scratch(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1, "it may be about to be locked"
    clear_scratch(tmp_path, age_s=0)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_scratch_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "upl_1").touch()
    clear_scratch(tmp_path, age_s=0)
    assert (tmp_path / "upl_1").exists()
