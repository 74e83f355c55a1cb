"""An HTTP server on loopback that keeps its connections open, and can be left at any moment."""

import socket
import ssl
from contextlib import suppress
from typing import Any

from werkzeug import Response
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from campaign.errors import UsageError


class PlainResponse(Response):
    """Adds no Content-Type to an answer that was given none."""

    default_mimetype = None


class _KeepAliveHandler(WSGIRequestHandler):
    """Keeps connections open, which werkzeug's own handler never does, and logs nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes

    def run_wsgi(self) -> None:
        response = PlainResponse.from_app(self.server.app, self.make_environ())
        self.send_response_only(response.status_code, response.status.partition(" ")[2])
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.get_data())

    def log(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadedWSGIServer):
    """Knows its open connections: on leaving they are ended, not waited for."""

    daemon_threads = False

    def __init__(self, bound: socket.socket, app: Any, tls: ssl.SSLContext | None) -> None:  # noqa: ANN401  # a WSGI callable
        self._open: set[socket.socket] = set()
        host, port = bound.getsockname()
        super().__init__(host, port, app, _KeepAliveHandler, ssl_context=tls, fd=bound.fileno())
        if isinstance(self.socket, ssl.SSLSocket):  # shaking hands while accepting, one silent client would hold up all others
            self.socket.do_handshake_on_connect = False  # type: ignore[attr-defined]  # documented, not in typeshed

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # the signature is socketserver's
        """Remember the connection, then serve it."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        """Forget the connection, then close it."""
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """End every open connection, then wait for their threads."""
        for connection in self._open.copy():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()


def listener(port: int) -> socket.socket:
    """Return a socket that listens on loopback; port 0 is any free one. Raises UsageError where the port cannot be had."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=128)
    except OSError as error:
        advice = "name another port, or 0 for any free one"
        raise UsageError(f"127.0.0.1:{port} cannot be used: {error.strerror}", advice) from error
