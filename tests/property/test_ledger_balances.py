"""The pure ledger under any order of events: balanced, never overdrawn, every key once."""

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from factories.billing import NOON
from tesra.billing import ledger
from tesra.billing.model import Voucher, VoucherLot, VoucherOrigin
from tesra.billing.vouchers import redeem

USERS = st.sampled_from(["usr_a", "usr_b"])
AMOUNTS = st.integers(1, 9_000_000)
FENS = st.integers(1, 900).map(lambda fen: fen * 10_000)


class Books(RuleBasedStateMachine):
    """What the service does, without a database."""

    bills = Bundle("bills")
    topups = Bundle("topups")

    def __init__(self):
        super().__init__()
        self.now = NOON
        self.postings: list[ledger.Posting] = []
        self.vouchers: dict[str, Voucher] = {}
        self.due: dict[str, int] = {"usr_a": 0, "usr_b": 0}
        self.count = 0

    def balance(self, account: str) -> int:
        return ledger.balances(self.postings).get(account, 0)

    def lots(self, user) -> list[VoucherLot]:
        return [
            VoucherLot(
                v.id, v.origin, v.amount_micros, self.balance(f"voucher:{v.id}"), v.expires_at
            )
            for v in self.vouchers.values()
            if v.redeemed_by == user
        ]

    def fresh(self) -> str:
        self.count += 1
        return str(self.count)

    @rule(target=topups, user=USERS, amount=AMOUNTS)
    def top_up(self, user, amount):
        posting = ledger.post_topup(user, amount_micros=amount, key=self.fresh())
        self.postings.append(posting)
        return posting

    @rule(user=USERS, amount=AMOUNTS, days=st.integers(1, 5))
    def redeem_a_voucher(self, user, amount, days):
        origin, expires_at = VoucherOrigin.OPERATOR, self.now + timedelta(days=days)
        voucher = Voucher(self.fresh(), origin, amount, None, None, expires_at)
        lot = redeem(voucher, user, now=self.now)
        self.vouchers[voucher.id] = Voucher(voucher.id, origin, amount, None, user, expires_at)
        self.postings.append(ledger.post_grant(user, lot.id, amount_micros=lot.amount_micros))

    @rule(target=bills, user=USERS, amount=FENS)
    def make_a_bill(self, user, amount):
        bill = self.fresh()
        self.postings.append(
            ledger.post_bill(user, f"bil_{bill}", f"run_{bill}", amount_micros=amount)
        )
        self.due[user] += amount
        return user, f"bil_{bill}", amount

    @rule(target=bills, bill=consumes(bills))
    def pay_a_bill(self, bill):
        user, bill_id, amount = bill
        wallet, lots = self.balance(f"wallet:{user}"), self.lots(user)
        plan = ledger.plan_payment(amount, lots, wallet_micros=wallet, now=self.now)
        spent = sum(part for _, part in plan.from_vouchers) + plan.from_wallet_micros
        assert spent + plan.missing_micros == amount
        if not plan.covers:
            spendable = sum(lot.remaining_micros for lot in lots if lot.expires_at > self.now)
            assert plan.missing_micros == amount - wallet - spendable
            return bill
        self.postings.extend(ledger.post_payment(user, bill_id, plan, key="k"))
        self.due[user] -= amount
        return multiple()

    @rule(topup=consumes(topups))
    def reverse_a_top_up(self, topup):
        amount = max(entry.amount_micros for entry in topup.entries)
        if self.balance(f"wallet:{topup.user_id}") >= amount:
            self.postings.append(ledger.post_reversal(topup, memo="wrong"))

    @rule(days=st.integers(1, 3))
    def time_passes_and_vouchers_expire(self, days):
        self.now += timedelta(days=days)
        for user in ("usr_a", "usr_b"):
            for lot in self.lots(user):
                if lot.expires_at <= self.now and lot.remaining_micros:
                    self.postings.append(
                        ledger.post_expiry(user, lot.id, remaining_micros=lot.remaining_micros)
                    )

    @invariant()
    def all_accounts_together_hold_nothing(self):
        assert sum(ledger.balances(self.postings).values()) == 0

    @invariant()
    def nobody_is_overdrawn(self):
        for account, balance in ledger.balances(self.postings).items():
            if account.startswith(("wallet:", "voucher:")):
                assert balance >= 0

    @invariant()
    def what_is_owed_is_the_unpaid_bills(self):
        for user, due in self.due.items():
            assert self.balance(f"owed:{user}") == -due

    @invariant()
    def every_key_is_used_once(self):
        keys = [posting.key for posting in self.postings]
        assert len(keys) == len(set(keys))


TestBooks = Books.TestCase
