"""A connected socket whose every step ends in time and reads no more than it should.

A socket's own time-out starts again with each byte: a server that drips one byte a minute holds a client for ever. Here
`settimeout(seconds)` begins a *step*: all that is sent and read until the next `settimeout` must be done within those
seconds, and what is read within `limit` bytes. `http.client` and imaplib read through `makefile`, the mailer
with `recv`.
"""

import io
import re
import select
import socket
import ssl
import threading
import time
from concurrent.futures import Future
from typing import Any, TypeAlias

Address: TypeAlias = tuple[Any, ...]  # as the socket module has them: the host first, as a number
_PLACE = re.compile(r" \(_ssl\.c:\d+\)")


class TooMuch(OSError):
    """The peer sent more than one step may bring."""


class BoundedSocket:
    """Wraps a connected `socket`; what is neither sending nor reading goes to it unchanged."""

    def __init__(self, inner: socket.socket, seconds: float, limit: int) -> None:
        self.inner = inner
        self._limit = limit
        self.settimeout(seconds)

    def settimeout(self, seconds: float | None) -> None:
        """Begin a step of so many seconds, whole."""
        if seconds is None:
            raise ValueError("a step needs a deadline")
        self._deadline = time.monotonic() + seconds
        self._left = self._limit
        self.inner.settimeout(seconds)

    def makefile(self, mode: str = "rb", buffering: int = io.DEFAULT_BUFFER_SIZE) -> io.BufferedReader:
        """Return the buffered reader that http.client asks for; with `buffering=1` it takes no byte before it is wanted."""
        if mode != "rb":
            raise ValueError("for reading bytes only")
        return io.BufferedReader(_Reader(self), buffering)

    def recv(self, size: int) -> bytes:
        """Read what is there, at most `size` bytes; b"" is the end. Raises TimeoutError, TooMuch, OSError."""
        self.before_io()
        data: bytes = self.inner.recv(size)
        self.after_read(len(data))
        return data

    def sendall(self, data: bytes) -> None:
        """Send all of it within the step: a TLS socket's own `sendall` has a new time-out for each record. Raises OSError."""
        rest = memoryview(data)
        while rest:
            self.before_io()
            rest = rest[self.inner.send(rest) :]

    def readable(self) -> bool:
        """Whether a read would not have to wait: something came, or the connection is at its end."""
        if isinstance(self.inner, ssl.SSLSocket) and self.inner.pending():
            return True
        poll = select.poll()
        poll.register(self.inner, select.POLLIN)
        return bool(poll.poll(0))

    def before_io(self) -> None:
        """Give the call that follows only the time that is left. Raises TimeoutError when none is."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.inner.settimeout(left)

    def after_read(self, count: int) -> None:
        """Count what came. Raises TooMuch."""
        self._left -= count
        if self._left < 0:
            raise TooMuch(f"the server sent more than {self._limit} bytes")

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever a socket has
        return getattr(self.inner, name)


def look_up(host: str, port: int, seconds: float) -> dict[Address, int]:
    """The addresses of a host, in the order in which to try them, each with its family.

    The system's resolver cannot be interrupted: where no name server answers, it is left behind in a thread that nobody waits
    for. Raises TimeoutError then, OSError for a name that is not known, UnicodeError for one that is none.
    """
    answer: Future[dict[Address, int]] = Future()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.set_result({address: family for family, _, _, _, address in found})
        except Exception as error:  # noqa: BLE001  # it is raised where it is waited for
            answer.set_exception(error)

    try:
        threading.Thread(target=ask, name="look-up", daemon=True).start()
    except RuntimeError as error:  # TasksMax or a limit on processes
        raise OSError("no thread could be started") from error
    try:
        return answer.result(seconds)
    except TimeoutError:
        raise TimeoutError(f"no name server answered within {seconds:g} seconds") from None


def dial(host: str, port: int, seconds: float) -> socket.socket:
    """Connect to the first address that answers, look-up included within the time.

    All addresses get the same share of what is left, so that one dead one cannot eat it. Raises the last address's OSError,
    and what `look_up` raises.
    """
    end = time.monotonic() + seconds
    addresses = look_up(host, port, seconds)
    share = max(end - time.monotonic(), 0.001) / max(len(addresses), 1)  # 0 would mean: do not wait at all
    failure: OSError = ConnectionAbortedError("the host name has no address")
    for address, family in addresses.items():
        try:
            return _connected(address, family, share)
        except OSError as error:
            failure = error
    raise failure


def _connected(address: Address, family: int, seconds: float) -> socket.socket:
    connected = socket.socket(family, socket.SOCK_STREAM)
    try:
        connected.settimeout(seconds)
        connected.connect(address)
    except BaseException:
        connected.close()
        raise
    return connected


def words(error: Exception) -> str:
    """What an OSError says, without its number and its place in a C file."""
    return _PLACE.sub("", getattr(error, "strerror", None) or str(error) or type(error).__name__)


class _Reader(io.RawIOBase):
    """The raw half of `makefile`. Like the standard library's it keeps the socket open until it is closed itself."""

    def __init__(self, bounded: BoundedSocket) -> None:
        super().__init__()
        self._bounded = bounded
        self._raw = bounded.inner.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  # any writable buffer
        self._bounded.before_io()
        count = self._raw.readinto(buffer) or 0
        self._bounded.after_read(count)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
