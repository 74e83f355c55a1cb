"""Reads the reports of a mailbox by IMAP, and leaves the mailbox as it is."""

import ssl
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit

from campaign.bounces.dsn import MOST_BYTES
from campaign.bounces.wire import Connection, Login
from campaign.errors import UsageError
from campaign.model import printable

_PORTS = {"imap": 143, "imaps": 993}
_MOST_MESSAGES = 200_000
_HEADERS, _BODIES = 500, 16  # messages asked for at once
_CONTENT_TYPE = "BODY.PEEK[HEADER.FIELDS (CONTENT-TYPE)]<0.1000>"
_BEGINNING = f"BODY.PEEK[]<0.{MOST_BYTES}>"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mailbox is, and whose."""

    host: str
    port: int
    implicit_tls: bool
    username: str
    mailbox: str

    @classmethod
    def of(cls, url: str, username: str) -> Self:
        """Read `imaps://[user@]host[:port]/[MAILBOX]`, or `imap://` for STARTTLS. Raises UsageError, without the URL."""
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:
            raise _unusable("cannot be read") from None
        if parts.password is not None:
            raise _unusable("holds a password, which everybody on this machine could see in the list of processes")
        if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment:
            raise _unusable("is no address of a mailbox")
        user, mailbox = _names(parts)
        return cls(parts.hostname, port, parts.scheme == "imaps", user or username, mailbox or "INBOX")

    def __str__(self) -> str:
        return printable(f"{self.host}:{self.port}")


def _names(parts: SplitResult) -> tuple[str, str]:
    user, mailbox = unquote(parts.username or ""), unquote(parts.path.strip("/"))
    if not f"{parts.hostname}{user}{mailbox}".isprintable():
        raise _unusable("holds control characters")
    return user, mailbox


def _unusable(why: str) -> UsageError:
    return UsageError(f"the IMAP URL {why}", "write imaps://USER@HOST/MAILBOX; the password is the one of campaign.toml")


def messages(
    place: Place, login: Login, context: ssl.SSLContext, timeout: float, since: datetime | None
) -> Generator[bytes, None, None]:
    """The beginning of each multipart/report that arrived since that day, a few in memory at a time. Close the iterator.

    `timeout` is in seconds, for each step, whole. Raises RelayUnreachable for a server that cannot be reached safely, falls
    silent or talks nonsense, RelayRefused for one that says no, UsageError where there are too many messages.
    """
    with Connection(place.host, place.port, context, timeout, implicit_tls=place.implicit_tls) as connection:
        connection.sign_in(place.username, login)
        connection.examine(place.mailbox)
        yield from _reports(connection, _recent(connection, place, since))
        connection.leave()


def _recent(connection: Connection, place: Place, since: datetime | None) -> list[int]:
    # A day earlier: the server counts days in a time zone of its own.
    day = "-".join(format_datetime(since - timedelta(days=1)).split()[1:4]) if since else ""
    uids = connection.uids(f"SINCE {day}" if day else "ALL")
    if len(uids) > _MOST_MESSAGES:
        raise UsageError(
            f"{place}: there are {len(uids)} messages to look through, more than {_MOST_MESSAGES}",
            "have the delivery failures sorted into a mailbox of their own, and name that one: imaps://USER@HOST/MAILBOX",
        )
    return uids


def _reports(connection: Connection, uids: Sequence[int]) -> Iterator[bytes]:
    # Not by SEARCH HEADER: some servers have no index of that header, and find nothing instead of saying so.
    for some in _portions(uids, _HEADERS):
        headers = connection.pieces(some, _CONTENT_TYPE)
        reports = [uid for uid, header in headers.items() if b"multipart/report" in header.lower()]
        for few in _portions(reports, _BODIES):
            yield from connection.pieces(few, _BEGINNING).values()


def _portions(uids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (uids[start : start + size] for start in range(0, len(uids), size))
