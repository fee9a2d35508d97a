"""Scripts that know nothing of Tesra, tuned in their own engines: what their optimisers do with it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
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
        script: str,
        engine: str,
        backend: str | None = None,
        *,
        ranks: int = 1,
        packages: Sequence[str] = (),
        **params: Any,
    ) -> TunedGang:
        spec = read_engines().resolve(engine, backend)
        (tmp_path / "project").mkdir()
        environment = await EnvironmentBuilder(default_cache(), gpu=False).ensure(
            spec, list(packages), tmp_path / "project", print
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

def train():  # torch may abort at exit if a model outlives its group
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

dist.init_process_group("gloo")
train()
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


# An unmodified fit; a callback of the script's own tells what each batch was trained with.
KERAS = """
import json, numpy as np, IMPORT
values = np.ones((64, 4), dtype="float32")
model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
model.compile(optimizer=keras.optimizers.Adam(learning_rate=0.1), loss="mse")

class Tell(keras.callbacks.Callback):
    step, last = 0, None
    def on_train_batch_begin(self, batch, logs=None):
        self.step += 1
        rate = round(float(self.model.optimizer.learning_rate), 6)
        if rate != self.last:
            print(json.dumps([self.step, rate]), flush=True)
            self.last = rate
        if rate == 0:
            self.model.stop_training = True

before = model.get_weights()
model.fit(values, values[:, :1] * 0, epochs=100_000, batch_size=16, verbose=0, callbacks=[Tell()])
weights = model.get_weights()
model.fit(values, values[:, :1] * 0, epochs=1, batch_size=16, verbose=0)
moved = max(float(np.abs(a - b).max()) for a, b in zip(weights, model.get_weights()))
print(json.dumps(["moved by the last epoch", moved]), flush=True)
"""


@pytest.mark.parametrize(
    ("engine", "backend", "imports"),
    [
        ("keras", "jax", "keras"),
        ("keras", "torch", "keras"),
        ("keras", "tensorflow", "keras"),
        ("tensorflow", None, "tf_keras as keras"),
    ],
)
async def test_an_unmodified_fit_of_keras_follows(
    start: Start, engine: str, backend: str | None, imports: str
) -> None:
    gang = await start(KERAS.replace("IMPORT", imports), engine, backend, lr=0.1)
    (first,) = await gang.tune(1, lr=0.01)
    (last,) = await gang.tune(2, lr=0.0)
    await gang.finish()
    assert told(gang) == [[1, 0.1], [first, 0.01], [last, 0.0], ["moved by the last epoch", 0.0]]
    (rank,) = gang.desk.report.ranks
    assert {one.name: one.where for one in rank.found}["lr"] == ["Adam"]


MXNET = """
import json, time, mxnet as mx
from mxnet import autograd, gluon
net = gluon.nn.Dense(1)
net.initialize()
optimizer = mx.optimizer.SGD(learning_rate=0.1, momentum=0.9, SCHEDULE)
trainer = gluon.Trainer(net.collect_params(), optimizer, kvstore="KVSTORE")
last = None
for step in range(1, 1_000_000):
    time.sleep(0.002)
    with autograd.record():
        loss = net(mx.nd.ones((2, 4))).sum()
    loss.backward()
    trainer.step(2)
    now = [round(float(trainer.learning_rate), 6), trainer.optimizer.momentum]
    if now != last:
        print(json.dumps([step, *now]), flush=True)
        last = now
    if now[0] == 0:
        break
"""


@pytest.mark.parametrize("schedule", ["", "lr_scheduler=mx.lr_scheduler.FactorScheduler(10**6)"])
async def test_mxnets_trainer_follows(start: Start, schedule: str) -> None:
    script = MXNET.replace("SCHEDULE", schedule).replace("KVSTORE", "device")
    gang = await start(script, "mxnet", lr=0.1)
    (first,) = await gang.tune(1, lr=0.01, momentum=0.5)
    (last,) = await gang.tune(2, lr=0.0)
    await gang.finish()
    assert told(gang) == [[1, 0.1, 0.9], [first, 0.01, 0.5], [last, 0.0, 0.5]]


async def test_an_optimiser_on_mxnets_servers_is_told_as_out_of_reach(start: Start) -> None:
    script = MXNET.replace("SCHEDULE", "").replace("KVSTORE", "dist_sync")
    gang = await start(script, "mxnet", ranks=2, lr=0.1)
    await gang.tune(1, lr=0.01)
    await gang.until(lambda: "MXNet's servers" in str(gang.desk.report.ranks[1].took[0].note))
    assert told(gang) == [[1, 0.1, 0.9]]
    assert gang.desk.report.ranks[0].found == ()


def in_a_child(script: str) -> str:
    """Run by a process that the rank starts, where nothing is watched by itself."""
    return (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {script!r}], check=True)\n"
    )


async def test_the_callback_for_keras_reaches_a_process_that_the_script_starts(
    start: Start,
) -> None:
    script = "import tesra\n" + KERAS.replace("IMPORT", "keras").replace(
        "callbacks=[Tell()]", "callbacks=[tesra.keras.TuningCallback(), Tell()]"
    )
    gang = await start(in_a_child(script), "keras", "jax", lr=0.1)
    (first,) = await gang.tune(1, lr=0.01)
    (last,) = await gang.tune(2, lr=0.0)
    await gang.finish()
    assert told(gang)[:3] == [[1, 0.1], [first, 0.01], [last, 0.0]]


LIGHTNING = """
import json, torch
import lightning.pytorch as pl
from tesra.lightning import TuningCallback

class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.last, self.step = torch.nn.Linear(4, 1), None, 0
    def configure_optimizers(self):
        optimiser = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimiser], [torch.optim.lr_scheduler.StepLR(optimiser, 10**6)]
    def training_step(self, batch, index):
        return self.layer(batch[0]).square().mean()
    def on_train_batch_end(self, outputs, batch, index):
        self.step += 1
        rate = self.optimizers().param_groups[0]["lr"]
        if rate != self.last:
            print(json.dumps([self.step, rate]), flush=True)
            self.last = rate
        if rate == 0:
            self.trainer.should_stop = True

data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(64, 4)), batch_size=4)
trainer = pl.Trainer(
    max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, callbacks=[TuningCallback()],
)
trainer.fit(Model(), data)
"""


@pytest.mark.parametrize("child", [False, True], ids=["rank", "child"])
async def test_lightning_follows_with_its_callback_and_counts_no_step_twice(
    start: Start, child: bool
) -> None:
    script = in_a_child(LIGHTNING) if child else LIGHTNING
    gang = await start(script, "pytorch", packages=["lightning==2.5.5"], lr=0.1)
    (first,) = await gang.tune(1, lr=0.01)
    (last,) = await gang.tune(2, lr=0.0)
    await gang.finish()
    assert told(gang) == [[1, 0.1], [first, 0.01], [last, 0.0]]
