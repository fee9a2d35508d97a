"""Identity on a real PostgreSQL: registration, login with its limits, tokens."""

import asyncio
from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from sqlalchemy import text

from factories.identity import PASSWORD, identity_service, unique_name
from tesra.db.engine import Database, Tx
from tesra.identity.model import (
    IssuedToken,
    NameTaken,
    Role,
    ScopeMissing,
    TokenExpired,
    TokenNotFound,
    TokenRevoked,
    TokenUnknown,
    TooManyLogins,
    User,
    UserUnknown,
    WrongCredentials,
)
from tesra.identity.passwords import Passwords
from tesra.identity.service import IdentityService, LoginLimits
from tesra.kit.ids import UserId

pytestmark = pytest.mark.postgres

LIMITS = LoginLimits(per_name=3, per_address=5, window=timedelta(minutes=5))


async def register(service: IdentityService, tx: Tx, name: str | None = None) -> tuple[User, str]:
    password_hash = await service.prepare_password(PASSWORD)
    user, issued = await service.register(tx, name or unique_name(), password_hash=password_hash)
    return user, issued.text


async def login(
    service: IdentityService,
    tx: Tx,
    name: str,
    *,
    password: str = PASSWORD,
    address: str = "192.0.2.1",
) -> tuple[User, IssuedToken]:
    attempt = await service.admit_login(tx, name, address=address)
    new_hash = await service.check_password(attempt, password)
    return await service.finish_login(tx, attempt, new_hash=new_hash)


async def fail_login(service: IdentityService, tx: Tx, name: str, address: str) -> None:
    with pytest.raises(WrongCredentials):
        await login(service, tx, name, password="wrong password", address=address)


async def pass_time(tx: Tx, minutes: float) -> None:
    """Everything about logins happened so much earlier."""
    await tx.execute(
        text("UPDATE login_attempts SET at = at - :span"), {"span": timedelta(minutes=minutes)}
    )


async def test_registration_tells_who_wants_to_know(tx: Tx) -> None:
    told: list[UserId] = []

    async def on_registered(_: Tx, user_id: UserId) -> None:
        told.append(user_id)

    user, _ = await register(identity_service(on_registered=on_registered), tx)
    assert told == [user.id]


async def test_a_name_in_other_case_is_taken(tx: Tx) -> None:
    service, name = identity_service(), unique_name("Wáng王")
    await register(service, tx, name)
    with pytest.raises(NameTaken):
        await register(service, tx, name.upper())


async def test_of_two_registrations_at_once_one_gets_the_name(database: Database) -> None:
    service, name = identity_service(), unique_name()

    async def attempt() -> bool:
        try:
            async with database.begin() as tx:
                await register(service, tx, name)
        except NameTaken:
            return False
        return True

    assert sorted(await asyncio.gather(*(attempt() for _ in range(4)))) == [
        False,
        False,
        False,
        True,
    ]


async def test_a_registered_person_is_signed_in(tx: Tx) -> None:
    service = identity_service()
    user, token = await register(service, tx)
    caller = await service.authenticate(tx, token)
    assert (caller.user_id, caller.name, caller.role) == (user.id, user.name, Role.USER)
    assert caller.scopes == {"read", "write"}


async def test_any_spelling_of_the_name_signs_in(tx: Tx) -> None:
    service = identity_service()
    user, _ = await register(service, tx)
    found, issued = await login(service, tx, user.name.upper())
    assert found == user
    assert (await service.authenticate(tx, issued.text)).user_id == user.id


async def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(tx: Tx) -> None:
    service = identity_service()
    user, _ = await register(service, tx)
    answers = []
    for name in (user.name, unique_name("nobody")):
        with pytest.raises(WrongCredentials) as refused:
            await login(service, tx, name, password="wrong password")
        answers.append((refused.value.detail, refused.value.way_out))
    assert answers[0] == answers[1]


