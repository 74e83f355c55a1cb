"""A server on loopback that listens in a thread of its own."""

import socket
import threading
from contextlib import suppress
from typing import Self


class Listening:
    """`with Server() as server:` listens at `server.port` until the end, of which `over` tells whatever it still does."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _listen(self) -> None:
        """Take connections until the listener is shut down."""
        raise NotImplementedError
