"""HTTPS exchanges: requests' adapter on sockets that bound each one's time and size, with nothing of the environment."""

import json
import logging
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from pathlib import Path
from typing import Any

import urllib3
from requests import PreparedRequest, Request, RequestException
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from campaign.bounded import BoundedSocket, TooMuch, dial
from campaign.tls import verifying_context

for _name in ("urllib3", "urllib3.connection", "urllib3.connectionpool"):  # each by itself: others set the first one's level, too
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # their warnings hold what a server sent, as it came

_MOST_BYTES = 64 * 1024  # of one answer, headers included, where nothing else is said
_PIECE = 8 * 1024
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "campaign"}

# The first that is found among an error and its causes says what went wrong.
_FAULTS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "timed out"),
    (TooMuch, "answer too large"),
    (RemoteDisconnected, "connection closed without an answer"),
    (IncompleteRead, "answer cut off"),
    (HTTPException, "answer is not HTTP"),
    (ssl.SSLError, "TLS failed"),
    (socket.gaierror, "host name not found, or no name server answers"),
    (UnicodeError, "host name is not valid"),
    (ConnectionRefusedError, "connection refused"),
    (OSError, "connection broken"),
)


class NoAnswer(Exception):
    """No HTTP answer came; says why in a few words and holds nothing of the request."""


class BadCertificate(NoAnswer):
    """The server's certificate cannot be verified; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer as it came: no redirect followed, nothing decompressed."""

    code: int
    headers: CaseInsensitiveDict[str]
    body: bytes = field(repr=False)  # may hold a token


class Client:
    """Sends requests over at most `connections` connections, which are kept open; certificates are verified.

    Each exchange ends within `seconds` and brings at most `most` bytes, headers included. Its authorities are those of
    `ca_file`, if one is given. Raises ConfigError, which names the key of `section`, for a file that cannot be used.
    """

    def __init__(
        self, section: str, ca_file: Path | None, seconds: float, connections: int = 1, *, most: int = _MOST_BYTES
    ) -> None:
        self._adapter = _Adapter(verifying_context(section, ca_file, DEFAULT_CA_BUNDLE_PATH), connections, most)
        self._timeout: Any = urllib3.Timeout(total=seconds)  # handed through by requests, whose own have no total

    def send(self, request: PreparedRequest) -> Reply:
        """Send it and read the whole answer. Raises NoAnswer."""
        try:
            return self._exchange(request)
        except (RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
            failure = _failure(error)
        # Not raised within the handler: the errors of requests carry the request, and it an assertion or a secret.
        raise failure

    def close(self) -> None:
        """Close all connections; the next request opens a new one."""
        self._adapter.close()

    def _exchange(self, request: PreparedRequest) -> Reply:
        """Read piece by piece: memory is asked for what comes, not for what the server announces."""
        with closing(self._adapter.send(request, stream=True, timeout=self._timeout)) as response:
            body = b"".join(response.raw.stream(_PIECE, decode_content=False))
            return Reply(response.status_code, response.headers, body)


def prepared(method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> PreparedRequest:
    """A request for JSON. Raises requests' InvalidURL and its kin."""
    return Request(method, url, headers={**headers, **_HEADERS}, data=body).prepare()


def json_object(body: bytes) -> dict[str, Any] | None:
    """Parse strictly: UTF-8, one object, no key twice, no NaN; None for all else. Every number is a float, whatever its size."""
    try:
        content = json.loads(body.decode(), object_pairs_hook=_without_doubles, parse_int=float, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands twice")
    return content


def _no_constant(name: str) -> None:
    raise ValueError(name)


class _Connection(urllib3.connection.HTTPConnection):
    """A connection whose steps are bounded: first TCP and TLS together, then each request with its answer."""

    most = _MOST_BYTES

    def connect(self) -> None:
        super().connect()
        # urllib3 calls settimeout again before each answer, which begins a new step.
        self.sock: Any = BoundedSocket(self.sock, self._seconds, self.most)

    def _new_conn(self) -> socket.socket:
        """Look the name up and connect within the time of the step; TLS gets what is left."""
        seconds, began = self._seconds, time.monotonic()
        connected = dial(self._dns_host, self.port, seconds)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as urllib3 does
        connected.settimeout(max(began + seconds - time.monotonic(), 0.001))  # 0 would mean: do not wait at all
        return connected

    @property
    def _seconds(self) -> float:
        return float(self.timeout or 1)


class _TLSConnection(_Connection, urllib3.connection.HTTPSConnection):
    """The same with TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _Adapter(HTTPAdapter):
    """requests' adapter over bounded sockets, with one TLS context for all connections.

    Used without a Session on purpose: redirects, cookies, .netrc and proxies are the Session's, so here there are none.
    """

    def __init__(self, context: ssl.SSLContext, connections: int, most: int) -> None:
        self._context = context
        self._pools = {"http": _sized(_Pool, most), "https": _sized(_TLSPool, most)}
        super().__init__(pool_connections=1, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **_: Any) -> None:  # noqa: ANN401  # the signature is requests'
        """Use the bounded connections."""
        self.poolmanager = urllib3.PoolManager(connections, maxsize=maxsize, block=block, ssl_context=self._context)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def get_connection_with_tls_context(self, request: PreparedRequest, *_: Any, **__: Any) -> urllib3.HTTPConnectionPool:  # noqa: ANN401  # the signature is requests'
        """The connections to that host, without looking for proxies and certificates that are not used here."""
        pool: urllib3.HTTPConnectionPool = self.poolmanager.connection_from_url(request.url)
        return pool

    def request_url(self, request: PreparedRequest, *_: Any) -> str:  # noqa: ANN401  # the signature is requests'
        """The path alone: there is no proxy to be told the host."""
        return request.path_url

    def cert_verify(self, conn: Any, url: str, verify: bool | str, cert: Any) -> None:  # noqa: ANN401  # the signature is requests'
        """Do nothing: the context verifies, and requests would read the CA file again for every connection."""


def _sized(pool: type[urllib3.HTTPConnectionPool], most: int) -> type[urllib3.HTTPConnectionPool]:
    """The same pool, of connections whose answers bring at most so many bytes."""
    connection = type(pool.ConnectionCls.__name__, (pool.ConnectionCls,), {"most": most})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})


def _failure(error: BaseException) -> NoAnswer:
    links = tuple(_chain(error))
    for link in links:
        if isinstance(link, ssl.SSLCertVerificationError):
            return BadCertificate(link.verify_message.rstrip("."))
    words = (words for kind, words in _FAULTS if any(isinstance(link, kind) for link in links))
    return NoAnswer(next(words, type(error).__name__))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
