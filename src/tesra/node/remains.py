"""What a site that was killed outright left running of a node: its gangs and its part of Ray."""

from pathlib import Path

from tesra.node.attempt_record import load_records
from tesra.node.processes import kill_tree
from tesra.node.ray_processes import stop_core


def end_node(folder: Path) -> None:
    """End it all; ``folder`` is the node's own. The head's node comes last."""
    for record in load_records(folder / "attempts"):
        if record.pid is not None:
            kill_tree(record.pid, record.pid_started)
    stop_core(folder)
