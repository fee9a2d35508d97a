"""Looking into the drive without downloading: previews, search by name."""

from collections.abc import Iterator

from tesra.sdk.private.places import parse_place, refuse_private
from tesra.sdk.private.verbs import AnyDriveVerbs
from tesra.storage.names import matches, normal, query_words
from tesra.wire.files import DriveEntry, SearchHit
from tesra.wire.previews import Preview


class FindingVerbs(AnyDriveVerbs):
    """``AnyDriveVerbs``, and what helps to find something there."""

    def drive_preview(self, path: str, *, version: int | None = None) -> Preview:
        """What can be seen of a file; a private drive's is refused: the server can't read it."""
        refuse_private(path, "A preview")
        return self.connection.get("/drive/preview", Preview, {"path": path, "version": version})

    def drive_search(
        self, query: str, path: str = "/", *, limit: int | None = None
    ) -> Iterator[SearchHit]:
        """What is named so below a folder, sorted by path. A private drive's names are known on
        this device alone, and compared here."""
        place, words = parse_place(path), query_words(query)
        if place.drive is None:
            asked = {"q": query, "path": path}
            yield from self.connection.pages("/drive/search", SearchHit, query=asked, limit=limit)
            return
        left = limit
        for entry in self._tree(place.drive).below(place.path):
            if left == 0:
                return
            if matches(words, normal(entry.name)):
                left = None if left is None else left - 1
                yield _hit(entry)


def _hit(entry: DriveEntry) -> SearchHit:
    return SearchHit(path=entry.path, name=entry.name, kind=entry.kind, size_bytes=entry.size_bytes)
