"""One IMAP connection (RFC 3501, 4959 and 8314), over TLS only, whose every step is bounded.

The few commands are written by hand: imaplib trusts a server with the size and the shape of every answer.
"""

import base64
import binascii
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from campaign.bounded import BoundedSocket
from campaign.errors import RelayRefused, RelayUnreachable
from campaign.model import printable

_MOST_BYTES = 8 << 20  # in the answer to one command
_LITERAL = re.compile(rb"\{(\d{1,9})\}$")
_UID = re.compile(rb"[ (]UID (\d{1,10})[ )]")
_PLACE = re.compile(r" \(_ssl\.c:\d+\)")
_BEYOND_ASCII = re.compile(r"[^\x20-\x7e]+")
_ADVICE = {
    "AUTHENTICATE": "check [mail] username and its password or app, and that this account may use IMAP",
    "EXAMINE": "name a mailbox that this account may read: imaps://USER@HOST/MAILBOX",
    "STARTTLS": "use imaps://, which is TLS from the start; nothing was sent in the clear",
}

_Answer: TypeAlias = tuple[bytes, list[bytes]]  # a line without its literals, and the literals


class Garbled(OSError):
    """What came is no answer to what was asked."""


@dataclass(frozen=True, slots=True)
class Login:
    """What proves who we are: a password, or an OAuth access token."""

    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


