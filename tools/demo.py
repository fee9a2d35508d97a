"""The main job, as a user does it with the command line, on a network of its own.

Progress goes to stderr; the last line on stdout is one JSON object. Whatever happens, the network
is stopped again.
"""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TESRA = str(Path(sys.executable).parent / "tesra")
PROJECT = ROOT / "examples" / "pytorch-digits"
FOLDER = ROOT / ".demo"
HOME = FOLDER / "home"
MODEL_FOLDER = FOLDER / "model"
DEVICES = 2
ACCURACY = re.compile(r"\baccuracy (\d\.\d+)")
GOOD_ENOUGH = 0.9
HAS_PACKAGES = "from importlib.util import find_spec as f; f('torch') and f('sklearn') or exit(1)"


class DemoFailed(Exception):
    """A step of the demo went wrong."""


class CommandLine:
    """The ``tesra`` command as somebody with this home and this sign-in runs it."""

    def __init__(self, home: Path) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TESRA_")}
        if cache := os.environ.get("TESRA_CACHE"):
            kept["TESRA_CACHE"] = cache
        self._environ = kept | {"TESRA_HOME": str(home)}

    def sign_in(self, url: str, token: str) -> None:
        self._environ |= {"TESRA_URL": url, "TESRA_TOKEN": token}

    def show(self, *arguments: str) -> None:
        """Run a command for the reader to watch; both its streams go to stderr."""
        self._run(arguments, stdout=sys.stderr)

    def ask(self, *arguments: str) -> Any:
        """Run a command with ``--json``; answers what it printed."""
        done = self._run((*arguments, "--json"), stdout=subprocess.PIPE)
        return json.loads(done.stdout)

    def watch(self, *arguments: str) -> str:
        """Run a command, pass its lines on to stderr as they come, and answer them all."""
        say(f"$ tesra {' '.join(arguments)}")
        with subprocess.Popen(
            [TESRA, *arguments],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            lines = []
            try:
                for line in process.stdout:
                    sys.stderr.write(line)
                    sys.stderr.flush()
                    lines.append(line)
            except KeyboardInterrupt:
                process.kill()
                raise
        if process.returncode:
            raise DemoFailed(f"tesra {arguments[0]} ended with exit code {process.returncode}")
        return "".join(lines)

    def _run(self, arguments: tuple[str, ...], **streams: Any) -> subprocess.CompletedProcess[str]:
        say(f"$ tesra {' '.join(arguments)}")
        done = subprocess.run(
            [TESRA, *arguments],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            **streams,
        )
        if done.returncode:
            raise DemoFailed(f"tesra {arguments[0]} ended with exit code {done.returncode}")
        return done


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    tesra = CommandLine(HOME)
    try:
        start_afresh(tesra)
        answer = main_job(tesra)
    except (DemoFailed, OSError) as error:
        say(f"The demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted")
        return 130
    finally:
        ignore_signals()
        stop(tesra)
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def main_job(tesra: CommandLine) -> dict[str, Any]:
    """Register, import, train on two devices, look at the bill, pay it, download, predict."""
    network = tesra.ask("up", "--port", "0", "--devices", str(DEVICES), "--detach")
    name = f"demo-{secrets.token_hex(3)}"
    account = tesra.ask("register", "--url", network["url"], "--name", name)
    tesra.sign_in(network["url"], account["token"])
    tesra.show("devices")
    tesra.show("import", str(PROJECT), "--name", "digits")
    log = tesra.watch(
        "run", "digits", "--engine", "pytorch", "--entry", "train.py", "--output", "out",
        "--devices", str(DEVICES), "--follow",
    )  # fmt: skip
    run = tesra.ask("runs")[0]["id"]
    found = ACCURACY.findall(log)
    if not found or float(found[-1]) < GOOD_ENOUGH:
        raise DemoFailed(f"the model's accuracy is {found[-1] if found else 'not in the log'}")
    record = tesra.ask("show", run)
    if record["state"] != "succeeded":
        raise DemoFailed(f"the run ended as {record['state']}")
    paid = pay(tesra, record["bill"])
    model = download(tesra, run)
    say(f"The model reads {predict(model)}")
    return {
        "demo": "ok",
        "run": run,
        "state": record["state"],
        "devices": record["devices"],
        "accuracy": float(found[-1]),
        "th": record["th"],
        "amount_cny": record["amount_cny"],
        "bill": paid,
        "model": str(model),
    }


def pay(tesra: CommandLine, bill: str) -> str:
    """Pay with the welcome voucher; answers the bill's state after it."""
    tesra.show("bill", bill)
    tesra.show("pay", bill)
    tesra.show("wallet")
    state = next(row["state"] for row in tesra.ask("bills") if row["id"] == bill)
    if state != "paid":
        raise DemoFailed(f"the bill is {state}")
    return state


def download(tesra: CommandLine, run: str) -> Path:
    tesra.show("download", run, str(MODEL_FOLDER))
    models = sorted(MODEL_FOLDER.rglob("model.pt"))
    if len(models) != 1:
        raise DemoFailed(f"there are {len(models)} models in what was downloaded")
    return models[0]


def predict(model: Path) -> str:
    """Load the model and read the test images, in the environment in which it was trained."""
    done = subprocess.run(
        [training_python(), str(PROJECT / "predict.py"), str(model)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DemoFailed(f"the model does not predict: {done.stderr}")
    answer = json.loads(done.stdout)
    if answer["accuracy"] < GOOD_ENOUGH:
        raise DemoFailed(f"the downloaded model's accuracy is {answer['accuracy']}")
    return f"{answer['read']} where {answer['truth']} is written"


def training_python() -> str:
    """The newest environment of the cache that has what ``predict.py`` imports."""
    from tesra.kit.settings import default_cache

    pythons = default_cache().glob("environments/*/venv/bin/python")
    for python in sorted(pythons, key=lambda path: path.lstat().st_mtime, reverse=True):
        tried = subprocess.run([python, "-c", HAS_PACKAGES], capture_output=True, check=False)
        if tried.returncode == 0:
            return str(python)
    raise DemoFailed("the cache holds no environment with torch and scikit-learn")


def start_afresh(tesra: CommandLine) -> None:
    """Nothing of an earlier demo is left, save the cache of environments."""
    if HOME.exists():
        stop(tesra)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()


def stop(tesra: CommandLine) -> None:
    try:
        tesra.show("down")
    except (DemoFailed, OSError) as error:
        say(f"The network was not stopped: {error}")


def ignore_signals() -> None:
    """From here on the network is being stopped, and a second Ctrl-C does not keep us from it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal wants it
    raise KeyboardInterrupt


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
