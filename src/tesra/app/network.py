"""One network on one machine: start what is missing, wait until it is ready, stop all of it.

Whatever a failed or interrupted start has begun is stopped again before the error is shown.
"""

import asyncio
import importlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tesra.app.choices import (
    Choices,
    Wish,
    choose,
    free_port,
    load_choices,
    port_is_free,
    render_choices,
    require_free,
)
from tesra.app.progress import Progress
from tesra.app.readiness import NodeStatus, is_ready, nodes_on_offer, wait_ready
from tesra.app.storage import TESRA, PeerStatus, peer_command, peer_names, peers_on_offer
from tesra.app.supervisor import (
    ProcessRecord,
    ProcessTable,
    exclusive,
    is_held,
    spawn,
    stop,
)
from tesra.db.embedded import EmbeddedPostgres
from tesra.db.private_files import read_or_make_secret, write_private
from tesra.kit.settings import MEASURING, Settings

SERVER = "server"
SITE = "site"
POSTGRES = "postgres"
SERVER_GRACE_S = 5.0
PEER_GRACE_S = 10.0
SITE_GRACE_S = 40.0  # it ends its gangs (15 s of grace), then its Ray processes
DOWN_WAIT_S = 5.0
CALLERS_OWN = ("TESRA_TOKEN", "TESRA_URL")  # who starts the network is not who it works for


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process of the network."""

    name: str
    pid: int | None
    state: Literal["running", "stopped"]


class Network:
    """The processes of one home. Only one command at a time starts or stops them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.home = settings.home
        self._table = ProcessTable(self.home.processes)
        self._postgres = EmbeddedPostgres(self.home)

    def choices(self) -> Choices | None:
        """What holds for this home; None if it was never started."""
        return load_choices(self.home.config)

    def operator_token(self) -> str | None:
        """The first operator's token."""
        try:
            row = json.loads(self._operator_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return str(row["token"])

    def start(self, wish: Wish, progress: Progress) -> list[str]:
        """Start what is missing, wait until all is ready; answers the names of what it started."""
        self.home.create()
        with self._alone():
            self._end_what_a_killed_stop_left()
            running = self._table.running()
            fixed = bool({SERVER, SITE, *self._peers()} & running.keys())
            choices = choose(
                wish, self.choices(), fixed=fixed, port_is_free=port_is_free, free_port=free_port
            )
            if SERVER not in running:
                require_free(choices)
            write_private(self.home.config, render_choices(choices))
            if fixed and self.ready():
                return []
            begun: list[str] = []
            try:
                self._start_missing(choices, begun, progress)
            except BaseException:
                self._stop(begun)
                raise
            return begun

    def stop(self) -> list[str]:
        """Stop everything that runs for this home; answers the names of what it stopped."""
        if not self.home.root.exists():
            return []
        with self._alone(wait_s=DOWN_WAIT_S):
            present = [row.name for row in self.processes() if row.pid is not None]
            self._stop([SERVER, SITE, *self._peers(), POSTGRES])
            return present

    def processes(self) -> list[ProcessStatus]:
        """What runs of this home; a database of your own (TESRA_DATABASE_URL) is not listed."""
        running = self._table.running()
        names = (SERVER, SITE, *self._peers())
        pids = {name: running[name].pid if name in running else None for name in names}
        if not self._settings.database_url:
            pids[POSTGRES] = self._postgres.pid()
        return [
            ProcessStatus(name, pid, "stopped" if pid is None else "running")
            for name, pid in pids.items()
        ]

    def ready(self) -> bool:
        """Whether runs can start now."""
        choices, token = self.choices(), self.operator_token()
        if choices is None or token is None or any(row.pid is None for row in self.processes()):
            return False
        return is_ready(choices, token)

    def nodes(self) -> list[NodeStatus]:
        """The nodes that are on offer now; one that was lost is not among them."""
        choices, token = self.choices(), self.operator_token()
        return nodes_on_offer(choices.url, token) if choices and token else []

    def peers(self) -> list[PeerStatus]:
        """The storage peers that ever joined, with what they hold."""
        choices, token = self.choices(), self.operator_token()
        return peers_on_offer(choices.url, token) if choices and token else []

    def is_changing(self) -> bool:
        """Whether another command starts or stops this network right now."""
        return is_held(self._lock)

    def log_of(self, name: str) -> Path:
        """Where a process writes what it has to say."""
        return self.home.logs / f"{name}.log"

    def _peers(self) -> list[str]:
        """The names of the peers' processes: those of the choices, and any that still run."""
        choices = self.choices()
        named = peer_names(choices.peers) if choices else []
        others = [name for name in self._table.read() if name.startswith("peer-")]
        return list(dict.fromkeys((*named, *others)))

    @property
    def _lock(self) -> Path:
        return self.home.root / "up.lock"

    @property
    def _operator_file(self) -> Path:
        return self.home.keys / "operator.json"

    def _alone(self, wait_s: float = 0.0) -> AbstractContextManager[None]:
        return exclusive(self._lock, wait_s)

    # -- starting ---------------------------------------------------------------------------

    def _start_missing(self, choices: Choices, begun: list[str], progress: Progress) -> None:
        """The site's Ray takes longest: where no server could answer yet, the site starts first."""
        running = self._table.running()
        site_first = SITE not in running and SERVER not in running
        with ThreadPoolExecutor(max_workers=1) as thread:
            progress.say("Starting the database")
            url = thread.submit(self._start_database, begun)
            if site_first:
                self._spawn(SITE, self._site_command(choices), begun)
            importlib.import_module(_PREPARATION)  # all of the server: a second's work meanwhile
            settings = replace(
                self._settings, host=choices.host, port=choices.port, database_url=url.result()
            )
        progress.say("Preparing the database")
        token = self._prepare(settings, site_runs=SITE in running)
        if SERVER not in running:
            progress.say("Starting the server")
            self._spawn(SERVER, self._server_command(choices), begun)
        if SITE not in running and not site_first:
            self._spawn(SITE, self._site_command(choices), begun)
        for number, name in enumerate(peer_names(choices.peers), 1):
            if name not in running:
                command = peer_command(TESRA, self.home, choices.url, number, choices.peers)
                self._spawn(name, command, begun)
        measuring = self.home.site / MEASURING
        records = self._table.read()
        wait_ready(choices, token, records, self.log_of, progress, measuring.exists)

    def _start_database(self, begun: list[str]) -> str:
        if self._settings.database_url:
            return self._settings.database_url
        if self._postgres.pid() is None:
            begun.append(POSTGRES)
        return self._postgres.start()

    def _prepare(self, settings: Settings, *, site_runs: bool) -> str:
        """Tables, the first operator and its token, which is kept and used again."""
        from tesra.app.preparation import prepare  # `status` and `down` do without the server

        known = self.operator_token()
        name, token = asyncio.run(prepare(settings, known, site_runs=site_runs))
        if token != known:
            write_private(self._operator_file, json.dumps({"name": name, "token": token}) + "\n")
        return token

    def _spawn(self, name: str, command: Sequence[str], begun: list[str]) -> None:
        environ = {key: value for key, value in os.environ.items() if key not in CALLERS_OWN}
        environ["RAY_USAGE_STATS_ENABLED"] = "0"
        begun.append(name)
        self._table.put(spawn(name, command, self.log_of(name), environ))

    def _server_command(self, choices: Choices) -> list[str]:
        address = ["--host", choices.host, "--port", str(choices.port)]
        return [*TESRA, "server", "--home", str(self.home.root), *address]

    def _site_command(self, choices: Choices) -> list[str]:
        token_file = self.home.keys / "site.token"
        read_or_make_secret(token_file)
        command = [*TESRA, "node", "start", "--home", str(self.home.root)]
        command += ["--server", choices.url, "--token-file", str(token_file)]
        if choices.devices is not None:
            command += ["--devices", str(choices.devices)]
        if choices.nodes > 1:
            command += ["--nodes", str(choices.nodes)]
        return command if choices.sandbox else [*command, "--no-sandbox"]

    # -- stopping ---------------------------------------------------------------------------

    def _stop(self, names: Sequence[str]) -> None:
        """In the order in which nobody misses what is gone: a site has last words for the server."""
        records = self._table.read()
        if SITE in names:
            self._stop_recorded(records.get(SITE), SITE_GRACE_S)
            self._end_what_a_killed_site_left()
        self._stop_peers([records[name] for name in self._peers() if name in {*names} & {*records}])
        if SERVER in names:
            self._stop_recorded(records.get(SERVER), SERVER_GRACE_S)
        if POSTGRES in names:
            self._postgres.stop()

    def _stop_peers(self, records: Sequence[ProcessRecord]) -> None:
        """All at once: each takes a second to leave its swarms."""
        for record in records:
            self._table.put(replace(record, ending=True))
        if records:
            with ThreadPoolExecutor(max_workers=len(records)) as threads:
                list(threads.map(lambda record: stop(record, PEER_GRACE_S), records))
        for record in records:
            self._table.remove(record.name)

    def _stop_recorded(self, record: ProcessRecord | None, grace_s: float) -> None:
        if record is not None:
            self._table.put(replace(record, ending=True))
            stop(record, grace_s)
            self._table.remove(record.name)

    def _end_what_a_killed_stop_left(self) -> None:
        """A process that was told to end, by a command that was killed, is no base to start on."""
        ending = [record.name for record in self._table.running().values() if record.ending]
        if ending:
            self._stop(ending)

    def _end_what_a_killed_site_left(self) -> None:
        """A site that was killed outright leaves its gangs and its Ray for its next start."""
        # All of a run's models are imported here, half a second's work that a start does without.
        from tesra.node.remains import end_node

        for folder in reversed(self.home.nodes()):
            end_node(folder)


_PREPARATION = "tesra.app.preparation"
