"""The verbs of notices."""

from collections.abc import Sequence
from typing import Literal
from urllib.parse import quote

from pydantic import ValidationError

from tesra.sdk.connection import Connection
from tesra.sdk.mistakes import RequestInvalid, mistake
from tesra.wire.notices import ALL_EVENTS, Channel, ChannelRequest, ConfirmRequest

_CHANNELS = "/notices/channels"


class NoticeVerbs:
    """What ``Client`` can do with notices."""

    connection: Connection

    def notice_channels(self) -> list[Channel]:
        """Where you are told."""
        return list(self.connection.pages(_CHANNELS, Channel))

    def notify(
        self,
        kind: Literal["email", "webhook"],
        address: str,
        *,
        language: str = "en",
        events: Sequence[str] = ALL_EVENTS,
    ) -> Channel:
        """Be told there; a mailbox gets a code for ``confirm_notices``, a webhook has a ``secret``."""
        try:
            request = ChannelRequest.model_validate(
                {"kind": kind, "address": address, "language": language, "events": list(events)}
            )
        except ValidationError as error:
            raise RequestInvalid(mistake(error)) from error
        return self.connection.post(_CHANNELS, Channel, request, once=True)

    def confirm_notices(self, code: str) -> Channel:
        """Give back the code that came by mail."""
        return self.connection.post(f"{_CHANNELS}/confirm", Channel, ConfirmRequest(code=code))

    def test_notices(self, channel: str) -> Channel:
        """Have a notice sent there that says only that it comes."""
        return self.connection.post(f"{_CHANNELS}/{quote(channel, safe='')}/test", Channel)

    def remove_notices(self, channel: str) -> None:
        """Be told nothing more there."""
        self.connection.send("DELETE", f"{_CHANNELS}/{quote(channel, safe='')}")
