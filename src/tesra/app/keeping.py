"""Wiring of what keeps packs: peers, their care, alarms, and the store that mends what it reads."""

from dataclasses import dataclass

from procrastinate import App

from tesra.app.jobs import REPAIR_TASK
from tesra.db.engine import Database
from tesra.db.jobs import defer_once
from tesra.db.notify import Listener
from tesra.drive.pack_store import PackStore
from tesra.drive.peers.care import CareService
from tesra.drive.peers.evidence import Evidence
from tesra.drive.peers.mending import Mender
from tesra.drive.peers.service import PeerService
from tesra.kit.settings import Settings
from tesra.node.peer.folder import PackFolder
from tesra.security.alarms import AlarmService, Ring


@dataclass(frozen=True, slots=True)
class Keeping:
    """What belongs together in the keeping of packs."""

    alarms: AlarmService
    peers: PeerService
    care: CareService
    store: PackStore


def make_keeping(
    settings: Settings, database: Database, listener: Listener, jobs: App, ring: Ring
) -> Keeping:
    """The gateway's folder is the server's as well; ``ring`` is told of alarms."""
    alarms = AlarmService([ring])
    evidence = Evidence(alarms, kick=lambda tx: defer_once(tx, jobs, REPAIR_TASK))
    home = settings.home
    folder = PackFolder(home.peer(1), capacity_bytes=0, identity=home.peer_identity(1))
    gateway = folder.peer_id()
    plain = PackStore(settings.home.packs)
    care = CareService(database, alarms, evidence, gateway=gateway, read_tree=plain.tree)
    mender = Mender(database, listener, evidence, care, gateway=gateway)
    peers = PeerService(database, listener, evidence, gateway=gateway)
    store = PackStore(settings.home.packs, mend=mender.mend, used=peers.note_use)
    return Keeping(alarms, peers, care, store)
