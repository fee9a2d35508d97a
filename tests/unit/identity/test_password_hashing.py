from argon2 import PasswordHasher

from tesra.identity.passwords import Passwords

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


async def test_the_right_password_fits_and_a_wrong_one_does_not() -> None:
    passwords = Passwords(CHEAP)
    stored = await passwords.hash("open sesame")
    assert await passwords.verify(stored, "open sesame")
    assert not await passwords.verify(stored, "open sesamo")


async def test_nobody_has_any_password() -> None:
    passwords = Passwords(CHEAP)
    assert not await passwords.verify(None, "nobody has this password")
    assert not await passwords.verify(None, "")


async def test_a_damaged_hash_fits_nothing() -> None:
    assert not await Passwords(CHEAP).verify("$argon2id$broken", "x")


async def test_a_hash_of_other_parameters_is_outdated() -> None:
    stored = await Passwords(CHEAP).hash("open sesame")
    stronger = Passwords(PasswordHasher(time_cost=2, memory_cost=8, parallelism=1))
    assert not Passwords(CHEAP).outdated(stored)
    assert stronger.outdated(stored)
    assert await stronger.verify(stored, "open sesame")


async def test_hashes_are_argon2id() -> None:
    assert (await Passwords().hash("open sesame")).startswith("$argon2id$")
