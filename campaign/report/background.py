"""What a report tells beside its rows: the runs so far, what changed, the limits in force, and what others have to add."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple

from campaign.errors import ExitCode
from campaign.model import User


class Run(NamedTuple):
    """One run as it is remembered. What an earlier version of this program did not note is None."""

    started: datetime
    finished: datetime | None
    exit_code: ExitCode | None  # None: it was killed
    users: int | None
    consented: int | None
    lacking: int | None  # Docusign answered so in this run
    no_answer: int | None
    mailed: int | None  # messages that were accepted, or may have been
    outcome: Mapping[str, int]
    guards: Sequence[str] = ()  # that kept it from mailing
    approvable: int = 0  # messages that it would have sent, had they been approved; 0 = no approval would have helped


class Change(NamedTuple):
    """One kind of thing that happened to users since last night."""

    what: str  # in words
    users: int
    named: Sequence[str] = ()  # the addresses of the first of them


class Limit(NamedTuple):
    """One limit or guard in force."""

    key: str  # as campaign.toml has it
    value: str
    meaning: str


class Remark(NamedTuple):
    """Something that needs a person and is no single user's: what it is, what to do, and the command."""

    what: str
    advice: str
    command: str = ""


class Section(NamedTuple):
    """A part of its own, at the end of the report: a heading, paragraphs, and a table whose first column names its rows."""

    heading: str
    paragraphs: Sequence[str] = ()
    header: Sequence[str] = ()
    table: Sequence[Sequence[object]] = ()


@dataclass(frozen=True, slots=True)
class Background:
    """All that the report of one campaign tells beside its rows. All times are aware."""

    campaign: str = "campaign"
    users: Mapping[str, User] = field(default_factory=dict, repr=False)  # by id: departments, locales, and each user's first row
    runs: Sequence[Run] = ()  # the oldest first
    since: datetime | None = None  # when the run before last night ended
    changes: Sequence[Change] = ()  # since then
    limits: Sequence[Limit] = ()
    remarks: Sequence[Remark] = ()
    sections: Sequence[Section] = ()
    waits: tuple[int, ...] = (3, 7, 14)  # days before each reminder
    capacity: Callable[[date], int] = field(default=lambda _: 300)  # messages on a day

    @property
    def last(self) -> Run | None:
        """The last run."""
        return self.runs[-1] if self.runs else None

    def wait(self, messages: int) -> int:
        """How many days a user has to answer the so-many-th message before the next, or before it counts as unanswered."""
        return (*self.waits, self.waits[-1] if self.waits else 7)[min(messages, len(self.waits) + 1) - 1]
