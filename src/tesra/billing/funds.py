"""A user's money: accounts, the wallet, vouchers, top-ups. Nothing here knows usage or bills.

Whatever moves a user's money first locks the account row, so that movements of one user follow
each other; users do not wait for one another.
"""

from collections.abc import Collection
from datetime import timedelta

from tesra.billing import ledger, repository, voucher_repository, vouchers
from tesra.billing.books import Books
from tesra.billing.model import (
    Account,
    AccountMissing,
    Credit,
    IssuedVoucher,
    ReversalRefused,
    TopUpConflict,
    Voucher,
    VoucherLot,
    VoucherOrigin,
    VoucherUnknown,
    Wallet,
)
from tesra.db.engine import Tx
from tesra.kit.clock import Clock
from tesra.kit.ids import UserId, VoucherId, new_id
from tesra.kit.money import MICROS, AmountInvalid

WALLET_ENTRIES = 50  # what a person reads; the ledger has them all
EXPIRY_BATCH = 200  # accounts locked at once by one call of the periodic job


class Funds:
    """What comes into a user's account, and what a user may do with it besides paying."""

    def __init__(
        self,
        clock: Clock,
        *,
        welcome_micros: int = 0,
        welcome_days: int = 365,
        exposure_limit_micros: int = 100 * MICROS,
    ) -> None:
        self._clock = clock
        self.welcome_micros = welcome_micros
        self._welcome_days = welcome_days
        self._exposure_limit_micros = exposure_limit_micros
        self.books = Books(clock)

    async def open_account(self, tx: Tx, user_id: UserId) -> None:
        """Makes the row that locks a user's money; harmless when it is there."""
        await repository.open_account(tx, user_id)

    async def grant_welcome(self, tx: Tx, user_id: UserId) -> VoucherLot | None:
        """The welcome voucher, redeemed at once; one per user, None when none is given."""
        if self.welcome_micros <= 0:
            return None
        await self._lock(tx, user_id)
        voucher = Voucher(
            id=VoucherId(new_id("vch")),
            origin=VoucherOrigin.WELCOME,
            amount_micros=self.welcome_micros,
            for_user=user_id,
            redeemed_by=user_id,
            expires_at=self._clock.now() + timedelta(days=self._welcome_days),
        )
        if await voucher_repository.add_voucher(tx, voucher, code_hash=None, issued_by=None):
            posting = ledger.post_grant(
                user_id, voucher.id, amount_micros=voucher.amount_micros, memo="welcome voucher"
            )
            await repository.save_postings(tx, [posting])
        return await voucher_repository.welcome_lot(tx, user_id)

    async def redeem(self, tx: Tx, user_id: UserId, code: str) -> VoucherLot:
        """Puts a voucher's whole amount into the user's voucher balance, once.

        Raises ``VoucherUnknown`` (also for somebody else's), ``VoucherSpent``, ``VoucherExpired``.
        """
        await self._lock(tx, user_id)
        lot = await self._redeemable(tx, user_id, code)
        await self._take(tx, user_id, lot)
        return lot

    async def issue_voucher(
        self,
        tx: Tx,
        operator_id: UserId,
        *,
        amount_micros: int,
        for_user: UserId | None = None,
        days: int = 365,
    ) -> IssuedVoucher:
        """A voucher for whoever has its code, or for one user only; posted when it is redeemed."""
        if amount_micros <= 0:
            raise AmountInvalid
        if for_user is not None and await repository.load_account(tx, for_user) is None:
            raise AccountMissing
        code = vouchers.new_code()
        voucher = Voucher(
            id=VoucherId(new_id("vch")),
            origin=VoucherOrigin.OPERATOR,
            amount_micros=amount_micros,
            for_user=for_user,
            redeemed_by=None,
            expires_at=self._clock.now() + timedelta(days=days),
        )
        await voucher_repository.add_voucher(
            tx, voucher, code_hash=vouchers.hash_code(code), issued_by=operator_id
        )
        return IssuedVoucher(voucher.id, code, amount_micros, for_user, voucher.expires_at)

    async def topup(
        self,
        tx: Tx,
        operator_id: UserId,
        user_id: UserId,
        *,
        amount_micros: int,
        key: str | None = None,
    ) -> None:
        """Money from outside into a wallet; a repeated key does nothing, or raises when it differs."""
        if amount_micros <= 0:
            raise AmountInvalid
        await self._lock(tx, user_id)
        posting = ledger.post_topup(
            user_id,
            amount_micros=amount_micros,
            key=key or new_id("top"),
            memo=f"top-up by {operator_id}",
        )
        if await repository.save_posting_once(tx, posting):
            return
        if await voucher_repository.load_posting(tx, posting.key) != posting:
            raise TopUpConflict

    async def reverse(self, tx: Tx, operator_id: UserId, posting_key: str, *, reason: str) -> None:
        """Takes a top-up or an unspent voucher grant back; raises ``ReversalRefused``.

        Postings of a bill are not reversed one by one: give the money back with a top-up.
        """
        posting = await voucher_repository.load_posting(tx, posting_key)
        if posting is None or posting.kind not in {
            ledger.PostingKind.TOPUP,
            ledger.PostingKind.GRANT,
        }:
            raise ReversalRefused
        account = await self._lock(tx, posting.user_id)
        amount = max(entry.amount_micros for entry in posting.entries)
        if posting.kind is ledger.PostingKind.TOPUP:
            left = account.wallet_micros
        else:
            lots = await voucher_repository.open_lots(tx, posting.user_id)
            left = next(
                (lot.remaining_micros for lot in lots if posting.key == f"grant:{lot.id}"), 0
            )
        memo = f"{reason} (reversed by {operator_id})"
        reversal = ledger.post_reversal(posting, memo=memo)
        if left < amount:
            raise ReversalRefused("This money has been spent already.")
        if not await repository.save_posting_once(tx, reversal):
            raise ReversalRefused("This posting has been reversed already.")

    async def credits(self, tx: Tx, users: Collection[UserId]) -> dict[UserId, Credit]:
        """What stands for each user's runs until they are paid."""
        return await repository.load_credits(
            tx, users, now=self._clock.now(), default_limit_micros=self._exposure_limit_micros
        )

    async def set_exposure_limit(self, tx: Tx, user_id: UserId, limit_micros: int | None) -> int:
        """How much a user's runs may come to owe; None for the network's own; answers what holds."""
        if not await repository.set_exposure_limit(tx, user_id, limit_micros):
            raise AccountMissing
        return self._exposure_limit_micros if limit_micros is None else limit_micros

    async def set_autopay(self, tx: Tx, user_id: UserId, on: bool) -> None:
        """Whether bills are paid when they are made, as far as the money covers all of one."""
        if not await repository.set_autopay(tx, user_id, on):
            raise AccountMissing

    async def wallet(self, tx: Tx, user_id: UserId) -> Wallet:
        """Balance, lots that can still be spent, what is owed, and the latest movements."""
        account = await repository.load_account(tx, user_id)
        if account is None:
            raise AccountMissing
        now = self._clock.now()
        lots = await voucher_repository.open_lots(tx, user_id)
        return Wallet(
            balance_micros=account.wallet_micros,
            unpaid_micros=await repository.unpaid_micros(tx, user_id),
            autopay=account.autopay,
            lots=tuple(lot for lot in lots if lot.expires_at > now),
            entries=tuple(await repository.wallet_entries(tx, user_id, limit=WALLET_ENTRIES)),
        )

    async def expire_vouchers(self, tx: Tx) -> int:
        """Posts what is left of expired lots back to the platform; how many lots (0: all done).

        Accounts that are busy just now are left for the next call.
        """
        now = self._clock.now()
        owners = await voucher_repository.lock_owners_of_expired(tx, now, limit=EXPIRY_BATCH)
        expired = await voucher_repository.expired_lots(tx, owners, now) if owners else []
        await repository.save_postings(
            tx,
            [
                ledger.post_expiry(user_id, lot.id, remaining_micros=lot.remaining_micros)
                for user_id, lot in expired
            ],
        )
        return len(expired)

    async def _lock(self, tx: Tx, user_id: UserId) -> Account:
        account = await repository.load_account(tx, user_id, lock=True)
        if account is None:
            raise AccountMissing
        return account

    async def _redeemable(self, tx: Tx, user_id: UserId, code: str) -> VoucherLot:
        voucher = await voucher_repository.lock_voucher(tx, vouchers.hash_code(code))
        if voucher is None:
            raise VoucherUnknown
        return vouchers.redeem(voucher, user_id, now=self._clock.now())

    async def _take(self, tx: Tx, user_id: UserId, lot: VoucherLot) -> None:
        await voucher_repository.mark_redeemed(tx, lot, user_id)
        posting = ledger.post_grant(
            user_id, lot.id, amount_micros=lot.amount_micros, memo="voucher redeemed"
        )
        await repository.save_postings(tx, [posting])
