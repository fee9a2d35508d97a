"""Wiring: the one place where services learn of each other."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from procrastinate import App
from sqlalchemy import MetaData

from tesra.app.jobs import GIT_IMPORT_TASK, NOTICES
from tesra.app.keeping import Keeping, make_keeping
from tesra.app.tellings import tell_of_alarms, tell_of_caps, tell_of_runs, tell_of_sweeps
from tesra.app.workers import Workers
from tesra.billing.service import BillingService
from tesra.compute.service import ComputeService, read_class_table
from tesra.crypto.aead import Sealer
from tesra.crypto.keys import load_or_create_master_key
from tesra.crypto.signing import Signer
from tesra.db.embedded import EmbeddedPostgres
from tesra.db.engine import Database, Tx, metadata
from tesra.db.jobs import defer_named, make_jobs
from tesra.db.migrate import migrate
from tesra.db.notify import Listener
from tesra.db.private_files import read_or_make_secret
from tesra.drive.collection import Collector
from tesra.drive.files.browsing import Browser
from tesra.drive.files.service import FileService
from tesra.drive.git_import import GitImports
from tesra.drive.health import HealthService
from tesra.drive.previews.service import PreviewService
from tesra.drive.private.service import PrivateDriveService
from tesra.drive.search.service import SearchService
from tesra.drive.service import DriveService
from tesra.drive.shares.service import ShareService
from tesra.drive.uploads.service import UploadService
from tesra.drive.uploads.spool import Spool
from tesra.identity.account import AccountService
from tesra.identity.factors import SecondFactors
from tesra.identity.service import IdentityService, OnRegistered, RegistrationLimits
from tesra.kit.clock import Clock, SystemClock
from tesra.kit.ids import SiteId, UserId
from tesra.kit.settings import Settings
from tesra.notices.delivery import Deliveries
from tesra.notices.mailing import read_mail_server
from tesra.notices.service import NoticeService
from tesra.security.authority import Authority
from tesra.security.peers import PeerCredentials
from tesra.security.sites import SiteCredentials
from tesra.storage.cloning import CloneLimits
from tesra.training import logs as training_logs
from tesra.training.attempts import AttemptService
from tesra.training.board import BoardService
from tesra.training.checkpoints.resuming import ResumeService
from tesra.training.checkpoints.service import CheckpointService
from tesra.training.data import DataService
from tesra.training.dispatcher import Dispatcher
from tesra.training.domains import Domains, NearCap, SweepEnded
from tesra.training.engines.catalog import read_engines
from tesra.training.forecasts import Forecasts
from tesra.training.metrics.service import MetricService
from tesra.training.projects import ProjectService
from tesra.training.quotes import QuoteService
from tesra.training.records.parts import other_sections
from tesra.training.records.service import RecordService
from tesra.training.service import TrainingService
from tesra.training.sweeps.conductor import Conductor
from tesra.training.sweeps.readings import Readings
from tesra.training.sweeps.runner import SweepRunner
from tesra.training.sweeps.service import SweepService
from tesra.training.transitions import Observer, Transitions
from tesra.training.tuning.service import TuningService
from tesra.web.api import create_api
from tesra.web.context import Services
from tesra.web.ui.notice_words import tell_channel

LOCAL_SITE = SiteId("local")


def whole_metadata() -> MetaData:
    """The tables of all domains; importing the services above has declared them."""
    assert training_logs.log_segments.metadata is metadata
    return metadata


def database_url(settings: Settings) -> str:
    """Your own database, or the embedded one, which has to run."""
    return settings.database_url or EmbeddedPostgres(settings.home).url()


async def prepare_database(settings: Settings) -> None:
    """Bring the tables up to date."""
    await asyncio.to_thread(migrate, database_url(settings), whole_metadata())


async def open_services(settings: Settings) -> Services:
    """All services of one process; close ``services.database`` when done."""
    settings.home.create()
    return make_services(settings)


def make_services(settings: Settings) -> Services:
    """All services of one process; nothing is connected yet."""
    url, keys, clock = database_url(settings), settings.home.keys, SystemClock()
    database, sealer = Database(url), Sealer(load_or_create_master_key(keys / "master.key"))
    billing, listener, jobs = _make_billing(settings, clock), Listener(url), make_jobs(url)
    identity, factors = _make_identity(settings, billing, sealer, clock)
    notices, deliveries = _make_notices(settings, database, sealer, jobs)
    kept = make_keeping(settings, database, listener, jobs, tell_of_alarms(notices, identity))
    drive = _make_drive(settings, database, sealer, kept)
    files, private = FileService(database, drive), PrivateDriveService(drive)
    data, compute = DataService(drive, files), ComputeService(read_class_table())
    transitions, observers, told = _make_transitions(notices, compute, billing)
    domains = Domains(database, drive, data, compute, billing, sealer, transitions, *told)
    training = TrainingService(domains, engines=read_engines(settings.home.engines))
    metrics = MetricService(attempts := AttemptService(domains))
    return Services(
        settings=settings,
        clock=clock,
        database=database,
        listener=listener,
        jobs=jobs,
        sealer=sealer,
        identity=identity,
        factors=factors,
        account=AccountService(),
        billing=billing,
        drive=drive,
        files=files,
        browser=Browser(drive, files),
        search=SearchService(database, drive, files),
        shares=ShareService(database, drive, files),
        uploads=UploadService(database, drive, files, Spool(settings.home.uploads)),
        previews=PreviewService(files),
        private=private,
        peers=kept.peers,
        care=kept.care,
        health=HealthService(database, drive, files),
        collector=Collector(database, drive, private, kept.peers),
        alarms=kept.alarms,
        git_imports=_make_git_imports(settings, database, drive, jobs),
        compute=compute,
        notices=notices,
        deliveries=deliveries,
        domains=domains,
        observers=observers,
        training=training,
        projects=ProjectService(drive),
        attempts=attempts,
        metrics=metrics,
        forecasts=Forecasts(domains, metrics, clock),
        quotes=QuoteService(domains),
        tuning=TuningService(domains),
        sites=SiteCredentials({LOCAL_SITE: read_or_make_secret(keys / "site.token")}),
        authority=Authority(keys / "authority"),
        peer_credentials=PeerCredentials(read_or_make_secret(keys / "peer.token")),
        sweeps=SweepService(domains, training, Readings(metrics)),
        checkpoints=CheckpointService(domains),
        resuming=ResumeService(domains, training),
        records=_make_records(settings, domains, metrics),
        board=BoardService(domains.compute, clock),
    )


def _make_transitions(
    notices: NoticeService, compute: ComputeService, billing: BillingService
) -> tuple[Transitions, list[Observer], tuple[list[NearCap], list[SweepEnded]]]:
    observers: list[Observer] = [tell_of_runs(notices, billing)]  # who is made later joins them
    told = [tell_of_caps(notices)], [tell_of_sweeps(notices)]
    return Transitions(compute, billing, observers=observers), observers, told


def _make_drive(
    settings: Settings, database: Database, sealer: Sealer, kept: Keeping
) -> DriveService:
    quota = settings.quota_bytes
    return DriveService(database, kept.store, sealer, quota_bytes=quota, peers=kept.peers)


def _make_git_imports(
    settings: Settings, database: Database, drive: DriveService, jobs: App
) -> GitImports:
    return GitImports(
        database,
        drive,
        defer=lambda tx, job: defer_named(tx, jobs, GIT_IMPORT_TASK, job=job),
        folder=settings.home.uploads,
        limits=CloneLimits(private=settings.git_private),
    )


def _make_identity(
    settings: Settings, billing: BillingService, sealer: Sealer, clock: Clock
) -> tuple[IdentityService, SecondFactors]:
    factors = SecondFactors(sealer, clock)
    identity = IdentityService(
        on_registered=_open_account(billing),
        factors=factors,
        registrations=RegistrationLimits(per_address=settings.registrations_per_hour),
    )
    return identity, factors


def _make_billing(settings: Settings, clock: Clock) -> BillingService:
    return BillingService(
        clock,
        welcome_micros=settings.welcome_voucher_micros,
        welcome_days=settings.welcome_voucher_days,
        exposure_limit_micros=settings.exposure_limit_micros,
    )


def _make_records(settings: Settings, domains: Domains, metrics: MetricService) -> RecordService:
    return RecordService(
        domains,
        Signer.at(settings.home.keys / "signing.key"),
        more=other_sections(metrics, CheckpointService(domains), TuningService(domains)),
    )


def _make_notices(
    settings: Settings, database: Database, sealer: Sealer, jobs: App
) -> tuple[NoticeService, Deliveries]:
    mail = read_mail_server(settings.smtp_url) if settings.smtp_url else None
    private = settings.webhook_private
    notices = NoticeService(
        sealer,
        defer=lambda tx, name, args: defer_named(tx, jobs, f"{NOTICES}:{name}", **args),
        mails=mail is not None,
        private_hooks=private,
    )
    deliveries = Deliveries(database, sealer, mail=mail, private_hooks=private, tell=tell_channel)
    return notices, deliveries


def make_dispatcher(services: Services) -> Dispatcher:
    """The dispatcher of this process; idle until it gets the lease."""
    return Dispatcher(
        services.domains, services.listener, attempts=services.attempts, holder=_holder()
    )


def make_sweep_runner(services: Services) -> SweepRunner:
    """The runner of sweeps of this process; idle until it gets the lease."""
    conductor = Conductor(services.domains, services.training, services.sweeps.readings)
    return SweepRunner(services.database, services.listener, conductor, holder=_holder())


def _holder() -> str:
    """This process, as the holder of leases."""
    return f"{socket.gethostname()}:{os.getpid()}"


def create_app(settings: Settings) -> FastAPI:
    """The server as an ASGI application; its workers live and end with it."""
    settings.home.create()
    services = make_services(settings)
    workers = Workers(services, make_dispatcher(services), make_sweep_runner(services))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with workers.running():
            yield
        await services.database.close()

    return create_api(services, lifespan=lifespan)


def _open_account(billing: BillingService) -> OnRegistered:
    async def on_registered(tx: Tx, user: UserId) -> None:
        await billing.open_account(tx, user)
        await billing.grant_welcome(tx, user)

    return on_registered
