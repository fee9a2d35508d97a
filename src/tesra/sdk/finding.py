"""Looking into the drive without downloading: previews."""

from tesra.sdk.private.places import refuse_private
from tesra.sdk.private.verbs import AnyDriveVerbs
from tesra.wire.previews import Preview


class FindingVerbs(AnyDriveVerbs):
    """``AnyDriveVerbs``, and what helps to find something there."""

    def drive_preview(self, path: str, *, version: int | None = None) -> Preview:
        """What can be seen of a file; a private drive's is refused: the server can't read it."""
        refuse_private(path, "A preview")
        return self.connection.get("/drive/preview", Preview, {"path": path, "version": version})
