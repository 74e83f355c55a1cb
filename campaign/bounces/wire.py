"""One IMAP connection (RFC 3501, 4959 and 8314) by imaplib: under TLS only, for reading only, its every step bounded."""

import base64
import imaplib
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from campaign.bounded import BoundedSocket, TooMuch, dial, words
from campaign.errors import CampaignError, RelayRefused, RelayUnreachable
from campaign.model import printable
from campaign.tls import distrusted

_MOST_BYTES = 8 << 20  # in the answer to one command
_REFUSAL = re.compile(rb"[A-P]+\d+ (NO|BAD) ")  # behind a tag of imaplib's
_UID = re.compile(rb"[ (]UID (\d{1,10})[ )]")
_BEYOND_ASCII = re.compile(r"[^\x20-\x7e]+")
# What lost connections and hostile answers make imaplib raise.
_STUMBLES = (imaplib.IMAP4.error, OSError, ValueError, TypeError, AttributeError, LookupError)
_ADVICE = {
    "AUTHENTICATE": "check [mail] username and its password or app, and that this account may use IMAP",
    "EXAMINE": "name a mailbox that this account may read: imaps://USER@HOST/MAILBOX",
    "STARTTLS": "use imaps://, which is TLS from the start; nothing was sent in the clear",
}


@dataclass(frozen=True, slots=True)
class Login:
    """What proves who we are: a password, or an OAuth access token."""

    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


