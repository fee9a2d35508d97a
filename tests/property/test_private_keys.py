"""Keys of private drives: who holds one opens all of it, who does not opens nothing."""

import dataclasses
import os
import string
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tesra.crypto.aead import SealBroken
from tesra.crypto.passphrases import Stretch, StretchRefused
from tesra.crypto.sealing import open_sealed, public_of, seal_to
from tesra.kit.errors import TesraError
from tesra.storage.format import new_keys
from tesra.storage.keychain import (
    Keychain,
    KeysBroken,
    NotAHolder,
    issue,
    new_holder,
    new_keychain,
    open_document,
    read_document,
)
from tesra.storage.pointers import HeadBroken, Pointer, open_pointer, sign_pointer
from tesra.storage.recovery_kit import KitBroken, RecoveryKit, new_kit, read_kit, write_kit

DRIVE = "prv_01kaaaaaaaaaaaaaaaaaaaaaaa"
OTHER = "prv_01kaaaaaaaaaaaaaaaaaaaaaab"
EPOCH = "epo_01kaaaaaaaaaaaaaaaaaaaaaaa"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

secrets = st.binary(min_size=32, max_size=32)
names = st.text(string.ascii_letters + "数据日记 -_", min_size=1, max_size=30)


def document_of(chain: Keychain, *privates: bytes, number: int = 1) -> bytes:
    holders = [
        new_holder(f"hld_{index}", "device", private, chain=chain)
        for index, private in enumerate(privates)
    ]
    return issue(chain, holders, number)


def opened(data: bytes, private: bytes, drive: str = DRIVE) -> Keychain:
    document = read_document(data, drive=drive)
    holder = next(one for one in document.holders if one.public == public_of(private))
    return open_document(document, holder, private)


@given(secrets, st.binary(max_size=200), st.binary(max_size=50))
def test_what_is_sealed_to_a_key_opens_with_its_private_half(
    private: bytes, plain: bytes, context: bytes
) -> None:
    sealed = seal_to(public_of(private), plain, context)
    assert open_sealed(private, sealed, context) == plain
    assert plain not in sealed or len(plain) < 3


