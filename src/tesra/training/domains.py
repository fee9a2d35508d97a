"""What the services of training stand on, made once by the app."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tesra.billing.model import Bill
from tesra.billing.service import BillingService
from tesra.compute.service import ComputeService
from tesra.crypto.aead import Sealer
from tesra.db.engine import Database, Tx
from tesra.drive.service import DriveService
from tesra.kit.ids import RunId, UserId
from tesra.training.data import DataService
from tesra.training.transitions import Transitions


@dataclass(frozen=True, slots=True)
class SweepEnd:
    """A sweep is over, and its bill is made."""

    sweep: str
    owner: UserId
    project: str
    reason: str | None
    bill: Bill


NearCap = Callable[[Tx, RunId, UserId, str], Awaitable[None]]
SweepEnded = Callable[[Tx, SweepEnd], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Domains:
    """The database, the domains below training, and the one place that moves runs."""

    database: Database
    drive: DriveService
    data: DataService
    compute: ComputeService
    billing: BillingService
    sealer: Sealer
    transitions: Transitions
    near_cap: Sequence[NearCap] = ()  # called once for a run, when a cap comes near
    sweep_ended: Sequence[SweepEnded] = ()  # called in the transaction that ends a sweep
