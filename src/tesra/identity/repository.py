"""Users and their tokens in the database; used by ``identity.service`` alone."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import (
    Column,
    DateTime,
    ForeignKey,
    LargeBinary,
    Table,
    Text,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from tesra.db.engine import Tx, metadata
from tesra.identity.model import (
    Locale,
    Preferences,
    Role,
    Step,
    Theme,
    Token,
    TokenKind,
    User,
    UserUnknown,
)
from tesra.identity.origins import Origin
from tesra.identity.tokens import TokenKey
from tesra.kit.ids import TokenId, UserId

_time = DateTime(timezone=True)

users = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False, unique=True),
    Column("password_hash", Text),
    Column("role", Text, nullable=False),
    Column("created_at", _time, nullable=False, server_default=func.now()),
    Column("locale", Text),
    Column("theme", Text, nullable=False, server_default=Theme.AUTO.value),
    Column("steps", ARRAY(Text), nullable=False, server_default="{}"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", _time, nullable=False, server_default=func.now()),
    Column("expires_at", _time),
    Column("revoked_at", _time),
    Column("last_used_at", _time),
    Column("kind", Text, nullable=False),
    Column("user_agent", Text),
    Column("address", Text),
)

_token_columns = (
    tokens.c.id,
    tokens.c.name,
    tokens.c.scopes,
    tokens.c.created_at,
    tokens.c.expires_at,
    tokens.c.last_used_at,
    tokens.c.kind,
    tokens.c.user_agent,
    tokens.c.address,
)
_user_columns = (users.c.id, users.c.name, users.c.role, users.c.created_at)


@dataclass(frozen=True, slots=True)
class NewToken:
    """``origin``: where it was signed in from; without ``lifetime`` it does not expire."""

    key: TokenKey
    name: str
    scopes: frozenset[str]
    lifetime: timedelta | None
    kind: TokenKind
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class TokenState:
    """A stored token with its owner, as the database's clock sees it."""

    owner: User
    secret_hash: bytes
    scopes: frozenset[str]
    kind: TokenKind
    revoked: bool
    expired: bool
    use_is_stale: bool


async def add_user(
    tx: Tx, user_id: UserId, *, name: str, name_key: str, role: Role, password_hash: str | None
) -> User | None:
    """The new user, None when the name is taken (also by a registration that runs right now)."""
    statement = (
        upsert(users)
        .values(
            id=user_id, name=name, name_key=name_key, role=role.value, password_hash=password_hash
        )
        .on_conflict_do_nothing(index_elements=[users.c.name_key])
        .returning(*_user_columns)
    )
    row = (await tx.execute(statement)).one_or_none()
    return _user(row) if row else None


async def user(tx: Tx, user_id: UserId) -> User | None:
    row = (await tx.execute(select(*_user_columns).where(users.c.id == user_id))).one_or_none()
    return _user(row) if row else None


async def user_with_password(tx: Tx, name_key: str) -> tuple[User, str | None] | None:
    statement = select(*_user_columns, users.c.password_hash).where(users.c.name_key == name_key)
    row = (await tx.execute(statement)).one_or_none()
    return (_user(row), row.password_hash) if row else None


async def list_users(
    tx: Tx, *, after: str | None, limit: int, key_part: str | None = None
) -> list[User]:
    """In order of registration; ``key_part``: only those whose name's key has it somewhere."""
    statement = select(*_user_columns).order_by(users.c.id).limit(limit)
    if key_part:
        statement = statement.where(users.c.name_key.contains(key_part, autoescape=True))
    if after is not None:
        statement = statement.where(users.c.id > after)
    return [_user(row) for row in await tx.execute(statement)]


async def names(tx: Tx, user_ids: Collection[UserId]) -> dict[UserId, str]:
    statement = select(users.c.id, users.c.name).where(users.c.id.in_(user_ids))
    return {UserId(row.id): row.name for row in await tx.execute(statement)}


async def count_users(tx: Tx) -> int:
    return int(await tx.scalar(select(func.count()).select_from(users)) or 0)


async def operators(tx: Tx) -> list[UserId]:
    statement = select(users.c.id).where(users.c.role == Role.OPERATOR.value).order_by(users.c.id)
    return [UserId(one) for one in (await tx.execute(statement)).scalars()]


async def locked_password_hash(tx: Tx, user_id: UserId) -> str | None:
    """As it is now; until this transaction ends it does not change, nor does anybody sign in."""
    statement = select(users.c.password_hash).where(users.c.id == user_id)
    return cast(str | None, await tx.scalar(statement.with_for_update(key_share=True)))


async def set_password_hash(tx: Tx, user_id: UserId, password_hash: str) -> None:
    await tx.execute(update(users).where(users.c.id == user_id).values(password_hash=password_hash))


async def preferences(tx: Tx, user_id: UserId) -> Preferences:
    statement = select(users.c.locale, users.c.theme).where(users.c.id == user_id)
    row = (await tx.execute(statement)).one_or_none()
    if row is None:
        raise UserUnknown
    return Preferences(Locale(row.locale) if row.locale else None, Theme(row.theme))


