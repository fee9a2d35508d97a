"""The embedded PostgreSQL: private, durable, started and stopped at will."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg
import pytest

from tesra.db import launcher
from tesra.db.embedded import EmbeddedPostgres
from tesra.db.launcher import SYSTEM_USER, DatabaseUnavailable
from tesra.kit.settings import Home

pytestmark = pytest.mark.postgres

NOBODY = 65534
DEADLINE_S = 30

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another local user")


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedPostgres]:
    """A started cluster, in a home whose path has spaces and whose parent everybody may read."""
    folder = Path(tempfile.mkdtemp(prefix="tesra test "))
    folder.chmod(0o755)
    postgres = EmbeddedPostgres(Home(folder / "a home"))
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.stop()
        shutil.rmtree(folder)


@pytest.fixture
def home() -> Iterator[Home]:
    """A home not yet used, stopped and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tesra-test-"))
    home = Home(folder / "home")
    yield home
    EmbeddedPostgres(home).stop()
    shutil.rmtree(folder)


def ask(url: str, statement: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement).fetchone()
        return row[0] if row else None


def socket_folder(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def kill_postmaster(postgres: EmbeddedPostgres) -> int:
    """As a crash would: nothing is cleaned up."""
    pid = postgres.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: postgres.pid() is None)
    return pid