class Connection(imaplib.IMAP4):
    """A connection for one mailbox, open and under verified TLS; `with` closes it.

    `timeout` is in seconds, for each step, whole. All raise RelayRefused where the server says no, RelayUnreachable where it
    cannot be reached safely, falls silent or talks nonsense; then the connection is of no more use.
    """

    sock: Any  # a BoundedSocket

    def __init__(self, host: str, port: int, context: ssl.SSLContext, timeout: float, *, implicit_tls: bool) -> None:
        self._context, self._timeout, self._implicit_tls = context, timeout, implicit_tls
        self._said = self._challenge = b""  # the last of each within a step
        self._secrets: tuple[bytes, ...] = ()
        try:
            super().__init__(host, port, timeout)
        except _STUMBLES as error:
            raise self._explained("the connection", error) from None

    def sign_in(self, username: str, login: Login) -> None:
        """One attempt with one mechanism: guessing on would lock the account."""
        user, password, token = username.encode(), login.password.encode(), login.token.encode()
        ways = {
            "XOAUTH2": [b"user=%b\1auth=Bearer %b\1\1" % (user, token), b""],  # b"": after an error
            "PLAIN": [b"\0%b\0%b" % (user, password)],
            "LOGIN": [user, password],
        }
        possible = ["XOAUTH2"] if token else ["PLAIN", "LOGIN"]
        mechanism = next((way for way in possible if f"AUTH={way}" in self.capabilities), "")
        if not mechanism:
            offered = printable(" ".join(sorted(self.capabilities)))
            what = f"{self._place} offers no AUTH={' or '.join(possible)}; what it offers: {offered}"
            raise RelayRefused(what, _ADVICE["AUTHENTICATE"])
        answers = iter(ways[mechanism])
        self._secrets = tuple(filter(None, [*map(base64.b64encode, ways[mechanism]), password, token]))

        def answer(challenge: bytes) -> bytes | None:
            self._challenge = challenge
            return next(answers, None)

        self._ask("AUTHENTICATE", self.authenticate, mechanism, answer)

    def examine(self, mailbox: str) -> None:
        """Choose the mailbox, for reading only."""
        name = _utf7(mailbox).replace("\\", "\\\\").replace('"', '\\"')
        self._ask("EXAMINE", self.select, f'"{name}"', True)

    def uids(self, criterion: str) -> list[int]:
        """The UIDs of the messages that fit."""
        lines = self._ask("UID SEARCH", self.uid, "SEARCH", criterion)
        found = [uid for line in lines if isinstance(line, bytes) for uid in line.split()]
        return [int(uid) for uid in found if uid.isdigit() and len(uid) <= 10]  # noqa: PLR2004  # digits of 2**32

    def pieces(self, uids: Sequence[int], what: str) -> dict[int, bytes]:
        """One piece of each message, by UID; of one that has vanished, none."""
        answers = self._ask("UID FETCH", self.uid, "FETCH", ",".join(map(str, uids)), f"({what})")
        # A tuple is a line up to its literal, and that; what follows is the rest of the line.
        found = [
            (_UID.search(part[0] + rest), part[1])
            for part, rest in pairwise(answers)
            if (type(part), type(rest)) == (tuple, bytes)
        ]
        return {int(uid[1]): literal for uid, literal in found if uid}

    def leave(self) -> None:
        """Say good-bye, if it can be done soon."""
        self._timeout = min(self._timeout, 5)
        with suppress(RelayRefused, RelayUnreachable):
            self._ask("LOGOUT", self.logout)

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def open(self, host: str = "", port: int = 0, timeout: float | None = None) -> None:
        """Connect; imaplib calls it."""
        self.host, self.port = host, port
        connected = dial(host, port, self._timeout)
        connected.settimeout(timeout)
        self._use(connected, tls=self._implicit_tls)

    def capability(self) -> tuple[str, list[Any]]:
        """Ask what the server can do. imaplib does so first of all; by then TLS must be on."""
        if not isinstance(self.sock.inner, ssl.SSLSocket):
            self._ask("STARTTLS", self.xatom, "STARTTLS")
            if self.sock.readable():  # would be taken for an answer given under TLS (CVE-2011-0411)
                raise RelayUnreachable(f"{self._place} went on talking in the clear after STARTTLS", _ADVICE["STARTTLS"])
            self._use(self.sock.inner, tls=True)
        return "OK", list(self._ask("CAPABILITY", super().capability))

    def readline(self) -> bytes:
        """Read a line; imaplib's own ends at a megabyte, and the UIDs of a large mailbox do not."""
        line = self._answers.readline()
        if not line:
            raise ConnectionAbortedError("the server closed the connection")
        self._said = line.rstrip()
        return line

    def read(self, size: int) -> bytes:
        """Read a literal; for one of an absurd size no memory is asked for."""
        if size > _MOST_BYTES:
            raise TooMuch(f"the server announces more than {_MOST_BYTES} bytes")
        return self._answers.read(size)

    def shutdown(self) -> None:
        """Close the connection."""
        self._answers.close()
        self.sock.close()

    @property
    def _place(self) -> str:
        return printable(f"{self.host}:{self.port}")

    def _use(self, connected: socket.socket, *, tls: bool) -> None:
        if tls:
            connected = self._context.wrap_socket(connected, server_hostname=self.host)
        self.sock = bounded = BoundedSocket(connected, self._timeout, _MOST_BYTES)
        # Before TLS byte by byte: what is said too early must stay in the socket, where it shows.
        self._answers = bounded.makefile("rb", 1 << 16 if tls else 1)

    def _ask(self, step: str, command: Callable[..., tuple[str, Sequence[Any]]], *arguments: object) -> Sequence[Any]:
        """One command of imaplib's, and what it brings."""
        self.sock.settimeout(self._timeout)
        self._said = self._challenge = b""
        self.untagged_responses.clear()  # imaplib keeps for ever what nobody asks for
        try:
            kind, answers = command(*arguments)
        except _STUMBLES as error:  # imaplib quotes the server in it, which may quote a secret
            raise self._explained(step, error) from None
        if kind != "OK":
            raise self._explained(step, self.error())
        return answers

    def _explained(self, step: str, error: Exception) -> CampaignError:
        said = self._shown(self._said)
        if isinstance(error, ssl.SSLCertVerificationError):
            return distrusted(self._place, error)
        if type(error) is self.error and _REFUSAL.match(self._said):
            what = f"{self._place} refused {step}: {said.partition(' ')[2]}{self._reason()}"
            return RelayRefused(what, _ADVICE.get(step, "ask whoever runs the server, with this answer"))
        lost = next((each for each in (error, error.__context__) if isinstance(each, OSError)), None)
        spoke = said and (lost is None or said.startswith("* BYE"))
        what = f"{self._place} cannot be read: {f'the server says {said}' if spoke else words(lost or error)} (at {step})"
        return RelayUnreachable(what, "check the URL and the network; nothing was noted, and the mailbox is as it was")

    def _reason(self) -> str:
        """With XOAUTH2 the reason of a refusal comes before it, as JSON in a challenge."""
        reason = self._challenge.replace(b"\\/", b"/")  # so may JSON write a slash, also that of a token
        return f" {self._shown(reason)}" if reason.startswith(b"{") else ""

    def _shown(self, said: bytes) -> str:
        # A server may repeat what it was sent.
        for secret in self._secrets:
            said = said.replace(secret, b"***")
        return printable(said.decode("utf-8", "backslashreplace"))


def _utf7(mailbox: str) -> str:
    """The name of a mailbox as it is written in commands (RFC 3501, 5.1.3)."""
    return _BEYOND_ASCII.sub(
        lambda run: f"&{base64.b64encode(run[0].encode('utf-16-be'), b'+,').decode().rstrip('=')}-", mailbox.replace("&", "&-")
    )
