"""The other side: an account server and a relay that answer as fast as they can, or with a fixed delay, and keep nothing."""

import asyncio
import base64
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import trustme
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from tests.benchmarks.measuring import PROCESSES

_GRANTED = b'{"access_token":"%s","token_type":"Bearer","expires_in":3600,"scope":"signature"}' % (b"x" * 700)
_LACKING = b'{"error":"consent_required"}'
_ANSWER = b"HTTP/1.1 %s\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
LACKING_IN_TEN = 3  # of ten users those whose number is 0, 1 or 2 lack consent


@dataclass(frozen=True, slots=True)
class Place:
    """Where the servers are. Authorities: the usual ones, so that reading them costs what it does in earnest, and our own."""

    accounts: dict[float, int]  # seconds before each answer -> port
    relays: dict[float, int]
    authorities: Path


@contextmanager
def serving(folder: Path, account_delays: Sequence[float], relay_delays: Sequence[float]) -> Iterator[Place]:
    """Serve, each kind of server in a process of its own, one port for each delay (seconds)."""
    authority, certificate = trustme.CA(), folder / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    bundle = folder / "authorities.pem"
    bundle.write_text(
        Path(DEFAULT_CA_BUNDLE_PATH).read_text(encoding="utf-8") + authority.cert_pem.bytes().decode(), encoding="ascii"
    )
    with (
        _started(_serve_accounts, certificate, account_delays) as accounts,
        _started(_relay, certificate, relay_delays) as relays,
    ):
        yield Place(accounts, relays, bundle)


@contextmanager
def _started(serve: object, certificate: Path, delays: Sequence[float]) -> Iterator[dict[float, int]]:
    ours, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(target=serve, args=(certificate, delays, theirs), daemon=True)  # type: ignore[arg-type]
    process.start()
    try:
        yield dict(zip(delays, ours.recv(), strict=True))
    finally:
        process.terminate()
        process.join()


def _context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def user_of(number: int) -> str:
    """The user id of the person with this number, whose last digit decides about consent."""
    return f"{number:08x}-0000-4000-8000-{number:012d}"


def _lacks(user_id: str) -> bool:
    return int(user_id[-1]) < LACKING_IN_TEN


# --- the account server


def _serve_accounts(certificate: Path, delays: Sequence[float], ready: Connection) -> None:
    asyncio.run(_listen(certificate, delays, ready))


async def _listen(certificate: Path, delays: Sequence[float], ready: Connection) -> None:
    context = _context(certificate)
    servers = [
        await asyncio.start_server(partial(_converse, delay), "127.0.0.1", 0, ssl=context, backlog=512) for delay in delays
    ]
    ready.send([server.sockets[0].getsockname()[1] for server in servers])
    await asyncio.Event().wait()


async def _converse(delay: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            if delay:
                await asyncio.sleep(delay)
            writer.write(_answer(body))
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        writer.close()


def _answer(body: bytes) -> bytes:
    payload = body.partition(b"assertion=")[2].split(b".")[1]
    subject = json.loads(base64.urlsafe_b64decode(payload + b"=="))["sub"]
    status, content = (b"400 Bad Request", _LACKING) if _lacks(subject) else (b"200 OK", _GRANTED)
    return _ANSWER % (status, len(content), content)


# --- the relay


class _Talk(StreamRequestHandler):
    """One connection: STARTTLS is offered, and everything taken."""

    disable_nagle_algorithm = True
    context: ssl.SSLContext
    delay: float

    def handle(self) -> None:
        self._say("220 relay")
        while verb := self.rfile.readline()[:4].upper():
            time.sleep(self.delay)
            if verb == b"EHLO":
                self._say("250-relay\r\n250-8BITMIME\r\n250-STARTTLS\r\n250 SIZE 10000000")
            elif verb == b"STAR":
                self._say("220 go ahead")
                self._secure()
            elif verb == b"DATA":
                self._say("354 go ahead")
                self._take()
            elif verb == b"QUIT":
                return self._say("221 bye")
            else:
                self._say("250 ok")
        return None

    def _take(self) -> None:
        while self.rfile.readline() != b".\r\n":
            pass
        time.sleep(self.delay)
        self._say("250 taken")

    def _secure(self) -> None:
        secured = self.context.wrap_socket(self.request, server_side=True)
        self.rfile = secured.makefile("rb")
        self.request = secured

    def _say(self, line: str) -> None:
        self.request.sendall(f"{line}\r\n".encode())


class _Relay(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Leave it to the handler: STARTTLS has taken the socket over."""


def _relay(certificate: Path, delays: Sequence[float], ready: Connection) -> None:
    context = _context(certificate)
    servers = [
        _Relay(("127.0.0.1", 0), type("Talk", (_Talk,), {"context": context, "delay": delay}))  # a port for each delay
        for delay in delays
    ]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    ready.send([server.server_address[1] for server in servers])
    for thread in threads:
        thread.join()
