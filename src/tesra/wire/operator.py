"""What operators read of the whole network: machines, money, the queue, jobs. No private names."""

from datetime import datetime

from pydantic import Field

from tesra.wire.common import Answer, Page, Wire
from tesra.wire.training import QueuePlace


class NetworkDevice(Answer):
    """``state``: ``free``, ``busy``, or ``offline``. ``measured_t``: before its class's cap."""

    id: str
    index: int
    name: str
    device_class: str
    rating_t: str
    measured_t: str
    state: str


class NodeLately(Answer):
    """Use by runs that began within a day or go on still."""

    device_hours: float
    th: str
    attempts: int


class NetworkNode(Answer):
    """A machine; ``runs`` hold its devices now."""

    id: str
    name: str
    address: str
    cores: int
    memory_bytes: int
    online: bool
    engines: int
    runs: int
    last_day: NodeLately
    devices: list[NetworkDevice]


class NetworkSite(Answer):
    id: str
    name: str
    reachable: bool
    last_seen: datetime
    nodes: list[NetworkNode]


class NetworkTotals(Answer):
    """The network's sums. ``vouchers_cny``: redeemed and not spent; ``issued_cny``: not redeemed."""

    users: int
    runs_waiting: int
    runs_live: int
    devices: int
    devices_free: int
    devices_busy: int
    rating_t: str
    unpaid_bills: int
    unpaid_cny: str
    wallets_cny: str
    vouchers_cny: str
    issued_cny: str
    day_cny: str
    day_th: str
    month_cny: str
    month_th: str


class Network(Answer):
    """Sites with their nodes and devices (500 nodes at most), and the network's sums."""

    sites: list[NetworkSite]
    totals: NetworkTotals


class UserStand(Answer):
    """What a user owes and may come to owe; whether a second factor is on."""

    id: str
    name: str
    role: str
    created_at: datetime
    unpaid_cny: str
    limit_cny: str
    wallet_cny: str
    vouchers_cny: str
    second_factor: bool


class IssuedVoucherState(Answer):
    """``state``: ``open``, ``redeemed`` or ``expired``. Codes are never shown again."""

    id: str
    amount_cny: str
    for_user: str | None
    issued_by: str | None
    issued_at: datetime
    expires_at: datetime
    redeemed_by: str | None
    redeemed_at: datetime | None
    state: str


class TopUpEntry(Answer):
    """``id`` is its posting's key in the ledger."""

    id: str
    user: str
    amount_cny: str
    at: datetime
    by: str
    reversed: bool


class TakeBackRequest(Wire):
    """``id`` of the top-up; the reason stays in the ledger."""

    id: str = Field(min_length=1, max_length=256)
    reason: str = Field(min_length=1, max_length=200)


class WaitingEntry(Answer):
    """``place`` is null for a run that is not looked at for placing yet."""

    run: str
    owner: str
    devices: int
    device_class: str | None
    priority: int
    waited_s: float
    place: QueuePlace | None


class TurnEntry(Answer):
    """What decides a user's turn: use, decayed by half a day by day, and what live runs hold."""

    user: str
    waiting: int
    used_th: str
    held_t: str


class QueueBoard(Answer):
    """The queue in the order of turns, 200 runs at most; ``total`` waits."""

    total: int
    live: int
    runs: list[WaitingEntry]
    turns: list[TurnEntry]


class FailedJobEntry(Answer):
    """``words``: the last error, null where it was not written down."""

    id: int
    task: str
    attempts: int
    words: str | None
    at: datetime | None


class Jobs(Answer):
    """``succeeded`` counts among the latest 10,000 jobs; ``failed_jobs`` are a page."""

    waiting: int
    running: int
    failed: int
    succeeded: int
    failed_jobs: Page[FailedJobEntry]


class GarbageSurvey(Answer):
    """What a collection of all drives would find now. ``locked``: drives that can't be read now."""

    drives: int
    looked_at: int
    locked: int
    packs: int
    size_bytes: int
    versions: int
