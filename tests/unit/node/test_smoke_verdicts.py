"""What is said of a smoke run."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from tesra.node.orders import Verdict
from tesra.node.ranks import Gang, RankExit
from tesra.node.smoke import judged, passed, wait_within
from tesra.node.workspace import AttemptFolders


def said(tmp_path: Path, log: str) -> str | None:
    folders = AttemptFolders(root=tmp_path, output="out")
    folders.log_of(0).parent.mkdir(parents=True, exist_ok=True)
    folders.log_of(0).write_text(log)
    return passed(folders, 20.0).reason


def test_epochs_that_were_seen_are_counted_once_each(tmp_path: Path) -> None:
    log = "epoch 1 loss 2\nepoch 1 done\nEpoch: 2\nEPOCH [3/10]\n"
    assert said(tmp_path, log) == "Smoke: ran 20 s without an error, 3 epochs seen."
    assert said(tmp_path, "Epoch 1/5\n") == "Smoke: ran 20 s without an error, 1 epoch seen."
    assert said(tmp_path, "loading\n") == "Smoke: ran 20 s without an error."


@pytest.mark.parametrize(
    ("last", "hint"),
    [
        ("ModuleNotFoundError: No module named 'tqdm'", "--with PACKAGE"),
        ("train.py: error: unrecognized arguments: --lrr 1", "tesra doctor"),
        ("AssertionError: Torch not compiled with CUDA enabled", None),
        ("RuntimeError: Found no NVIDIA driver on your system", "is_available()"),
        ("FileNotFoundError: No such file or directory: 'data/x.csv'", ".gitignore"),
        ("ValueError: the loss is nan", None),
    ],
)
def test_failure_comes_with_a_hint_for_what_is_often_the_matter(
    last: str, hint: str | None
) -> None:
    verdict = judged(Verdict("failed", exit_code=1, rank=0, reason=f"Rank 0 ended.\n{last}"))
    assert verdict.reason is not None
    assert last in verdict.reason
    assert (hint in verdict.reason) if hint else ("Hint" not in verdict.reason)


def test_script_that_ends_by_itself_has_passed() -> None:
    assert (
        judged(Verdict("succeeded", exit_code=0)).reason
        == "Smoke: ran to its end without an error."
    )


class Endless:
    """A gang that never ends by itself."""

    async def wait(self) -> list[RankExit]:
        await asyncio.Event().wait()
        raise AssertionError


async def test_gang_that_runs_on_is_left_after_its_seconds() -> None:
    assert await wait_within(cast(Gang, Endless()), 0.01) is None


async def test_gang_that_ends_in_time_tells_how() -> None:
    exits = [RankExit(0, 0, 1.0)]

    class Short:
        async def wait(self) -> list[RankExit]:
            return exits

    assert await wait_within(cast(Gang, Short()), 5) == exits
    assert await wait_within(cast(Gang, Short()), None) == exits
