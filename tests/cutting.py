"""A wire between a program and a server that is cut after so many messages."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class CuttingProxy:
    """`with CuttingProxy(port) as proxy:` passes on what comes to `proxy.port`, in both directions, and counts the pieces.

    Once `proxy.cut_at` pieces have come, the one that would be next is lost and every connection closed, and none is taken
    any more; None cuts nothing. A piece is what one side sends at once: a statement, or the answer to it.
    """

    def __init__(self, port: int, cut_at: int | None = None) -> None:
        self._server = port
        self.cut_at = cut_at
        self.count = 0
        self.was_cut = False
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                with self._lock:
                    self._open += [client, server]
                for here, there in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(here, there), daemon=True).start()

    def _pass_on(self, here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):
            while data := here.recv(1 << 20):
                with self._lock:
                    self.count += 1
                    lost = self.cut_at is not None and self.count > self.cut_at
                if lost:
                    self.was_cut = True
                    self._cut()
                    return
                there.sendall(data)
        for end in (here, there):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _cut(self) -> None:
        with self._lock:
            for end in (self._listening, *self._open):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
