"""What 5,000 points a second cost a run: by ``tesra.log``, one point a call, and by TensorBoard.

Inside one run blocks with and without logging take turns, each of the same calibrated work, so
that whatever else the machine does slows both alike; their CPU time and wall time are compared
pair by pair. (TensorBoard's writer works in both kinds of blocks, as it does in a bare script; in
the others it writes where Tesra does not look.) At the end every point has to be on the server.
"""

import json
import statistics
from typing import Any

from bench._harness import Network, network, project, report, run_bench

FIGURE = "metrics_cpu_time_ratio"
WALL = "metrics_wall_time_ratio"
LOST = "metrics_points_lost"
TARGET = 1.02
POINTS_PER_S = 5000
STEPS_PER_S = 1000
PAIRS = 60  # many short ones: neighbours in time are slowed alike
PAIR_S = 0.25  # of each of the two blocks, on an idle machine
SCRIPT = f"""
import json, os, sys, time
way = sys.argv[1]
per_step = {POINTS_PER_S // STEPS_PER_S}

def work(turns):
    value = 1.0
    for _ in range(turns):
        value = value * 1.0000001 + 1e-9
    return value

def calibrated():
    turns, took_s = 1000, 0.0
    while took_s < 0.5:
        turns *= 2
        began = time.process_time()
        work(turns)
        took_s = time.process_time() - began
    return int(turns / took_s / {STEPS_PER_S})

def by_log():
    import tesra
    def log(step, loss):
        for number in range(per_step):
            tesra.log({{f"loss{{number}}": loss}}, step=step)
    return log, lambda step, loss: None, lambda: None

def by_tensorboard():
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    writers = [EventFileWriter(folder, max_queue_size=1000, flush_secs=1) for folder in ("runs", os.environ["TMPDIR"] + "/runs")]
    def log_to(writer):
        def log(step, loss):
            for number in range(per_step):
                value = Summary.Value(tag=f"loss{{number}}", simple_value=loss)
                writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=[value])))
        return log
    return log_to(writers[0]), log_to(writers[1]), lambda: [writer.close() for writer in writers]

logged, bare, finish = by_log() if way == "log" else by_tensorboard()
turns = calibrated()
step, pairs = 0, []
for pair in range({PAIRS}):
    row = {{}}
    for name, log in [("logged", logged), ("bare", bare)][:: 1 if pair % 2 else -1]:
        began, cpu_began = time.monotonic(), time.process_time()
        for _ in range({int(STEPS_PER_S * PAIR_S)}):
            loss = work(turns)
            log(step, loss)
            step += name == "logged"
        row[name] = [time.monotonic() - began, time.process_time() - cpu_began]
    pairs.append(row)
finish()
print("PAIRS", json.dumps(pairs), flush=True)
"""


def measure() -> None:
    with network(devices=1) as net:
        for way, requirements in (("log", ()), ("tensorboard", ("tensorboard",))):
            with project(SCRIPT, requirements) as folder:
                run = net.start_run(folder, "--devices", "1", "--", way)
                net.finish_run(run)
            tell(net, run, way)


def tell(net: Network, run: str, way: str) -> None:
    pairs = json.loads(net.output_of(run).split("PAIRS ")[1].splitlines()[0])
    wall, cpu = ratios(pairs, 0), ratios(pairs, 1)
    wanted = int(PAIRS * POINTS_PER_S * PAIR_S)
    came = points_of(net, run)
    logged_s = sum(row["logged"][0] for row in pairs)
    versus = {
        "way": way,
        "points": wanted,
        "points_per_s": round(wanted / logged_s),
        "pairs": PAIRS,
        "bare_s": round(sum(row["bare"][0] for row in pairs), 2),
        "logged_s": round(logged_s, 2),
        "quartiles_cpu": quartiles(cpu),
        "quartiles_wall": quartiles(wall),
    }
    report(FIGURE, round(statistics.median(cpu), 4), target=TARGET, versus=versus)
    report(WALL, round(statistics.median(wall), 4), target=TARGET, versus=versus)
    report(LOST, wanted - came, target=0, versus=versus)


def ratios(pairs: list[dict[str, Any]], place: int) -> list[float]:
    return [row["logged"][place] / row["bare"][place] for row in pairs]


def quartiles(values: list[float]) -> list[float]:
    return [round(value, 4) for value in statistics.quantiles(values, n=4)]


def points_of(net: Network, run: str) -> int:
    names = net.tesra("metrics", run)["names"]
    return sum(name["points"] for name in names if name["name"].startswith("loss"))


if __name__ == "__main__":
    run_bench(measure, FIGURE, TARGET)