def as_nobody(action: Callable[[], object]) -> str:
    """What happens when the local user 'nobody' does it: 'done', or the error's name."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        outcome = "done"
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            action()
        except BaseException as error:  # noqa: BLE001 - the child must not go on
            outcome = type(error).__name__
        finally:
            os.write(writer, outcome.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        outcome = answer.read()
    os.waitpid(child, 0)
    return outcome


class TestWhatRuns:
    def test_it_is_postgresql_18_with_checksums_and_durable_commits(
        self, running: EmbeddedPostgres
    ) -> None:
        url = running.url()
        assert str(ask(url, "SHOW server_version")).startswith("18.")
        settings = ("data_checksums", "fsync", "synchronous_commit", "full_page_writes")
        assert [ask(url, f"SHOW {name}") for name in settings] == ["on"] * 4
        assert ask(url, "SHOW max_connections") == "100"

    def test_text_is_utf8_in_the_builtin_locale(self, running: EmbeddedPostgres) -> None:
        asked = (
            "SELECT pg_encoding_to_char(encoding) || ' ' || datlocprovider::text || ' ' || datlocale"
            " FROM pg_database WHERE datname = current_database()"
        )
        assert ask(running.url(), asked) == "UTF8 b C.UTF-8"
        assert ask(running.url(), "SELECT upper('é') || length('星盘')") == "É2"

    def test_the_application_is_no_superuser_and_owns_its_database(
        self, running: EmbeddedPostgres
    ) -> None:
        asked = (
            "SELECT current_user || ' ' || rolsuper || rolcreatedb || rolcreaterole || rolreplication"
            " || ' ' || (SELECT datdba::regrole::text FROM pg_database"
            " WHERE datname = current_database()) FROM pg_roles WHERE rolname = current_user"
        )
        assert ask(running.url(), asked) == "tesra falsefalsefalsefalse tesra"

    def test_the_application_cannot_run_programs_or_read_files(
        self, running: EmbeddedPostgres
    ) -> None:
        for forbidden in ("COPY (SELECT 1) TO PROGRAM 'true'", "SELECT pg_read_file('PG_VERSION')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                ask(running.url(), forbidden)

    def test_a_wrong_password_is_refused(self, running: EmbeddedPostgres) -> None:
        folder = socket_folder(running.url())
        for role in ("tesra", "tesra_admin"):
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(f"postgresql://{role}:wrong@/tesra?host={folder}")
            with pytest.raises(psycopg.OperationalError, match="no password supplied"):
                psycopg.connect(f"postgresql://{role}@/tesra?host={folder}", passfile="/dev/null")

    def test_it_does_not_listen_on_the_network(self, running: EmbeddedPostgres) -> None:
        assert ask(running.url(), "SHOW listen_addresses") == ""

    @as_root
    def test_started_by_root_it_runs_as_an_unprivileged_user_in_its_own_session(
        self, running: EmbeddedPostgres
    ) -> None:
        pid = running.pid()
        assert pid is not None
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert set(status["Uid"].split()) == {str((running._data).stat().st_uid)}
        assert "0" not in status["Uid"].split()
        assert not status["Groups"].strip()
        assert status["NoNewPrivs"].strip() == "1"
        assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert os.getsid(pid) != os.getsid(0)

    @as_root
    def test_started_by_root_it_sees_nothing_of_the_home_but_its_data(
        self, running: EmbeddedPostgres
    ) -> None:
        inside = Path(f"/proc/{running.pid()}/root")
        home = running._home
        assert sorted(p.name for p in (inside / str(home.database)[1:]).iterdir()) == ["data"]
        assert not (inside / str(home.keys)[1:]).exists()
        assert not (inside / "root").exists() or not any((inside / "root").iterdir())


class TestOtherLocalUsers:
    @as_root
    def test_another_local_user_cannot_connect(self, running: EmbeddedPostgres) -> None:
        url = running.superuser_url()  # even with the password
        path = socket_folder(url) / ".s.PGSQL.5432"
        assert path.is_socket()
        assert as_nobody(lambda: psycopg.connect(url)) == "OperationalError"
        assert as_nobody(path.stat) == "PermissionError"

    @as_root
    def test_another_local_user_can_read_neither_data_nor_keys(
        self, running: EmbeddedPostgres
    ) -> None:
        home = running._home
        home.root.chmod(0o755)  # not even if the home itself were open
        try:
            assert as_nobody(lambda: list(home.root.iterdir())) == "done"
            for path in (home.database, home.database / "data", home.keys):
                assert as_nobody(lambda path=path: list(path.iterdir())) == "PermissionError"
            for path in (home.keys / "postgres-tesra", home.database / "data" / "PG_VERSION"):
                assert as_nobody(path.read_bytes) == "PermissionError"
        finally:
            home.root.chmod(0o700)

    @as_root
    def test_the_database_user_itself_cannot_read_the_keys(self, running: EmbeddedPostgres) -> None:
        assert running._home.keys.stat().st_uid == 0
        assert running._data.stat().st_uid != 0

    def test_secrets_and_folders_are_private_to_their_owner(
        self, running: EmbeddedPostgres
    ) -> None:
        home = running._home
        folders = [home.keys, home.database, home.database / "data", socket_folder(running.url())]
        assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700] * 4
        secrets = list(home.keys.iterdir())
        assert sorted(path.name for path in secrets) == ["postgres-tesra", "postgres-tesra_admin"]
        assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}

    def test_no_password_is_on_a_command_line_or_in_the_log(
        self, running: EmbeddedPostgres
    ) -> None:
        secrets = [path.read_text() for path in running._home.keys.iterdir()]
        exposed = Path(f"/proc/{running.pid()}/cmdline").read_text()
        exposed += (running._home.logs / "postgres.log").read_text()
        assert not [secret for secret in secrets if secret in exposed]

    @as_root
    def test_a_socket_folder_that_another_user_took_is_not_used(self, home: Home) -> None:
        postgres = EmbeddedPostgres(home)
        postgres.start()
        postgres.stop()
        stolen = Path(tempfile.mkdtemp(prefix="tesra-stolen-"))
        os.chown(stolen, NOBODY, NOBODY)
        (home.database / "socket").write_text(str(stolen))
        try:
            assert socket_folder(postgres.start()) != stolen
            assert not list(stolen.iterdir())
        finally:
            stolen.rmdir()


def runs(pid: int) -> bool:
    """A zombie, which waits for init to take note of it, does not run."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class TestStartAndStop:
    def test_starting_again_returns_at_once_with_the_same_address(
        self, running: EmbeddedPostgres
    ) -> None:
        pid, url = running.pid(), running.url()
        assert EmbeddedPostgres(running._home).start() == url
        assert running.pid() == pid

    def test_stopping_leaves_no_process_and_no_socket_folder(self, home: Home) -> None:
        postgres = EmbeddedPostgres(home)
        url = postgres.start()
        pid = postgres.pid()
        assert pid is not None
        EmbeddedPostgres(home).stop()
        assert not runs(pid)
        assert postgres.pid() is None
        assert not socket_folder(url).exists()
        postgres.stop()  # quiet

    def test_what_was_committed_is_there_after_stop_and_start(self, home: Home) -> None:
        postgres = EmbeddedPostgres(home)
        with psycopg.connect(postgres.start()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
        postgres.stop()
        assert ask(postgres.start(), "SELECT n FROM kept") == 42

    def test_after_a_killed_postmaster_it_starts_at_the_same_address_with_all_commits(
        self, home: Home
    ) -> None:
        postgres = EmbeddedPostgres(home)
        url = postgres.start()
        connection = psycopg.connect(url, autocommit=True)  # its backend outlives the postmaster
        connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
        kill_postmaster(postgres)
        assert postgres.start() == url
        assert ask(url, "SELECT n FROM kept") == 42
        connection.close()

    def test_a_start_right_after_the_kill_waits_for_the_end_and_starts_anew(
        self, home: Home
    ) -> None:
        postgres = EmbeddedPostgres(home)
        postgres.start()
        for _ in range(5):
            killed = postgres.pid()
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            assert ask(postgres.start(), "SELECT 1") == 1
            assert postgres.pid() != killed

    def test_a_pid_file_that_names_another_process_does_not_hinder_the_start(
        self, home: Home
    ) -> None:
        """A power cut, and the pid is now another program's."""
        postgres = EmbeddedPostgres(home)
        postgres.start()
        kill_postmaster(postgres)
        with subprocess.Popen(["sleep", "300"], user=running_uid(postgres)) as other:
            try:
                pid_file = home.database / "data" / "postmaster.pid"
                lines = pid_file.read_text().splitlines()
                pid_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
                assert postgres.pid() is None
                assert ask(postgres.start(), "SELECT 1") == 1
                postgres.stop()
                assert other.poll() is None, "a process that is not ours was ended"
            finally:
                other.kill()

    def test_ten_concurrent_starts_give_one_postmaster(self, home: Home) -> None:
        gate = threading.Barrier(10)

        def start() -> tuple[str, int | None]:
            postgres = EmbeddedPostgres(home)
            gate.wait()
            return postgres.start(), postgres.pid()

        with ThreadPoolExecutor(10) as pool:
            answers = [future.result() for future in [pool.submit(start) for _ in range(10)]]
        assert len(set(answers)) == 1

    def test_it_outlives_the_process_that_started_it(self, home: Home) -> None:
        program = (
            "import sys; from pathlib import Path; from tesra.kit.settings import Home;"
            " from tesra.db.embedded import EmbeddedPostgres;"
            " print(EmbeddedPostgres(Home(Path(sys.argv[1]))).start())"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(home.root)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert ask(done.stdout.strip(), "SELECT 1") == 1

    def test_a_half_made_cluster_is_made_anew(self, home: Home) -> None:
        home.create()
        (home.database / "setup").mkdir(parents=True)
        half = home.database / "data.new"
        half.mkdir(parents=True)
        (half / "PG_VERSION").write_text("18\n")
        assert ask(EmbeddedPostgres(home).start(), "SELECT 1") == 1
        assert sorted(path.name for path in home.database.iterdir()) == ["data", "lock", "socket"]

    def test_a_long_home_path_is_no_hindrance(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="tesra-test-"))
        postgres = EmbeddedPostgres(Home(folder / ("long" * 30) / ("路径" * 20)))
        try:
            assert ask(postgres.start(), "SELECT 1") == 1
        finally:
            postgres.stop()
            shutil.rmtree(folder)

    def test_a_broken_data_folder_gives_an_error_that_says_why(self, home: Home) -> None:
        postgres = EmbeddedPostgres(home)
        postgres.start()
        postgres.stop()
        (home.database / "data" / "global" / "pg_control").unlink()
        with pytest.raises(DatabaseUnavailable, match="could not find the database system"):
            postgres.start()

    @as_root
    def test_root_without_the_right_to_mount_is_told_the_way_out(
        self, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(launcher, "_find_bwrap", lambda: "/bin/false")
        with pytest.raises(DatabaseUnavailable) as caught:
            EmbeddedPostgres(home).start()
        assert "TESRA_DATABASE_URL" in str(caught.value.way_out)
        assert "ordinary user" in str(caught.value.way_out)

    @as_root
    def test_a_home_of_another_user_is_refused(self, home: Home) -> None:
        postgres = EmbeddedPostgres(home)
        postgres.start()
        postgres.stop()
        os.chown(home.database / "data", NOBODY, NOBODY)
        with pytest.raises(DatabaseUnavailable, match="belongs to user 65534"):
            postgres.start()

    def test_asking_for_the_address_before_the_start_is_an_error(self, home: Home) -> None:
        with pytest.raises(DatabaseUnavailable, match="start it first"):
            EmbeddedPostgres(home).url()

    @as_root
    def test_an_ordinary_user_starts_it_without_any_helper(self) -> None:
        """The same code as another user, with the first interpreter that user can execute."""
        folder = Path(tempfile.mkdtemp(prefix="tesra-test-"))
        try:
            os.chown(folder, NOBODY, NOBODY)
            outcome = run_as_nobody(folder)
        finally:
            shutil.rmtree(folder)
        assert outcome == "nobody tesra 0"


def running_uid(postgres: EmbeddedPostgres) -> int:
    return (postgres._home.database / "data").stat().st_uid


ORDINARY_USER = """
import os, pwd, sys
from pathlib import Path
import psycopg
from tesra.db.embedded import EmbeddedPostgres
from tesra.kit.settings import Home
postgres = EmbeddedPostgres(Home(Path(sys.argv[1]) / "a home"))
try:
    url = postgres.start()
    owner = pwd.getpwuid(os.stat(f"/proc/{postgres.pid()}").st_uid).pw_name
    os.kill(postgres.pid(), 9)
    url = postgres.start()
    with psycopg.connect(url) as connection:
        role = connection.execute("SELECT current_user").fetchone()[0]
finally:
    postgres.stop()
print(owner, role, len(list(Path(sys.argv[1]).glob("tesra-*"))))
"""


def run_as_nobody(folder: Path) -> str:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    as_user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(folder),
    }
    for interpreter in (sys.executable, f"/usr/local/bin/{version}", f"/usr/bin/{version}"):
        command = [*as_user, interpreter, "-c"]
        probe = "import psycopg, psutil, platformdirs, tesra.db.embedded"
        if subprocess.run([*command, probe], env=environment, capture_output=True).returncode == 0:
            done = subprocess.run(
                [*command, ORDINARY_USER, str(folder)],
                env=environment,
                capture_output=True,
                text=True,
                cwd="/",
            )
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()
    pytest.skip("no interpreter here that another user can execute with our libraries")


def test_the_account_has_no_password_and_no_shell() -> None:
    if os.geteuid() != 0:
        pytest.skip("the account is only needed under root")
    line = next(
        line
        for line in Path("/etc/passwd").read_text().splitlines()
        if line.startswith(f"{SYSTEM_USER}:")
    )
    assert line.endswith("nologin")
