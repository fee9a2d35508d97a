"""One network for all end-to-end tests: real processes, driven through the command line."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from factories.command_line import CommandLine, Person

QUOTA_BYTES = 40_000_000


@pytest.fixture(scope="session")
def tesra() -> Iterator[CommandLine]:
    """The command line beside a running network of two devices, as nobody."""
    folder = Path(tempfile.mkdtemp(prefix="tesra-e2e-"))
    commands = CommandLine(folder, TESRA_QUOTA_BYTES=str(QUOTA_BYTES))
    try:
        commands.done("up", "--port", "0", "--devices", "2", "--detach")
        yield commands
        commands.done("down")
        assert commands.wait_until_gone() == []
        assert set(commands.pids().values()) == {None}
    finally:
        commands.run("down")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def url(tesra: CommandLine) -> str:
    address: str = tesra.ask("status")["url"]
    return address


@pytest.fixture(scope="session")
def operator(tesra: CommandLine, url: str) -> CommandLine:
    token = tesra.ask("up", "--detach")["operator_token"]
    return CommandLine(tesra.folder, TESRA_URL=url, TESRA_TOKEN=token)


@pytest.fixture(scope="module")
def new_person(tesra: CommandLine, url: str) -> Iterator[Callable[[], Person]]:
    """Registers somebody at each call."""
    people: list[Person] = []

    def register() -> Person:
        people.append(Person.register(tesra, url))
        return people[-1]

    yield register
    for person in people:
        shutil.rmtree(person.scripts, ignore_errors=True)


@pytest.fixture(scope="module")
def ann(new_person: Callable[[], Person]) -> Person:
    """Somebody whose bills are paid by themselves."""
    person = new_person()
    person.commands.done("autopay", "on")
    return person
