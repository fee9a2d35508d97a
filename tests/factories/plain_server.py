"""A server of few words: each request is answered by a function that has the socket itself."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile

Answer = Callable[[socket.socket, bytes], bool]  # says whether the connection stays


class Counted:
    """What the server has seen; of a request its head, without the empty line."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []


@contextmanager
def plain_server(answer: Answer) -> Iterator[tuple[str, Counted]]:
    """Its address, and what it has seen. Bodies are the function's to read."""
    seen = Counted()
    listening = socket.create_server(("127.0.0.1", 0))

    def talk(connection: socket.socket) -> None:
        with suppress(ConnectionError), connection, connection.makefile("rb", 0) as lines:
            while request := b"".join(takewhile(lambda line: line.strip(), lines)):
                seen.requests.append(request)
                if not answer(connection, request):
                    return

    def listen() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            seen.connections += 1
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", seen
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
