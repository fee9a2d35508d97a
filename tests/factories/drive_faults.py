"""What happens to the processes and the disks of a network, and that all of it is whole again."""

import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from blake3 import blake3

from factories.durable import flip
from factories.mortal_server import MortalServer
from fakes.mortal_server import BOUNDARIES

PEERS = (1, 2, 3)
KINDS = ("server_killed", "server_dies", "peer_killed", "peer_halted", "copy_spoilt", "copy_lost")


class Faults:
    """Never so much at once that no two good copies are left. For one thread.

    ``happened`` counts what has, of each of the ``KINDS``.
    """

    def __init__(self, server: MortalServer, seed: int) -> None:
        self._server = server
        self._network = server.network
        self._chance = Random(seed)
        self._ahead: list[str] = []
        self._timers: list[threading.Timer] = []
        self._halted: int | None = None
        self._order = server.network.home.root / "die"
        self._ordered = False
        self.happened: Counter[str] = Counter()

    @property
    def fewest(self) -> int:
        """How often the rarest kind has happened."""
        self._note_death()
        return min(self.happened[kind] for kind in KINDS)

    def happen(self) -> None:
        """One of them; each kind comes once before any comes again."""
        if not self._ahead:
            self._ahead = list(KINDS)
            self._chance.shuffle(self._ahead)
        kind = self._ahead.pop()
        if getattr(self, f"_{kind}")():
            self.happened[kind] += 1

    def end(self) -> None:
        """Everybody is there again."""
        for timer in self._timers:
            timer.join()
        self._go_on()
        self._note_death()
        self._order.unlink(missing_ok=True)
        self._server.wait_answers()

    def _server_killed(self) -> bool:
        """At any moment."""
        pid = int((self._network.home.root / "mortal.pid").read_text())
        self._later(0.3, lambda: self._server.kill(pid))
        return True

    def _server_dies(self) -> bool:
        """Between two steps of a write, the next time that one comes there: noted afterwards."""
        self._note_death()
        if not self._ordered:
            steps = [step for step in BOUNDARIES if "snapshot" not in step]
            self._server.die_after(self._chance.choice(steps))
            self._ordered = True
        return False

    def _note_death(self) -> None:
        if self._ordered and not self._order.exists():
            self.happened["server_dies"] += 1
            self._ordered = False

    def _peer_killed(self) -> bool:
        self._go_on()
        number = self._chance.choice(PEERS)
        self._network.kill(number)
        self._network.start_peer(number)
        return True

    def _peer_halted(self) -> bool:
        """For moments, as in a machine that is overloaded."""
        self._go_on()
        number = self._halted = self._chance.choice(PEERS)
        self._network.signal(number, signal.SIGSTOP)
        process = self._network.peers[number]
        self._later(5.0, lambda: process.send_signal(signal.SIGCONT))
        return True

    def _copy_spoilt(self) -> bool:
        found = self._good_everywhere()
        if found is None:
            return False
        flip(self._network.packs(self._chance.choice(PEERS))[found], at=40)
        return True

    def _copy_lost(self) -> bool:
        found = self._good_everywhere()
        if found is None:
            return False
        self._network.packs(self._chance.choice(PEERS))[found].unlink()
        return True

    def _go_on(self) -> None:
        if self._halted is not None:
            self._network.signal(self._halted, signal.SIGCONT)
            self._halted = None

    def _later(self, most_s: float, act: Callable[[], None]) -> None:
        timer = threading.Timer(self._chance.random() * most_s, act)
        timer.start()
        self._timers.append(timer)

    def _good_everywhere(self) -> str | None:
        """A pack whose copies are all good."""
        held = [self._network.packs(number) for number in PEERS]
        common = sorted(set.intersection(*(set(packs) for packs in held)))
        self._chance.shuffle(common)
        return next((one for one in common[:8] if all(_is_good(p[one], one) for p in held)), None)


def _is_good(path: Path, pack: str) -> bool:
    try:
        return blake3(path.read_bytes()).hexdigest() == pack
    except FileNotFoundError:
        return False


def repair_all(server: MortalServer) -> None:
    """Every pack has three good copies, by the books and on the disks."""
    network = server.network
    network.do(_audit_all(server))
    network.change("UPDATE pack_copies SET tries = 0 WHERE state = 'lost'")
    wanted = {str(row[0]) for row in network.query("SELECT encode(id, 'hex') FROM packs")}

    def whole() -> bool:
        return not network.query(_NOT_WHOLE) and all(
            pack in held and _is_good(held[pack], pack)
            for held in map(network.packs, PEERS)
            for pack in wanted
        )

    network.repair_until(whole, "three good copies of all")


_NOT_WHOLE = (
    "SELECT p.id FROM packs p LEFT JOIN pack_copies c ON c.pack_id = p.id AND c.state = 'held'"
    " GROUP BY p.id HAVING count(c.peer_id) <> 3 LIMIT 1"
)


async def _audit_all(server: MortalServer) -> None:
    services = server.network.services
    async with services.database.begin() as tx:
        await services.care.audit_now(tx, None)
