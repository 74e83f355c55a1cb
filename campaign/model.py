"""The words: the values that flow between the stages of a night."""

import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from campaign.errors import ExitCode


class Status(StrEnum):
    """What this run's probe found of a user."""

    GRANTED = "granted"
    CONSENT_REQUIRED = "consent_required"  # the only one that can cause mail
    USER_NOT_FOUND = "user_not_found"
    UNKNOWN = "unknown"  # no readable answer: unknown is not no
    NOT_PROBED = "not_probed"  # granted recently, or the run stopped before
    REJECTED = "rejected"  # the roster's row itself is unusable


class Outcome(StrEnum):
    """What became of a message."""

    SENDING = "sending"  # on disk before the relay is told
    ACCEPTED = "accepted"  # 2yz to the final dot
    DEFERRED = "deferred"  # definitely not sent; the same slot is tried on another night
    REJECTED = "rejected"  # this recipient cannot be mailed
    UNKNOWN = "unknown"  # the dot went out, no readable answer came back: never sent again in this slot


class Action(StrEnum):
    """What a run did for a user."""

    NONE = ""
    INVITED = "invited"
    REMINDED = "reminded"
    ESCALATED = "escalated"  # the user's manager was written to
    ASKED = "asked"  # a customer's administrator was written to


class Reason(StrEnum):
    """Why a run did what it did for a user: the report's closed list."""

    GRANTED = "granted"
    SENT = "sent"
    WAITING = "waiting"
    CAP_REACHED = "cap_reached"
    RUN_FULL = "run_full"
    DAY_FULL = "day_full"
    OUTSIDE_HOURS = "outside_hours"
    SUPPRESSED = "suppressed"
    UNDELIVERABLE = "undeliverable"
    UNRESOLVED = "unresolved"
    USER_NOT_FOUND = "user_not_found"
    NO_ANSWER = "no_answer"
    CLOSED = "closed"
    SAME_ADDRESS = "same_address"
    DOMAIN_NOT_ALLOWED = "domain_not_allowed"
    INVALID_ROW = "invalid_row"
    GUARD = "guard"
    NOT_APPROVED = "not_approved"
    RELAY_REFUSED = "relay_refused"
    STOPPED = "stopped"


ESCALATION = 0  # the step of the one message to a user's manager; those to the user are numbered from 1


def address_key(email: str) -> str:
    """The form in which two addresses are compared: the same person's mailbox however it is typed."""
    return unicodedata.normalize("NFC", email).casefold()


def printable(text: str, most: int = 300) -> str:
    r"""Foreign text for messages, logs, the ledger and the report: nothing in it is invisible or moves the cursor, and it ends.

    Controls, bidi and zero-width characters, unusual spaces and lone surrogates become escapes, `\u202e` for example.
    What has then more than `most` characters is cut to that many, the last of them being `…`.
    """
    kept = text[: most + 1]
    shown = kept if kept.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in kept)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


