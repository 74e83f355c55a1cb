"""What the ledger tells of what happened: events, news, nights that passed, messages and what came back of them."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from campaign.model import ESCALATION


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one user."""

    at: datetime
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it was noted; one that was killed, or is under way, has not ended and has no exit code."""

    started: datetime
    finished: datetime | None
    exit_code: int | None
    run_id: str = ""
    counts: str = "{}"  # JSON: what the run noted of itself


@dataclass(frozen=True, slots=True)
class Change:
    """One kind of thing that happened to users: to how many, and the present addresses of the first of them."""

    what: str
    users: int
    emails: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """How far a ledger has got."""

    generation: int
    last_run: Run | None
    users: int
    messages: int  # that went out, or may have


@dataclass(frozen=True, slots=True)
class News:
    """One thing that is new and needs a person."""

    email: str
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Passed:
    """The night that was last let through to mail: when, how many users the roster had then, and what was asked for."""

    at: datetime | None = None
    users: int = 0
    scope: str = ""  # "" = not known


@dataclass(frozen=True, slots=True)
class Removed:
    """What a purge took out of the ledger."""

    users: int
    events: int


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as it was sent, for what comes back to be matched with."""

    message_id: str
    user_id: str
    email: str  # the user's, as the roster last had it
    step: int
    recipient: str
    address: str  # the recipient as addresses are compared
    outcome: str
    bounced: str  # the code of the failure that was noted; "" = none came back


@dataclass(frozen=True, slots=True)
class Bounce:
    """A message that came back."""

    letter: Letter
    code: str
    permanent: bool  # the address itself cannot be mailed
    detail: str  # printable

    @property
    def blames_user(self) -> bool:
        """Whether the user's own address is to blame: a message to the manager says nothing of it."""
        return self.permanent and self.letter.step != ESCALATION


def named(slot: Any) -> str:  # noqa: ANN401  # a Slot, a Letter, or a row with their columns
    """The message of a slot, as the user's history tells it."""
    return f"{f'message {slot.step}' if slot.step != ESCALATION else 'message to the manager'}, {slot.message_id}"


_NAMED = re.compile(r"message (?:to the manager|(?P<step>\d+)), (?P<message_id><[^>]*>): (?P<said>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Told:
    """What an event tells of a message: which one, and the relay's words or an operator's."""

    step: int
    message_id: str
    said: str


def told_of(detail: str) -> Told | None:
    """What the detail of an event about a message says, as `named` began it; None for any other event."""
    match = _NAMED.fullmatch(detail)
    return Told(int(match["step"] or ESCALATION), match["message_id"], match["said"]) if match else None
