"""What else a user does on a real network: entries, sources, stop and logs, money, REST, Python."""

import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from factories.command_line import CommandLine, Person
from tesra.kit.errors import PaymentDue
from tesra.sdk.client import Client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TELLS = """
import json, os, pathlib, sys
class Trainer:
    def fit(self):
        tell()
def tell():
    names = ("RANK", "WORLD_SIZE", "TESRA_PARAM_LR", "COLOUR", "API_KEY")
    told = {name: os.environ.get(name) for name in names}
    params = json.loads(pathlib.Path(os.environ["TESRA_PARAMS_FILE"]).read_text())
    print(json.dumps({**told, "args": sys.argv[1:], "params": params}), flush=True)
if __name__ == "__main__":
    tell()
"""
STEPS = """
import itertools, os, pathlib, time
pathlib.Path("out").mkdir(exist_ok=True)
for step in itertools.count():
    pathlib.Path("out", f"第 {step % 3} 步.txt").write_text(str(step))
    print(f"rank {os.environ['RANK']} step {step}", flush=True)
    time.sleep(0.05)
"""
SHORT = "import time; time.sleep(0.5); print('trained')"


def told(log: str) -> dict[str, Any]:
    """What a rank of ``TELLS`` has printed, whatever stands before it."""
    found: dict[str, Any] = json.loads(log[log.index("{") :].splitlines()[0])
    return found


@pytest.mark.parametrize(
    "entry",
    [
        "src/网络/train.py",
        "网络.train",
        "网络.train:tell",
        "网络.train:Trainer.fit",
        '["python", "-m", "网络.train"]',
    ],
)
def test_every_kind_of_entry_runs_from_a_src_layout(ann: Person, entry: str) -> None:
    ann.project("", "src/网络/__init__.py", "src 布局")
    folder = ann.project(TELLS, "src/网络/train.py", "src 布局")
    trained = ann.watch("run", folder, "--entry", entry, "--", "--epochs", "a b")
    assert trained.record["state"] == "succeeded", trained.told
    assert told(trained.log)["args"] == ["--epochs", "a b"]


def test_params_variables_secrets_and_arguments_reach_the_script(ann: Person) -> None:
    wishes = ("--param", "lr=0.1", "--env", "COLOUR=浅 蓝", "--secret", "API_KEY")
    folder = ann.project(TELLS, folder="告诉")
    command = ("run", folder, "--entry", "train.py", *wishes, "--", "--x", "-1")
    log = ann.commands.done(*command, API_KEY="hush-hush")
    assert told(log) == {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "TESRA_PARAM_LR": "0.1",
        "COLOUR": "浅 蓝",
        "API_KEY": "hush-hush",
        "args": ["--lr", "0.1", "--x", "-1"],
        "params": {"lr": 0.1},
    }
    assert "hush-hush" not in ann.commands.done("show", "last", "--json")


def test_single_launch_is_one_process_and_bills_all_its_devices(ann: Person) -> None:
    trained = ann.train(TELLS, "--launch", "single", "--devices", "2")
    assert trained.log.count("{") == 2  # one line, with its parameters
    assert told(trained.log)["RANK"] is None
    bill = ann.commands.ask("bill", trained.record["bill"])
    assert [line["devices"] for line in bill["lines"]] == [2]


