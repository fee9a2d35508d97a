"""A pack that the server has just received, straight from it: what a put waits for.

One copy over one HTTP connection costs both sides half of what the swarm costs; the swarm does
everything else. What comes is the pack when it has the pack's name, which is its hash.
"""

import http.client
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from blake3 import blake3

from tesra.kit.errors import Unavailable
from tesra.storage.merkle import PackTree
from tesra.storage.unbuffered import UnbufferedFile

_STALL_S = 10.0


class DirectFailed(Unavailable):
    """The server has not given the pack, or not all of it, or another one."""


class DirectDoor:
    """Where the server gives packs to the peer that was told to bring them. Calls block."""

    def __init__(self, server_url: str, token: str) -> None:
        self._url = urlsplit(server_url)
        self._token = token

    def fetch(self, peer: str, tree: PackTree, path: Path) -> None:
        """The whole pack in a new file at ``path``, verified, not fsynced.

        Raises ``DirectFailed``; nothing is left of the file then. Errors of the disk are ``OSError``.
        """
        partly = path.with_name(f"{path.name}.direct")
        try:
            with UnbufferedFile(partly) as file:
                self._copy(peer, tree, file)
            partly.rename(path)
        finally:
            partly.unlink(missing_ok=True)

    def _copy(self, peer: str, tree: PackTree, target: UnbufferedFile) -> None:
        connection = self._connection()
        try:
            connection.connect()
        except OSError as error:
            raise DirectFailed(f"The server can't be reached: {error}.") from error
        try:
            prefix = self._url.path.rstrip("/")
            where = f"{prefix}/peer/v1/peers/{peer}/packs/{tree.pack_id}"
            connection.request("GET", where, headers={"Authorization": f"Bearer {self._token}"})
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                raise DirectFailed(f"The server answered {answer.status}.")
            _write(answer, tree, target)
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise DirectFailed(f"The server broke off: {error!r}.") from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            trusted = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=_STALL_S, context=trusted)
        return http.client.HTTPConnection(host, port, timeout=_STALL_S)


def _write(answer: http.client.HTTPResponse, tree: PackTree, target: UnbufferedFile) -> None:
    digest, size = blake3(), 0
    while count := answer.readinto(target.room):
        digest.update(target.advance(count))
        size += count
    target.finish()
    if size != tree.size_bytes or digest.hexdigest() != tree.pack_id:
        raise DirectFailed("What the server sent is not the pack.")
