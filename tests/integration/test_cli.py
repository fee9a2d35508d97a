"""The command line as a user has it: a process of its own, a server over real HTTP."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakes.tesra_server import (
    BILL,
    NOW,
    OLDER_RUN,
    RUN,
    FakeTesra,
    Network,
    bill_record,
    chunk,
    run_record,
)
from tesra.cli.main import build_cli

START = "from tesra.cli.main import build_cli; build_cli()()"
TIMEOUT_S = 60


@dataclass
class Terminal:
    """Runs ``tesra`` in a folder with an environment of its own; nothing is a terminal there."""

    folder: Path
    environ: dict[str, str]

    def start(self, *words: str, **more: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", START, *words],
            cwd=self.folder,
            env={**self.environ, **more},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A suite that runs in the background ignores SIGINT, and hands that on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def __call__(self, *words: str, exit_code: int = 0, typed: str = "", **more: str) -> "Shown":
        process = self.start(*words, **more)
        out, err = process.communicate(typed, timeout=TIMEOUT_S)
        assert process.returncode == exit_code, (words, process.returncode, out, err)
        assert "Traceback" not in err
        return Shown(out, err)

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json").out)


@dataclass
class Shown:
    out: str
    err: str


@pytest.fixture
def network() -> Network:
    older = run_record(id=OLDER_RUN, bill=None, state="failed", exit_code=3, output=None)
    return Network(runs=[run_record(), older], bills=[bill_record()])


@pytest.fixture
def server(network: Network) -> Iterator[FakeTesra]:
    with FakeTesra(network) as server:
        yield server


@pytest.fixture
def tesra(server: FakeTesra, tmp_path: Path) -> Terminal:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TESRA_")}
    folder = tmp_path / "work"
    folder.mkdir()
    environ = {
        **kept,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "TESRA_CONFIG_DIR": str(tmp_path / "config"),
        "TESRA_URL": server.url,
        "TESRA_TOKEN": "tsr_ann",
        "XDG_DATA_HOME": str(tmp_path / "data"),
    }
    return Terminal(folder, environ)


def test_register_signs_in_and_the_login_is_remembered(tesra: Terminal, server: FakeTesra) -> None:
    del tesra.environ["TESRA_TOKEN"]
    registered = tesra.json("register", "--name", "ann", "--password", "correct horse")
    assert registered == {"token": "tsr_ann", "name": "ann", "id": "usr_1", "url": server.url}
    del tesra.environ["TESRA_URL"]
    who = tesra.json("whoami")
    assert (who["name"], who["url"]) == ("ann", server.url)
    tesra("logout")
    assert "No network is known" in tesra("whoami", exit_code=1).err


def test_a_password_that_is_left_out_in_a_pipe_is_made_up_and_shown(
    tesra: Terminal, network: Network
) -> None:
    shown = tesra.json("register", "--name", "ann")
    [(body, _)] = network.sent("POST", "/register")
    assert shown["password"] == body["password"]
    assert len(body["password"]) >= 20


def test_login_takes_the_password_from_a_pipe(tesra: Terminal, network: Network) -> None:
    tesra("login", "--name", "ben", typed="pass word\n")
    assert network.sent("POST", "/login")[0][0] == {"name": "ben", "password": "pass word"}


def test_login_with_a_token_checks_and_remembers_it(tesra: Terminal) -> None:
    del tesra.environ["TESRA_TOKEN"]
    assert tesra.json("login", "--token", "tsr_root")["name"] == "root"
    assert tesra.json("whoami")["name"] == "root"


def test_without_a_login_one_line_says_how_to_sign_in(tesra: Terminal) -> None:
    del tesra.environ["TESRA_TOKEN"]
    assert tesra("whoami", exit_code=1).err == "tesra: Sign in first. tesra login\n"


def test_a_run_is_followed_through_a_server_that_dies(tesra: Terminal, network: Network) -> None:
    text = [f"line {number}\n" for number in range(1, 41)]
    network.chunks = [chunk(number, text=line) for number, line in enumerate(text, 1)]
    network.chunks += [chunk(40, rank=-1, state="running"), chunk(41, rank=-1, state="succeeded")]
    network.breaks = [5, 17, 40]
    shown = tesra("run", "digits", "--entry", "train.py")
    assert shown.out == "".join(text)
    assert "connection lost" in shown.err
    assert f"tesra pay {BILL}" in shown.err


def test_what_was_asked_for_is_what_is_sent(tesra: Terminal, network: Network) -> None:
    shown = tesra(
        *("run", "digits", "--detach", "--json", "--engine", "pytorch==2.13", "--devices", "2"),
        *("--entry", '["python", "t.py"]', "--output", "model", "--launch", "single"),
        *("--param", "lr=0.1", "--param", "name=x=y", "--param", "deep=true", "--env", "A=1"),
        *("--secret", "KEY", "--with", "tqdm", "--device-class", "cpu-slot"),
        *("--range", "lr=1e-5..1.0", "--checkpoint-every", "30s", "--max-restarts", "1"),
        *("--param-format", "--{name}={value}"),
        *("--", "--lr", "1", "-x", "--json"),
        KEY="hush",
    )
    started = json.loads(shown.out)
    assert (started["run"], started["state"]) == (RUN, "succeeded")
    [(body, headers)] = network.sent("POST", "/runs")
    assert headers["Idempotency-Key"]
    assert {name: value for name, value in body.items() if value is not None} == {
        "project": "digits",
        "engine": "pytorch==2.13",
        "entry": ["python", "t.py"],
        "args": ["--lr", "1", "-x", "--json"],
        "output": "model",
        "devices": 2,
        "device_class": "cpu-slot",
        "launch": "single",
        "params": {"lr": 0.1, "name": "x=y", "deep": True},
        "ranges": {"lr": {"low": 1e-5, "high": 1.0, "choices": None}},
        "param_format": "--{name}={value}",
        "env": {"A": "1"},
        "secrets": {"KEY": "hush"},
        "packages": ["tqdm"],
        "priority": 0,
        "smoke": False,
        "checkpoint_every_s": 30,
        "max_restarts": 1,
        "data": [],
    }


def test_what_the_server_read_from_the_code_is_told(tesra: Terminal, network: Network) -> None:
    network.proposed = {
        "entry": "learn.py",
        "engine": "jax==0.10.2",
        "output_path": "made",
        "launch": "gang",
        "launch_reason": "lib.py:2 calls it",
        "warnings": ["tqdm: add --with tqdm"],
    }
    shown = tesra("run", "digits", "--detach")
    assert shown.out == f"{RUN}\n"
    first, second, third = shown.err.splitlines()
    assert first == (
        "tesra: from the code: --entry learn.py --engine jax==0.10.2 --output made;"
        " `tesra doctor digits` says more"
    )
    assert second == ("tesra: launch: gang, because lib.py:2 calls it; --launch single overrides")
    assert third == "tesra: warning: tqdm: add --with tqdm"
    [(body, _)] = network.sent("POST", "/runs")
    assert {body[name] for name in ("entry", "engine", "launch", "output")} == {None}


def test_what_is_said_is_not_told_again(tesra: Terminal, network: Network) -> None:
    words = ("--entry", "main.py", "--engine", "pytorch", "--output", "o", "--launch", "gang")
    assert tesra("run", "digits", "--detach", *words).err == ""
    [(body, _)] = network.sent("POST", "/runs")
    assert (body["entry"], body["output"], body["launch"]) == ("main.py", "o", "gang")


def test_the_doctor_reads_a_folder_without_a_server(tesra: Terminal, network: Network) -> None:
    (tesra.folder / "my project").mkdir()
    (tesra.folder / "my project" / "train.py").write_text(
        "import torch, yaml\nloss.backward()\ntorch.save(model, 'out/m.pt')\n"
    )
    shown = tesra("doctor", "./my project")
    assert "Engine:" in shown.out
    assert "train.py:1 imports torch" in shown.out
    assert shown.out.endswith(
        "  tesra run './my project' --engine pytorch --entry train.py --launch single"
        " --output out --with PyYAML\n"
    )
    told = tesra.json("doctor", "./my project")
    assert told["entry"]["entry"] == "train.py"
    assert told["command"][:2] == ["tesra", "run"]
    assert network.requests == []


def test_the_doctor_reads_a_stored_project(tesra: Terminal) -> None:
    assert tesra.json("doctor", "digits")["entry"]["entry"] == "main.py"
    assert "There is no folder or file" in tesra("doctor", "./nowhere", exit_code=1).err


def test_with_json_the_last_line_of_a_followed_run_is_its_record(
    tesra: Terminal, network: Network
) -> None:
    network.chunks = [chunk(1, text="hello\n"), chunk(2, rank=-1, state="succeeded")]
    first, last = tesra("run", "digits", "--json").out.splitlines()
    assert first == "hello"
    assert json.loads(last)["bill"] == BILL


def test_a_run_that_failed_gives_exit_code_1(tesra: Terminal, network: Network) -> None:
    network.chunks = [chunk(1, text="boom\n"), chunk(2, rank=-1, state="failed", reason="No.")]
    shown = tesra("logs", OLDER_RUN, "--follow", exit_code=1)
    assert shown.out == "boom\n"
    assert "failed, exit code 3" in shown.err


def test_ctrl_c_leaves_the_run_alone_and_says_how_to_stop_it(
    tesra: Terminal, network: Network
) -> None:
    network.chunks = [chunk(1, text="training\n")]
    network.hang_at = threading.Event()
    process = tesra.start("run", "digits")
    assert process.stdout is not None
    assert process.stdout.readline() == "training\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    network.hang_at.set()
    assert process.returncode == 130
    assert f"{RUN} goes on" in err
    assert f"tesra stop {RUN}" in err
    assert network.sent("POST", f"/runs/{RUN}/stop") == []


def test_a_hundred_thousand_lines_come_whole(tesra: Terminal, network: Network) -> None:
    block = "".join(f"step {number}\n" for number in range(1000))
    network.chunks = [chunk(number, text=block) for number in range(1, 101)]
    network.chunks.append(chunk(101, rank=-1, state="succeeded"))
    assert tesra("logs", RUN, "--follow").out == block * 100


def test_a_log_as_json_is_a_chunk_a_line(tesra: Terminal, network: Network) -> None:
    network.chunks = [chunk(1, text="a\nb\n"), chunk(2, rank=-1, state="failed")]
    first, last = tesra("logs", "last", "--json", "--follow", exit_code=1).out.splitlines()
    assert json.loads(first)["text"] == "a\nb\n"
    assert json.loads(last)["state"] == "failed"


def test_logs_without_follow_end_where_they_end(tesra: Terminal, network: Network) -> None:
    network.chunks = [chunk(1, text="so far\n"), chunk(2, rank=-1, text="building\n")]
    shown = tesra("logs", "last")
    assert (shown.out, shown.err) == ("so far\n", "tesra: building\n")


def test_a_reader_that_leaves_early_gets_no_noise(tesra: Terminal, network: Network) -> None:
    network.chunks = [chunk(number, text="x" * 10_000 + "\n") for number in range(1, 200)]
    process = tesra.start("logs", "last")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait(TIMEOUT_S) == 1
    for stream in (process.stdin, process.stderr):
        assert stream is not None
        stream.close()


@pytest.mark.parametrize(
    "said", [RUN, "last", "@last", "run_01kaaaaaaaaaaaaaaaaaaaaaaa", "aaaaaaaa"]
)
def test_a_run_is_found_by_what_people_say(tesra: Terminal, said: str) -> None:
    shown = tesra.json("show", said)
    assert shown["run"] == shown["id"] == RUN
    assert {"state", "devices", "exit_code", "output", "bill", "amount_cny", "th"} <= set(shown)


def test_what_fits_two_runs_or_none_is_refused(tesra: Terminal) -> None:
    assert "fits 2 runs" in tesra("show", "01ka", exit_code=1).err
    assert "`tesra runs` lists yours" in tesra("show", "nothing", exit_code=1).err


def test_show_has_the_record_and_the_timeline(tesra: Terminal) -> None:
    out = tesra("show", "last").out
    assert "State:      succeeded" in out
    assert "Waits for devices." in out


def test_lists_are_json_lists_and_plain_tables(tesra: Terminal) -> None:
    assert [run["run"] for run in tesra.json("runs")] == [RUN, OLDER_RUN]
    assert [bill["id"] for bill in tesra.json("bills")] == [BILL]
    assert tesra.json("devices")[0]["free"] == 3
    assert tesra.json("engines")[0]["name"] == "pytorch"
    assert tesra.json("projects")[0]["name"] == "digits"
    refused = tesra("project", "rm", "digits", exit_code=1)
    assert "Give --yes" in refused.err
    assert "2 versions stay" in tesra("project", "rm", "digits", "--yes").out
    header, first, _ = tesra("runs").out.splitlines()
    assert header.split() == ["Run", "Project", "State", "Engine", "Devices", "Took", "CNY", "Made"]
    assert first.startswith(RUN)


def test_a_bill_is_explained_line_by_line(tesra: Terminal) -> None:
    out = tesra("bill", RUN).out
    assert "2 devices cpu-slot x 0.145 T x 60.000 s / 3600 = 0.004833 T·H" in out
    assert "Sum: CNY 0.002416, rounded up to the fen: CNY 0.01" in out


def test_a_bill_is_paid_by_the_name_of_its_run(tesra: Terminal, network: Network) -> None:
    assert "CNY 0.01 from vouchers" in tesra("pay", RUN, "--voucher", "ABCD").out
    [(body, headers)] = network.sent("POST", f"/bills/{BILL}/pay")
    assert body == {"voucher": "ABCD"}
    assert headers["Idempotency-Key"]
    assert tesra.json("pay", "last")["state"] == "paid"


def test_a_refusal_is_one_line_with_the_way_out(tesra: Terminal, network: Network) -> None:
    network.refuse("POST", "/runs", 402, "payment_due", "Bill b\nis unpaid.", "Pay it: tesra pay b")
    shown = tesra("run", "digits", "--detach", exit_code=1)
    assert shown.out == ""
    assert shown.err == "tesra: Bill b is unpaid. Pay it: tesra pay b\n"


def test_money_commands_show_what_they_did(tesra: Terminal) -> None:
    assert "CNY 5.00" in tesra("wallet").out
    assert tesra("autopay", "on").out == "Autopay is on.\n"
    assert "CNY 5.00 in vouchers" in tesra("redeem", "ABCD").out
    assert tesra.json("topup", "ann", "100") == {"user": "ann", "amount_cny": "100.00"}
    assert tesra.json("voucher", "issue", "--amount", "10", "--for", "ann")["code"] == "ABCD-EFGH"
    assert tesra.json("prices", "--set", "0.6", "--from", "2027-01-01")[0]["current"] is True
    tesra("prices", "--from", "2027-01-01", exit_code=1)


def test_a_download_refuses_to_mix_with_other_files(tesra: Terminal) -> None:
    (tesra.folder / "model").mkdir()
    (tesra.folder / "model" / "mine.txt").touch()
    assert "--force" in tesra("download", "last", "model", exit_code=1).err


def test_a_run_without_output_cannot_be_downloaded(tesra: Terminal) -> None:
    assert "stored no output" in tesra("download", OLDER_RUN, exit_code=1).err
    assert list(tesra.folder.iterdir()) == []


def test_the_version_is_shown_without_a_command(tesra: Terminal) -> None:
    assert tesra("--version").out.startswith("tesra ")


def test_wrong_usage_is_exit_code_2(tesra: Terminal) -> None:
    tesra("run", exit_code=2)
    tesra("run", "digits", "--launch", "rocket", exit_code=2)
    tesra("nonsense", exit_code=2)


def test_nobody_there_is_told_with_the_way_out(tesra: Terminal) -> None:
    shown = tesra("runs", "--url", "http://127.0.0.1:9", exit_code=1)
    assert shown.err.count("\n") == 1
    assert "tesra up" in shown.err


def test_a_traceback_is_shown_only_when_asked_for(tesra: Terminal) -> None:
    process = tesra.start("runs", "--url", "nonsense", TESRA_DEBUG="1")
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert "Traceback" in err
    assert process.returncode == 1


def test_completion_knows_the_commands(tesra: Terminal) -> None:
    asked = {"_TESRA_COMPLETE": "complete_bash", "COMP_WORDS": "tesra red", "COMP_CWORD": "1"}
    start = 'from tesra.cli.main import build_cli; build_cli()(prog_name="tesra")'
    answer = subprocess.run(
        [sys.executable, "-c", start],
        env={**tesra.environ, **asked},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert answer.stdout.split() == ["redeem"]


def test_help_loads_nothing_heavy(tesra: Terminal) -> None:
    code = (
        "import sys; from tesra.cli.main import build_cli; build_cli()\n"
        "heavy = {'httpx', 'pydantic', 'rich', 'cryptography', 'sqlalchemy', 'fastapi', 'ray'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        env=tesra.environ,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert loaded.stdout == "[]\n"


def test_every_command_has_help_with_an_example() -> None:
    app = build_cli()
    groups = [app]
    for group in groups:  # groups have groups
        groups += [one.typer_instance for one in group.registered_groups if one.typer_instance]
    commands = [command for group in groups for command in group.registered_commands]
    assert len(commands) >= 23
    for command in commands:
        assert command.callback is not None
        assert command.callback.__doc__, command.name
        assert str(command.epilog).startswith("Example: tesra "), command.name


def test_a_quote_starts_nothing(tesra: Terminal, network: Network) -> None:
    shown = tesra("run", "digits", "--quote", "--devices", "2", "--max-time", "2h")
    assert shown.out.splitlines() == ["CNY 1.00 an hour: 1 device.", "It would start at once."]
    [(body, _)] = network.sent("POST", "/quotes")
    assert (body["devices"], body["max_time_s"]) == (2, 7200)
    assert network.sent("POST", "/runs") == []


def test_a_run_says_what_an_hour_costs_as_it_starts(tesra: Terminal, network: Network) -> None:
    network.chunks = [chunk(1, rank=-1, state="succeeded")]
    shown = tesra("run", "digits")
    assert "tesra: CNY 1.00 an hour; your vouchers cover 5 h of this" in shown.err


def test_a_forecast_is_shown_with_what_it_is_drawn_from(tesra: Terminal, network: Network) -> None:
    network.runs[0] = run_record(
        state="running",
        ended_at=None,
        forecast={
            "cost_so_far": "0.40",
            "cost_to_finish": "0.60",
            "finish_at": NOW,
            "from": "epoch 4 of 10, 30 s each",
        },
    )
    shown = tesra("show", "last")
    assert "CNY 0.40" in shown.out
    assert "CNY 0.60 more (epoch 4 of 10, 30 s each)" in shown.out
    assert json.loads(tesra("show", "last", "--json").out)["forecast"]["from"] == (
        "epoch 4 of 10, 30 s each"
    )
