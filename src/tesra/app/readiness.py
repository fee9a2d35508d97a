"""When is a network ready: the server answers, and the site offers its devices there."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from tesra.app.choices import Choices
from tesra.app.progress import Progress
from tesra.app.storage import first_missing
from tesra.app.supervisor import START_LINE, ProcessRecord, alive
from tesra.kit.errors import Unavailable

READY_TIMEOUT_S = 120.0
MEASURE_TIMEOUT_S = 3600.0
POLL_S = 0.1
ANSWER_S = 5.0
TAIL_LINES = 12
HEALTH = "/api/v1/health"
DEVICES = "/api/v1/devices"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node that is on offer, and its devices."""

    name: str
    devices: int
    free: int


class NotStarted(Unavailable):
    """A part of the network did not start; ``log`` is where it says why."""

    def __init__(self, detail: str, log: Path) -> None:
        super().__init__(detail, way_out=f"Its log says why: {log}")
        self.log = log


def wait_ready(
    choices: Choices,
    token: str,
    processes: Mapping[str, ProcessRecord],
    log_of: Callable[[str], Path],
    progress: Progress,
    measures: Callable[[], bool] = lambda: False,
) -> None:
    """Return when runs can start; raises ``NotStarted`` with the log's last lines otherwise.

    While the site ``measures`` GPUs, which needs PyTorch first, it gets more time.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    longest = time.monotonic() + MEASURE_TIMEOUT_S
    with httpx.Client(base_url=choices.url, timeout=ANSWER_S, trust_env=False) as client:
        while (waits_for := _lacking(client, token, choices)) is not None:
            if measures():
                progress.say("Measuring the GPUs; fetching PyTorch for it takes minutes, once")
                deadline = min(time.monotonic() + READY_TIMEOUT_S, longest)
            else:
                progress.say(f"Waiting for the {waits_for}")
            for name, record in processes.items():
                if not alive(record):
                    raise NotStarted(f"The {name} ended while it started.", log_of(name))
            if time.monotonic() > deadline:
                raise NotStarted(
                    f"The {waits_for} is not ready after {READY_TIMEOUT_S:.0f} s.",
                    log_of(waits_for),
                )
            time.sleep(POLL_S)


def _lacking(client: httpx.Client, token: str, choices: Choices) -> str | None:
    """The storage peers are asked for last: they have joined long before the site has."""
    part = lacking(client, token, choices.devices or choices.nodes)
    return part if part is not None else first_missing(client, token, choices.peers)


def lacking(client: httpx.Client, token: str, devices: int | None) -> str | None:
    """The part that is not ready yet: ``server``, ``site``, or None when all is well.

    So many devices must be on offer: those declared, else one on each node.
    """
    try:
        if client.get(HEALTH).status_code != httpx.codes.OK:
            return "server"
        answer = client.get(DEVICES, headers={"Authorization": f"Bearer {token}"})
    except httpx.TransportError:
        return "server"
    if answer.status_code != httpx.codes.OK:
        return "server"
    body = answer.json()
    classes = body["items"] if isinstance(body, dict) else body
    return None if sum(row["total"] for row in classes) >= (devices or 1) else "site"


def is_ready(choices: Choices, token: str) -> bool:
    """One look, for ``tesra status``."""
    with httpx.Client(base_url=choices.url, timeout=ANSWER_S, trust_env=False) as client:
        return _lacking(client, token, choices) is None


def nodes_on_offer(url: str, token: str) -> list[NodeStatus]:
    """The nodes by name; none while no server answers."""
    total: Counter[str] = Counter()
    free: Counter[str] = Counter()
    with httpx.Client(base_url=url, timeout=ANSWER_S, trust_env=False) as client:
        try:
            answer = client.get(DEVICES, headers={"Authorization": f"Bearer {token}"})
        except httpx.TransportError:
            return []
    if answer.status_code != httpx.codes.OK:
        return []
    for node in [node for row in answer.json()["items"] for node in row["nodes"]]:
        total[node["name"]] += node["total"]
        free[node["name"]] += node["free"]
    return [NodeStatus(name, total[name], free[name]) for name in sorted(total)]


def tail(log: Path) -> list[str]:
    """The last lines that the present process has written, to be shown above an error."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return text.rpartition(START_LINE)[2].splitlines()[1:][-TAIL_LINES:]
