"""``tesra run --data`` on a real network: read-only, fetched once, as it was, and again in a rerun."""

import json
from pathlib import Path

import pytest

from factories.command_line import Person

pytestmark = [pytest.mark.site, pytest.mark.e2e, pytest.mark.timeout(300)]

SCRIPT = """
import hashlib, json, os, pathlib
root = pathlib.Path(os.environ["TESRA_DATA_DIR"])
files = {
    path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(root.rglob("*"))
    if path.is_file()
}
refused = []
for act in (
    lambda: (root / "new").write_text("x"),
    lambda: next(path for path in root.rglob("*") if path.is_file()).write_text("x"),
    lambda: next(path for path in root.rglob("*") if path.is_file()).unlink(),
):
    try:
        act()
    except OSError as error:
        refused.append(error.errno)
print("told", json.dumps({"rank": os.environ["RANK"], "files": files, "refused": refused}))
"""


def told(log: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(log[log.index("told {") + 5 :].splitlines()[0])
    return found


def test_data_of_the_drive_is_there_read_only_and_fetched_once(ann: Person, tmp_path: Path) -> None:
    folder, data = ann.project(SCRIPT), tmp_path / "digits"
    (data / "deep").mkdir(parents=True)
    (data / "deep/big.bin").write_bytes(bytes(range(256)) * 20_000)
    (data / "labels.csv").write_text("1,2,3\n")
    ann.commands.done("drive", "put", str(data), "xingpan:/datasets/digits")

    first = ann.watch("run", folder, "--devices", "2", "--data", "xingpan:/datasets/digits")
    assert first.record["state"] == "succeeded", first.log
    seen = told(first.log)
    assert set(seen["files"]) == {"deep/big.bin", "labels.csv"}  # type: ignore[call-overload]
    assert len(seen["refused"]) == 3  # type: ignore[arg-type]
    assert first.record["data"][0]["file_count"] == 2
    assert "Fetching the data of xingpan:/datasets/digits: 2 files" in (first.log + first.told)

    (data / "labels.csv").write_text("changed\n")
    ann.commands.done("drive", "put", str(data), "xingpan:/datasets/digits")
    record = tmp_path / "record.json"
    ann.commands.done("record", first.record["id"], "-o", str(record))
    again = ann.commands.ask("rerun", str(record), "--detach")["run"]
    log = ann.commands.done("logs", again, "--follow")
    assert told(log)["files"] == seen["files"]
    said = ann.commands.run("logs", again, "--rank", "-1")
    assert "is here already" in said.stdout + said.stderr

    named = ann.watch(
        *("run", folder, "--data", "new=xingpan:/datasets/digits"),
        *("--data", "one=xingpan:/datasets/digits/labels.csv"),
    )
    files = told(named.log)["files"]
    assert set(files) == {"new/deep/big.bin", "new/labels.csv", "one/labels.csv"}  # type: ignore[call-overload]
    assert files["new/labels.csv"] == files["one/labels.csv"]  # type: ignore[index]

    said = ann.commands.run("run", folder, "--data", "xingpan:/nowhere").stderr
    assert "nothing at 'xingpan:/nowhere'" in said
    said = ann.commands.run("run", folder, "--data", "xingpan:diary:/x").stderr
    assert "private drive 'diary'" in said
