"""Each customer in figures, for plan, report and scripts (pure)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from campaign.customers.asking import NEVER
from campaign.customers.people import Customer
from campaign.model import Reason, Standing, Status, User, stamp

Upcoming = Callable[[User, Standing], tuple[str, datetime | None]]


@dataclass(frozen=True, slots=True)
class Figures:
    """One customer; without a name, all users who are nobody's."""

    customer: str = ""
    administrator: str = ""  # the address
    domains: tuple[str, ...] = ()
    users: int = 0  # in the roster, but for the closed and the forgotten
    granted: int = 0
    lacking: int = 0
    unknown: int = 0  # Docusign has not said
    reason: str = ""  # of what the run did about the administrator; "" where there was nobody to ask for
    messages: int = 0
    last_sent: datetime | None = None
    next_action: str = ""
    next_due: datetime | None = None
    users_wait_until: datetime | None = None
    detail: str = ""
    line: int = 0

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {key: stamp(value) if isinstance(value, datetime) else value for key, value in asdict(self).items()}


def figures(
    customers: Sequence[Customer],
    users: Iterable[User],
    standings: Mapping[str, Standing],
    upcoming: Upcoming,
    waits: Mapping[str, datetime],
) -> Iterator[Figures]:
    """Every customer in the file's order, then the users who are nobody's, if there are any; `waits` is by `left_alone`."""
    domains = {domain for customer in customers for domain in customer.administrator.domains}
    for customer in customers:
        yield _of_one(customer, standings, upcoming, waits)
    others = [user for user in users if not user.closed and user.domain not in domains]
    if others:
        yield _counted(Figures(detail="users of no customer"), others, standings)


def _of_one(customer: Customer, standings: Mapping[str, Standing], upcoming: Upcoming, waits: Mapping[str, datetime]) -> Figures:
    administrator = customer.administrator
    standing = standings.get(administrator.user_id) or Standing(administrator.user_id)
    is_asked = customer.users and not administrator.fault
    action, due = upcoming(administrator, standing) if is_asked else ("", None)
    lacking = [user for user in customer.users if standings[user.user_id].status == Status.CONSENT_REQUIRED]
    until = waits.get(lacking[0].user_id, NEVER) if lacking else NEVER
    told = Figures(
        customer=administrator.name,
        administrator=administrator.email,
        domains=administrator.domains,
        reason=Reason.INVALID_ROW if administrator.fault else standing.reason if is_asked else "",
        messages=standing.messages,
        last_sent=standing.last_sent,
        next_action=action,
        next_due=due,
        users_wait_until=until if until != NEVER else None,
        detail=administrator.fault or ("" if customer.users else "no users in the roster"),
        line=administrator.line,
    )
    return _counted(told, customer.users, standings)


def _counted(told: Figures, users: Sequence[User], standings: Mapping[str, Standing]) -> Figures:
    found = [standings[user.user_id].status if user.user_id in standings else "" for user in users]
    granted, lacking = found.count(Status.GRANTED), found.count(Status.CONSENT_REQUIRED)
    return replace(told, users=len(found), granted=granted, lacking=lacking, unknown=len(found) - granted - lacking)
