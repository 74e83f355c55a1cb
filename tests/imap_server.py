"""A mailbox server on loopback that misbehaves as it is told."""

import base64
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Self

from tests.listening import Listening

_CAPABILITIES = "IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2"
_QUESTIONS = {"PLAIN": [b""], "XOAUTH2": [b""], "LOGIN": [b"Username:", b"Password:"]}


class ImapServer(Listening):
    """One mailbox on 127.0.0.1 for tests: `with ImapServer(context, {1: message}) as server:`, then `server.port`.

    It speaks what the program asks for and no more; TLS comes first with `implicit`, else by STARTTLS. `login` is what the
    client's last answer of a sign-in must be, decoded; None = anything goes.

    `server.at(command, action)` scripts it: "greeting", "CAPABILITY", "STARTTLS", "AUTHENTICATE", "EXAMINE", "UID SEARCH",
    "UID FETCH", "LOGOUT". Actions: lines to answer instead, where `TAG` stands for the command's tag; "drop", "hang", "slow" (a
    tenth of a second, then as usual), "flood" (one line without end), "chatter" (lines without end), "literal N" (announces so
    many bytes, and sends zeros).

    Seen: `commands`, `under_tls` (of each command), `answers` of a sign-in, decoded.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        messages: Mapping[int, bytes] | None = None,
        *,
        implicit: bool = True,
        login: bytes | None = None,
        capabilities: str = _CAPABILITIES,
    ) -> None:
        super().__init__()
        self.context, self.implicit = context, implicit
        self.messages = dict(messages or {})
        self.login, self.capabilities = login, capabilities
        self.commands: list[str] = []
        self.under_tls: list[bool] = []
        self.answers: list[bytes] = []
        self._script: dict[str, str] = {}

    def at(self, command: str, action: str) -> Self:
        """Do `action` instead of what is usual."""
        self._script[command] = action
        return self

    def _listen(self) -> None:
        """One connection after the other."""
        while not self.over.is_set():
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            connected.settimeout(5)
            with connected, suppress(OSError, ValueError, IndexError):
                self._talk(self._secured(connected) if self.implicit else connected)

    def _secured(self, connected: socket.socket) -> ssl.SSLSocket:
        return self.context.wrap_socket(connected, server_side=True)

    def _talk(self, sock: socket.socket) -> None:
        with ExitStack() as opened:
            lines = opened.enter_context(sock).makefile("rb")
            self._answer(sock, "", "greeting", b"* OK ready\r\n")
            while line := lines.readline():
                tag, _, command = line.decode().rstrip("\r\n").partition(" ")
                self.commands.append(command)
                self.under_tls.append(isinstance(sock, ssl.SSLSocket))
                name = next((name for name in ("UID SEARCH", "UID FETCH") if command.startswith(name)), command.split()[0])
                if name == "AUTHENTICATE" and name not in self._script:
                    self._sign_in(sock, lines.readline, tag, command.split()[1])
                    continue
                self._answer(sock, tag, name, self._usual(name, command) + f"{tag} OK done\r\n".encode())
                if name == "LOGOUT":
                    return
                if name == "STARTTLS":
                    lines.close()
                    sock = opened.enter_context(self._secured(sock))
                    lines = sock.makefile("rb")

    def _answer(self, sock: socket.socket, tag: str, name: str, usual: bytes) -> None:
        action = self._script.get(name, "")
        if action == "drop":
            raise ConnectionAbortedError
        if action == "hang":
            self.over.wait(5)
            raise ConnectionAbortedError
        if action == "slow":
            self.over.wait(0.1)
            action = ""
        while action in {"flood", "chatter"}:
            sock.sendall((b"X" * 100 + b"\r\n" * (action == "chatter")).replace(b"XX", b"* ", 1) * 1000)
        if action.startswith("literal "):
            size = int(action.split()[1])
            sock.sendall(f"* 1 FETCH (UID 1 BODY[] {{{size}}}\r\n".encode())
            for _ in range(size // 100_000):
                sock.sendall(bytes(100_000))
            raise ConnectionAbortedError
        sock.sendall(action.replace("TAG", tag).replace("\n", "\r\n").encode() + b"\r\n" if action else usual)

    def _usual(self, name: str, command: str) -> bytes:
        if name == "CAPABILITY":
            return f"* CAPABILITY {self.capabilities}\r\n".encode()
        if name == "EXAMINE":
            return f"* {len(self.messages)} EXISTS\r\n* OK [UIDVALIDITY 1] fine\r\n".encode()
        if name == "UID SEARCH":
            return f"* SEARCH {' '.join(map(str, self.messages))}\r\n".encode()
        if name == "UID FETCH":
            wanted = map(int, command.split()[2].split(","))
            return b"".join(self._piece(uid, command) for uid in wanted if uid in self.messages)
        return b"* BYE see you\r\n" if name == "LOGOUT" else b""

    def _piece(self, uid: int, command: str) -> bytes:
        message, item = self.messages[uid], "BODY[]<0>"
        if "CONTENT-TYPE" in command:
            field = re.search(rb"^content-type:.*(\r?\n[ \t].*)*", message.partition(b"\n\n")[0], re.IGNORECASE | re.MULTILINE)
            message, item = (field[0] if field else b"") + b"\r\n\r\n", 'BODY[HEADER.FIELDS ("CONTENT-TYPE")]<0>'
        most = re.search(r"<0\.(\d+)>", command)
        piece = message[: int(most[1])] if most else message
        head, tail = (f" {item}", f" UID {uid}") if uid % 2 else (f" UID {uid} {item}", "")  # either order is right
        return f"* {uid} FETCH (FLAGS (){head} {{{len(piece)}}}\r\n".encode() + piece + f"{tail})\r\n".encode()

    def _sign_in(self, sock: socket.socket, readline: Callable[[], bytes], tag: str, mechanism: str) -> None:
        for question in _QUESTIONS[mechanism]:
            sock.sendall(b"+ " + base64.b64encode(question) + b"\r\n")
            self.answers.append(base64.b64decode(readline()))
        if self.login in {None, self.answers[-1]}:
            sock.sendall(f"{tag} OK welcome\r\n".encode())
            return
        if mechanism == "XOAUTH2":
            sock.sendall(b"+ " + base64.b64encode(b'{"status":"400","schemes":"Bearer"}') + b"\r\n")
            readline()
        sock.sendall(f"{tag} NO [AUTHENTICATIONFAILED] no: {base64.b64encode(self.answers[-1]).decode()}\r\n".encode())
