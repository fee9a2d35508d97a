"""A smoke run on the node: a gang that is ended after some seconds, and what is said of it."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path

from tesra.kit.saying import Said, said
from tesra.node.orders import Verdict
from tesra.node.ranks import Gang, RankExit
from tesra.node.workspace import AttemptFolders

_EPOCH = re.compile(rb"\bepochs?\b\W{0,4}(\d+)", re.IGNORECASE)
_TAIL_BYTES = 1 << 20
_HINTS = (
    (r"No module named '([\w.]+)'", said("name its package in requirements.txt, or with --with PACKAGE")),
    (r"unrecognized arguments: (.+)", said("the script does not know this; `tesra doctor` lists what it does")),
    (r"the following arguments are required: (.+)", said("give it, after -- or with --param NAME=VALUE")),
    (r"(?:CUDA|cuda|NVIDIA|nvidia).{0,80}(?:not available|no .{0,20}device|not compiled|driver)",
     said("a smoke run has no GPU: take one only where torch.cuda.is_available()")),
    (r"No such file or directory: '([^']+)'", said("is it in the project? .gitignore leaves files out")),
    (r"Temporary failure in name resolution|Name or service not known",
     said("bring the data with the project: nodes may have no network")),
)  # fmt: skip


async def wait_within(gang: Gang, seconds: float | None) -> list[RankExit] | None:
    """As ``gang.wait()``; None when it still ran after ``seconds``."""
    if seconds is None:
        return await gang.wait()
    try:
        return await asyncio.wait_for(gang.wait(), seconds)
    except TimeoutError:
        return None


def passed(folders: AttemptFolders, seconds: float) -> Verdict:
    """It ran all its time without an error."""
    epochs = _epochs_seen(folders.log_of(0))
    ran = f"{seconds:g}"
    words = said(f"Smoke: ran {ran} s without an error.")
    if epochs == 1:
        words = said(f"Smoke: ran {ran} s without an error, 1 epoch seen.")
    elif epochs:
        words = said(f"Smoke: ran {ran} s without an error, {epochs:d} epochs seen.")
    return Verdict("succeeded", reason=words)


def judged(verdict: Verdict) -> Verdict:
    """A gang that ended by itself: well, or with a hint for what is often the matter."""
    if verdict.outcome == "succeeded":
        return replace(verdict, reason=said("Smoke: ran to its end without an error."))
    hint = next((say for seen, say in _HINTS if re.search(seen, verdict.reason or "")), None)
    if hint is None:
        return verdict
    told = said(f"Hint: {hint}.")
    return replace(verdict, reason=Said(f"{verdict.reason}\n{told}"))


def _epochs_seen(log: Path) -> int:
    """How many different epochs the end of the log names."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            return len(set(_EPOCH.findall(file.read())))
    except OSError:
        return 0
