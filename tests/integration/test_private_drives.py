"""Private drives on a real server: what the owner's devices can do, and what the server can't."""

import base64
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from typer.testing import CliRunner

import tesra
from factories.clusters import Cluster
from factories.peer_network import PeerNetwork, peer_network
from factories.private import PASSWORD, Person, names, put, read
from factories.storage import contents, sample_folder
from tesra.cli.main import build_cli
from tesra.crypto.passphrases import Stretch
from tesra.kit.errors import NotFound, TesraError
from tesra.sdk.private import opening
from tesra.sdk.private.device import DeviceKeyRefused
from tesra.sdk.private.drive import PrivateTree, SomethingThere
from tesra.sdk.private.keyring import DeviceRemoved, ShownAnOldState
from tesra.sdk.private.opening import KeyOutdated
from tesra.sdk.private.owner import DriveLocked, WrongPassword
from tesra.sdk.private.verbs import TwoDrives
from tesra.storage.keychain import KeysBroken
from tesra.storage.recovery_kit import KitBroken

pytestmark = pytest.mark.postgres

TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"


@pytest.fixture(scope="module")
def network(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerNetwork]:
    """A server whose own folder is the only copy: what other peers do is tested elsewhere."""
    url = cluster.create()
    with peer_network(tmp_path_factory.mktemp("private"), url, peers=0) as network:
        yield network


@pytest.fixture(autouse=True)
def _cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "fresh_stretch", lambda: Stretch(os.urandom(16), 64, 1, 1))


@pytest.fixture
def ann(network: PeerNetwork, tmp_path: Path) -> Person:
    return Person(network.url, tmp_path / "devices")


@pytest.fixture
def laptop(ann: Person) -> tesra.Client:
    """Where the drive ``diary`` was made."""
    client = ann.device("laptop")
    ann.create(client)
    return client


