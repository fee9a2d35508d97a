"""PostgreSQL from a wheel, private to this home: passwords always, no TCP, never run as root.

Starting and stopping are serialised by a file lock, so that any number of processes may ask at
once; a cluster appears in its place only when it is whole.
"""

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from tesra.db.launcher import (
    WAY_OUT_AS_ROOT,
    DatabaseUnavailable,
    Launcher,
    choose_launcher,
    program,
)
from tesra.db.postmaster import Postmaster
from tesra.db.private_files import (
    make_private_folder,
    private_socket_folder,
    read_or_make_secret,
    sync_folder,
    write_private,
)
from tesra.kit.settings import Home

APPLICATION = "tesra"  # the application's role and its database
SUPERUSER = "tesra_admin"
START_TIMEOUT_S = 120  # crash recovery of a large database takes its time
LOCK_TIMEOUT_S = START_TIMEOUT_S + 30
REAP_TIMEOUT_S = 10
POLL_S = 0.01
LOG_LIMIT_BYTES = 16 * 2**20
ORPHANS_ALIVE = (
    "pre-existing shared memory block"  # a killed postmaster's backends are still ending
)

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "max_wal_size": "512MB",
    "io_method": "sync",  # no I/O worker processes: small and idle most of the time
    "max_logical_replication_workers": "0",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "password_encryption": "scram-sha-256",
    "logging_collector": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres:
    """One PostgreSQL cluster below ``home``; any process of the same user may start or stop it."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._data = home.database / "data"
        self._postmaster = Postmaster(self._data)
        self._socket_record = home.database / "socket"
        self._log = home.logs / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """The application's URL, once the database answers; returns at once if it runs already."""
        self._home.create()
        make_private_folder(self._home.database)
        with self._locked():
            if self.pid() is None or not self._answers():
                self._launch(choose_launcher())
                self._wait_until_ready()
                self._prepare_application()
        return self.url()

    def stop(self, timeout_s: float = 30) -> None:
        """A clean end (fast shutdown), an immediate one after ``timeout_s``; quiet if none runs."""
        if not self._home.database.is_dir():
            return
        with self._locked():
            self._postmaster.end(timeout_s)
            self._reap()
            if self._socket_record.exists():
                shutil.rmtree(self._socket_folder(), ignore_errors=True)
                self._socket_record.unlink()

    def pid(self) -> int | None:
        """The postmaster's pid, or None if none works on this data folder."""
        return self._postmaster.pid()

    def url(self) -> str:
        """The address for the application's role, which is no superuser."""
        return self._address(APPLICATION, APPLICATION)

    def superuser_url(self, database: str = "postgres") -> str:
        """The address for maintenance; the application never uses it."""
        return self._address(SUPERUSER, database)

    def _address(self, role: str, database: str) -> str:
        if not self._socket_record.exists():
            raise DatabaseUnavailable("The embedded PostgreSQL does not run: start it first.")
        return (
            f"postgresql://{role}:{self._password(role)}@/{quote(database)}"
            f"?host={quote(str(self._socket_folder()))}"
        )

    def _password(self, role: str) -> str:
        return read_or_make_secret(self._home.keys / f"postgres-{role}")

    def _socket_folder(self) -> Path:
        return Path(self._socket_record.read_text(encoding="utf-8"))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        with (self._home.database / "lock").open("w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise DatabaseUnavailable(
                            "Another process is starting or stopping this database."
                        ) from None
                    time.sleep(POLL_S)
            yield

    def _answers(self) -> bool:
        """Whether the live postmaster is of use; False once it has ended, as one just killed does."""
        try:
            self._wait_until_ready()
            self._prepare_application()
        except (psycopg.OperationalError, DatabaseUnavailable) as error:
            deadline = time.monotonic() + REAP_TIMEOUT_S
            while self.pid() is not None:
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable(
                        f"The embedded PostgreSQL runs, but gives no access: {error}",
                        way_out=f"Read '{self._log}'.",
                    ) from error
                time.sleep(POLL_S)
            return False
        return True

    def _launch(self, launcher: Launcher) -> None:
        if not self._data.exists():
            self._initialise(launcher)
        owner = self._data.stat().st_uid
        if owner != launcher.uid:
            raise DatabaseUnavailable(
                f"The database in '{self._data}' belongs to user {owner}, not to {launcher.uid}.",
                way_out="Start it as the user that made it, or use another home.",
            )
        self._postmaster.forget_recycled_pid()
        folder = private_socket_folder(self._socket_record, launcher.uid, launcher.gid)
        options = SETTINGS | {
            "unix_socket_directories": '"{}"'.format(str(folder).replace('"', '""'))
        }
        command = [program("postgres"), "-D", str(self._data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        self._rotate_log()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._spawn(launcher.command(command, writable=[self._data, folder]), deadline):
            time.sleep(0.1)

    def _spawn(self, command: list[str], deadline: float) -> bool:
        """Run the postmaster until it has a pid file; False if it has to be tried again."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        log = os.open(self._log, flags, 0o600)
        position = os.fstat(log).st_size
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        finally:
            os.close(log)
        while self.pid() is None:
            if self._process.poll() is not None:
                said = self._log.read_bytes()[position:].decode(errors="replace")
                if ORPHANS_ALIVE in said and time.monotonic() < deadline:
                    return False
                raise DatabaseUnavailable(
                    f"The embedded PostgreSQL did not start: {_tail(said)}", way_out=_way_out()
                )
            _check_deadline(deadline)
            time.sleep(POLL_S)
        return True

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            if self._postmaster.is_ready():
                return
            if self.pid() is None:
                self._reap()
                said = self._log.read_text(encoding="utf-8", errors="replace")
                raise DatabaseUnavailable(
                    f"The embedded PostgreSQL ended while it started: {_tail(said)}",
                    way_out=f"Read '{self._log}'.",
                )
            _check_deadline(deadline)
            time.sleep(POLL_S)

    def _initialise(self, launcher: Launcher) -> None:
        """A new cluster: made beside its place, so that a half-made one is never used."""
        new = self._data.with_name("data.new")
        shutil.rmtree(new, ignore_errors=True)
        work = self._home.database / "setup"
        shutil.rmtree(work, ignore_errors=True)
        try:
            make_private_folder(work)
            make_private_folder(new)
            secret = work / "password"
            write_private(secret, self._password(SUPERUSER))
            for path in (new, work, secret):
                os.chown(path, launcher.uid, launcher.gid)
            arguments = [program("initdb"), "-D", str(new), f"--pwfile={secret}"]
            arguments += [f"--username={SUPERUSER}", "--auth=scram-sha-256", "--data-checksums"]
            arguments += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
            arguments += ["--builtin-locale=C.UTF-8", "--text-search-config=simple"]
            done = subprocess.run(
                launcher.command(arguments, writable=[new, work]),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                cwd="/",
                env=_environment(),
                check=False,
            )
        finally:
            shutil.rmtree(work)
        if done.returncode != 0:
            raise DatabaseUnavailable(
                f"The embedded PostgreSQL could not be set up: {_tail(done.stderr)}",
                way_out=_way_out(),
            )
        new.rename(self._data)
        sync_folder(self._home.database)  # else a power cut could bring back 'data.new', with data

    def _prepare_application(self) -> None:
        """The application's role and its database, if they are not there yet."""
        with psycopg.connect(self.superuser_url(), autocommit=True) as connection:
            known = connection.execute(
                "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %(name)s),"
                " EXISTS (SELECT FROM pg_database WHERE datname = %(name)s)",
                {"name": APPLICATION},
            ).fetchone()
            role_known, database_known = known or (False, False)
            name = sql.Identifier(APPLICATION)
            if not role_known:
                verifier = connection.pgconn.encrypt_password(
                    self._password(APPLICATION).encode(), APPLICATION.encode(), b"scram-sha-256"
                )
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, verifier.decode())
                )
            if not database_known:
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
                for database in (APPLICATION, "postgres", "template1"):
                    connection.execute(
                        sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(
                            sql.Identifier(database)
                        )
                    )

    def _rotate_log(self) -> None:
        if self._log.exists() and self._log.stat().st_size > LOG_LIMIT_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(REAP_TIMEOUT_S)
            self._process = None


def _environment() -> dict[str, str]:
    """Nothing of ours: PostgreSQL needs no token, proxy or locale of the person who started it."""
    return {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C", "TZ": "UTC"}


def _check_deadline(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise DatabaseUnavailable("The embedded PostgreSQL does not become ready.")


def _tail(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-5:]) or "no reason given"


def _way_out() -> str:
    return WAY_OUT_AS_ROOT if os.geteuid() == 0 else "Set TESRA_DATABASE_URL to your own."
