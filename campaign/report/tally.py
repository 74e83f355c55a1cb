"""The figures of a report, counted from its rows as they go by."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from campaign.model import Reason, Status, User
from campaign.report.background import Background
from campaign.report.rows import Row


class State(StrEnum):
    """Where a user stands, for people; each follows from the columns of one row."""

    CONSENTED = "consented"  # granted_at is filled in, and Docusign knows the user
    ASKED = "asked"  # consent is lacking, and messages are still to come or may yet be answered
    SILENT = "silent"  # reason is cap_reached: all messages went out
    BARRED = "barred"  # reason is undeliverable, suppressed, user_not_found or domain_not_allowed
    UNCLEAR = "unclear"  # reason is no_answer, or Docusign was never asked
    CLOSED = "closed"  # not counted among the users
    UNUSABLE = "unusable"  # a row, not a user


COUNTED = (State.CONSENTED, State.ASKED, State.SILENT, State.BARRED, State.UNCLEAR)  # as users of the campaign
_STATES = {
    Reason.CLOSED: State.CLOSED,
    Reason.INVALID_ROW: State.UNUSABLE,
    Reason.CAP_REACHED: State.SILENT,
    Reason.UNDELIVERABLE: State.BARRED,
    Reason.SUPPRESSED: State.BARRED,
    Reason.USER_NOT_FOUND: State.BARRED,
    Reason.DOMAIN_NOT_ALLOWED: State.BARRED,
    Reason.NO_ANSWER: State.UNCLEAR,
}
_FIRST_JUDGED = {Reason.CLOSED, Reason.INVALID_ROW}
_DAY = 86_400  # seconds


def state(reason: str, status: str, granted_at: datetime | None, last_probed: datetime | None) -> State:
    """Where a user stands, by the columns of the row."""
    if granted_at and status != Status.USER_NOT_FOUND and reason not in _FIRST_JUDGED:
        return State.CONSENTED
    by_reason = _STATES.get(reason, State.ASKED)  # type: ignore[call-overload]  # a reason is its text
    return State.UNCLEAR if last_probed is None and by_reason is State.ASKED else by_reason


Groups = dict[str, Counter[State]]  # by the name of the group


@dataclass(slots=True)
class Tally:
    """What was counted. Users are counted once, by the first row that shows them; rows that cannot be used, as rows."""

    background: Background
    rows: int = 0
    states: Counter[State] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Row]] = field(default_factory=dict)  # by reason, the first rows
    domains: Groups = field(default_factory=dict)
    departments: Groups = field(default_factory=dict)
    locales: Groups = field(default_factory=dict)
    # By how many messages a user has had:
    by_messages: Counter[tuple[int, State]] = field(default_factory=Counter)
    followed: Counter[int] = field(default_factory=Counter)  # of those who can be judged by it
    ripe: Counter[tuple[int, bool]] = field(default_factory=Counter)  # and whether consented, of those whose wait is over
    # By how many messages, the days since the last one, and whether consent ended them:
    days: Counter[tuple[int, int, bool]] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """The users of the campaign: those who could consent."""
        return sum(self.states[state] for state in COUNTED)

    @property
    def asked_at(self) -> datetime | None:
        """When Docusign was last asked: what was answered since is not known."""
        return self.background.last.started if self.background.last else None

    def add(self, row: Row) -> None:
        """Count one row."""
        self.rows += 1
        if not self.is_first(row):
            return
        user = self.background.users.get(row.user_id)
        where = state(row.reason, row.status, row.granted_at, row.last_probed)
        self.states[where] += 1
        self.reasons[row.reason] += 1
        if len(named := self.examples.setdefault(row.reason, [])) < _NAMED:
            named.append(row)
        if where in COUNTED:
            self._group(row, user, where)
            self._follow(row, where)

    def is_first(self, row: Row) -> bool:
        """Whether no earlier row shows the same user; a row that cannot be used stands for itself."""
        user = self.background.users.get(row.user_id)
        return user is None or user.line == row.line or row.reason == Reason.INVALID_ROW

    def _group(self, row: Row, user: User | None, where: State) -> None:
        _count(self.domains, row.email.rpartition("@")[2].casefold(), where)
        _count(self.departments, user.department if user else "", where)
        _count(self.locales, user.locale if user else "", where)

    def _follow(self, row: Row, where: State) -> None:
        """Count what this user's last message did, as far as it had its time."""
        self.by_messages[row.messages, where] += 1
        if row.last_sent is None or where in {State.BARRED, State.UNCLEAR}:
            return
        self.followed[row.messages] += 1
        consented = where is State.CONSENTED
        until = row.granted_at if consented else row.last_probed
        self.days[row.messages, _days(row.last_sent, until), consented] += 1
        if _days(row.last_sent, self.asked_at) >= self.background.wait(row.messages):
            self.ripe[row.messages, consented] += 1


_NAMED = 5  # rows that are named as examples


def _count(groups: Groups, name: str, where: State) -> None:
    if (group := groups.get(name)) is None:
        group = groups[name] = Counter()
    group[where] += 1


def _days(since: datetime, until: datetime | None) -> int:
    """Whole days; a night comes at the same hour, a mail some time into it."""
    return max(0, round((until - since).total_seconds() / _DAY)) if until else 0
