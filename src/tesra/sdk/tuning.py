"""The verbs of tuning: parameters of a run, changed while it goes on."""

from collections.abc import Mapping
from urllib.parse import quote

from pydantic import ValidationError

from tesra.sdk.connection import Connection
from tesra.sdk.mistakes import RequestInvalid, mistake
from tesra.wire.tuning import RollbackRequest, TuneRequest, Tuning

Value = str | int | float | bool


class TuningVerbs:
    """What ``Client`` can do with a run's parameters."""

    connection: Connection

    def tuning(self, run: str) -> Tuning:
        """What can be changed of a run, to what, and the timeline of its changes."""
        return self.connection.get(_path(run), Tuning)

    def tune(self, run: str, values: Mapping[str, Value]) -> Tuning:
        """Ask for new values; the last of the answer's changes is this one, and waits."""
        try:
            request = TuneRequest(values=dict(values))
        except ValidationError as error:
            raise RequestInvalid(mistake(error)) from error
        return self.connection.post(_path(run), Tuning, request, once=True)

    def withdraw_change(self, run: str, change: int) -> Tuning:
        """Take back a change that waits."""
        response = self.connection.send("DELETE", f"{_path(run)}/{change}")
        return Tuning.model_validate_json(response.content)

    def rollback(self, run: str, change: int | None = None) -> Tuning:
        """Begin again from the checkpoint before a change, by default the last one made."""
        body = RollbackRequest(change=change)
        return self.connection.post(f"{_path(run)}/rollback", Tuning, body, once=True)


def _path(run: str) -> str:
    return f"/runs/{quote(run, safe='')}/tuning"
