"""Ten thousand random operations on drives while the server and peers are killed and halted, and
copies are spoilt and lost: each drive holds what a plain table holds, and so do its versions.

``TESRA_MODEL_SEED`` chooses other operations and other faults.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from factories.clusters import Cluster
from factories.drive_faults import Faults, repair_all
from factories.drive_model import ModelDrive, model_drive
from factories.mortal_server import MortalServer, mortal_network
from tesra.security.alarms import Kind

pytestmark = pytest.mark.postgres
log = logging.getLogger(__name__)

SEED = int(os.environ.get("TESRA_MODEL_SEED", "1"))
OPERATIONS = 10_000
FAULTS_OF_A_KIND = 3
AT_ONCE = 3  # drives that things happen to at the same time
STEPS = 40
EXAMPLES = 4
FAULTY = 0.12  # of the steps
PATIENCE_S = 180.0


@pytest.fixture
def server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalServer]:
    url = cluster.create()
    with mortal_network(tmp_path_factory.mktemp("model"), url, peers=3) as running:
        yield running
    cluster.drop(url)


@pytest.mark.timeout(900)
def test_ten_thousand_operations_lose_nothing_that_was_acknowledged(
    server: MortalServer, tmp_path: Path
) -> None:
    faults = Faults(server, SEED)
    lanes = [Lane(model_drive(server, f"user-{number}")) for number in range(AT_ONCE)]
    scratch = (tmp_path / str(number) for number in count())

    class Machine(DriveMachine):
        def __init__(self) -> None:
            self.lanes, self.faults, self.scratch = lanes, faults, scratch
            super().__init__()

    try:
        rounds = count(SEED * 1000)
        while not enough(lanes, faults):
            run_state_machine_as_test(seed(next(rounds))(Machine), settings=SETTINGS)
        for lane in lanes:
            lane.finish()
        faults.end()
        repair_all(server)
        for lane in lanes:
            lane.do(lane.drive.check)
        for lane in lanes:
            lane.finish()
        log.info("%d operations, %d versions; %s", done(lanes), versions(lanes), faults.happened)
        assert server.deaths() >= 2 * FAULTS_OF_A_KIND
        assert sum(lane.drive.broken for lane in lanes) > 0, "no connection broke under a change"
        assert Kind.LOCKED not in alarms(server)
    finally:
        faults.end()
        for lane in lanes:
            lane.close()


SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Lane:
    """One drive, to which one thing happens after the other; after a failure nothing more."""

    def __init__(self, drive: ModelDrive) -> None:
        self.drive = drive
        self.failed: BaseException | None = None
        self._thread = ThreadPoolExecutor(1)
        self._pending: deque[Future[None]] = deque()

    def do(self, act: Callable[[], None]) -> None:
        """Soon; at most two things wait."""
        self._settle(1)
        if self.failed is None:
            self._pending.append(self._thread.submit(act))

    def finish(self) -> None:
        """All of it is done; raises what the first failure was."""
        self._settle(0)
        if self.failed is not None:
            raise self.failed

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        self.drive.client.close()

    def _settle(self, most: int) -> None:
        while len(self._pending) > most:
            failure = self._pending.popleft().exception(PATIENCE_S)
            self.failed = self.failed or failure


def done(lanes: list[Lane]) -> int:
    return sum(lane.drive.done for lane in lanes)


def enough(lanes: list[Lane], faults: Faults) -> bool:
    """Also after a failure."""
    if any(lane.failed for lane in lanes):
        return True
    return done(lanes) >= OPERATIONS and faults.fewest >= FAULTS_OF_A_KIND


def versions(lanes: list[Lane]) -> int:
    return sum(len(lane.drive.versions) for lane in lanes)


Act = Callable[..., None]
seeds = st.integers(0, 2**32).map(Random)
which = st.integers(0, AT_ONCE - 1)


class DriveMachine(RuleBasedStateMachine):
    """Steps on a few drives at once; what each of them does in particular follows from its seed."""

    lanes: list[Lane]
    faults: Faults
    scratch: Iterator[Path]

    @rule(lane=which, chance=seeds, count=st.integers(100, 400))
    def change(self, lane: int, chance: Random, count: int) -> None:
        self._do(lane, ModelDrive.change, chance, count)

    @rule(lane=which, chance=seeds)
    def change_one(self, lane: int, chance: Random) -> None:
        self._do(lane, ModelDrive.change, chance, 1)

    @rule(lane=which, chance=seeds)
    def put(self, lane: int, chance: Random) -> None:
        self._do(lane, ModelDrive.put, chance)

    @rule(lane=which, chance=seeds, count=st.integers(1, 20))
    def upload(self, lane: int, chance: Random, count: int) -> None:
        self._do(lane, ModelDrive.upload, chance, count, next(self.scratch))

    @rule(lane=which, chance=seeds)
    def untrash(self, lane: int, chance: Random) -> None:
        self._do(lane, ModelDrive.untrash, chance)

    @rule(lane=which, chance=seeds, count=st.integers(0, 5))
    def refuse(self, lane: int, chance: Random, count: int) -> None:
        self._do(lane, ModelDrive.refuse, chance, count)

    @rule(lane=which, chance=seeds, count=st.integers(20, 60))
    def read(self, lane: int, chance: Random, count: int) -> None:
        self._do(lane, ModelDrive.read, chance, count)

    @rule(lane=which, chance=seeds)
    def look(self, lane: int, chance: Random) -> None:
        self._do(lane, ModelDrive.look, chance)

    def _do(self, lane: int, act: Act, chance: Random, *given: object) -> None:
        """And something happens to the network now and then."""
        if enough(self.lanes, self.faults):
            return
        if chance.random() < FAULTY:
            self.faults.happen()
        self.lanes[lane].do(partial(act, self.lanes[lane].drive, chance, *given))


def alarms(server: MortalServer) -> list[str]:
    return [str(row[0]) for row in server.network.query("SELECT kind FROM alarms")]
