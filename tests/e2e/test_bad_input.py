"""What bad input gets: a clear message with the way out, and nothing lost or charged wrongly."""

import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import httpx
import psutil
import pytest

from factories.command_line import CommandLine, Person

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

HELLO = "print('hello')"
MARK = "a-child-that-outlives-its-parent"
FORKS = f"""
import os, subprocess, sys
code = "import os, time\\nos.setsid()\\nif os.fork(): os._exit(0)\\ntime.sleep(300)"
subprocess.Popen([sys.executable, "-c", code, "{MARK}"])
if os.fork() == 0:
    os.execvp("sleep", ["sleep", "300"])
print("parent done", flush=True)
"""
NOISE = """
import sys
sys.stdout.buffer.write(bytes(range(256)) + b"\\n" + "长".encode() * 3_500_000 + b"\\nend\\n")
"""
FILLS = """
import os, pathlib
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out", "big").write_bytes(os.urandom(60_000_000))
"""


@pytest.mark.parametrize(
    ("script", "exit_code", "words"),
    [
        ("print('before'); raise ValueError('太大')", 1, "ValueError: 太大"),
        ("import sys; print('before'); sys.exit(3)", 3, "exit code 3"),
        ("import os; print('before', flush=True); os.kill(os.getpid(), 9)", 137, "SIGKILL"),
    ],
)
def test_a_script_that_fails_says_how_and_keeps_its_log(
    ann: Person, script: str, exit_code: int, words: str
) -> None:
    trained = ann.train(script)
    assert trained.done.returncode == 1
    record = trained.record
    assert (record["state"], record["exit_code"]) == ("failed", exit_code)
    assert words in trained.told
    assert "before" in ann.commands.done("logs", record["id"])
    bill = ann.commands.ask("bill", record["bill"])
    assert (bill["state"], bill["run"]) == ("paid", record["id"])


def test_children_end_with_the_script(ann: Person) -> None:
    trained = ann.train(FORKS)
    assert (trained.record["state"], "parent done" in trained.log) == ("succeeded", True)
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert [command for command in commands if MARK in command] == []


def test_binary_and_a_line_of_ten_megabytes_come_whole(ann: Person) -> None:
    trained = ann.train(NOISE)
    assert trained.record["state"] == "succeeded"
    assert trained.log.split("\n")[-3:] == ["长" * 3_500_000, "end", ""]


def test_a_full_quota_and_no_output_are_warnings(new_person: Callable[[], Person]) -> None:
    bob = new_person()
    bob.commands.done("autopay", "on")
    empty = bob.train(HELLO)
    assert (empty.record["state"], empty.record["output"]) == ("succeeded", None)
    assert "warning: The run wrote no output: 'out'" in empty.told
    assert "no output" in bob.commands.refused("download", "last")

    full = bob.train(FILLS)
    assert (full.record["state"], full.record["output"]) == ("succeeded", None)
    assert "your storage quota is used up" in full.told


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        (["--engine", "caffe"], "Choose one of: "),
        (["--engine", "pytorch==0.1"], "pytorch==2"),
        (["--entry", "nope.py"], '"train.py"'),
        (["--entry", "nope:main"], '"train.py"'),
        (["--devices", "0"], "`--devices 1` or more"),
        (["--devices", "3"], "at most 2"),
        (["--devices", "9" * 30], "64 bits"),
        (["--device-class", "H900"], "'cpu'"),
        (["--output", "../out"], "such as 'out'"),
        (["--param", "名=1"], "a to z"),
        (["--secret", "NO_SUCH_SECRET"], "export NO_SUCH_SECRET="),
    ],
)
def test_what_cannot_run_is_refused_in_one_line_and_makes_nothing(
    ann: Person, wishes: list[str], words: str
) -> None:
    folder = ann.project(HELLO, folder="坏")
    before = len(ann.commands.ask("runs", "--limit", "100"))
    entry = [] if "--entry" in wishes else ["--entry", "train.py"]
    ann.commands.ask("import", folder)
    assert words in ann.commands.refused("run", folder, *entry, *wishes)
    assert len(ann.commands.ask("runs", "--limit", "100")) == before


def test_archives_that_are_none_or_lead_out_are_refused(ann: Person, tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"this is no zip")
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        entry = tarfile.TarInfo("../../evil.txt")
        entry.size = 4
        tar.addfile(entry, BytesIO(b"evil"))
    assert "neither a zip nor a tar" in ann.commands.refused("import", str(tmp_path / "bad.zip"))
    (tmp_path / "train.py").write_text("print()")
    assert "--entry train.py" in ann.commands.refused("run", str(tmp_path / "train.py"))
    assert "leads out" in ann.commands.refused("import", str(tmp_path / "evil.tar"))
    assert "no folder or file" in ann.commands.refused("import", str(tmp_path / "missing.zip"))
    names = {project["name"] for project in ann.commands.ask("projects")}
    assert not names & {"bad", "evil", "missing"}


def test_wrong_password_and_expired_or_foreign_token_say_how_to_sign_in(
    ann: Person, tesra: CommandLine, url: str
) -> None:
    at = ("--url", url)
    wrong = tesra.refused("login", "--name", ann.name, "--password", "not it at all", *at)
    assert "name or the password is wrong" in wrong
    headers = {"Authorization": f"Bearer {ann.token}"}
    token = httpx.post(f"{url}/api/v1/tokens", json={"expires_in_days": 0}, headers=headers).json()
    expired = tesra.refused("runs", "--token", token["token"], *at)
    assert "expired" in expired
    assert "tesra login" in expired
    assert "operator" in ann.commands.refused("voucher", "issue", "--amount", "5")


def test_nobody_pays_twice_or_for_another_and_an_unpaid_bill_refuses_the_next_run(
    new_person: Callable[[], Person], operator: CommandLine
) -> None:
    bob, eve = new_person(), new_person()
    trained = bob.train("import time; time.sleep(0.3)")
    bill = trained.record["bill"]
    assert bob.commands.ask("bill", bill)["state"] == "unpaid"
    project = bob.commands.ask("import", bob.project(HELLO))["name"]
    due = bob.commands.refused("run", project, "--entry", "train.py")
    assert f"tesra pay {bill}" in due

    assert "no such bill among yours" in eve.commands.refused("pay", bill)
    code = operator.ask("voucher", "issue", "--amount", "10")["code"]
    assert eve.commands.ask("redeem", code)["vouchers_cny"] == "15.00"
    for person in (eve, bob):
        assert "used already" in person.commands.refused("redeem", code)
    assert "used already" in bob.commands.refused("pay", bill, "--voucher", code)
    assert bob.commands.ask("wallet")["vouchers_cny"] == "5.00"

    for _ in range(2):  # once, whatever is asked
        assert bob.commands.ask("pay", bill)["state"] == "paid"
    assert bob.commands.ask("wallet")["vouchers_cny"] == "4.99"
    assert eve.commands.ask("wallet")["vouchers_cny"] == "15.00"
    assert bob.train(HELLO).record["state"] == "succeeded"
