"""The server imports a git repository by a job that exists only if the request was committed."""

import asyncio
import os
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import pytest_asyncio

from factories.network import NetworkDouble, network_on
from tesra.app.jobs import declare_tasks
from tesra.storage import cloning
from tesra.wire.drive import GitImport, ImportJob

pytestmark = pytest.mark.postgres

GIT = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a"}
IDENTITY = {**os.environ, **GIT, "GIT_COMMITTER_EMAIL": "a@b", "GIT_CONFIG_GLOBAL": os.devnull}
WAIT_S = 30


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass


@pytest.fixture
def repository_url(tmp_path: Path) -> Iterator[str]:
    work = tmp_path / "work"
    work.mkdir()
    (work / "train.py").write_text("print('from git')\n")

    def git(*arguments: str, cwd: Path) -> None:
        subprocess.run(["git", *arguments], cwd=cwd, env=IDENTITY, check=True, capture_output=True)

    git("init", "-q", cwd=work)
    git("add", ".", cwd=work)
    git("commit", "-qm", "one", cwd=work)
    git("clone", "-q", "--bare", str(work), str(tmp_path / "project.git"), cwd=tmp_path)
    git("update-server-info", cwd=tmp_path / "project.git")
    handler = partial(_Quiet, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/project.git"
    server.shutdown()
    server.server_close()


@pytest_asyncio.fixture
async def network(fresh_database) -> AsyncIterator[NetworkDouble]:
    async with network_on(await fresh_database(), git_private=True) as network:
        yield network


async def _import(network: NetworkDouble, url: str) -> ImportJob:
    services = network.services
    ann = await network.user()
    async with services.database.begin() as tx:
        job = await services.git_imports.request(tx, ann, GitImport(url=url))
    declare_tasks(services)
    async with services.jobs.open_async():
        worker = asyncio.create_task(
            services.jobs.run_worker_async(install_signal_handlers=False, wait=True)
        )
        deadline = time.monotonic() + WAIT_S
        try:
            while job.state not in ("done", "failed"):
                assert time.monotonic() < deadline, job
                await asyncio.sleep(0.05)
                async with services.database.begin() as tx:
                    job = await services.git_imports.job(tx, ann, job.id)
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
    return job


async def test_a_repository_becomes_a_project(network: NetworkDouble, repository_url: str) -> None:
    job = await _import(network, repository_url)
    assert (job.state, job.error) == ("done", None)
    assert job.project is not None
    assert (job.project.name, job.project.file_count) == ("project", 1)


async def test_a_repository_that_is_not_there_fails_in_words(
    network: NetworkDouble, repository_url: str
) -> None:
    job = await _import(network, repository_url.replace("project", "nothing"))
    assert job.state == "failed"
    assert job.error


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_a_server_clones_nothing_from_its_own_side(host: str, tmp_path: Path) -> None:
    with pytest.raises(cloning.GitUrlRefused, match="inside the server's own network"):
        cloning.clone(f"http://{host}:1/project.git", tmp_path / "clone")
    assert not (tmp_path / "clone").exists()


def test_git_calls_the_very_address_that_was_checked(
    repository_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(repository_url.split(":")[2].split("/")[0])
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr(cloning.socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(cloning, "is_public", lambda address: address == "127.0.0.1")
    cloning.clone(f"http://nobody.invalid:{port}/project.git", tmp_path / "clone")
    assert (tmp_path / "clone" / "train.py").exists()