@given(secrets, secrets, st.data())
def test_what_is_sealed_opens_for_no_other_key_context_or_changed_bit(
    private: bytes, stranger: bytes, data: st.DataObject
) -> None:
    sealed = seal_to(public_of(private), b"secret", b"here")
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    bent = bytearray(sealed)
    bent[at // 8] ^= 1 << at % 8
    cases = [(private, sealed, b"there"), (private, sealed[:-1], b"here"), (private, b"", b"here")]
    if public_of(stranger) != public_of(private):
        cases.append((stranger, sealed, b"here"))
    if at != 255:  # the highest bit of an X25519 public key is ignored, as RFC 7748 has it
        cases.append((private, bytes(bent), b"here"))
    for key, what, context in cases:
        with pytest.raises(SealBroken):
            open_sealed(key, what, context)


@given(names, st.lists(secrets, min_size=1, max_size=4, unique_by=public_of), st.integers(1, 9))
def test_every_holder_opens_the_whole_keychain(
    name: str, privates: list[bytes], number: int
) -> None:
    chain = new_keychain(DRIVE, name, EPOCH).rotated("epo_2", 7)
    data = document_of(chain, *privates, number=number)
    for private in privates:
        assert opened(data, private) == chain
    for secret in (chain.signing_key, chain.epochs[0].keys.data_key, chain.epochs[1].keys.id_key):
        assert secret not in data
    assert name.encode() not in data or len(name) < 4


@given(st.data())
def test_a_document_that_was_changed_anywhere_is_refused(data: st.DataObject) -> None:
    private = os.urandom(32)
    document = document_of(new_keychain(DRIVE, "diary", EPOCH), private)
    bent = bytearray(document)
    for _ in range(data.draw(st.integers(1, 3))):
        bent[data.draw(st.integers(0, len(bent) - 1))] ^= data.draw(st.integers(1, 255))
    cut = document[: data.draw(st.integers(0, len(document) - 1))]
    for what in (bytes(bent), cut):
        if what != document:
            with pytest.raises(KeysBroken):
                opened(what, private)


@given(st.binary(max_size=300))
def test_what_is_no_document_is_refused_and_nothing_worse(data: bytes) -> None:
    with pytest.raises(KeysBroken):
        read_document(data, drive=DRIVE)


def test_a_document_of_another_drive_or_signer_is_refused() -> None:
    chain = new_keychain(DRIVE, "diary", EPOCH)
    data = document_of(chain, os.urandom(32))
    with pytest.raises(KeysBroken):
        read_document(data, drive=OTHER)
    with pytest.raises(KeysBroken, match="another key"):
        read_document(data, drive=DRIVE, verify_key=bytes(32))


def test_a_drive_made_up_by_the_server_is_not_taken_for_the_owners_own() -> None:
    """It knows the password's public key, so it can seal to it; the proof it can't make."""
    private = os.urandom(32)
    real = read_document(document_of(new_keychain(DRIVE, "diary", EPOCH), private), drive=DRIVE)
    made_up = issue(new_keychain(DRIVE, "diary", EPOCH), real.holders, 2)
    with pytest.raises(KeysBroken, match="not the one that this key was made for"):
        opened(made_up, private)


def test_a_stranger_is_no_holder() -> None:
    document = read_document(
        document_of(new_keychain(DRIVE, "diary", EPOCH), os.urandom(32)), drive=DRIVE
    )
    with pytest.raises(NotAHolder):
        open_document(document, document.holders[0], os.urandom(32))


def test_each_version_has_the_epoch_of_its_time() -> None:
    chain = new_keychain(DRIVE, "diary", EPOCH).rotated("epo_2", 5).rotated("epo_3", 5)
    assert [chain.epoch_at(version).keys.id for version in (1, 4, 5, 9)] == [
        EPOCH,
        EPOCH,
        "epo_3",
        "epo_3",
    ]


def pointer(**changes: object) -> Pointer:
    made = Pointer(DRIVE, 3, EPOCH, bytes(32), "put /a", "hld_1", NOW)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@given(st.binary(min_size=32, max_size=32), st.text(max_size=200), st.integers(1, 2**40))
def test_a_pointer_comes_back_as_it_was_signed(root: bytes, words: str, version: int) -> None:
    words = words.encode(errors="ignore").decode()
    chain, keys = new_keychain(DRIVE, "diary", EPOCH), new_keys(EPOCH)
    given_one = pointer(root=root, words=words, version=version)
    signed = sign_pointer(given_one, keys, chain.signer)
    assert open_pointer(signed, keys, chain.signer.public) == given_one


@pytest.mark.parametrize(
    "change", [{"drive": OTHER}, {"version": 4}, {"epoch": "epo_2"}, {"sealed": bytes(300)}]
)
def test_a_pointer_is_good_for_its_place_alone(change: dict[str, object]) -> None:
    chain, keys = new_keychain(DRIVE, "diary", EPOCH), new_keys(EPOCH)
    signed = sign_pointer(pointer(), keys, chain.signer)
    with pytest.raises(HeadBroken):
        open_pointer(
            dataclasses.replace(signed, **change),  # type: ignore[arg-type]
            keys,
            chain.signer.public,
        )


def test_the_length_of_a_pointer_does_not_tell_what_was_done() -> None:
    chain, keys = new_keychain(DRIVE, "diary", EPOCH), new_keys(EPOCH)
    lengths = {
        len(sign_pointer(pointer(words="x" * size), keys, chain.signer).sealed)
        for size in (0, 20, 60)
    }
    assert len(lengths) == 1


@given(secrets, names.map(str.strip).filter(bool))
def test_a_kit_is_read_as_it_was_written_also_when_typed_by_hand(secret: bytes, name: str) -> None:
    kit = RecoveryKit(DRIVE, name, secret)
    text = write_kit(kit, NOW)
    assert read_kit(text) == kit
    head, rows = text.split("\n\n  1:")
    typed = head + "\n\n  1:" + rows.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert read_kit(typed).secret == secret


@given(st.data())
def test_a_torn_kit_is_refused(data: st.DataObject) -> None:
    text = write_kit(new_kit(DRIVE, "diary"), NOW)
    end_of_rows = text.index("\n\nWhoever")
    with pytest.raises(KitBroken):
        read_kit(text[: data.draw(st.integers(0, end_of_rows - 1))])


@given(st.data())
def test_a_slip_in_a_kits_row_is_told_with_its_number(data: st.DataObject) -> None:
    text = write_kit(new_kit(DRIVE, "diary"), NOW)
    number = data.draw(st.integers(1, 4))
    row = next(line for line in text.splitlines() if line.startswith(f"  {number}: "))
    at = data.draw(st.integers(5, len(row) - 1).filter(lambda i: row[i] != "-"))
    other = data.draw(st.sampled_from("0123456789ABCDEFGHJKMNPQRSTVWXYZ"))
    bent = row[:at] + other + row[at + 1 :]
    if bent != row:
        with pytest.raises(KitBroken, match=f"Row {number}"):
            read_kit(text.replace(row, bent))


def test_a_kit_with_another_drives_id_is_refused() -> None:
    text = write_kit(new_kit(DRIVE, "diary"), NOW)
    with pytest.raises(KitBroken, match="Row 1"):
        read_kit(text.replace(DRIVE, OTHER))


def test_a_password_makes_the_same_key_however_it_is_typed() -> None:
    stretch = Stretch(bytes(16), 64, 1, 1)
    assert stretch.key("caf\u00e9 au lait") == stretch.key("cafe\u0301 au lait")
    assert stretch.key("caf\u00e9 au lait") != stretch.key("cafe au lait")
    assert stretch.key("x") != dataclasses.replace(stretch, salt=b"1" * 16).key("x")


@pytest.mark.parametrize(
    "change", [{"memory_kib": 2**30}, {"iterations": 2**20}, {"lanes": 0}, {"salt": b""}]
)
def test_costs_that_would_take_the_machine_are_refused(change: dict[str, object]) -> None:
    stretch = dataclasses.replace(Stretch(bytes(16), 64, 1, 1), **change)  # type: ignore[arg-type]
    with pytest.raises(StretchRefused):
        stretch.key("a password")


def test_keys_never_reach_a_log() -> None:
    chain, kit = new_keychain(DRIVE, "diary", EPOCH), new_kit(DRIVE, "diary")
    said = f"{chain!r} {kit!r}"
    assert chain.signing_key.hex() not in said
    assert repr(chain.signing_key) not in said
    assert repr(kit.secret) not in said


def test_broken_keys_are_errors_that_a_user_can_read() -> None:
    assert issubclass(KeysBroken, TesraError)
    assert issubclass(KitBroken, TesraError)
