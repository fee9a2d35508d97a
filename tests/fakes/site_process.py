"""The real site in a process of its own, for a test that kills it."""

import os
from pathlib import Path

from tesra.kit.settings import Home
from tesra.node.main import run_site

if __name__ == "__main__":
    run_site(
        home=Home(Path(os.environ["SITE_HOME"])),
        cache=Path(os.environ["SITE_CACHE"]),
        server_url=os.environ["SITE_URL"],
        site_token=os.environ["SITE_TOKEN"],
        devices=int(os.environ["SITE_DEVICES"]),
        nodes=int(os.environ["SITE_NODES"]),
        sandbox=True,
        stall_after_s=float(os.environ["SITE_STALL_AFTER_S"]),
    )