def test_stopped_run_keeps_output_and_logs_and_a_queued_one_costs_nothing(
    ann: Person, tmp_path: Path
) -> None:
    folder = ann.project(STEPS, folder="步")
    run = ann.commands.ask("run", folder, "--devices", "2", "--launch", "gang", "--detach")["run"]
    queued = ann.commands.ask("run", folder, "--detach")["run"]
    with Client(token=ann.token, url=ann.commands.environ["TESRA_URL"]) as client:
        seen: set[int] = set()
        for chunk in client.follow(run):
            seen |= {chunk.rank} if chunk.text and "step 3" in chunk.text else set()
            if seen >= {0, 1}:
                break
    assert "Needs 1: 0 of 2 devices free" in ann.commands.done("show", queued)
    assert ann.commands.ask("stop", queued)["state"] == "stopped"
    ann.commands.done("stop", run)
    ended = ann.commands.run("logs", run, "--follow")
    assert ended.returncode == 1  # it did not succeed
    record = ann.commands.ask("show", run)
    assert (record["state"], record["reason"]) == ("stopped", "Stopped on request.")
    assert ann.commands.ask("show", queued)["amount_cny"] == "0.00"
    assert ann.commands.ask("stop", run)["state"] == "stopped"  # again is harmless

    only = ann.commands.done("logs", run, "--rank", "1").splitlines()
    assert only[:4] == [f"rank 1 step {step}" for step in range(4)]
    assert "ranks 0 to 1" in ann.commands.refused("logs", run, "--rank", "2")

    place = tmp_path / "模型 文件"
    ann.commands.done("download", run, str(place))
    assert sorted(path.name for path in place.iterdir()) == [f"第 {n} 步.txt" for n in range(3)]
    assert "--force" in ann.commands.refused("download", run, str(place))
    (place / "第 0 步.txt").unlink()
    again = ann.commands.ask("download", run, str(place), "--force")
    assert len(again["files"]) == 3


