"""The verbs of the queue."""

from urllib.parse import quote

from tesra.sdk.connection import Connection
from tesra.wire.training import PriorityName, PriorityRequest, Run


class QueueVerbs:
    """What ``Client`` can do with runs that wait."""

    connection: Connection

    def prioritise(self, run: str, priority: int | PriorityName) -> Run:
        """Put a queued run before (or behind) your others: -100 to 100, or low, normal, high."""
        path = f"/runs/{quote(run, safe='')}/priority"
        request = PriorityRequest(priority=priority)
        return self.connection.put(path, Run, request)
