"""A run whose environment is built: from preparing to started, in every engine; and what is built twice."""

import statistics
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench._harness import TESRA, Network, network, project, report, run_bench

from tesra.kit.settings import default_cache

WARM = "environment_warm_start_s"
WARM_TARGET_S = 1.2
TWICE = "environments_built_for_a_second_project"
ROUNDS = 5
SCRIPT = "print('ready', flush=True)\n"
SHARED = ("six==1.17.0",)


@dataclass(frozen=True)
class Engine:
    """An engine as ``tesra run`` names it."""

    name: str
    backend: str | None = None

    @property
    def title(self) -> str:
        return f"{self.name} on {self.backend}" if self.backend else self.name

    @property
    def options(self) -> list[str]:
        chosen = ["--backend", self.backend] if self.backend else []
        return ["--engine", self.name, *chosen, "--output", "out"]


def measure() -> None:
    with network(devices=1) as net:
        measure_warm_starts(net)
        measure_second_project(net)


def measure_warm_starts(net: Network) -> None:
    with project(SCRIPT) as folder:
        found = {}
        for engine in engines(net):
            train(net, folder, engine)  # builds the environment, if need be
            runs = [train(net, folder, engine) for _ in range(ROUNDS)]
            found[engine.title] = round(statistics.median(preparing_s(net, run) for run in runs), 3)
    report(WARM, max(found.values()), target=WARM_TARGET_S, versus=found)


def measure_second_project(net: Network) -> None:
    """Other code, the same requirements: neither a new environment nor a word of building one."""
    engine = Engine("pytorch")
    with project(SCRIPT, SHARED) as first, project(SCRIPT + "print(2)\n", SHARED) as second:
        train(net, first, engine)
        before = built()
        run = train(net, second, engine)
    said = own_log(net, run).count("Building")
    new = len(built() - before)
    report(TWICE, max(new, said), target=0, versus={"environments": len(before)})


def engines(net: Network) -> list[Engine]:
    """All on offer, with each of their backends."""
    return [
        Engine(one["name"], backend)
        for one in net.tesra("engines")
        for backend in (one["backends"] or [None])
    ]


def train(net: Network, folder: Path, engine: Engine) -> str:
    """A run to its end; its id."""
    run = net.start_run(folder, *engine.options)
    net.finish_run(run)
    return run


def preparing_s(net: Network, run: str) -> float:
    """From the event ``preparing`` to ``running``, by the database's clock."""
    events = net.tesra("record", run)["record"]["events"]
    at = {event["kind"]: datetime.fromisoformat(event["at"]) for event in events}
    return (at["running"] - at["preparing"]).total_seconds()


def own_log(net: Network, run: str) -> str:
    """What Tesra itself said of the run."""
    done = subprocess.run(
        [*TESRA, "logs", run, "--rank", "-1"],
        env=net.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def built() -> set[str]:
    """The environments in the cache, by key."""
    return {path.parent.name for path in default_cache().glob("environments/*/ready")}


if __name__ == "__main__":
    run_bench(measure, WARM, WARM_TARGET_S)