async def test_a_hash_of_old_parameters_is_replaced_at_login(tx: Tx) -> None:
    user, _ = await register(identity_service(), tx)
    query = text("SELECT password_hash FROM users WHERE id = :id")
    before = await tx.scalar(query, {"id": user.id})
    stronger = Passwords(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    await login(identity_service(passwords=stronger), tx, user.name)
    after = await tx.scalar(query, {"id": user.id})
    assert before != after
    assert not stronger.outdated(str(after))
    await login(identity_service(passwords=stronger), tx, user.name)


async def test_too_many_failures_close_a_name_and_say_for_how_long(tx: Tx) -> None:
    service = identity_service(limits=LIMITS)
    user, _ = await register(service, tx)
    for number in range(3):
        await fail_login(service, tx, user.name, f"192.0.2.{number}")
    with pytest.raises(TooManyLogins) as refused:
        await login(service, tx, user.name, address="192.0.2.99")
    assert 290 <= refused.value.fields["retry_after_s"] <= 300


async def test_the_right_password_works_after_the_window(tx: Tx) -> None:
    service = identity_service(limits=LIMITS)
    user, _ = await register(service, tx)
    for _ in range(3):
        await fail_login(service, tx, user.name, "192.0.2.1")
    await pass_time(tx, 4)
    with pytest.raises(TooManyLogins):
        await login(service, tx, user.name)
    await pass_time(tx, 1.1)
    await login(service, tx, user.name)


async def test_attempts_while_closed_do_not_keep_it_closed(tx: Tx) -> None:
    service = identity_service(limits=LIMITS)
    user, _ = await register(service, tx)
    for _ in range(3):
        await fail_login(service, tx, user.name, "192.0.2.1")
    await pass_time(tx, 4)
    for _ in range(10):
        with pytest.raises(TooManyLogins):
            await login(service, tx, user.name)
    await pass_time(tx, 1.1)
    await login(service, tx, user.name)


async def test_a_right_password_forgets_the_failures_before(tx: Tx) -> None:
    service = identity_service(limits=LIMITS)
    user, _ = await register(service, tx)
    for _ in range(5):
        await fail_login(service, tx, user.name, "192.0.2.1")
        await login(service, tx, user.name)


async def test_guessing_at_many_names_closes_the_address_alone(tx: Tx) -> None:
    service = identity_service(limits=LIMITS)
    user, _ = await register(service, tx)
    for _ in range(5):
        await fail_login(service, tx, unique_name("nobody"), "198.51.100.7")
    with pytest.raises(TooManyLogins):
        await login(service, tx, user.name, address="198.51.100.7")
    await login(service, tx, user.name, address="198.51.100.8")


async def test_an_ipv6_subscriber_counts_as_one_address(tx: Tx) -> None:
    service = identity_service(limits=LIMITS)
    for number in range(5):
        await fail_login(service, tx, unique_name("nobody"), f"2001:db8:1:2::{number}")
    with pytest.raises(TooManyLogins):
        await login(service, tx, unique_name(), address="2001:db8:1:2:ffff::1")


async def test_guesses_at_once_are_all_counted(database: Database) -> None:
    service, name = identity_service(limits=LIMITS), unique_name("target")

    async def guess(number: int) -> bool:
        try:
            async with database.begin() as tx:
                await service.admit_login(tx, name, address=f"203.0.113.{number}")
        except TooManyLogins:
            return False
        return True

    assert sum(await asyncio.gather(*(guess(number) for number in range(12)))) == 3


async def test_a_revoked_token_says_so(tx: Tx) -> None:
    service = identity_service()
    user, token = await register(service, tx)
    caller = await service.authenticate(tx, token)
    await service.revoke(tx, user.id, token_id=caller.token_id)
    with pytest.raises(TokenRevoked):
        await service.authenticate(tx, token)
    assert await service.tokens(tx, user.id) == []


async def test_an_expired_token_says_so(tx: Tx) -> None:
    service = identity_service()
    _, token = await register(service, tx)
    maker = await service.authenticate(tx, token)
    issued = await service.create_token(tx, maker, name="brief", scopes=["read"], days=0)
    with pytest.raises(TokenExpired):
        await service.authenticate(tx, issued.text)


async def test_a_token_without_an_end_works(tx: Tx) -> None:
    service = identity_service()
    _, token = await register(service, tx)
    maker = await service.authenticate(tx, token)
    issued = await service.create_token(tx, maker, name="robot", scopes=["read"], days=None)
    assert issued.token.expires_at is None
    assert (await service.authenticate(tx, issued.text)).scopes == {"read"}


async def test_a_wrong_secret_does_not_tell_that_the_token_was_revoked(tx: Tx) -> None:
    service = identity_service()
    user, token = await register(service, tx)
    caller = await service.authenticate(tx, token)
    await service.revoke(tx, user.id, token_id=caller.token_id)
    forged = token[:-1] + ("0" if token[-1] != "0" else "1")
    for text_of_token in (forged, "nonsense", ""):
        with pytest.raises(TokenUnknown):
            await service.authenticate(tx, text_of_token)


async def test_a_token_cannot_make_a_greater_one(tx: Tx) -> None:
    service = identity_service()
    _, token = await register(service, tx)
    maker = await service.authenticate(tx, token)
    with pytest.raises(ScopeMissing):
        await service.create_token(tx, maker, name="more", scopes=["operate"], days=1)


async def test_anothers_token_cannot_be_revoked(tx: Tx) -> None:
    service = identity_service()
    _, token = await register(service, tx)
    other, _ = await register(service, tx)
    victim = await service.authenticate(tx, token)
    with pytest.raises(TokenNotFound):
        await service.revoke(tx, other.id, token_id=victim.token_id)
    await service.authenticate(tx, token)


async def test_an_operator_who_is_none_any_more_operates_no_more(tx: Tx) -> None:
    service = identity_service()
    user, token = await service.bootstrap_operator(tx, unique_name("boss"))
    assert "operate" in (await service.authenticate(tx, token)).scopes
    await tx.execute(text("UPDATE users SET role = 'user' WHERE id = :id"), {"id": user.id})
    assert (await service.authenticate(tx, token)).scopes == {"read", "write"}


async def test_the_use_of_a_token_is_noted_once_a_minute(tx: Tx) -> None:
    service = identity_service()
    user, token = await register(service, tx)

    async def used_at() -> object:
        return (await service.tokens(tx, user.id))[0].last_used_at

    assert await used_at() is None
    await service.authenticate(tx, token)
    first = await used_at()
    assert first is not None
    await tx.execute(text("UPDATE tokens SET last_used_at = now() - interval '59 seconds'"))
    recent = await used_at()
    await service.authenticate(tx, token)
    assert await used_at() == recent
    await tx.execute(text("UPDATE tokens SET last_used_at = now() - interval '61 seconds'"))
    await service.authenticate(tx, token)
    assert await used_at() == first


async def test_no_secret_is_stored(tx: Tx) -> None:
    service = identity_service()
    _, token = await register(service, tx)
    rows = (await tx.execute(text("SELECT row_to_json(t)::text FROM tokens t"))).scalars().all()
    people = (await tx.execute(text("SELECT row_to_json(u)::text FROM users u"))).scalars().all()
    secret = token.rsplit("_", 1)[1]
    assert rows
    assert not any(secret in row for row in rows)
    assert not any(PASSWORD in row for row in people)


async def test_the_operator_is_made_once_and_gets_fresh_tokens(tx: Tx) -> None:
    told: list[UserId] = []

    async def on_registered(_: Tx, user_id: UserId) -> None:
        told.append(user_id)

    service, name = identity_service(on_registered=on_registered), unique_name("boss")
    first, first_token = await service.bootstrap_operator(tx, name)
    second, second_token = await service.bootstrap_operator(tx, name)
    assert first == second
    assert first.role is Role.OPERATOR
    assert first_token != second_token
    assert told == [first.id]
    for token in (first_token, second_token):
        assert (await service.authenticate(tx, token)).scopes == {"read", "write", "operate"}


async def test_the_operator_has_no_password_to_guess(tx: Tx) -> None:
    service = identity_service()
    user, _ = await service.bootstrap_operator(tx, unique_name("boss"))
    with pytest.raises(WrongCredentials):
        await login(service, tx, user.name, password="")


async def test_a_user_does_not_become_operator_by_bootstrap(tx: Tx) -> None:
    service = identity_service()
    user, _ = await register(service, tx)
    with pytest.raises(NameTaken):
        await service.bootstrap_operator(tx, user.name)


async def test_people_are_found_by_name_and_id(tx: Tx) -> None:
    service = identity_service()
    user, _ = await register(service, tx)
    assert await service.user(tx, user.id) == user
    assert await service.user_by_name(tx, user.name.upper()) == user
    with pytest.raises(UserUnknown):
        await service.user_by_name(tx, unique_name("nobody"))
    with pytest.raises(UserUnknown):
        await service.user(tx, UserId("usr_none"))


async def test_what_is_long_dead_is_forgotten(tx: Tx) -> None:
    service = identity_service(limits=LIMITS)
    user, token = await register(service, tx)
    _, revoked = await login(service, tx, user.name)
    await service.revoke(tx, user.id, token_id=revoked.token.id)
    await fail_login(service, tx, user.name, "192.0.2.1")
    await service.purge_expired(tx)
    with pytest.raises(TokenRevoked):
        await service.authenticate(tx, revoked.text)
    await tx.execute(
        text("UPDATE tokens SET revoked_at = now() - interval '31 days' WHERE id = :id"),
        {"id": revoked.token.id},
    )
    await pass_time(tx, 25 * 60)
    assert await service.purge_expired(tx) >= 2
    assert await tx.scalar(text("SELECT count(*) FROM login_attempts")) == 0
    with pytest.raises(TokenUnknown):
        await service.authenticate(tx, revoked.text)
    await service.authenticate(tx, token)