def test_a_folder_goes_in_and_comes_out_as_it_was(laptop: tesra.Client, tmp_path: Path) -> None:
    source = sample_folder(tmp_path / "source")
    landed = laptop.drive_put(source, "diary:/work")
    assert landed.head.version == 1
    assert names(laptop, "diary:/work") == sorted(
        (path.name for path in source.iterdir()), key=str.encode
    )
    laptop.drive_get("diary:/work", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(source)
    (tmp_path / "big.bin").write_text("of somebody else")
    landed_file = laptop.drive_get("diary:/work/big.bin", tmp_path / "one.bin")
    assert (tmp_path / "big.bin").read_text() == "of somebody else"
    assert landed_file.read_bytes() == (source / "big.bin").read_bytes()
    use = laptop.drive_use("diary:/work")
    assert (use.files, use.size_bytes) == (
        6,
        sum(
            path.stat().st_size
            for path in source.rglob("*")
            if path.is_file() and not path.is_symlink()
        ),
    )


def test_a_range_of_a_file_is_read_as_a_slice_of_it(laptop: tesra.Client, tmp_path: Path) -> None:
    large, small = os.urandom(5_000_000), b"0123456789"
    put(laptop, tmp_path, "diary:/large", large)
    put(laptop, tmp_path, "diary:/small", small)
    for start, end in ((0, 1), (999_999, 3_000_001), (4_999_999, 9_000_000), (7, 7)):
        assert laptop.drive_read_range("diary:/large", start, end) == large[start:end]
    assert laptop.drive_read_range("diary:/small", 3, 6) == b"345"
    assert laptop.drive_read_range("diary:/small", 8, 99) == b"89"


def test_an_equal_folder_sends_nothing_again(laptop: tesra.Client, tmp_path: Path) -> None:
    source = sample_folder(tmp_path / "source")
    laptop.drive_put(source, "diary:/one")
    before = laptop.drive_quota().used_bytes
    laptop.drive_put(source, "diary:/two")
    assert laptop.drive_quota().used_bytes - before < 10_000


def test_moving_copying_removing_restoring(laptop: tesra.Client, tmp_path: Path) -> None:
    put(laptop, tmp_path, "diary:/a/x.txt", b"one")
    laptop.drive_make_folder("diary:/b")
    laptop.drive_move("diary:/a/x.txt", "diary:/b/")
    laptop.drive_copy("diary:/b/x.txt", "diary:/c.txt")
    put(laptop, tmp_path, "diary:/c.txt", b"two")
    assert (names(laptop, "diary:/"), names(laptop, "diary:/b")) == (["a", "b", "c.txt"], ["x.txt"])
    with pytest.raises(SomethingThere):
        laptop.drive_move("diary:/b/x.txt", "diary:/c.txt")
    removed = laptop.drive_remove("diary:/b").head.version
    with pytest.raises(NotFound):
        laptop.drive_entry("diary:/b")
    laptop.drive_restore("diary:/b", removed - 1)
    assert read(laptop, "diary:/b/x.txt") == b"one"
    assert read(laptop, "diary:/c.txt", version=removed - 2) == b"one"
    history = [one.words.rpartition(" (")[0] for one in laptop.drive_history("diary")]
    assert history[:3] == [f"restored /b of version {removed - 1}", "removed /b", "put /c.txt"]


def test_the_server_never_sees_a_name_or_a_content(
    network: PeerNetwork, ann: Person, tmp_path: Path
) -> None:
    """Every row of every table and every file of the server is searched for what was put."""
    marks = {
        kind: f"{kind}-{secrets.token_hex(12)}" for kind in ("drive", "folder", "file", "text")
    }
    laptop = ann.device("laptop")
    sent: list[bytes] = []
    laptop.connection.http.event_hooks["request"].append(lambda request: sent.append(said(request)))
    ann.create(laptop, marks["drive"])
    place = f"{marks['drive']}:/{marks['folder']}"
    put(laptop, tmp_path, f"{place}/{marks['file']}", marks["text"].encode() * 50)
    put(laptop, tmp_path, f"{place}/large", os.urandom(300_000) + marks["text"].encode())
    laptop.drive_move(f"{place}/large", f"{place}/{marks['file']} 2")
    laptop.drive_remove(f"{place}/{marks['file']} 2")
    laptop.private_drives.rotate(marks["drive"])
    kept = read_all(network) + b"".join(sent)
    assert any(b"/head" in one for one in sent)
    assert laptop.private_drives.known()[0].id.encode() in kept, "the search finds what is there"
    keys = laptop.private_drives._key(marks["drive"])
    hidden = [*(mark.encode() for mark in marks.values()), PASSWORD.encode()]
    hidden.append(bytes.fromhex(keys.private))
    state = laptop.private_drives._ring(marks["drive"]).state()
    hidden.append(state.chain.signing_key)
    for epoch in state.chain.epochs:
        hidden += [epoch.keys.id_key, epoch.keys.data_key]
    hidden.append(laptop.private_drives.holders(marks["drive"])[0].label.encode())
    for secret in hidden:
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
            assert form not in kept


def said(request: httpx.Request) -> bytes:
    """What a request says, but for a pack: that is read where it is kept."""
    body = getattr(request, "_content", b"")
    return b" ".join([str(request.url).encode(), str(request.headers).encode(), body])


def read_all(network: PeerNetwork) -> bytes:
    """All that the server keeps: its tables, as text and as bytes, and the files of its home."""
    found: list[bytes] = []
    with psycopg.connect(network.database_url) as connection:
        for (table,) in connection.execute(TABLES).fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                found += [one if isinstance(one, bytes) else str(one).encode() for one in row]
    files = [path for path in network.home.root.rglob("*") if path.is_file()]
    return b"\0".join([*found, *(path.read_bytes() for path in files)])


def test_a_second_device_reads_and_writes_after_unlocking(
    ann: Person, laptop: tesra.Client, tmp_path: Path
) -> None:
    put(laptop, tmp_path, "diary:/from-laptop", b"1")
    phone = ann.device("phone")
    with pytest.raises(DriveLocked, match="no private drive 'diary' on this device"):
        names(phone, "diary:/")
    assert [one.name for one in phone.private_drives.known()] == [None]
    with pytest.raises(WrongPassword, match="opens with this password"):
        phone.private_drives.unlock("diary", "another password")
    phone.private_drives.unlock("diary", PASSWORD)
    put(phone, tmp_path, "diary:/from-phone", b"2")
    assert names(laptop, "diary:/") == ["from-laptop", "from-phone"]
    assert read(laptop, "diary:/from-phone") == b"2"
    kinds = [one.kind for one in laptop.private_drives.holders("diary")]
    assert sorted(kinds) == ["device", "device", "kit", "password"]
    phone.private_drives.lock("diary")
    with pytest.raises(DriveLocked):
        names(phone, "diary:/")
    assert len(laptop.private_drives.holders("diary")) == 3


def test_a_lost_password_and_a_lost_device_lose_nothing_with_the_kit(
    ann: Person, laptop: tesra.Client, tmp_path: Path
) -> None:
    put(laptop, tmp_path, "diary:/years of work", b"all of it")
    laptop.private_drives.rotate("diary")
    put(laptop, tmp_path, "diary:/more", b"and more")
    found = ann.device("new machine")
    found.private_drives.recover(ann.kits[0], "a wholly new password")
    assert read(found, "diary:/years of work") == b"all of it"
    assert read(found, "diary:/more") == b"and more"
    third = ann.device("third")
    with pytest.raises(WrongPassword):
        third.private_drives.unlock("diary", PASSWORD)
    third.private_drives.unlock("diary", "a wholly new password")
    assert read(third, "diary:/more") == b"and more"
    ann.device("fourth").private_drives.recover(ann.kits[0], "the kit stays good")


def test_a_torn_kit_is_refused_and_changes_nothing(ann: Person, laptop: tesra.Client) -> None:
    kit = ann.kits[0]
    other = ann.device("other")
    for torn in (kit[: kit.index("  4:")], kit.replace("  2: ", "  2: 0"), "", "what is this?"):
        with pytest.raises(KitBroken):
            other.private_drives.recover(torn, "a wholly new password")
    ann.device("third").private_drives.unlock("diary", PASSWORD)


def test_a_new_kit_voids_the_old_one(ann: Person, laptop: tesra.Client) -> None:
    laptop.private_drives.new_kit("diary", ann.kits.append)
    with pytest.raises(KeyOutdated):
        ann.device("other").private_drives.recover(ann.kits[0], "a wholly new password")
    ann.device("third").private_drives.recover(ann.kits[1], "a wholly new password")


def test_rotation_seals_new_data_with_new_keys_and_keeps_old_data_readable(
    network: PeerNetwork, laptop: tesra.Client, tmp_path: Path
) -> None:
    source = sample_folder(tmp_path / "source")
    laptop.drive_put(source, "diary:/old")
    assert laptop.private_drives.rotate("diary") == 2
    put(laptop, tmp_path, "diary:/new.bin", os.urandom(400_000))
    ring = laptop.private_drives._ring("diary")
    epochs = [one.keys.id for one in ring.state().chain.epochs]
    packs = network.query(
        f"SELECT epoch_id, count(*) FROM packs WHERE epoch_id IN ('{epochs[0]}', '{epochs[1]}')"
        " GROUP BY 1"
    )
    assert {str(row[0]) for row in packs} == set(epochs)
    laptop.drive_get("diary:/", tmp_path / "back")
    assert contents(tmp_path / "back" / "old") == contents(source)
    laptop.drive_get("diary:/old/big.bin", tmp_path / "alone.bin")
    assert (tmp_path / "alone.bin").read_bytes() == (source / "big.bin").read_bytes()
    assert read(laptop, "diary:/old/train.py", version=1) == b"print('hello')\n"


def test_a_device_that_was_removed_can_not_open_what_comes_after(
    ann: Person, laptop: tesra.Client, tmp_path: Path
) -> None:
    thief = ann.device("stolen")
    thief.private_drives.unlock("diary", PASSWORD)
    old = thief.private_drives._ring("diary").state()
    stolen = next(one.id for one in thief.private_drives.holders("diary") if one.here)
    laptop.private_drives.remove_device("diary", stolen)
    put(laptop, tmp_path, "diary:/after", b"x")
    with pytest.raises(DeviceRemoved):
        names(thief, "diary:/")
    new = laptop.private_drives._ring("diary").state()
    assert new.signed is not None
    assert old.chain.keys_of(new.signed.epoch) is None
    with pytest.raises(NotFound):
        laptop.private_drives.remove_device("diary", "hld_nobody")


def test_two_who_write_at_once_both_keep_their_change(
    ann: Person, laptop: tesra.Client, tmp_path: Path
) -> None:
    phone = ann.device("phone")
    phone.private_drives.unlock("diary", PASSWORD)
    together = threading.Barrier(2)
    failed: list[BaseException] = []

    def work(client: tesra.Client, who: str) -> None:
        try:
            together.wait(30)
            for number in range(4):
                put(client, tmp_path / who, f"diary:/{who}-{number}", who.encode())
        except BaseException as error:
            failed.append(error)
            raise

    threads = [
        threading.Thread(target=work, args=(client, who))
        for client, who in ((laptop, "laptop"), (phone, "phone"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed
    assert len(names(laptop, "diary:/")) == 8
    assert next(laptop.drive_history("diary")).version == 8


def test_a_put_that_breaks_off_changes_nothing_and_goes_on_where_it_was(
    laptop: tesra.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(laptop, tmp_path, "diary:/a", b"before")
    source = sample_folder(tmp_path / "source")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PrivateTree, "_push", dies)
        with pytest.raises(KeyboardInterrupt):
            laptop.drive_put(source, "diary:/b")
    assert names(laptop, "diary:/") == ["a"]
    before = laptop.drive_quota().used_bytes
    laptop.drive_put(source, "diary:/b")
    assert laptop.drive_quota().used_bytes - before < 10_000
    laptop.drive_get("diary:/b", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(source)


def test_what_the_collector_took_in_the_middle_of_a_put_is_sent_again(
    network: PeerNetwork, laptop: tesra.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content is there, but no version needs it: a put that relied on it finds it gone."""
    content = os.urandom(50_000)
    put(laptop, tmp_path, "diary:/a", content)
    laptop.drive_remove("diary:/a")
    assert laptop.private_drives.tree("diary").prune(1) == 1
    drive = laptop.private_drives.known()[0].id
    push = PrivateTree._push
    swept = []

    def slow_push(self, *args):  # type: ignore[no-untyped-def]
        if not swept:
            garbage = (
                f"SELECT p.epoch_id, p.id FROM packs p JOIN private_epochs e USING (epoch_id)"
                f" LEFT JOIN private_packs k ON k.epoch_id = p.epoch_id AND k.pack_id = p.id"
                f" WHERE e.private_id = '{drive}' AND k.pack_id IS NULL"
            )
            chunks = f"(epoch_id, pack_id) IN ({garbage})"
            packs = f"(epoch_id, id) IN ({garbage})"
            network.query(f"DELETE FROM chunks WHERE {chunks} RETURNING 1")
            swept.extend(network.query(f"DELETE FROM packs WHERE {packs} RETURNING 1"))
        return push(self, *args)

    monkeypatch.setattr(PrivateTree, "_push", slow_push)
    put(laptop, tmp_path, "diary:/b", content)
    assert swept
    assert read(laptop, "diary:/b") == content


def test_a_changed_pack_is_never_delivered(
    network: PeerNetwork, laptop: tesra.Client, tmp_path: Path
) -> None:
    put(laptop, tmp_path, "diary:/a.bin", os.urandom(400_000))
    drive = laptop.private_drives.known()[0].id
    packs = network.query(
        f"SELECT encode(pack_id, 'hex') FROM private_packs WHERE private_id = '{drive}'"
    )
    for (pack,) in packs:
        path = network.packs(1)[str(pack)]
        bent = bytearray(path.read_bytes())
        for at in range(20, len(bent), 10_000):
            bent[at] ^= 1
        path.write_bytes(bent)
    with pytest.raises(TesraError):
        laptop.drive_get("diary:/", tmp_path / "back")
    assert not (tmp_path / "back" / "a.bin").exists()


def test_two_who_write_the_same_path_at_once_both_keep_their_content(
    ann: Person, laptop: tesra.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = ann.device("phone")
    phone.private_drives.unlock("diary", PASSWORD)
    put(laptop, tmp_path, "diary:/notes", b"before")
    push = PrivateTree._push
    interrupted = []

    def slow_push(self, *args):  # type: ignore[no-untyped-def]
        if not interrupted:
            interrupted.append(True)
            put(phone, tmp_path, "diary:/notes", b"by the phone")
        return push(self, *args)

    monkeypatch.setattr(PrivateTree, "_push", slow_push)
    file = tmp_path / "notes"
    file.write_bytes(b"by the laptop")
    landed = laptop.drive_put(file, "diary:/notes")
    assert [(one.path, one.to) for one in landed.renamed] == [
        ("diary:/notes", "diary:/notes (conflict)")
    ]
    assert read(laptop, "diary:/notes") == b"by the phone"
    assert read(laptop, "diary:/notes (conflict)") == b"by the laptop"


def test_a_rotation_in_the_middle_of_a_put_hurts_nobody(
    ann: Person, laptop: tesra.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = ann.device("phone")
    phone.private_drives.unlock("diary", PASSWORD)
    push = PrivateTree._push
    interrupted = []

    def slow_push(self, *args):  # type: ignore[no-untyped-def]
        if not interrupted:
            interrupted.append(True)
            phone.private_drives.rotate("diary")
        return push(self, *args)

    monkeypatch.setattr(PrivateTree, "_push", slow_push)
    put(laptop, tmp_path, "diary:/x", b"x")
    assert read(phone, "diary:/x") == b"x"
    state = phone.private_drives._ring("diary").state()
    assert state.head is not None
    assert state.head.epoch == state.chain.epochs[1].keys.id


def test_keys_that_change_at_once_are_not_lost(ann: Person, laptop: tesra.Client) -> None:
    """A rotation between another device's look and its unlocking: it takes the new keys along."""
    phone = ann.device("phone")
    ring = laptop.private_drives._ring("diary")
    show = type(ring.door).show
    interrupted = []

    def slow_show(door):  # type: ignore[no-untyped-def]
        shown = show(door)
        if not interrupted:
            interrupted.append(True)
            laptop.private_drives.rotate("diary")
        return shown

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(ring.door), "show", slow_show)
        phone.private_drives.unlock("diary", PASSWORD)
    assert len(phone.private_drives._ring("diary").state().chain.epochs) == 2
    assert len(ring.state().chain.epochs) == 2


def test_a_server_that_shows_an_older_state_or_other_keys_is_found_out(
    network: PeerNetwork, laptop: tesra.Client, tmp_path: Path
) -> None:
    put(laptop, tmp_path, "diary:/a", b"1")
    put(laptop, tmp_path, "diary:/a", b"2")
    drive = laptop.private_drives.known()[0].id
    network.query(f"UPDATE private_drives SET version = 1 WHERE id = '{drive}' RETURNING 1")
    with pytest.raises(ShownAnOldState):
        names(laptop, "diary:/")
    network.query(f"UPDATE private_drives SET version = 2 WHERE id = '{drive}' RETURNING 1")
    network.query(
        "UPDATE private_drives SET document = overlay(document placing 'x'::bytea from 100)"
        f" WHERE id = '{drive}' RETURNING 1"
    )
    with pytest.raises(KeysBroken):
        names(laptop, "diary:/")


def test_a_token_alone_moves_no_head_and_changes_no_keys(
    laptop: tesra.Client, tmp_path: Path
) -> None:
    put(laptop, tmp_path, "diary:/a", b"1")
    drive = laptop.private_drives.known()[0].id
    shown = laptop.connection.http.get(f"/api/v1/private/{drive}").json()
    forged = {"version": 2, "epoch": shown["epoch"], "sealed": "00" * 300, "signature": "00" * 64}
    answers = [
        laptop.connection.http.put(
            f"/api/v1/private/{drive}/head", json={"head": forged, "packs": []}
        ),
        laptop.connection.http.put(
            f"/api/v1/private/{drive}/keys", json={"number": 2, "document": "00"}
        ),
        laptop.connection.http.post(
            f"/api/v1/private/{drive}/prune",
            json={"at_version": 1, "keep_from": 1, "packs": [], "signature": "00" * 64},
        ),
        laptop.connection.http.request(
            "DELETE", f"/api/v1/private/{drive}", json={"signature": "00" * 64}
        ),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (403, "not_signed_by_its_owner"),
        (422, "document_invalid"),
        (403, "not_signed_by_its_owner"),
        (403, "not_signed_by_its_owner"),
    ]
    assert read(laptop, "diary:/a") == b"1"


def test_another_users_drive_is_as_unknown_as_none(
    network: PeerNetwork, laptop: tesra.Client, tmp_path: Path
) -> None:
    drive = laptop.private_drives.known()[0].id
    stranger = Person(network.url, tmp_path / "stranger").device("d")
    for method, path in (("GET", ""), ("GET", "/heads"), ("GET", f"/packs/{'0' * 64}")):
        answer = stranger.connection.http.request(method, f"/api/v1/private/{drive}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "private_drive_unknown")
    assert stranger.private_drives.known() == []


def test_what_needs_a_key_on_the_server_is_refused_with_the_way_out(
    laptop: tesra.Client, tmp_path: Path
) -> None:
    put(laptop, tmp_path, "diary:/a", b"1")
    state = laptop.private_drives._ring("diary").state()
    assert state.head is not None
    tree = {
        "epoch": state.head.epoch,
        "root": state.head.root.hex(),
        "file_count": 1,
        "size_bytes": 1,
    }
    for path, body in (
        ("/projects", {"name": "x", "snapshot": tree}),
        ("/drive/changes", {"changes": [{"op": "put", "path": "/x", "tree": tree}]}),
    ):
        answer = laptop.connection.http.post(f"/api/v1{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "key_not_here")
        assert "tesra drive get" in answer.json()["way_out"]
    with pytest.raises(TwoDrives):
        laptop.drive_copy("diary:/a", "/a")


def test_the_health_of_each_file_is_known_on_the_device(
    laptop: tesra.Client, tmp_path: Path
) -> None:
    put(laptop, tmp_path, "diary:/b/large", os.urandom(300_000))
    put(laptop, tmp_path, "diary:/b/small", b"1")
    put(laptop, tmp_path, "diary:/a", b"2")
    found = laptop.drive_health("diary:/")
    assert [(one.path, one.size_bytes) for one in found.files] == [
        ("diary:/a", 1),
        ("diary:/b/large", 300_000),
        ("diary:/b/small", 1),
    ]
    assert (found.total, found.copies, found.machines, found.state) == (3, 1, 1, "degraded")
    first = laptop.drive_health("diary:/", limit=1)
    assert [one.path for one in first.files] == ["diary:/a"]
    rest = laptop.drive_health("diary:/", after=first.next, limit=5)
    assert [one.path for one in rest.files] == ["diary:/b/large", "diary:/b/small"]
    assert rest.next is None
    assert [one.path for one in laptop.drive_health("diary:/b/small").files] == ["diary:/b/small"]
    with pytest.raises(NotFound):
        laptop.drive_health("diary:/c")


def test_the_health_of_others_packs_is_not_told(
    laptop: tesra.Client, network: PeerNetwork, tmp_path: Path
) -> None:
    put(laptop, tmp_path, "diary:/a", os.urandom(300_000))
    ring = laptop.private_drives._ring("diary")
    tree = laptop.private_drives.tree("diary")
    view = tree._view(None)
    pack = next(iter(view.reader.places([view.root]).values())).pack
    assert ring.door.health([pack])[1].keys() == {pack}
    bob = Person(network.url, tmp_path / "bobs")
    desk = bob.device("desk")
    bob.create(desk)
    with pytest.raises(NotFound):
        desk.private_drives._ring("diary").door.health([pack])


def test_the_collector_of_garbage_is_told_what_is_kept(
    network: PeerNetwork, ann: Person, laptop: tesra.Client, tmp_path: Path
) -> None:
    put(laptop, tmp_path, "diary:/a", os.urandom(100_000))
    put(laptop, tmp_path, "diary:/a", os.urandom(100_000))
    put(laptop, tmp_path, "diary:/b", b"small")
    drive = laptop.private_drives.known()[0].id

    def kept() -> set[str]:
        rows = network.query(
            f"SELECT encode(pack_id, 'hex') FROM private_packs WHERE private_id = '{drive}'"
        )
        return {str(row[0]) for row in rows}

    def stored() -> set[str]:
        rows = network.query(
            "SELECT encode(p.id, 'hex') FROM packs p JOIN private_epochs e USING (epoch_id)"
            f" WHERE e.private_id = '{drive}'"
        )
        return {str(row[0]) for row in rows}

    assert kept() == stored()
    assert laptop.private_drives.tree("diary").prune(1) == 2
    assert kept() < stored()
    assert names(laptop, "diary:/") == ["a", "b"]
    assert len(read(laptop, "diary:/a")) == 100_000
    assert [one.version for one in laptop.drive_history("diary")] == [3]
    assert laptop.private_drives.tree("diary").prune(1) == 0


def test_a_deleted_drive_is_gone_for_all_devices(
    network: PeerNetwork, ann: Person, laptop: tesra.Client, tmp_path: Path
) -> None:
    put(laptop, tmp_path, "diary:/a", b"1")
    phone = ann.device("phone")
    phone.private_drives.unlock("diary", PASSWORD)
    laptop.private_drives.end("diary")
    with pytest.raises(NotFound):
        names(phone, "diary:/")
    assert laptop.private_drives.known() == []


def test_a_key_file_is_private_and_a_damaged_one_is_told(
    ann: Person, laptop: tesra.Client, tmp_path: Path
) -> None:
    (file,) = (tmp_path / "devices" / "laptop" / "private-drives").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    with pytest.raises(DeviceKeyRefused, match="can be read by others"):
        names(laptop, "diary:/")
    file.chmod(0o600)
    file.write_text(file.read_text()[:50])
    with pytest.raises(DeviceKeyRefused, match="damaged"):
        names(laptop, "diary:/")


def test_the_command_line_makes_uses_recovers_and_refuses(
    network: PeerNetwork, ann: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESRA_URL", network.url)
    monkeypatch.setenv("TESRA_TOKEN", ann.token)

    def tesra_says(
        *words: str, device: str = "one", password: str = PASSWORD, exit_code: int = 0
    ) -> str:
        monkeypatch.setenv("TESRA_CONFIG_DIR", str(tmp_path / device))
        monkeypatch.setenv("TESRA_DRIVE_PASSWORD", password)
        done = CliRunner().invoke(build_cli(), ["drive", *words])
        assert done.exit_code == exit_code, done.output
        return done.output

    kit = tmp_path / "kit.txt"
    (tmp_path / "a.txt").write_text("hello")
    make = ("create", "diary", "--private", "--recovery-kit", str(kit))
    assert "default drive is there" in tesra_says("create", "diary", exit_code=1)
    assert "has to be confirmed" in tesra_says(*make, exit_code=1)
    assert "at least 12 characters" in tesra_says(*make, "--yes", password="short", exit_code=1)
    assert not kit.exists()
    assert "LOST FOR EVER" in tesra_says(*make, "--yes")
    assert kit.stat().st_mode & 0o777 == 0o600
    other = ("create", "other", "--private", "--yes", "--recovery-kit", str(kit))
    assert "is there already" in tesra_says(*other, exit_code=1)
    assert kit.exists()
    tesra_says("put", str(tmp_path / "a.txt"), "xingpan:diary:/deep/")
    assert tesra_says("cat", "xingpan:diary:/deep/a.txt") == "hello"
    assert "a.txt" in tesra_says("ls", "xingpan:diary:/deep")
    assert "put /deep/a.txt" in tesra_says("log", "xingpan:diary:")
    assert "--version 1" in tesra_says("rm", "xingpan:diary:/deep")
    assert "is back" in tesra_says("restore", "xingpan:diary:/deep", "--version", "1")
    assert "epoch 2" in tesra_says("rotate", "diary")
    assert "(this one)" in tesra_says("devices", "diary")
    locked = tesra_says("ls", "xingpan:diary:/", device="two", exit_code=1)
    assert "tesra drive unlock diary" in locked
    wrong = tesra_says("unlock", "diary", device="two", password="wrong", exit_code=1)
    assert "opens with this password" in wrong
    recover = ("recover", "--recovery-kit", str(kit))
    assert "new password" in tesra_says(*recover, device="two", password="a new long password")
    assert tesra_says("cat", "xingpan:diary:/deep/a.txt", device="two") == "hello"
    assert "locked on this device" in tesra_says("lock", "diary", device="two")
    assert "(locked)" in tesra_says("drives", device="two")


def test_names_are_searched_on_the_device_alone(
    network: PeerNetwork, ann: Person, laptop: tesra.Client, tmp_path: Path
) -> None:
    for path in ("/旅行 2026/日落照片.jpg", "/旅行 2026/notes.txt", "/work/NOTES-old.md"):
        put(laptop, tmp_path, f"diary:{path}", path.encode())
    put(laptop, tmp_path, "/managed notes.txt", b"of the other drive")
    found = [hit.path for hit in laptop.drive_search("notes", "diary:/")]
    assert found == ["diary:/work/NOTES-old.md", "diary:/旅行 2026/notes.txt"]
    assert [hit.name for hit in laptop.drive_search("照片", "diary:/")] == ["日落照片.jpg"]
    assert [hit.path for hit in laptop.drive_search("旅", "diary:/")] == ["diary:/旅行 2026"]
    below = list(laptop.drive_search("notes", "diary:/旅行 2026"))
    assert [(hit.kind, hit.size_bytes) for hit in below] == [("file", 22)]
    assert len(list(laptop.drive_search("o", "diary:/", limit=2))) == 2
    assert list(laptop.drive_search("nothing of the kind", "diary:/")) == []
    laptop.drive_remove("diary:/work")
    assert [hit.path for hit in laptop.drive_search("notes", "diary:/")] == found[1:]

    assert [hit.path for hit in laptop.drive_search("notes")] == ["/managed notes.txt"]
    indexed = {str(row[0]) for row in network.query("SELECT path FROM drive_names")}
    assert not [path for path in indexed if "照片" in path or "2026" in path]
    second = ann.device("second")
    with pytest.raises(DriveLocked):
        list(second.drive_search("notes", "diary:/"))
