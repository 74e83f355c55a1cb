"""Which customer of an ISV somebody belongs to, and how far that one is."""

from collections.abc import Callable, Mapping
from datetime import datetime

from campaign import plan
from campaign.config import Config
from campaign.customers import Figures, figures, grouped, left_alone
from campaign.errors import RosterError
from campaign.model import Standing
from campaign.roster import read_customers, read_roster


def belonging(
    config: Config, user_id: str, all_standings: Callable[[], Mapping[str, Standing]], now: datetime
) -> tuple[Figures | None, datetime | None]:
    """The customer whose user, or whose administrator, this is; and until when this user is left alone for that reason.

    Neither where there are no customers, this one is nobody's, or roster or customers cannot be read.
    """
    if not config.customers.file:
        return None, None
    try:
        administrators, users = read_customers(config), read_roster(config).users
    except RosterError:
        return None, None
    standings = all_standings()
    customers = grouped(administrators, users, standings)
    waits = left_alone(config, customers, standings, now)
    for customer in customers:
        if user_id in {customer.administrator.user_id, *(user.user_id for user in customer.users)}:
            known = {user.user_id: standings.get(user.user_id) or Standing(user.user_id) for user in customer.users}
            upcoming = plan.upcoming_for(config.policy, waits)
            return next(figures([customer], (), {**standings, **known}, upcoming, waits)), waits.get(user_id)
    return None, None
