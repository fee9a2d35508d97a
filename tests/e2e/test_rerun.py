"""A run is repeated from its record: code, packages, parameters; what was changed is found out."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from factories.command_line import Person

pytestmark = [pytest.mark.site, pytest.mark.e2e]

SCRIPT = """
import json, os, sys
with open(os.environ["TESRA_PARAMS_FILE"]) as file:
    print("params", json.dumps(json.load(file), sort_keys=True))
os.makedirs("out", exist_ok=True)
open("out/model", "w").write("weights")
try:
    open(os.environ["TESRA_PARAMS_FILE"], "w").write("{}")
except OSError as error:
    print("refused", type(error).__name__)
"""


def test_a_run_is_repeated_from_its_record(
    ann: Person, new_person: Callable[[], Person], tmp_path: Path
) -> None:
    folder = ann.project(SCRIPT)
    options = ("--param", "lr=0.1", "--param", "deep=true", "--with", "six==1.17.0")
    first = ann.watch("run", folder, *options, "--env", "A=1")
    assert first.record["state"] == "succeeded", first.log
    record = tmp_path / "record.json"
    ann.commands.done("record", first.record["id"], "-o", str(record))
    assert ann.commands.ask("record", "verify", str(record))["run"] == first.record["id"]
    told = json.loads(record.read_text())["record"]
    assert told["start"]["params"] == {"lr": 0.1, "deep": True}  # whatever the script wrote
    assert "six==1.17.0" in told["environment_lock"].split()

    ann.project(SCRIPT.replace("params", "changed"))
    ann.commands.ask("import", folder)  # a newer snapshot does not matter
    again = ann.commands.ask("rerun", str(record), "--param", "lr=0.2", "--detach")["run"]
    log = ann.commands.done("logs", again, "--follow")
    assert 'params {"deep": true, "lr": 0.2}' in log
    assert "Building" not in log  # the environment with this very lock is there
    shown = ann.commands.ask("show", again)
    assert shown["rerun_of"] == first.record["id"]
    assert shown["environment_lock"] == told["environment_lock"]
    assert shown["snapshot"] == told["code"]["snapshot"]

    assert "no file" in ann.commands.refused("rerun", str(tmp_path / "typo.json"))

    body = json.loads(record.read_text())
    body["record"]["start"]["params"]["lr"] = 9
    record.write_text(json.dumps(body))
    assert "has been changed" in ann.commands.refused("record", "verify", str(record))
    assert "--unverified" in ann.commands.refused("rerun", str(record))
    loose = ann.commands.ask("rerun", str(record), "--unverified", "--detach")["run"]
    assert '"lr": 9' in ann.commands.done("logs", loose, "--follow")

    ben = new_person()
    said = ben.commands.run("rerun", str(record), "--unverified").stderr
    assert "not among your projects" in said
    assert "tesra import" in said
    ben.commands.done("autopay", "on")
    project = ben.commands.ask("import", str(folder))["name"]
    elsewhere = ben.commands.run("rerun", str(record), "--unverified", "--project", project)
    assert "other files" in elsewhere.stderr
