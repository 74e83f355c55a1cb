"""A mail relay on loopback that misbehaves as it is told."""

import base64
import json
import os
import re
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from tests.listening import Listening

_ANSWERS = {
    "connect": "220 relay.test ESMTP",
    "HELO": "250 relay.test",
    "STARTTLS": "220 2.0.0 go ahead",
    "AUTH": "235 2.7.0 welcome",
    "challenge": "334 " + base64.b64encode(b'{"status":"400","schemes":"Bearer","scope":"https://mail.example/"}').decode(),
    "refusal": "535 5.7.3 Authentication unsuccessful",
    "MAIL": "250 2.1.0 sender ok",
    "RCPT": "250 2.1.5 recipient ok",
    "DATA": "354 go ahead",
    "dot": "250 2.0.0 queued",
    "RSET": "250 2.0.0 ok",
    "NOOP": "250 2.0.0 ok",
    "QUIT": "221 2.0.0 bye",
}


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that the relay has taken."""

    envelope_from: str
    recipient: str
    data: str  # as it was before dot-stuffing, a character a byte
    last_piece: str  # what the read that brought the final dot brought: over TLS the client's last write
    parameters: str = ""  # of MAIL FROM and of RCPT TO


@dataclass(frozen=True, slots=True)
class _Rule:
    phase: str
    action: str
    message: int | None
    nth: int | None
    connection: int | None
    recipient: str | None


class Relay(Listening):
    """A threaded SMTP server on 127.0.0.1 for tests: `with Relay() as relay:`, then `relay.port`.

    It takes every message, unless `relay.at(phase, action, ...)` says otherwise, before or during the conversation.

    Phases: connect, TLS (the handshake), EHLO, HELO, STARTTLS, AUTH, challenge (the 334 that tells why a token is not
    taken), refusal (the 535 after it), MAIL, RCPT, DATA, body (once some of it came), dot, RSET, NOOP, QUIT. Actions:

        "450 4.2.0 later"   this reply instead (all that begins with a digit), also of several lines; after a 2yz or 3yz
                            it goes on as usual, after a 421 it closes
        "drop"              close the connection without a word
        "hang"              say nothing more and keep the connection
        "garbage"           binary rubbish, then close
        "drip"              the usual reply, one byte every 0.05 s
        "split"             the usual reply, one byte a packet
        "endless"           reply lines that never end
        "flood"             bytes without a line end, never ending
        "delay 0.5"         the usual reply, so many seconds later
        "store drop"        only at the dot: take the message first, then do what follows "store" (any of the above)

    A rule holds for all, or for the `message`-th transaction (from 1, counted at MAIL over all connections), the `nth` of
    its connection, the `connection`-th connection, one `recipient`. The first rule that fits decides.

    `tls` is a server-side context: STARTTLS is offered, or TLS comes first with `implicit`. `login` is (user, password),
    with XOAUTH2 (user, token): then AUTH is offered by `mechanisms` and mail refused without it. With "DSN" in `offers` the
    parameters of RFC 3461 are taken, else refused. `log` names a file: each message becomes a line of JSON there, synced to
    the disk before the answer goes out; `Relay.logged(path)` reads it.

    Seen: `accepted`, `connections`, `commands` (each with whether TLS was on), `auth_attempts`, `auth_in_clear`.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        login: tuple[str, str] | None = None,
        mechanisms: str = "PLAIN LOGIN",
        offers: tuple[str, ...] = ("SIZE 10485760", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"),
        log: Path | None = None,
    ) -> None:
        super().__init__()
        self.tls, self.implicit = tls, implicit
        self.login, self.mechanisms = login, mechanisms
        self.offers, self.log = offers, log
        self.accepted: list[Accepted] = []
        self.commands: list[tuple[bool, str]] = []
        self.connections = 0
        self.messages = 0
        self.lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._talks: list[_Conversation] = []

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for talk in self._talks:
            talk.end()

    def at(
        self,
        phase: str,
        action: str,
        *,
        message: int | None = None,
        nth: int | None = None,
        connection: int | None = None,
        recipient: str | None = None,
    ) -> Self:
        """Do `action` at `phase`, where all that is given fits. Raises ValueError for an action that there is not."""
        name = action.removeprefix("store ").partition(" ")[0]
        if not (name[:1].isdigit() or name in {"drop", "hang", "garbage", "drip", "split", "endless", "flood", "delay"}):
            raise ValueError(f"no such action: {action}")
        self._rules.append(_Rule(phase, action, message, nth, connection, recipient))
        return self

    def heal(self) -> None:
        """Forget all rules: from now on it takes everything."""
        self._rules.clear()

    @property
    def auth_attempts(self) -> int:
        """How often somebody tried to sign in."""
        return sum(command.upper().startswith("AUTH") for _, command in self.commands)

    @property
    def auth_in_clear(self) -> bool:
        """Whether a sign-in was seen without TLS."""
        return any(command.upper().startswith("AUTH") for under_tls, command in self.commands if not under_tls)

    @staticmethod
    def logged(path: Path) -> list[Accepted]:
        """What a relay, perhaps of another process, has taken."""
        return [Accepted(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]

    def action(self, phase: str, talk: "_Conversation") -> str:
        """What the script says for this moment; "" = nothing."""
        now = (self.messages, talk.transactions, talk.number, talk.recipient)
        for rule in self._rules:
            wanted = (rule.message, rule.nth, rule.connection, rule.recipient)
            if rule.phase == phase and all(want in {None, have} for want, have in zip(wanted, now, strict=True)):
                return rule.action
        return ""

    def take(self, message: Accepted) -> None:
        """Keep a message, on disk first."""
        with self.lock:
            if self.log:
                with self.log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(message)) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            self.accepted.append(message)

    def _listen(self) -> None:
        while not self.over.is_set():
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._talks = [talk for talk in self._talks if talk.is_alive()]
            self._talks.append(_Conversation(self, connected, self.connections))
            self._talks[-1].start()


