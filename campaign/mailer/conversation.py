"""Commands and replies of SMTP (RFC 5321), every step of which is bounded in time and bytes, and what a refusal is told as."""

import re
import shlex
import smtplib
import ssl
from contextlib import suppress
from enum import StrEnum
from typing import Any

from campaign.bounded import words
from campaign.errors import DomainRefused, RelayRefused
from campaign.mailer.replies import DONE, REFUSED, Reply
from campaign.mailer.route import Route
from campaign.model import printable

_TELLING = 8  # characters at the beginning of a secret that are too many to be shown
_LINE = re.compile(rb"([1-5][0-9]{2})(?:([ -])(.*?))?\r?\n", re.DOTALL)


class Garbled(OSError):
    """What came is not the reply that was asked for."""


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


class Conversation(smtplib.SMTP):
    """What is said over one connection. Any failure is an OSError; then it is of no more use.

    smtplib puts the commands together and reads the answer to EHLO; sending and replies are our own.
    """

    sock: Any  # a BoundedSocket once connected

    def __init__(self, route: Route, context: ssl.SSLContext) -> None:
        super().__init__(local_hostname="", timeout=route.timeout)
        self.route = route
        self.phase = Phase.CONNECT
        self.context = context
        self.secrets: tuple[bytes, ...] = ()  # never shown, though the relay should repeat them
        self.unread = b""

    def ask(self, phase: Phase, argument: str = "") -> Reply:
        """One command, one reply."""
        self.phase = phase
        separator = ":" if phase in {Phase.MAIL, Phase.RCPT} else " "
        self.putcmd(f"{phase}{separator}{argument}" if argument else phase)
        return self.reply()

    def answer(self, line: str) -> Reply:
        """What a challenge of the relay gets, and the reply to it."""
        self.putcmd(line)
        return self.reply()

    def reply(self) -> Reply:
        """The next reply."""
        return Reply.of(*self.getreply())

    def accept(self, reply: Reply) -> None:
        """Go on only after a 2yz. Raises RelayRefused for what will not pass soon, OSError for what may."""
        if reply.kind == REFUSED or reply.limits_us:
            raise refused(self, reply)
        if reply.kind != DONE:
            raise Garbled(f"{self.phase} was answered {reply}")

    def answers(self) -> bool:
        """Whether the relay is still there."""
        with suppress(OSError):
            return self.ask(Phase.NOOP).kind == DONE
        return False

    def leave(self, seconds: float = 5) -> None:
        """Say good-bye, if it can be done soon, and close."""
        self.timeout = min(self.timeout, seconds)
        with suppress(OSError):
            self.ask(Phase.QUIT)
        self.close()

    def spoke(self) -> bool:
        """Whether the relay said something unasked, or hung up."""
        return bool(self.unread) or self.sock.readable()

    def send(self, s: Any) -> None:  # noqa: ANN401  # the signature is smtplib's
        """Begin a step and send text or bytes."""
        if self.unread:
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
                raise Garbled(f"unreadable reply {printable(repr(self.without_secrets(line)))}")
            lines.append(self.without_secrets(match[3] or b"").strip())
            more = match[2] == b"-"
        return int(codes.pop()), b"\n".join(lines)

    def without_secrets(self, said: bytes) -> bytes:
        """What a relay said, which may have repeated what it was sent, whole or cut short, as it may be shown."""
        for secret in self.secrets:
            for length in range(len(secret), min(_TELLING, len(secret)) - 1, -1):
                said = said.replace(secret[:length], b"***")
        return said

    def fault(self, error: Exception) -> str:
        """What went wrong, in words that may be shown: an error may quote what was being sent."""
        return self.without_secrets(words(error).encode(errors="backslashreplace")).decode()

    def _line(self) -> bytes:
        while b"\n" not in self.unread:
            data = self.sock.recv(4096)
            if not data:
                raise ConnectionAbortedError("the relay closed the connection")
            self.unread += data
        line, end, self.unread = self.unread.partition(b"\n")
        return line + end


def refused(conversation: Conversation, reply: Reply, recipient: str = "", *, besides: str = "") -> RelayRefused:
    """The error that tells what the relay said, what it usually means, and the next step.

    `recipient` is whom the transaction was for, once the relay had taken the sender; `besides` is what there is to say more.
    """
    by_token = conversation.phase is Phase.AUTH and conversation.route.tokens is not None
    meaning = reply.meaning(token=by_token)
    where, then, error, to = str(conversation.phase), meaning.then, meaning.error, printable(recipient)
    if to and (meaning.perhaps_recipient or error is DomainRefused):
        where += f" for {to}"
    if to and meaning.perhaps_recipient:
        then += f"; if only {to} is refused, this lets the others go on: campaign suppress {shlex.quote(to)} --reason TEXT"
    if not to and error is DomainRefused:
        error = RelayRefused
    more = f"; {besides}" if besides else ""
    return error(f"{conversation.route} refused {where}: {reply}{more} ({meaning.why})", then)
