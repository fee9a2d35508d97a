"""The verbs of share links."""

from collections.abc import Iterator

from tesra.sdk.connection import Connection
from tesra.wire.shares import NewShare, Share, ShareRequest


class ShareVerbs:
    """What ``Client`` can do with links to its drive."""

    connection: Connection

    def drive_share(
        self,
        path: str,
        *,
        live: bool = False,
        expires_s: int | None = None,
        password: str | None = None,
        downloads: int | None = None,
    ) -> NewShare:
        """A link that opens ``path`` to whoever has its ``url``, which is told this once.

        ``live``: what stands there whenever it is asked for, not what stands there now.
        """
        request = ShareRequest(
            path=path,
            live=live,
            expires_s=expires_s,
            password=password,
            max_downloads=downloads,
        )
        made = self.connection.post("/drive/shares", NewShare, request, once=True)
        url = self.connection.access.url.rstrip("/") + made.address
        return made.model_copy(update={"url": url})

    def drive_shares(self, limit: int | None = None) -> Iterator[Share]:
        """The links, the newest first."""
        return self.connection.pages("/drive/shares", Share, limit=limit)

    def drive_unshare(self, share: str) -> None:
        """The link with this id opens nothing any more."""
        self.connection.send("DELETE", f"/drive/shares/{share}")