@lru_cache(1_000)  # there are some 600 zones
def zone_called(name: str) -> ZoneInfo | None:
    """The time zone of this IANA name, as "Europe/Berlin"; None for any other name, as "" or "PST"."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def beyond(scope: str, consented: str) -> list[str]:
    """The scopes of one space-separated string that another does not hold; none where it is not known what that held ("")."""
    if not consented or scope == consented:  # as nearly always
        return []
    return [one for one in scope.split() if one not in consented.split()]


@lru_cache(10_000)  # a report tells of thousands the same
def stamp(moment: datetime) -> str:
    """An aware time as scripts get it: ISO 8601 in UTC, to the second."""
    return moment.astimezone(UTC).isoformat()[:19] + "Z"


class User(NamedTuple):
    """One Docusign user of the roster; several rows that agree are one user. A tuple, because there may be a million."""

    user_id: str  # GUID, lower case: the assertion's `sub`
    email: str  # the roster's cell, to the letter
    recipient: str  # what RCPT TO gets: `email`, its domain in A-labels where it is not ASCII
    line: int  # of the first row that shows this user
    name: str = ""
    first_name: str = ""
    last_name: str = ""
    locale: str = ""
    timezone: str = ""
    department: str = ""
    manager_email: str = ""  # as RCPT TO gets it
    wave: int = 0
    closed: bool = False
    header: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()

    @property
    def row(self) -> dict[str, str]:
        """Every column of the roster under its own header, for templates."""
        return dict(zip(self.header, self.cells, strict=True))

    @property
    def address(self) -> str:
        """`email` in the form in which addresses are compared."""
        return address_key(self.email)

    @property
    def domain(self) -> str:
        """The domain of `recipient`, in lower case."""
        return self.recipient.rpartition("@")[2].lower()


@dataclass(frozen=True, slots=True)
class Reject:
    """A row of the roster that cannot be used. The cells are foreign text, made printable."""

    line: int
    reason: str
    user_id: str = ""
    email: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Roster:
    """A roster as read: the distinct users, the rejected rows, and every row in the file's order."""

    users: tuple[User, ...]
    rejects: tuple[Reject, ...]
    rows: tuple[tuple[int, User | Reject], ...]  # (line, what the row shows), in the file's order


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe found. No token is ever part of it."""

    user_id: str
    status: Status
    detail: str = ""  # Docusign's error code, or what went wrong
    trace: str = ""  # X-DocuSign-TraceToken: what Docusign's support asks for


class Standing(NamedTuple):
    """What the ledger remembers of one user. All times are UTC. A tuple, as a User is."""

    user_id: str
    email: str = ""  # as the roster last had it
    status: str = ""  # the last `Status` that was an answer (granted, consent_required, user_not_found); "" before the first
    found: str = ""  # the `Status` of the last run, whatever it was
    detail: str = ""  # of that finding
    last_probed: datetime | None = None
    granted_at: datetime | None = None  # when the present consent was first seen
    verified_at: datetime | None = None  # when it was last seen
    granted_scope: str = ""  # for which scopes; "" = not known, or taken back
    lacking_since: datetime | None = None
    revoked_at: datetime | None = None
    suppressed: str = ""  # the reason; "" = may be contacted
    suppressed_until: datetime | None = None
    forgotten_at: datetime | None = None  # by order: nobody asks or mails this user
    left_at: datetime | None = None  # when the roster was first read without this user; None while it shows the user
    undeliverable: str = ""  # the address (as compared) that a relay refused; void once the roster shows another
    action: str = ""  # what the last run did, and why
    reason: str = ""
    used: int = 0  # slots used up: accepted, unknown, rejected, or deferred for the last time
    messages: int = 0  # slots whose message was accepted or may have been
    attempts: int = 0  # in the slot that is still open, 0 if none is
    first_sent: datetime | None = None
    last_sent: datetime | None = None  # of the last message that was accepted or may have been
    last_tried: datetime | None = None  # of the last attempt, whatever became of it
    last_outcome: str = ""
    escalated: bool = False  # the slot of the message to the manager is used up
    escalation_tried: datetime | None = None


class Decision(NamedTuple):
    """What tonight holds for one user, and what comes next if nothing changes. A tuple, as a User is."""

    user: User
    reason: Reason
    action: Action = Action.NONE
    step: int = 0  # of the message if there is an action: its number from 1, or ESCALATION
    next_action: str = ""  # "invite", "remind" or nothing more
    next_due: datetime | None = None
    comes_last: bool = False  # the relay refused this user's last message: the others go first
    detail: str = ""  # what is wrong with the row, where that is the reason

    @property
    def recipient(self) -> str:
        """Whom the message goes to: the user, or the manager."""
        return self.user.manager_email if self.action is Action.ESCALATED else self.user.recipient

    @property
    def address(self) -> str:
        """The recipient in the form in which addresses are compared."""
        return address_key(self.recipient) if self.action is Action.ESCALATED else self.user.address


@dataclass(frozen=True, slots=True)
class Slot:
    """The durable intent to send one message: the n-th to this user, or the ESCALATION to the manager."""

    user_id: str
    step: int
    recipient: str
    address: str  # the recipient as addresses are compared
    message_id: str
    date: datetime
    attempts: int = 0  # tries before this one
    scope: str = ""  # that its link asked for, as the ledger has it


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one hand-over to the relay, and the relay's last words, made printable."""

    outcome: Outcome
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Trip:
    """A guard that tripped: what it saw, in figures, and what that usually means."""

    guard: str
    seen: str
    meaning: str
    liftable: bool
    lifted: bool = field(default=False)


class Grade(StrEnum):
    """How one check of the doctor ended."""

    GOOD = "good"
    DOUBT = "doubt"  # a night would run, but somebody should look
    BAD = "bad"  # a night would not run


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the doctor looked at: what was checked, what was found, and what to do. No secret is ever part of it."""

    what: str
    grade: Grade
    found: str
    advice: str = ""
    exit_code: ExitCode = ExitCode.DONE  # the one that a night would end with, where it is BAD
