"""What the services of training stand on, made once by the app."""

from dataclasses import dataclass

from tesra.billing.service import BillingService
from tesra.compute.service import ComputeService
from tesra.crypto.aead import Sealer
from tesra.db.engine import Database
from tesra.drive.service import DriveService
from tesra.training.transitions import Transitions


@dataclass(frozen=True, slots=True)
class Domains:
    """The database, the domains below training, and the one place that moves runs."""

    database: Database
    drive: DriveService
    compute: ComputeService
    billing: BillingService
    sealer: Sealer
    transitions: Transitions
