"""The token endpoint over HTTPS: requests' adapter on sockets that bound each answer's time and size."""

import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import Any
from urllib.parse import urlencode

import urllib3
from requests import PreparedRequest, Request, RequestException
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from campaign.bounded import BoundedSocket, TooMuch
from campaign.config import Docusign
from campaign.tls import verifying_context

logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # its warnings hold what a server sent, as it came

_MOST_BYTES = 64 * 1024  # of one answer, headers included
_PIECE = 8 * 1024
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/x-www-form-urlencoded",
    "User-Agent": "campaign",
}
_FORM = urlencode({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": ""})

# The first that is found among an error and its causes says what went wrong.
_FAULTS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "timed out"),
    (TooMuch, "answer too large"),
    (RemoteDisconnected, "connection closed without an answer"),
    (IncompleteRead, "answer cut off"),
    (HTTPException, "answer is not HTTP"),
    (ssl.SSLError, "TLS failed"),
    (socket.gaierror, "host name not found"),
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


class TokenEndpoint:
    """The token endpoint, over at most so many connections as threads use it; they are kept open."""

    def __init__(self, config: Docusign) -> None:
        self._adapter = _Adapter(verifying_context("docusign", config.ca_file, DEFAULT_CA_BUNDLE_PATH), config.concurrency)
        self._timeout: Any = urllib3.Timeout(total=config.timeout)  # handed through by requests, whose own have no total
        self._request = Request("POST", f"{config.server}/oauth/token", headers=_HEADERS).prepare()

    def post(self, assertion: str) -> Reply:
        """Ask for one token. Raises NoAnswer."""
        request = self._request.copy()
        request.body = _FORM + assertion  # base64url and dots: nothing in it needs escaping
        request.prepare_content_length(request.body)
        try:
            return self._exchange(request)
        except (RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            failure = _failure(error)
        # Not raised within the handler: the errors of requests carry the request, and it the assertion.
        raise failure

    def close(self) -> None:
        """Close all connections."""
        self._adapter.close()

    def _exchange(self, request: PreparedRequest) -> Reply:
        """Read piece by piece: memory is asked for what comes, not for what the server announces."""
        with closing(self._adapter.send(request, stream=True, timeout=self._timeout)) as response:
            body = b"".join(response.raw.stream(_PIECE, decode_content=False))
            return Reply(response.status_code, response.headers, body)


class _Connection(urllib3.connection.HTTPConnection):
    def connect(self) -> None:
        super().connect()
        self.sock: Any = _bounded(self)


class _TLSConnection(urllib3.connection.HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        self.sock: Any = _bounded(self)


def _bounded(connection: urllib3.connection.HTTPConnection) -> BoundedSocket:
    # urllib3 calls settimeout again before each answer, which begins a new step.
    return BoundedSocket(connection.sock, float(connection.timeout or 1), _MOST_BYTES)


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _Adapter(HTTPAdapter):
    """requests' adapter over bounded sockets, with one TLS context for all connections.

    Used without a Session on purpose: redirects, cookies, .netrc and proxies are the Session's, so here there are none.
    """

    def __init__(self, context: ssl.SSLContext, connections: int) -> None:
        self._context = context
        super().__init__(pool_connections=1, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **_: Any) -> None:  # noqa: ANN401  # the signature is requests'
        """Use the bounded connections."""
        self.poolmanager = urllib3.PoolManager(connections, maxsize=maxsize, block=block, ssl_context=self._context)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def cert_verify(self, conn: Any, url: str, verify: bool | str, cert: Any) -> None:  # noqa: ANN401  # the signature is requests'
        """Do nothing: the context verifies, and requests would read the CA file again for every connection."""


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