async def set_preferences(tx: Tx, user_id: UserId, changes: Mapping[str, str | None]) -> None:
    await tx.execute(update(users).where(users.c.id == user_id).values(**changes))


async def steps(tx: Tx, user_id: UserId) -> frozenset[Step]:
    taken = await tx.scalar(select(users.c.steps).where(users.c.id == user_id))
    return frozenset(Step(step) for step in taken or () if step in set(Step))


async def note_step(tx: Tx, user_id: UserId, step: Step) -> None:
    new = ~users.c.steps.contains([step.value])
    values = {"steps": func.array_append(users.c.steps, step.value)}
    await tx.execute(update(users).where(users.c.id == user_id, new).values(values))


async def add_token(tx: Tx, user_id: UserId, new: NewToken) -> Token:
    lifetime, origin = new.lifetime, new.origin
    statement = (
        insert(tokens)
        .values(
            id=new.key.id,
            user_id=user_id,
            name=new.name,
            secret_hash=new.key.secret_hash,
            scopes=sorted(new.scopes),
            expires_at=None if lifetime is None else func.now() + literal(lifetime),
            kind=new.kind.value,
            user_agent=origin.user_agent if origin else None,
            address=origin.address if origin else None,
        )
        .returning(*_token_columns)
    )
    return _token((await tx.execute(statement)).one())


async def token_state(
    tx: Tx, token_id: TokenId, *, use_is_stale_after: timedelta
) -> TokenState | None:
    statement = (
        select(
            *_user_columns,
            tokens.c.secret_hash,
            tokens.c.scopes,
            tokens.c.kind,
            tokens.c.revoked_at.is_not(None).label("revoked"),
            func.coalesce(tokens.c.expires_at <= func.now(), False).label("expired"),
            func.coalesce(
                tokens.c.last_used_at < func.now() - literal(use_is_stale_after), True
            ).label("use_is_stale"),
        )
        .join(users, users.c.id == tokens.c.user_id)
        .where(tokens.c.id == token_id)
    )
    row = (await tx.execute(statement)).one_or_none()
    if row is None:
        return None
    return TokenState(
        owner=_user(row),
        secret_hash=bytes(row.secret_hash),
        scopes=frozenset(row.scopes),
        kind=TokenKind(row.kind),
        revoked=row.revoked,
        expired=row.expired,
        use_is_stale=row.use_is_stale,
    )


async def touch_token(tx: Tx, token_id: TokenId) -> None:
    await tx.execute(update(tokens).where(tokens.c.id == token_id).values(last_used_at=func.now()))


async def list_tokens(
    tx: Tx, user_id: UserId, *, after: str | None, limit: int, kind: TokenKind | None = None
) -> list[Token]:
    """Those that still work, newest first."""
    statement = (
        select(*_token_columns)
        .where(tokens.c.user_id == user_id, tokens.c.revoked_at.is_(None), _alive())
        .order_by(tokens.c.id.desc())
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(tokens.c.id < after)
    if kind is not None:
        statement = statement.where(tokens.c.kind == kind.value)
    return [_token(row) for row in await tx.execute(statement)]


async def revoke_token(
    tx: Tx, user_id: UserId, token_id: str, *, kind: TokenKind | None = None
) -> bool:
    """Whether there was such a token of this user, revoked before or now."""
    statement = (
        update(tokens)
        .where(tokens.c.id == token_id, tokens.c.user_id == user_id)
        .values(revoked_at=func.coalesce(tokens.c.revoked_at, func.now()))
    )
    if kind is not None:
        statement = statement.where(tokens.c.kind == kind.value)
    return bool((await tx.execute(statement)).rowcount)


async def revoke_sessions(tx: Tx, user_id: UserId, *, but: TokenId) -> int:
    """All sessions that still work, save one; how many."""
    statement = (
        update(tokens)
        .where(tokens.c.user_id == user_id, tokens.c.kind == TokenKind.SESSION.value)
        .where(tokens.c.id != but, tokens.c.revoked_at.is_(None), _alive())
        .values(revoked_at=func.now())
    )
    return (await tx.execute(statement)).rowcount


async def purge(tx: Tx, *, dead_tokens: timedelta) -> int:
    """Deletes tokens that died so long ago; returns how many."""
    horizon = func.now() - literal(dead_tokens)
    dead = or_(tokens.c.expires_at < horizon, tokens.c.revoked_at < horizon)
    return (await tx.execute(delete(tokens).where(dead))).rowcount


def _alive() -> Any:
    return or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > func.now())


def _user(row: Any) -> User:
    return User(UserId(row.id), row.name, Role(row.role), cast(datetime, row.created_at))


def _token(row: Any) -> Token:
    return Token(
        id=TokenId(row.id),
        name=row.name,
        scopes=frozenset(row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        kind=TokenKind(row.kind),
        user_agent=row.user_agent,
        address=row.address,
    )
