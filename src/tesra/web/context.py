"""What a request may reach: the services, made once by the app and kept on the API's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

if TYPE_CHECKING:
    from procrastinate import App

    from tesra.billing.service import BillingService
    from tesra.compute.service import ComputeService
    from tesra.crypto.aead import Sealer
    from tesra.db.engine import Database
    from tesra.db.notify import Listener
    from tesra.drive.collection import Collector
    from tesra.drive.files.browsing import Browser
    from tesra.drive.files.service import FileService
    from tesra.drive.git_import import GitImports
    from tesra.drive.health import HealthService
    from tesra.drive.peers.care import CareService
    from tesra.drive.peers.service import PeerService
    from tesra.drive.previews.service import PreviewService
    from tesra.drive.private.service import PrivateDriveService
    from tesra.drive.search.service import SearchService
    from tesra.drive.service import DriveService
    from tesra.drive.shares.service import ShareService
    from tesra.drive.uploads.service import UploadService
    from tesra.identity.account import AccountService
    from tesra.identity.factors import SecondFactors
    from tesra.identity.service import IdentityService
    from tesra.kit.clock import Clock
    from tesra.kit.settings import Settings
    from tesra.notices.delivery import Deliveries
    from tesra.notices.service import NoticeService
    from tesra.security.alarms import AlarmService
    from tesra.security.authority import Authority
    from tesra.security.peers import PeerCredentials
    from tesra.security.sites import SiteCredentials
    from tesra.training.attempts import AttemptService
    from tesra.training.board import BoardService
    from tesra.training.checkpoints.resuming import ResumeService
    from tesra.training.checkpoints.service import CheckpointService
    from tesra.training.domains import Domains
    from tesra.training.forecasts import Forecasts
    from tesra.training.metrics.service import MetricService
    from tesra.training.projects import ProjectService
    from tesra.training.quotes import QuoteService
    from tesra.training.records.service import RecordService
    from tesra.training.service import TrainingService
    from tesra.training.sweeps.service import SweepService
    from tesra.training.transitions import Observer
    from tesra.training.tuning.service import TuningService


@dataclass
class Services:
    """The services of one server process."""

    settings: Settings
    clock: Clock
    database: Database
    listener: Listener
    jobs: App
    sealer: Sealer
    identity: IdentityService
    factors: SecondFactors
    account: AccountService
    billing: BillingService
    drive: DriveService
    files: FileService
    browser: Browser
    search: SearchService
    shares: ShareService
    uploads: UploadService
    previews: PreviewService
    private: PrivateDriveService
    peers: PeerService
    care: CareService
    health: HealthService
    collector: Collector
    alarms: AlarmService
    git_imports: GitImports
    compute: ComputeService
    notices: NoticeService
    deliveries: Deliveries
    domains: Domains
    observers: list[Observer]
    training: TrainingService
    projects: ProjectService
    attempts: AttemptService
    metrics: MetricService
    forecasts: Forecasts
    quotes: QuoteService
    tuning: TuningService
    sites: SiteCredentials
    authority: Authority
    peer_credentials: PeerCredentials
    sweeps: SweepService
    checkpoints: CheckpointService
    resuming: ResumeService
    records: RecordService
    board: BoardService


async def services_of(request: Request) -> Services:
    """The services that ``create_api`` was given."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]
