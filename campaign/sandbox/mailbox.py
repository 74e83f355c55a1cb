"""A mail catcher on loopback: an SMTP server that delivers nothing and keeps every message as a file."""

import asyncio
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from campaign.files import replaced
from campaign.sandbox.loopback import listener

_FOREIGN = re.compile(r"[^A-Za-z0-9@.+_-]")  # what a recipient may not bring into a file name


@dataclass(frozen=True, slots=True)
class CaughtMessage:
    """One message as it came, and the file that holds it."""

    path: Path
    mail_from: str
    rcpt_tos: tuple[str, ...]
    content: bytes


class MailCatcher:
    """The mail catcher; a context manager that serves while entered. Messages already in `folder` are left alone.

    A message is on the disk as `NNNN-recipient.eml` before it is accepted: the bytes as they came, beneath two lines that tell
    the envelope, `X-Envelope-From` and `X-Envelope-To`. One that cannot be stored is answered 452.
    Entering raises UsageError where the port cannot be had.
    """

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.port = port  # the one in use, once entered
        self._folder = folder
        self._messages: list[CaughtMessage] = []

    def __enter__(self) -> Self:
        logging.getLogger("mail.log").setLevel(logging.CRITICAL)
        kept = (path.name.partition("-")[0] for path in self._folder.glob("*-*.eml"))
        self._number = max((int(number) for number in kept if number.isdecimal()), default=0)
        self._controller = _Controller(self, self.port)
        self._controller.start()
        self.port = self._controller.port
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._controller.stop()

    @property
    def messages(self) -> tuple[CaughtMessage, ...]:
        """What was accepted since this catcher was made, in that order."""
        return tuple(self._messages)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's name
        """Keep a message; the return value is what the client hears."""
        try:
            message = self._kept(envelope)
        except OSError as error:
            return f"452 4.3.1 not stored: {error.strerror}"
        self._messages.append(message)
        return f"250 2.0.0 kept as {message.path.name}"

    def _kept(self, envelope: Envelope) -> CaughtMessage:
        recipients, content = tuple(envelope.rcpt_tos), bytes(envelope.original_content or b"")
        path = self._folder / f"{self._number + 1:04}-{_FOREIGN.sub('_', recipients[0])[:100]}.eml"
        trace = f"X-Envelope-From: {envelope.mail_from}\r\nX-Envelope-To: {', '.join(recipients)}\r\n"
        with replaced(path) as draft:
            draft.write_bytes(trace.encode() + content)
        self._number += 1
        return CaughtMessage(path, envelope.mail_from or "", recipients, content)


class _Controller(Controller):
    """Takes a listening socket of ours, so that port 0 works."""

    def __init__(self, catcher: MailCatcher, port: int) -> None:
        self._listener = listener(port)
        super().__init__(catcher, hostname="127.0.0.1", port=self._listener.getsockname()[1])

    async def _create_server(self) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(self._factory_invoker, sock=self._listener)
