"""A real site (Ray, agents, controller, sandboxes) in a process of its own, against ``FakeServer``."""

import json
import os
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from fakes.server import TOKEN, FakeServer
from tesra.kit.settings import Home
from tesra.node.stalls import AFTER_S
from tesra.wire.site import AssignedDevice, Assignment, EngineSpec, EnrolNode, RunLimit, RunSpec

PYTHON = EngineSpec(name="python", version="3", requirements=[], python=">=3.10", announce="torch")
_numbers = count(1)


class Site:
    """A site in a process of its own, which a test may kill and start again."""

    def __init__(
        self,
        home: Path,
        cache: Path,
        server: FakeServer,
        *,
        nodes: int = 1,
        devices: int = 2,
        stall_after_s: float = AFTER_S,
    ) -> None:
        self.home = home
        self.cache = cache
        self.server = server
        self.size = {
            "SITE_NODES": str(nodes),
            "SITE_DEVICES": str(devices),
            "SITE_STALL_AFTER_S": str(stall_after_s),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.home.parent / "site.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fakes.site_process"],
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    "SITE_HOME": str(self.home),
                    "SITE_CACHE": str(self.cache),
                    "SITE_URL": self.server.url,
                    "SITE_TOKEN": TOKEN,
                    **self.size,
                },
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(60)

    def ray(self) -> list[dict[str, Any]]:
        """Ray's processes of all nodes."""
        records = [folder / "ray.json" for folder in Home(self.home).nodes()]
        return [
            process
            for record in records
            if record.exists()
            for process in json.loads(record.read_text())["processes"]
        ]

    def node(self, place: int) -> EnrolNode:
        """The node as it was enrolled when all were there."""
        most = max(self.server.enrolments, key=lambda enrolment: len(enrolment.nodes))
        return most.nodes[place]

    def assign(
        self,
        script: str,
        *,
        devices: int = 1,
        on: tuple[int, ...] = (0,),
        limit: RunLimit | None = None,
        **spec: Any,
    ) -> str:
        """Let the server want a run of this script on so many devices of each node; its attempt."""
        number = next(_numbers)
        attempt, snapshot = f"att_{number}", f"snap_{number}"
        folder = Path(tempfile.mkdtemp(dir=self.home.parent))
        (folder / "train.py").write_text(script)
        root = self.server.drive.import_folder(folder, snapshot)
        chosen = [
            AssignedDevice(
                node=node.id,
                device=device.id,
                index=device.index,
                device_class=device.device_class,
                rating_micro_t=device.measured_micro_t,
            )
            for node in map(self.node, on)
            for device in node.devices[:devices]
        ]
        fields = {
            "owner": "usr_1",
            "project": "prj_1",
            "snapshot": snapshot,
            "snapshot_root": root,
            "engine": PYTHON,
            "packages": [],
            "entry": "train.py",
            "args": [],
            "output": "out",
            "launch": "gang",
            "params": {},
            "env": {},
            "secrets": {},
            **spec,
        }
        self.server.want(
            Assignment(
                run=f"run_{number}",
                attempt=attempt,
                number=1,
                fence=number,
                limit=limit,
                devices=chosen,
                spec=RunSpec(**fields),
                grace_s=2.0,
            )
        )
        return attempt

    def stop_run(self, attempt: str) -> None:
        listed = self.server.listed[attempt]
        self.server.want(listed.model_copy(update={"stop": "user"}))