class _Over(Exception):
    """This conversation has ended."""


class _Conversation(threading.Thread):
    def __init__(self, relay: Relay, connected: socket.socket, number: int) -> None:
        super().__init__()
        self.relay = relay
        self.plain = connected
        self.sock: socket.socket = connected
        self.number = number
        self.transactions = 0
        self.envelope_from = ""
        self.recipient = ""
        self.parameters = ""
        self._signed_in = relay.login is None
        self._buffer = b""
        self._handlers = {
            "EHLO": self._ehlo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "QUIT": self._quit,
        }

    def run(self) -> None:
        """Converse until one of the two has enough."""
        with suppress(_Over, OSError):
            if self.relay.implicit:
                self._handshake()
            self._answer("connect")
            while True:
                self._command(self._line())
        for one in {self.plain, self.sock}:
            one.close()

    def end(self) -> None:
        """Cut the connection, whatever it is waiting for, and wait for the thread."""
        with suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
        self.join()

    def _command(self, line: str) -> None:
        self.relay.commands.append((self.sock is not self.plain, line))
        verb = line.partition(" ")[0].upper()
        if verb in self._handlers:
            self._handlers[verb](line)
        elif verb in _ANSWERS:
            self._answer(verb)
        else:
            self._send("500 5.5.1 what?")

    def _ehlo(self, _: str) -> None:
        offers = [*self.relay.offers]
        if self.relay.tls and self.sock is self.plain:
            offers.append("STARTTLS")
        if self.relay.login:
            offers.append(f"AUTH {self.relay.mechanisms}")
        lines = ["relay.test", *offers]
        self._answer("EHLO", "\n".join([f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"]))

    def _starttls(self, _: str) -> None:
        if self._answer("STARTTLS"):
            self._handshake()

    def _auth(self, line: str) -> None:
        if self.relay.action("AUTH", self):
            self._signed_in = self._answer("AUTH")
            return
        _, mechanism, *initial = line.split()
        if mechanism.upper() == "XOAUTH2":
            self._xoauth2(*initial)
            return
        words = [*initial]
        for prompt in ["VXNlcm5hbWU6", "UGFzc3dvcmQ6"] if mechanism.upper() == "LOGIN" else []:
            self._send(f"334 {prompt}")
            words.append(self._line())
        given = b"\0".join(base64.b64decode(word) for word in words).lstrip(b"\0")
        self._signed_in = given == "\0".join(self.relay.login or ()).encode()
        self._send(_ANSWERS["AUTH"] if self._signed_in else "535 5.7.8 wrong user name or password")

    def _xoauth2(self, initial: str) -> None:
        user, token = self.relay.login or ("", "")
        if base64.b64decode(initial) == f"user={user}\1auth=Bearer {token}\1\1".encode():
            self._signed_in = self._answer("AUTH")
        elif self._answer("challenge"):
            self.relay.commands.append((self.sock is not self.plain, self._line() or "(an empty line)"))
            self._answer("refusal")

    def _mail(self, line: str) -> None:
        with self.relay.lock:
            self.relay.messages += 1
        self.transactions += 1
        self.envelope_from, self.recipient, self.parameters = line.partition("<")[2].partition(">")[0], "", ""
        self._answer("MAIL", self._heard(line) if self._signed_in else "530 5.7.0 authentication required")

    def _rcpt(self, line: str) -> None:
        self.recipient = line.partition("<")[2].partition(">")[0]
        self._answer("RCPT", self._heard(line))

    def _heard(self, line: str) -> str:
        """Note the parameters; the refusal of those that were not offered, "" = none."""
        said = line.partition(">")[2]
        self.parameters += said
        asks_for_reports = re.search(r" (RET|ENVID|NOTIFY|ORCPT)=", said)
        return "555 5.5.4 unsupported parameter" if asks_for_reports and "DSN" not in self.relay.offers else ""

    def _data(self, _: str) -> None:
        if not self._answer("DATA"):
            return
        raw, piece = b"\r\n" + self._buffer, self._buffer
        while b"\r\n.\r\n" not in raw[-len(piece) - 4 :]:
            piece = self._read()
            self._perform("body", unless=len(raw) > 2)
            raw += piece
        body, _end, self._buffer = raw.partition(b"\r\n.\r\n")
        data = (body + b"\r\n").replace(b"\r\n.", b"\r\n")[2:].decode("latin-1")
        last_piece = piece.decode("latin-1")
        self._close_message(Accepted(self.envelope_from, self.recipient, data, last_piece, self.parameters.strip()))

    def _close_message(self, message: Accepted) -> None:
        action = self.relay.action("dot", self)
        keep, _, then = action.partition(" ")
        if keep == "store" or not action or action.startswith("2") or keep in {"drip", "split", "delay"}:
            self.relay.take(message)
        self._act(then if keep == "store" else action, _ANSWERS["dot"])

    def _quit(self, _: str) -> None:
        self._answer("QUIT")
        raise _Over

    def _handshake(self) -> None:
        self._perform("TLS")
        assert self.relay.tls
        self.sock = secured = self.relay.tls.wrap_socket(self.plain, server_side=True, do_handshake_on_connect=False)
        secured.do_handshake()

    def _answer(self, phase: str, usual: str = "") -> bool:
        """Answer as the script or else as usual; whether that was a yes."""
        return self._act(self.relay.action(phase, self), usual or _ANSWERS[phase])

    def _perform(self, phase: str, *, unless: bool = False) -> None:
        if not unless and (action := self.relay.action(phase, self)):
            self._act(action, "")

    def _act(self, action: str, usual: str) -> bool:
        name, _, seconds = action.partition(" ")
        if name in {"drop", "hang", "garbage", "endless", "flood"}:
            getattr(self, f"_{name}")()
            raise _Over
        if name == "delay":
            self.relay.over.wait(float(seconds))
        reply = action if action[:1].isdigit() else usual
        if reply:
            self._send(reply, pause={"drip": 0.05, "split": 0.0}.get(name))
        if reply.startswith("421"):
            raise _Over
        return reply[:1] in {"2", "3"}

    def _send(self, reply: str, pause: float | None = None) -> None:
        data = reply.replace("\n", "\r\n").encode("latin-1") + b"\r\n"
        if pause is None:
            self.sock.sendall(data)
            return
        for byte in data:
            self.sock.sendall(bytes([byte]))
            time.sleep(pause)

    def _drop(self) -> None:
        """Nothing: the connection is closed behind it."""

    def _hang(self) -> None:
        self.relay.over.wait()

    def _garbage(self) -> None:
        self.sock.sendall(b"\x00\xff\x1b[2J%PDF-1.7\r\n")

    def _endless(self) -> None:
        while not self.relay.over.is_set():
            self.sock.sendall(b"250-and another thing\r\n" * 20)

    def _flood(self) -> None:
        while not self.relay.over.is_set():
            self.sock.sendall(b"2" * 500)

    def _line(self) -> str:
        while b"\n" not in self._buffer:
            self._buffer += self._read()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r").decode("latin-1")

    def _read(self) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            raise _Over
        return data
