"""The verbs of the queue."""

from typing import Any
from urllib.parse import quote

from tesra.sdk.connection import Connection
from tesra.wire.quotes import Quote, QuoteRequest
from tesra.wire.training import PriorityName, PriorityRequest, Run


class QueueVerbs:
    """What ``Client`` can do with runs that wait."""

    connection: Connection

    def prioritise(self, run: str, priority: int | PriorityName) -> Run:
        """Put a queued run before (or behind) your others: -100 to 100, or low, normal, high."""
        path = f"/runs/{quote(run, safe='')}/priority"
        request = PriorityRequest(priority=priority)
        return self.connection.put(path, Run, request)

    def quote(self, **wishes: Any) -> Quote:
        """What a run would cost: ``devices``, ``device_class``, ``launch``, ``max_cost_cny``, ``max_time_s``."""
        return self.connection.post("/quotes", Quote, QuoteRequest(**wishes))