@pytest.fixture
def sources(ann: Person, tmp_path: Path) -> dict[str, str]:
    """The same project as a folder, archives and a repository."""
    folder = Path(ann.project(f"{TELLS}# {tmp_path}", folder="来源"))
    with zipfile.ZipFile(tmp_path / "来源.zip", "w") as packed:
        packed.write(folder / "train.py", "train.py")
    with tarfile.open(tmp_path / "来源.tar.gz", "w:gz") as tar:
        tar.add(folder / "train.py", "train.py")
    repository = tmp_path / "库 x" / "来源.git"
    git = ["git", "-c", "user.name=ann", "-c", "user.email=ann@example.org"]
    work = tmp_path / "work"
    for command in (
        ["git", "init", "--quiet", str(work)],
        ["cp", str(folder / "train.py"), str(work)],
        [*git, "-C", str(work), "add", "."],
        [*git, "-C", str(work), "commit", "--quiet", "-m", "first"],
        ["git", "clone", "--quiet", "--bare", str(work), str(repository)],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return {
        "folder": str(folder),
        "zip": str(tmp_path / "来源.zip"),
        "tar": str(tmp_path / "来源.tar.gz"),
        "repository": str(repository),
        "file url": f"file://{repository}",
    }


def test_a_project_is_the_same_wherever_it_comes_from_and_uploaded_once(
    ann: Person, sources: dict[str, str]
) -> None:
    first = ann.commands.ask("import", sources.pop("folder"), "--name", "来源")
    assert first["moved_bytes"] > 0
    for kind, source in sources.items():
        again = ann.commands.ask("import", source, "--name", "来源")
        assert (again["unchanged"], again["moved_bytes"]) == (True, 0), kind
        assert again["snapshot"] == first["snapshot"], kind
    assert "nothing uploaded" in ann.commands.done("import", sources["zip"])


@pytest.fixture
def dear(operator: CommandLine) -> Iterator[None]:
    """A price at which half a second costs money on the slowest of devices."""
    operator.done("prices", "--set", "2000")
    yield
    operator.done("prices", "--set", "0.5")


@pytest.mark.usefixtures("dear")
def test_the_whole_job_in_python_with_waiting_paying_and_recomputing(
    new_person: Callable[[], Person], operator: CommandLine, tmp_path: Path
) -> None:
    bob = new_person()
    operator.done("operator", "limit", bob.name, "100000")  # at this price, 10 minutes are dear
    folder = bob.project(SHORT + "; open('out/模型', 'w').write('weights')", folder="付")
    with Client(token=bob.token, url=bob.commands.environ["TESRA_URL"]) as client:
        assert client.wallet().vouchers_cny == "5.00"  # welcome
        project = client.import_project(folder)
        run = client.run(project.id, "train.py", devices=2)
        waiting = client.run(project.id, "train.py", devices=2)
        assert "trained\n" in "".join(chunk.text or "" for chunk in run.follow())
        run = run.refresh()
        assert run.bill is not None
        assert run.download(tmp_path / "out").joinpath("模型").read_text() == "weights"

        bill = client.bill(run.bill)
        for line in bill.lines:
            work = Decimal(line.duration_ms) * line.devices * line.rating_micro_t
            assert line.micro_th == int(work / 3_600_000)
            assert line.amount_micros == int(work * Decimal(line.price_cny) / 3_600_000)
        exact = sum(line.amount_micros for line in bill.lines)
        assert 0 <= Decimal(bill.amount_cny) * 1_000_000 - exact < 10_000

        with pytest.raises(PaymentDue) as refusal:
            client.run(project.id, "train.py")
        assert bill.id in str(refusal.value.way_out)
        assert refusal.value.fields["bill"] == bill.id
        assert client.show(waiting.id).state == "queued"

        code = operator.ask("voucher", "issue", "--amount", "0.50", "--for", bob.name)["code"]
        operator.done("topup", bob.name, "20")
        paid = client.pay(bill.id, code)
        assert (paid.state, {part.source for part in paid.payments}) == ("paid", {"voucher"})
        left = client.wallet()
        assert Decimal(left.vouchers_cny) == Decimal("5.50") - Decimal(bill.amount_cny)
        assert left.balance_cny == "20.00"
        assert waiting.wait(60).state == "succeeded"


def test_every_call_that_creates_or_pays_takes_a_key(url: str) -> None:
    document = httpx.get(f"{url}/api/openapi.json").json()
    with_key = {
        path.removeprefix("/api/v1")
        for path, item in document["paths"].items()
        for one in item.get("post", {}).get("parameters", [])
        if one["name"].lower() == "idempotency-key"
    }
    assert with_key == {
        "/runs",
        "/projects",
        "/projects/upload",
        "/projects/from-drive",
        "/projects/git",
        "/tokens",
        "/bills/{bill_id}/pay",
        "/vouchers/redeem",
        "/operator/topups",
        "/operator/vouchers",
        "/operator/prices",
        "/drive/changes",
        "/drive/shares",
        "/drive/trash/{item}/restore",
        "/runs/{run}/resume",
        "/runs/{run}/tuning",
        "/runs/{run}/tuning/rollback",
        "/sweeps",
        "/sweeps/{sweep}/resume",
        "/notices/channels",
    }
    assert httpx.get(f"{url}/api/docs").status_code == 200


def test_a_repeated_start_over_rest_is_one_run_and_lists_come_in_pages(ann: Person) -> None:
    folder = ann.project(SHORT, folder="一次")
    project = ann.commands.ask("import", folder)["name"]
    headers = {"Authorization": f"Bearer {ann.token}"}
    body = {"project": project, "entry": "train.py"}
    with httpx.Client(base_url=ann.commands.environ["TESRA_URL"], headers=headers) as rest:
        once = {"Idempotency-Key": "一次".encode().hex()}
        answers = [rest.post("/api/v1/runs", json=body, headers=once).json() for _ in range(2)]
        assert answers[0]["id"] == answers[1]["id"]
        other = rest.post("/api/v1/runs", json={**body, "args": ["x"]}, headers=once)
        assert (other.status_code, other.json()["code"]) == (409, "key_reused")
        rest.post("/api/v1/runs", json=body)
        page = rest.get("/api/v1/runs", params={"project": project, "limit": 1}).json()
        after = {"project": project, "limit": 1, "cursor": page["next"]}
        last = rest.get("/api/v1/runs", params=after).json()
        assert [last["items"][0]["id"], last["next"]] == [answers[0]["id"], None]
        wrong = rest.get("/api/v1/runs", params={"cursor": "zzz"})
        assert wrong.headers["content-type"] == "application/problem+json"

        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as packed:
            packed.writestr("train.py", SHORT)
        uploads = [
            rest.post(
                "/api/v1/projects/upload",
                data={"name": name},
                files={"file": content.getvalue()},
                headers={"Idempotency-Key": "upload"},
            )
            for name in ("上传", "上传", "另一个")
        ]
        assert [answer.status_code for answer in uploads] == [201, 201, 409]
        assert uploads[0].json() == uploads[1].json()
    for run in ann.commands.ask("runs", "--project", project):
        ann.commands.run("logs", run["id"], "--follow")
