"""One SMTP connection (RFC 5321, 3207, 4954) whose every step is bounded, and which knows how far it has come."""

import base64
import re
import smtplib
import socket
import ssl
from contextlib import suppress
from enum import StrEnum
from typing import Any

from campaign.bounded import BoundedSocket
from campaign.errors import RelayRefused, RelayUnreachable
from campaign.mailer.replies import Reply
from campaign.mailer.route import Route
from campaign.model import printable

_MOST_BYTES = 32 * 1024  # that a relay may send in one step; an EHLO reply has one or two thousand
_LINE = re.compile(rb"([1-5][0-9]{2})(?:([ -])(.*?))?\r?\n", re.DOTALL)
_PLACE = re.compile(r" \(_ssl\.c:\d+\)")
_FULL_NAME = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_READY_FOR_TLS, _CHALLENGE, _SIGNED_IN, _GO_AHEAD = 220, 334, 235, 354
_DONE, _REFUSED = 2, 5  # first digits


class Garbled(OSError):
    """What came is no reply to what was asked."""


class Phase(StrEnum):
    """How far a connection or a message has come; what a failure means depends on it."""

    CONNECT = "the connection"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL FROM"
    RCPT = "RCPT TO"
    DATA = "DATA"
    BODY = "the message"
    DOT = "the final dot"
    NOOP = "NOOP"
    QUIT = "QUIT"


