"""Second factors of accounts: begun with a secret, on once a code of it was given.

The secret is sealed for its owner. Who turns one off or renews codes has proved password and
code before (``IdentityService.prove``).
"""

from tesra.crypto.aead import Sealer
from tesra.db.engine import Tx
from tesra.identity import factor_repository as repository
from tesra.identity import second_factor
from tesra.identity.account_events import EventKind
from tesra.identity.model import Principal, User
from tesra.identity.second_factor import (
    Enrolment,
    EnrolmentMissing,
    FactorState,
    SecondFactorNeeded,
    SecondFactorOff,
    SecondFactorOn,
    SecondFactorWrong,
)
from tesra.kit.clock import Clock
from tesra.kit.ids import UserId

_NEXT_CODE = "Wait for the next code and try again; a recovery code works too, once."


class SecondFactors:
    """Turns second factors on and off, and checks their codes."""

    def __init__(self, sealer: Sealer, clock: Clock) -> None:
        self._sealer = sealer
        self._clock = clock

    async def state(self, tx: Tx, user_id: UserId) -> FactorState:
        stored = await repository.factor(tx, user_id)
        since = stored.confirmed_at if stored else None
        left = await repository.codes_left(tx, user_id)
        return FactorState(
            on=since is not None,
            begun=stored is not None and since is None,
            since=since,
            recovery_codes_left=left,
        )

    async def begin(self, tx: Tx, caller: Principal) -> Enrolment:
        """A fresh secret, not on yet; raises ``SecondFactorOn``."""
        secret = second_factor.new_secret()
        sealed = self._sealer.seal(secret.encode(), _context(caller.user_id))
        if not await repository.begin(tx, caller.user_id, sealed):
            raise SecondFactorOn(way_out="Turn it off first to set it up on another device.")
        return second_factor.enrolment(secret, caller.name)

    async def enrolment(self, tx: Tx, caller: Principal) -> Enrolment:
        """What ``begin`` gave, while it is not confirmed; raises ``EnrolmentMissing``."""
        stored = await repository.factor(tx, caller.user_id)
        if stored is None or stored.confirmed_at is not None:
            raise EnrolmentMissing
        return second_factor.enrolment(self._secret(caller.user_id, stored), caller.name)

    async def confirm(self, tx: Tx, caller: Principal, code: str) -> list[str]:
        """Turns it on with a first code; the recovery codes, shown this once.

        Raises ``EnrolmentMissing``, ``SecondFactorOn`` or ``SecondFactorWrong``.
        """
        stored = await repository.factor(tx, caller.user_id, lock=True)
        if stored is None:
            raise EnrolmentMissing
        if stored.confirmed_at is not None:
            raise SecondFactorOn
        step = self._step(caller.user_id, stored, code)
        if step is None:
            raise SecondFactorWrong(way_out="Is the clock of your device right? Try the next code.")
        await repository.accept_step(tx, caller.user_id, step)
        await repository.add_event(tx, caller.user_id, EventKind.FACTOR_ON, actor=caller.user_id)
        return await self._fresh_codes(tx, caller.user_id)

    async def check(self, tx: Tx, user_id: UserId, code: str | None) -> None:
        """Passes when there is no second factor, or with a code of it, which is used up by that.

        Raises ``SecondFactorNeeded`` or ``SecondFactorWrong``.
        """
        stored = await repository.factor(tx, user_id, lock=True)
        if stored is None or stored.confirmed_at is None:
            return
        if not code:
            raise SecondFactorNeeded(
                way_out="Take it from your authenticator app, or use a recovery code."
            )
        if second_factor.is_app_code(code):
            step = self._step(user_id, stored, code)
            if step is None:
                raise SecondFactorWrong(way_out=_NEXT_CODE)
            await repository.accept_step(tx, user_id, step)
            return
        if not await repository.use_code(tx, user_id, second_factor.recovery_hash(user_id, code)):
            raise SecondFactorWrong(way_out=_NEXT_CODE)
        await repository.add_event(tx, user_id, EventKind.CODE_USED, actor=user_id)

    async def turn_off(self, tx: Tx, caller: Principal) -> None:
        """Raises ``SecondFactorOff`` when it was not on."""
        if not await repository.remove(tx, caller.user_id):
            raise SecondFactorOff
        await repository.add_event(tx, caller.user_id, EventKind.FACTOR_OFF, actor=caller.user_id)

    async def renew_codes(self, tx: Tx, caller: Principal) -> list[str]:
        """Ten new recovery codes in place of all before; raises ``SecondFactorOff``."""
        stored = await repository.factor(tx, caller.user_id, lock=True)
        if stored is None or stored.confirmed_at is None:
            raise SecondFactorOff(way_out="Turn it on first; that gives codes too.")
        await repository.add_event(
            tx, caller.user_id, EventKind.CODES_RENEWED, actor=caller.user_id
        )
        return await self._fresh_codes(tx, caller.user_id)

    async def turn_off_for(self, tx: Tx, operator: Principal, user: User, *, note: str) -> None:
        """By an operator, for who lost the device; the note says why, and stays in the log."""
        if not await repository.remove(tx, user.id):
            raise SecondFactorOff(f"{user.name} has no second factor.")
        kind = EventKind.FACTOR_OFF_BY_OPERATOR
        await repository.add_event(tx, user.id, kind, actor=operator.user_id, note=note)

    async def _fresh_codes(self, tx: Tx, user_id: UserId) -> list[str]:
        codes = second_factor.new_recovery_codes()
        hashes = [second_factor.recovery_hash(user_id, code) for code in codes]
        await repository.replace_codes(tx, user_id, hashes)
        return codes

    def _step(self, user_id: UserId, stored: repository.StoredFactor, code: str) -> int | None:
        return second_factor.accepted_step(
            self._secret(user_id, stored), code, now=self._clock.now(), last_step=stored.last_step
        )

    def _secret(self, user_id: UserId, stored: repository.StoredFactor) -> str:
        return self._sealer.open(stored.sealed_secret, _context(user_id)).decode()


def _context(user_id: UserId) -> bytes:
    return f"second factor:{user_id}".encode()
