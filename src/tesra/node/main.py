"""A site in the foreground: Ray, the agent, and the controller until it is told to end."""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from tesra.kit.errors import Conflict
from tesra.kit.settings import MEASURING, Home
from tesra.node.controller import Controller
from tesra.node.devices import FoundDevice
from tesra.node.environments import EnvironmentBuilder
from tesra.node.inventory import Inventory, node_devices
from tesra.node.orders import AgentConfig
from tesra.node.rating import rate_gpus
from tesra.node.ray_processes import driver_environ
from tesra.node.remains import end_node
from tesra.node.sandbox import Sandbox
from tesra.node.server_link import ServerLink
from tesra.node.site_client import SiteClient
from tesra.node.spool import Spool
from tesra.node.stalls import AFTER_S

_log = logging.getLogger(__name__)


class SiteRuns(Conflict):
    """A site is already running in this home."""


def run_site(  # noqa: PLR0913 - each is one flag of `tesra node start`
    *,
    home: Home,
    cache: Path,
    server_url: str,
    site_token: str,
    devices: int | None,
    sandbox: bool,
    name: str = "local",
    nodes: int = 1,
    stall_after_s: float = AFTER_S,
) -> None:
    """Run the site until SIGTERM or SIGINT, then end its gangs and its Ray cluster.

    ``nodes`` share this machine and its ``devices``, each an own node to Ray and to the server.
    ``stall_after_s``:
    how long all ranks of a gang may do nothing before it is said. Killed outright, it leaves both running, and its next start takes them over. Raises
    ``SiteRuns``, ``SandboxUnavailable``, ``RayUnavailable`` or ``DevicesInvalid``.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    home.create()
    Sandbox(enabled=sandbox, hidden=(home.root,)).check()
    with _only_one(home.site):
        for folder in home.nodes()[nodes:]:
            end_node(folder)
        configs = [
            AgentConfig(
                node=Inventory(_own(home.node(place)) / "devices.json").node_id(),
                site_folder=home.node(place),
                cache=cache,
                server_url=server_url,
                site_token=site_token,
                devices=devices,
                sandbox=sandbox,
                hidden=(home.root,),
                place=place,
                node_count=nodes,
                home=home.root,
            )
            for place in range(nodes)
        ]
        asyncio.run(_run(home, configs, name, stall_after_s))


async def _run(home: Home, configs: list[AgentConfig], name: str, stall_after_s: float) -> None:
    os.environ.update(driver_environ(home.site))
    # Ray reads its token's place when it is imported.
    from tesra.node.ray_cluster import NodePart, RayCluster

    found = {config.node: node_devices(config) for config in configs}
    cluster = RayCluster(
        home.site, [NodePart(config, len(found[config.node])) for config in configs]
    )
    spool = Spool(home.site / "spool" / "journal")
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    async with SiteClient(configs[0].server_url, configs[0].site_token) as client:
        spool.open()
        starting = asyncio.create_task(cluster.start())
        rating = asyncio.create_task(_rate(home, configs, found))
        told_to_end = asyncio.create_task(ending.wait())
        try:
            for work in (starting, rating):
                await asyncio.wait({work, told_to_end}, return_when=asyncio.FIRST_COMPLETED)
            await starting
            link = ServerLink(client, spool, name)
            controller = Controller(cluster, spool, link, stall_after_s=stall_after_s)
            await _control(controller, told_to_end)
        finally:
            told_to_end.cancel()
            rating.cancel()
            await cluster.stop()
            spool.close()


async def _rate(
    home: Home, configs: list[AgentConfig], found: dict[str, list[FoundDevice]]
) -> None:
    for config in configs:
        inventory = Inventory(config.site_folder / "devices.json")
        builder = EnvironmentBuilder(config.cache, gpu=True)
        await rate_gpus(inventory, found[config.node], builder, home.site / MEASURING)


def _own(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


async def _control(controller: Controller, told_to_end: "asyncio.Task[bool]") -> None:
    told_to_end.add_done_callback(lambda _: controller.shut_down())
    await controller.run()


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the home's site for this process; the lock ends with the process."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SiteRuns(way_out="`tesra status` shows it; `tesra down` ends it.") from error
        yield