class Connection(smtplib.SMTP):
    """A connection for one message after the other. Any failure is an OSError; then it is of no more use.

    smtplib puts the commands together and reads the answer to EHLO; sending, replies, TLS and AUTH are our own.
    """

    sock: Any  # a BoundedSocket once connected

    def __init__(self, route: Route, context: ssl.SSLContext) -> None:
        super().__init__(local_hostname="", timeout=route.timeout)
        self.route = route
        self.phase = Phase.CONNECT
        self._context = context
        self._unread = b""
        self._secrets: tuple[bytes, ...] = ()

    def open(self) -> None:
        """Connect, verify, sign in. Raises OSError for what may pass by itself, RelayRefused, RelayUnreachable."""
        try:
            self._accept(Reply.of(*self.connect(self.route.host, self.route.port)))
            self._greet()
            if self.route.security == "starttls":
                self._start_tls()
                self._greet()
            if self.route.username:
                self._sign_in()
        except BaseException:
            self.close()
            raise

    def hand_over(self, data: bytes, envelope_from: str, recipient: str, options: str) -> Reply:
        """Hand over one message; the reply at which it ended, and `phase` where. Raises OSError."""
        commands = {Phase.MAIL: f"<{envelope_from}>{options}", Phase.RCPT: f"<{recipient}>", Phase.DATA: ""}
        for phase, argument in commands.items():
            reply = self.ask(phase, argument)
            if reply.code != _GO_AHEAD if phase is Phase.DATA else reply.kind != _DONE:
                return reply
        self.phase = Phase.BODY
        self.send(_stuffed(data))
        if self.spoke():
            return self._reply()
        # Two writes: what fails before the second is definitely not sent.
        self.phase = Phase.DOT
        self.send(b".\r\n")
        return self._reply()

    def ask(self, phase: Phase, argument: str = "") -> Reply:
        """One command, one reply."""
        self.phase = phase
        separator = ":" if phase in {Phase.MAIL, Phase.RCPT} else " "
        self.putcmd(f"{phase}{separator}{argument}" if argument else phase)
        return self._reply()

    def answers(self) -> bool:
        """Whether the relay is still there."""
        with suppress(OSError):
            return self.ask(Phase.NOOP).kind == _DONE
        return False

    def leave(self, seconds: float = 5) -> None:
        """Say good-bye, if it can be done soon, and close."""
        self.timeout = min(self.timeout, seconds)
        with suppress(OSError):
            self.ask(Phase.QUIT)
        self.close()

    def spoke(self) -> bool:
        """Whether the relay said something unasked, or hung up."""
        return bool(self._unread) or self.sock.readable()

    def send(self, s: Any) -> None:  # noqa: ANN401  # the signature is smtplib's
        """Begin a step and send text or bytes."""
        if self._unread:
            raise Garbled("the relay answered more than it was asked")
        self.sock.settimeout(self.route.final_timeout if self.phase is Phase.DOT else self.timeout)
        self.sock.sendall(s.encode() if isinstance(s, str) else s)

    def getreply(self) -> tuple[int, bytes]:
        """Read one whole reply, each line of which bears the same code. Raises OSError for anything else."""
        codes, lines, more = set(), [], True
        while more:
            line = self._line()
            match = _LINE.fullmatch(line)
            codes.add(match[1] if match else b"")
            if match is None or len(codes) > 1:
                raise Garbled(f"unreadable reply {self._without_secrets(line)!r}")
            lines.append(self._without_secrets(match[3] or b"").strip())
            more = match[2] == b"-"
        return int(codes.pop()), b"\n".join(lines)

    def _line(self) -> bytes:
        while b"\n" not in self._unread:
            data = self.sock.recv(4096)
            if not data:
                raise ConnectionAbortedError("the relay closed the connection")
            self._unread += data
        line, end, self._unread = self._unread.partition(b"\n")
        return line + end

    def _reply(self) -> Reply:
        return Reply.of(*self.getreply())

    def _without_secrets(self, line: bytes) -> bytes:
        # A relay may repeat what it was sent.
        for secret in self._secrets:
            line = line.replace(secret, b"***")
        return line

    def _accept(self, reply: Reply) -> None:
        if reply.kind == _REFUSED:
            raise refused(self, reply)
        if reply.kind != _DONE:
            raise Garbled(f"{self.phase} was answered {reply}")

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:  # noqa: ANN401  # called by smtplib's connect
        raw = _dial(host, port, self.route.connect_timeout)
        raw.settimeout(timeout)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or the final dot waits 40 ms for the body's ACK
        return BoundedSocket(self._verified(raw) if self.route.security == "tls" else raw, timeout, _MOST_BYTES)

    def _verified(self, raw: socket.socket) -> ssl.SSLSocket:
        try:
            return self._context.wrap_socket(raw, server_hostname=self.route.host)
        except ssl.SSLCertVerificationError as error:
            raise RelayUnreachable(
                f"{self.route}: the certificate is not trusted: {printable(error.verify_message)}",
                "have the certificate put right; for a private authority set [mail] ca_file",
            ) from error

    def _greet(self) -> None:
        self.phase = Phase.EHLO
        self.local_hostname = self._own_name()
        code, text = self.ehlo()
        if code // 100 == _REFUSED:  # a relay from before 1995
            code, text = self.helo()
        self._accept(Reply.of(code, text))

    def _own_name(self) -> str:
        """The full host name, else the address: no look-up, which could hang or be answered by a stranger."""
        name = socket.gethostname()
        address = self.sock.getsockname()[0]
        return name if _FULL_NAME.fullmatch(name) else f"[IPv6:{address}]" if ":" in address else f"[{address}]"

    def _start_tls(self) -> None:
        if not self.has_extn("starttls"):
            raise self._unsafe("it offers no STARTTLS")
        reply = self.ask(Phase.STARTTLS)
        if reply.code != _READY_FOR_TLS:
            raise self._unsafe(f"STARTTLS was answered {reply}")
        if self._unread:  # would be taken for an answer given under TLS (CVE-2011-0411)
            raise self._unsafe("it went on talking in the clear after STARTTLS")
        self.sock.settimeout(self.timeout)
        self.sock = BoundedSocket(self._verified(self.sock.inner), self.timeout, _MOST_BYTES)

    def _unsafe(self, why: str) -> RelayUnreachable:
        advice = 'ask whoever runs the relay, or use [mail] security = "tls" with its port, usually 465'
        return RelayUnreachable(f"{self.route} cannot be reached safely: {why}; nothing was sent", advice)

    def _sign_in(self) -> None:
        """One attempt with one mechanism: guessing on would lock the account."""
        password = self.route.password().encode("utf-8", "replace")
        try:
            reply = self._answer_with(self.route.username.encode("utf-8", "replace"), password)
        except OSError as error:
            raise RelayUnreachable(
                f"{self.route}: the connection was lost at AUTH: {words(error)}",
                "it was not tried again, so that the account is not locked; the next run tries again",
            ) from error
        if reply.code != _SIGNED_IN:
            raise refused(self, reply)

    def _answer_with(self, username: bytes, password: bytes) -> Reply:
        plain, name, word = (base64.b64encode(part) for part in (b"\0%b\0%b" % (username, password), username, password))
        self._secrets = tuple(filter(None, (plain, word, password)))
        offered = self.esmtp_features.get("auth", "").upper().split()
        if "PLAIN" in offered:
            return self.ask(Phase.AUTH, f"PLAIN {plain.decode()}")
        if "LOGIN" not in offered:
            raise RelayRefused(
                f"{self.route} offers no AUTH PLAIN or LOGIN; what it offers: {printable(' '.join(offered)) or 'no AUTH at all'}",
                "check [mail] auth, port and security",
            )
        reply = self.ask(Phase.AUTH, "LOGIN")
        for answer in (name, word):
            if reply.code != _CHALLENGE:
                break
            self.putcmd(answer.decode())
            reply = self._reply()
        return reply


def refused(connection: Connection, reply: Reply) -> RelayRefused:
    """The error that tells what the relay said, what it usually means, and the next step."""
    why, then = reply.meaning
    return RelayRefused(f"{connection.route} refused {connection.phase}: {reply} ({why})", then)


def words(error: Exception) -> str:
    """What an OSError says, without its number and its place in a C file."""
    return printable(_PLACE.sub("", getattr(error, "strerror", None) or str(error) or type(error).__name__))


def _dial(host: str, port: int, seconds: float) -> socket.socket:
    """Connect to the first address that answers; all get the same share of the time, so that one dead one cannot eat it."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError = ConnectionAbortedError("the host name has no address")
    for *_, address in addresses:
        try:
            return socket.create_connection((str(address[0]), port), seconds / len(addresses))
        except OSError as error:
            failure = error
    raise failure


def _stuffed(data: bytes) -> bytes:
    """The message as DATA sends it, without the final dot: leading dots doubled, a line end at its end (RFC 5321, 4.5.2)."""
    stuffed = (b"\r\n" + data).replace(b"\r\n.", b"\r\n..")[2:]
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"