class Connection:
    """A connection for one mailbox, which is only read. Any failure but a refusal is an OSError; then it is of no more use."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.step = "the connection"
        self._host, self._port, self._timeout = host, port, timeout
        self._sock: BoundedSocket | None = None
        self._unread = bytearray()
        self._commands = 0
        self._question = b""
        self._secrets: tuple[bytes, ...] = ()

    def open(self, context: ssl.SSLContext, *, implicit_tls: bool) -> None:
        """Connect, and see to it that TLS is on and verified. Raises OSError, RelayRefused, RelayUnreachable."""
        raw = socket.create_connection((self._host, self._port), self._timeout)
        self._use(self._verified(context, raw) if implicit_tls else raw)
        greeting, _ = self._response()
        if not greeting.upper().startswith(b"* OK"):
            raise Garbled(f"the server greets with {self._shown(greeting)}")
        if not implicit_tls:
            self._start_tls(context)

    def sign_in(self, username: str, login: Login) -> None:
        """One attempt with one mechanism: guessing on would lock the account. Raises OSError, RelayRefused."""
        user, password = username.encode(), login.password.encode()
        ways = {
            "XOAUTH2": (b"user=%b\1auth=Bearer %b\1\1" % (user, login.token.encode()), b""),  # b"": after an error
            "PLAIN": (b"\0%b\0%b" % (user, password),),
            "LOGIN": (user, password),
        }
        offered = self._capabilities()
        possible = ("XOAUTH2",) if login.token else ("PLAIN", "LOGIN")
        mechanism = next((way for way in possible if f"AUTH={way}" in offered), "")
        if not mechanism:
            raise RelayRefused(
                f"{self._place} offers no AUTH={' or '.join(possible)}; what it offers: {printable(' '.join(sorted(offered)))}",
                _ADVICE["AUTHENTICATE"],
            )
        answers = [base64.b64encode(answer) for answer in ways[mechanism]]
        self._secrets = tuple(filter(None, (*answers, password, login.token.encode())))
        self._ask("AUTHENTICATE", mechanism, answers=answers)

    def examine(self, mailbox: str) -> None:
        """Choose the mailbox, for reading only. Raises OSError, RelayRefused."""
        name = _utf7(mailbox).replace("\\", "\\\\").replace('"', '\\"')
        self._ask("EXAMINE", f'"{name}"')

    def search(self, criterion: str) -> list[int]:
        """The UIDs of the messages that fit. Raises OSError, RelayRefused."""
        found = [text.split()[2:] for text, _ in self._ask("UID SEARCH", criterion) if text.upper().startswith(b"* SEARCH")]
        return [int(uid) for uids in found for uid in uids if uid.isdigit() and len(uid) <= 10]  # noqa: PLR2004  # digits of 2**32

    def fetch(self, uids: Sequence[int], what: str) -> dict[int, bytes]:
        """One piece of each message, by UID; of one that has vanished, none. Raises OSError, RelayRefused."""
        answers = self._ask("UID FETCH", ",".join(map(str, uids)), f"({what})")
        found = [(_UID.search(text), literals) for text, literals in answers if literals]
        return {int(uid[1]): literals[0] for uid, literals in found if uid}

    def leave(self) -> None:
        """Say good-bye, if it can be done soon."""
        self._timeout = min(self._timeout, 5)
        with suppress(OSError, RelayRefused):
            self._ask("LOGOUT")

    def close(self) -> None:
        """Close the connection."""
        if self._sock:
            self._sock.close()

    @property
    def _place(self) -> str:
        return printable(f"{self._host}:{self._port}")

    def _use(self, connected: socket.socket) -> None:
        self._sock = BoundedSocket(connected, self._timeout, _MOST_BYTES)

    def _verified(self, context: ssl.SSLContext, raw: socket.socket) -> ssl.SSLSocket:
        try:
            return context.wrap_socket(raw, server_hostname=self._host)
        except ssl.SSLCertVerificationError as error:
            raise RelayUnreachable(
                f"{self._place}: the certificate is not trusted: {printable(error.verify_message)}",
                "have the certificate put right; for a private authority set [mail] ca_file",
            ) from error

    def _start_tls(self, context: ssl.SSLContext) -> None:
        self._ask("STARTTLS")
        if self._unread:  # would be taken for an answer given under TLS (CVE-2011-0411)
            raise RelayUnreachable(f"{self._place} went on talking in the clear after STARTTLS", _ADVICE["STARTTLS"])
        self._connected.settimeout(self._timeout)
        self._use(self._verified(context, self._connected.inner))

    @property
    def _connected(self) -> BoundedSocket:
        if self._sock is None:
            raise ValueError("open() comes first")
        return self._sock

    def _capabilities(self) -> set[str]:
        found = [text for text, _ in self._ask("CAPABILITY") if text.upper().startswith(b"* CAPABILITY")]
        return {word.decode("ascii", "replace").upper() for text in found for word in text.split()[2:]}

    def _ask(self, name: str, *arguments: str, answers: Sequence[bytes] = ()) -> list[_Answer]:
        """One command, and all that is said until it is done. `answers` are for the server's questions in between."""
        self._commands += 1
        self.step, self._question = name, b""
        self._connected.settimeout(self._timeout)
        self._connected.sendall(" ".join((f"a{self._commands}", name, *arguments)).encode() + b"\r\n")
        return list(self._until_done(f"a{self._commands} ".encode(), iter(answers)))

    def _until_done(self, tag: bytes, answers: Iterator[bytes]) -> Iterator[_Answer]:
        while True:
            text, literals = self._response()
            if text.startswith(tag):
                self._accept(text.removeprefix(tag))
                return
            if text.upper().startswith(b"* BYE"):
                raise ConnectionAbortedError(f"the server says {self._shown(text)}")
            if text.startswith(b"* "):
                yield text, literals
            elif text.startswith(b"+") and (answer := next(answers, None)) is not None:
                self._question = text[2:]
                self._connected.sendall(answer + b"\r\n")
            else:
                raise Garbled(f"unreadable answer {self._shown(text)}")

    def _accept(self, done: bytes) -> None:
        if not done.upper().startswith(b"OK"):
            advice = _ADVICE.get(self.step, "ask whoever runs the server, with this answer")
            raise RelayRefused(f"{self._place} refused {self.step}: {self._shown(done)}{self._reason()}", advice)

    def _reason(self) -> str:
        """With XOAUTH2 the reason of a refusal comes before it, as JSON in a question."""
        with suppress(binascii.Error):
            reason = base64.b64decode(self._question).replace(b"\\/", b"/")  # so may JSON write a slash, also that of a token
            return f" {self._shown(reason)}" if reason.startswith(b"{") else ""
        return ""

    def _response(self) -> _Answer:
        line, text, literals = self._line(), b"", []
        while literal := _LITERAL.search(line):
            text += line[: literal.start()]
            literals.append(self._take(int(literal[1])))
            line = self._line()
        return text + line, literals

    def _line(self) -> bytes:
        seen = 0
        while (end := self._unread.find(b"\n", seen)) < 0:
            seen = len(self._unread)
            self._read_on()
        return self._take(end + 1).rstrip(b"\r\n")

    def _take(self, count: int) -> bytes:
        while len(self._unread) < count:
            self._read_on()
        taken = bytes(self._unread[:count])
        del self._unread[:count]
        return taken

    def _read_on(self) -> None:
        data = self._connected.recv(1 << 16)
        if not data:
            raise ConnectionAbortedError("the server closed the connection")
        self._unread += data

    def _shown(self, said: bytes) -> str:
        # A server may repeat what it was sent.
        for secret in self._secrets:
            said = said.replace(secret, b"***")
        return printable(said.decode("utf-8", "backslashreplace"))


def words(error: Exception) -> str:
    """What went wrong, without its number and its place in a C file."""
    return printable(_PLACE.sub("", getattr(error, "strerror", None) or str(error) or type(error).__name__))


def _utf7(mailbox: str) -> str:
    """The name of a mailbox as it is written in commands (RFC 3501, 5.1.3)."""
    return _BEYOND_ASCII.sub(
        lambda run: f"&{base64.b64encode(run[0].encode('utf-16-be'), b'+,').decode().rstrip('=')}-", mailbox.replace("&", "&-")
    )
