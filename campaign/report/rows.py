"""The rows of the report: one for every row of the roster."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from campaign.model import Reason, Reject, Roster, Standing, Status, User


class Row(NamedTuple):
    """One row of the report; the fields are its first columns, by name and order."""

    user_id: str
    email: str
    name: str
    status: str
    action: str
    reason: str
    messages: int
    first_sent: datetime | None
    last_sent: datetime | None
    last_outcome: str
    last_probed: datetime | None
    granted_at: datetime | None
    next_action: str
    next_due: datetime | None
    detail: str
    line: int
    revoked_at: datetime | None = None


Upcoming = Callable[[User, Standing], tuple[str, datetime | None]]


def rows(roster: Roster, standings: Mapping[str, Standing], upcoming: Upcoming) -> Iterator[Row]:
    """Give one row for every row of the roster, in its order.

    `standings` is by user id; a user without one has not been probed. `upcoming` says what a user gets next, and when.
    """
    for line, shown in roster.rows:
        if isinstance(shown, Reject):
            yield _rejected(line, shown)
        else:
            yield _known(line, shown, standings.get(shown.user_id) or Standing(shown.user_id), upcoming)


def _known(line: int, user: User, standing: Standing, upcoming: Upcoming) -> Row:
    next_action, next_due = ("", None) if user.closed else upcoming(user, standing)
    return Row(
        user_id=user.user_id,
        email=user.email,
        name=user.name,
        status=Status.NOT_PROBED if user.closed else standing.found or Status.NOT_PROBED,
        action=standing.action,
        reason=Reason.CLOSED if user.closed else standing.reason,
        messages=standing.messages,
        first_sent=standing.first_sent,
        last_sent=standing.last_sent,
        last_outcome=standing.last_outcome,
        last_probed=standing.last_probed,
        granted_at=standing.granted_at,
        next_action=next_action,
        next_due=next_due,
        detail="" if user.closed else standing.detail,
        line=line,
        revoked_at=standing.revoked_at,
    )


def _rejected(line: int, reject: Reject) -> Row:
    return Row(
        user_id=reject.user_id,
        email=reject.email,
        name=reject.name,
        status=Status.REJECTED,
        action="",
        reason=Reason.INVALID_ROW,
        messages=0,
        first_sent=None,
        last_sent=None,
        last_outcome="",
        last_probed=None,
        granted_at=None,
        next_action="",
        next_due=None,
        detail=reject.reason,
        line=line,
    )
