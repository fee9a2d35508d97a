"""Scripts that know nothing of Tesra, tuned in their own engines: what their optimisers do with it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from factories.tuned_gang import TunedGang
from tesra.kit.settings import default_cache
from tesra.node.environments import EnvironmentBuilder
from tesra.training.engines.catalog import read_engines

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

Start = Callable[..., Awaitable[TunedGang]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    gangs: list[TunedGang] = []

    async def begin(
        script: str, engine: str, backend: str | None = None, *, ranks: int = 1, **params: Any
    ) -> TunedGang:
        spec = read_engines().resolve(engine, backend)
        (tmp_path / "project").mkdir()
        environment = await EnvironmentBuilder(default_cache(), gpu=False).ensure(
            spec, [], tmp_path / "project", print
        )
        gang = await TunedGang.start(
            script,
            folder=tmp_path,
            environment=environment,
            ranks=ranks,
            params=params,
            engine=spec,
        )
        gangs.append(gang)
        return gang

    yield begin
    for gang in gangs:
        await gang.end()


def told(gang: TunedGang, rank: int = 0) -> list[Any]:
    return [json.loads(line) for line in gang.log(rank).splitlines() if line.startswith("[")]


# Two ranks in lock step; tells what each optimiser step was done with. Ends when lr is 0.
DISTRIBUTED = """
import argparse, json, torch, torch.distributed as dist
from torch import nn
parser = argparse.ArgumentParser()
for name, value in (("lr", 0.1), ("momentum", 0.0), ("wd", 0.0)):
    parser.add_argument("--" + name, type=float, default=value)
args = parser.parse_args()
dist.init_process_group("gloo")
model = nn.parallel.DistributedDataParallel(nn.Linear(4, 1))
optimiser = torch.optim.SGD(
    model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.wd
)
group, last = optimiser.param_groups[0], None
for step in range(1, 1_000_000):
    optimiser.zero_grad()
    model(torch.ones(2, 4)).sum().backward()
    optimiser.step()
    used = [group["lr"], group["momentum"], group["weight_decay"]]
    if used != last:
        print(json.dumps([step, *used]), flush=True)
        last = used
    if torch.tensor(used[0]) == 0:
        break
dist.destroy_process_group()
"""


async def test_an_unmodified_gang_of_two_changes_its_optimiser_at_one_step(start: Start) -> None:
    gang = await start(DISTRIBUTED, "pytorch", ranks=2, lr=0.1, momentum=0.9, wd=0.0)
    first = await gang.tune(1, lr=0.01, momentum=0.5, wd=1e-4)
    last = await gang.tune(2, lr=0.0)
    await gang.finish()
    assert (len(set(first)), len(set(last))) == (1, 1)
    for rank in range(2):
        assert told(gang, rank) == [
            [1, 0.1, 0.9, 0.0],
            [first[0], 0.01, 0.5, 1e-4],
            [last[0], 0.0, 0.5, 1e-4],
        ]
    found = {one.name: one.where for one in gang.desk.report.ranks[0].found}
    assert found["lr"] == found["momentum"] == found["wd"] == ["SGD"]


# One optimiser after the other, each until its learning rate has changed; then what it came to.
ALL_KINDS = """
import json, torch, time
from torch import nn, optim
from torch.optim import lr_scheduler as schedules

def weights():
    torch.manual_seed(0)
    return nn.Linear(4, 1)

def train(name, make, schedule=None, around=lambda step: step):
    model = weights()
    optimiser = make(model.parameters())
    scheduler = schedule(optimiser) if schedule else None
    def closure():
        optimiser.zero_grad()
        loss = model(torch.ones(2, 4)).square().sum()
        loss.backward()
        return loss
    rates, step = [], around(optimiser.step)
    while len(rates) < 3:
        time.sleep(0.001)
        began = float(optimiser.param_groups[0]["lr"])
        step(closure)
        now = float(optimiser.param_groups[0]["lr"])
        if rates or now != began:
            rates.append(now)
        if scheduler:
            scheduler.step()
    print(json.dumps([name, *rates]), flush=True)

train("adam", lambda p: optim.Adam(p, lr=0.1))
train("adamw fused", lambda p: optim.AdamW(p, lr=0.1, fused=True))
train("tensor", lambda p: optim.Adam(p, lr=torch.tensor(0.1), foreach=False))
train("lbfgs", lambda p: optim.LBFGS(p, lr=0.1))
train("step", lambda p: optim.SGD(p, lr=0.1), lambda o: schedules.StepLR(o, 1_000_000))
train("lambda", lambda p: optim.SGD(p, lr=0.1), lambda o: schedules.LambdaLR(o, lambda n: 1.0 if n < 3 else 0.5 + n % 2))
train("sequential", lambda p: optim.SGD(p, lr=0.1), lambda o: schedules.SequentialLR(o, [schedules.ConstantLR(o, 0.5, 3), schedules.ConstantLR(o, 1.0, 10**6)], [3]))
train("compiled", lambda p: optim.SGD(p, lr=0.1), around=lambda step: torch.compile(step, backend="eager"))
model = weights()
one, two = optim.SGD(model.parameters(), lr=0.1), optim.Adam(model.parameters(), lr=0.2)
while one.param_groups[0]["lr"] == 0.1:
    time.sleep(0.001)
    model(torch.ones(2, 4)).sum().backward()
    one.step(); two.step()
print(json.dumps(["two", one.param_groups[0]["lr"], two.param_groups[0]["lr"]]), flush=True)
optimiser = optim.SGD(model.parameters(), lr=0.1)
for step in range(1_000_000):
    time.sleep(0.001)
    optimiser.param_groups[0]["lr"] = 0.1
    model(torch.ones(2, 4)).sum().backward()
    optimiser.step()
    if optimiser.param_groups[0]["lr"] != 0.1:
        break
optimiser.param_groups[0]["lr"] = 0.1
optimiser.step()
print(json.dumps(["by hand"]), flush=True)
time.sleep(60)
"""


async def test_every_kind_of_optimiser_and_schedule_goes_on_from_the_new_rate(start: Start) -> None:
    gang = await start(ALL_KINDS, "pytorch")
    for seq in range(1, 11):
        await gang.until(lambda seq=seq: len(told(gang)) == seq - 1)
        await gang.tune(seq, lr=0.01)
        await gang.until(lambda seq=seq: len(told(gang)) == seq)
    kinds = {name: rates for name, *rates in told(gang)}
    for name in ("adam", "adamw fused", "tensor", "lbfgs", "step", "sequential", "compiled"):
        assert kinds[name] == pytest.approx([0.01] * 3), name
    first, second, third = kinds["lambda"]  # it halves, and adds a half, by turns
    assert first == 0.01
    assert second in (pytest.approx(0.03), pytest.approx(0.01 / 3))
    assert third == pytest.approx(0.01)
    assert kinds["two"] == [0.01, 0.01]
    (rank,) = gang.desk.report.ranks
    await gang.until(lambda: "sets lr at each step" in str(gang.desk.report.ranks[0].took[-1].note))
    assert {one.name: one.origin for one in rank.found}["lr"] == "optimiser"
