"""Changes of parameters among real ranks in a real sandbox: the same step on each."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from factories.tuned_gang import BARE, TunedGang
from tesra.node.environments import Environment, EnvironmentBuilder

Start = Callable[..., Awaitable[TunedGang]]

# Each rank at its own speed, five times the other's, and they swap it at the first change.
# Tells the step at which it first sees each value, and ends at 0.
STEPS = """
import json, os, time, tesra
rank = int(os.environ["RANK"])
seen, done = [], 0
while tesra.params.lr > 0:
    if not seen or seen[-1][1] != tesra.params.lr:
        seen.append([done + 1, tesra.params.lr])
    time.sleep([0.002, 0.01][rank if tesra.params.lr == 0.1 else 1 - rank])
    done = tesra.step()
    if tesra.params.lr != (seen[-1][1]) and tesra.params["momentum"] != tesra.params.lr * 10:
        raise SystemExit("half a change is seen")
print(json.dumps(seen + [[done + 1, tesra.params.lr]]))
"""


@pytest.fixture(scope="module")
async def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("environment")
    (folder / "project").mkdir()
    builder = EnvironmentBuilder(folder / "cache", gpu=False)
    return await builder.ensure(BARE, [], folder / "project", print)


@pytest.fixture
async def start(environment: Environment, tmp_path: Path) -> AsyncIterator[Start]:
    gangs: list[TunedGang] = []

    async def begin(script: str, *, ranks: int = 2, **params: Any) -> TunedGang:
        gangs.append(
            await TunedGang.start(
                script, folder=tmp_path, environment=environment, ranks=ranks, params=params
            )
        )
        return gangs[-1]

    yield begin
    for gang in gangs:
        await gang.end()


async def test_ranks_of_different_speed_take_a_change_at_the_same_step(start: Start) -> None:
    site = await start(STEPS, lr=0.1, momentum=0.9)
    first = await site.tune(1, lr=0.01, momentum=0.1)
    second = await site.tune(2, lr=0.0, momentum=0.0)
    assert len(set(first)) == len(set(second)) == 1
    await site.finish()
    for rank in site.gang.ranks:
        seen = json.loads(site.log(rank))
        assert seen == [[1, 0.1], [first[0], 0.01], [second[0], 0.0]]


# A script that does all it can to the platform's files.
VANDAL = """
import os, time, tesra
orders, status = os.environ["TESRA_TUNING_FILE"], os.environ["TESRA_TUNING_STATUS"]
params = os.environ["TESRA_PARAMS_FILE"]
tesra.step()
harmed = []
for path in (orders, params):
    for harm in (
        lambda: open(path, "w").write("[]"),
        lambda: os.unlink(path),
        lambda: os.rename(path, path + ".old"),
        lambda: os.symlink("/etc/passwd", os.path.dirname(path) + "/link"),
    ):
        try:
            harm()
            harmed.append(path)
        except OSError:
            pass
for harm in (lambda: os.unlink(status), lambda: os.rename(status, status + "2")):
    try:
        harm()
        harmed.append(status)
    except OSError:
        pass
print(harmed, flush=True)
for garbage in (b"x" * 100_000, b"", b"[" * 40_000, b"00000000 {}\\n", os.urandom(5000)):
    open(status, "wb").write(garbage)
    tesra.step()
    time.sleep(0.1)
while tesra.params.lr > 0:
    time.sleep(0.01)
    tesra.step()
"""


async def test_a_script_that_writes_to_our_files_hurts_nothing(start: Start) -> None:
    site = await start(VANDAL, ranks=1, lr=0.1)
    await site.until(lambda: "]" in site.log())
    assert site.log() == "[]\n"
    assert json.loads(site.folders.params.read_text()) == {"lr": 0.1}
    (step,) = await site.tune(1, lr=0.0)
    assert step is not None
    await site.finish()
