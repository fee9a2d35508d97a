"""Two devices do what they like with a private drive; it holds what a plain table would hold."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import tesra
from factories.clusters import Cluster
from factories.peer_network import PeerNetwork, peer_network
from factories.private import PASSWORD, Person, put
from factories.storage import contents
from tesra.crypto.passphrases import Stretch
from tesra.sdk.private import opening

pytestmark = pytest.mark.postgres

STEPS = 40
SEED = 1
FOLDERS = ("", "/a", "/a/b", "/数据")
FILES = ("x", "y", "z.bin")
SIZES = (0, 5, 20_000, 300_000)

Model = dict[str, bytes]


@pytest.fixture
def network(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerNetwork]:
    with peer_network(tmp_path_factory.mktemp("model"), cluster.create(), peers=0) as network:
        yield network


def test_the_drive_holds_what_a_table_would_hold(
    network: PeerNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "fresh_stretch", lambda: Stretch(os.urandom(16), 64, 1, 1))
    ann = Person(network.url, tmp_path / "devices")
    devices = [ann.device("one"), ann.device("two")]
    ann.create(devices[0])
    devices[1].private_drives.unlock("diary", PASSWORD)
    history = _play(devices, random.Random(SEED), tmp_path)
    newest = max(history)
    for version in {newest, *sorted(history)[-8::3]}:
        folder = tmp_path / f"version {version}"
        devices[version % 2].drive_get("diary:/", folder, version=version)
        files = {
            f"/{path}": data for path, data in contents(folder).items() if isinstance(data, bytes)
        }
        assert files == history[version]


def _play(devices: list[tesra.Client], chance: random.Random, place: Path) -> dict[int, Model]:
    """Random steps on drive and model alike; the model at each version that can still be read."""
    model: Model = {}
    history: dict[int, Model] = {}
    for _ in range(STEPS):
        device = chance.choice(devices)
        act = chance.choice(("put", "put", "put", "move", "copy", "remove", "restore", "keys"))
        files = sorted(model)
        if act == "put" or not files:
            path = f"{chance.choice(FOLDERS)}/{chance.choice(FILES)}"
            content = chance.randbytes(chance.choice(SIZES))
            put(device, place, f"diary:{path}", content)
            model[path] = content
        elif act in {"move", "copy"}:
            source, target = chance.choice(files), f"/a/{chance.choice(FILES)} {chance.random()}"
            verb = device.drive_move if act == "move" else device.drive_copy
            verb(f"diary:{source}", f"diary:{target}")
            model[target] = model.pop(source) if act == "move" else model[source]
        elif act == "remove":
            path = chance.choice(files)
            device.drive_remove(f"diary:{path}")
            del model[path]
        elif act == "restore":
            version = chance.choice(sorted(history))
            gone = sorted(history[version].keys() - model.keys())
            if gone:
                device.drive_restore(f"diary:{gone[0]}", version)
                model[gone[0]] = history[version][gone[0]]
        else:
            _turn_keys(device, chance, history)
        version = next(device.drive_history("diary", 1)).version
        history[version] = dict(model)
    return history


def _turn_keys(device: tesra.Client, chance: random.Random, history: dict[int, Model]) -> None:
    if chance.random() < 0.6:
        device.private_drives.rotate("diary")
        return
    device.private_drives.tree("diary").prune(12)
    oldest = max(history) - 11
    for version in [one for one in history if one < oldest]:
        del history[version]
