"""What people do with their own account once they are in: sessions, password, preferences."""

from collections.abc import Mapping

from tesra.db.engine import Tx
from tesra.identity import factor_repository, repository
from tesra.identity.account_events import AccountEvent, EventKind
from tesra.identity.model import Preferences, Principal, SessionNotFound, Step, Token, TokenKind
from tesra.kit.ids import UserId


class AccountService:
    """Sessions, the password, preferences, and what happened to the account."""

    async def sessions(
        self, tx: Tx, owner: UserId, *, after: str | None = None, limit: int = 50
    ) -> list[Token]:
        """Where somebody is signed in, newest first."""
        return await repository.list_tokens(
            tx, owner, after=after, limit=limit, kind=TokenKind.SESSION
        )

    async def revoke_session(self, tx: Tx, owner: UserId, *, session_id: str) -> None:
        """It ends at once; raises ``SessionNotFound`` when the owner has no such session."""
        if not await repository.revoke_token(tx, owner, session_id, kind=TokenKind.SESSION):
            raise SessionNotFound(way_out="'tesra account sessions' lists yours.")

    async def revoke_other_sessions(self, tx: Tx, caller: Principal) -> int:
        """All sessions but the one in use end at once; how many. API tokens go on."""
        return await repository.revoke_sessions(tx, caller.user_id, but=caller.token_id)

    async def change_password(self, tx: Tx, caller: Principal, *, new_hash: str) -> int:
        """The new password counts, all other sessions end: how many.

        The caller has proved the old one before (``IdentityService.prove``, same transaction).
        """
        await repository.set_password_hash(tx, caller.user_id, new_hash)
        await factor_repository.add_event(
            tx, caller.user_id, EventKind.PASSWORD_CHANGED, actor=caller.user_id
        )
        return await self.revoke_other_sessions(tx, caller)

    async def preferences(self, tx: Tx, user_id: UserId) -> Preferences:
        return await repository.preferences(tx, user_id)

    async def change_preferences(
        self, tx: Tx, user_id: UserId, changes: Mapping[str, str | None]
    ) -> Preferences:
        """``changes``: fields of ``Preferences`` that become another value; the rest stay."""
        if changes:
            await repository.set_preferences(tx, user_id, changes)
        return await repository.preferences(tx, user_id)

    async def steps(self, tx: Tx, user_id: UserId) -> frozenset[Step]:
        """Which first steps somebody has taken, of those that are noted."""
        return await repository.steps(tx, user_id)

    async def note_step(self, tx: Tx, user_id: UserId, step: Step) -> None:
        """The step is taken; again does nothing."""
        await repository.note_step(tx, user_id, step)

    async def events(
        self, tx: Tx, user_id: UserId, *, after: str | None = None, limit: int = 50
    ) -> list[AccountEvent]:
        """What happened to the account's password and second factor, newest first."""
        return await factor_repository.list_events(tx, user_id, after=after, limit=limit)
