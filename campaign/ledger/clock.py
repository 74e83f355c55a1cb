"""Tells a clock that cannot be believed by the times that the ledger remembers."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from campaign.errors import GuardTripped
from campaign.ledger.schema import Instant, metadata, runs, users

_SLACK = timedelta(minutes=10)  # that NTP may set a clock back by in between
_PAUSE = timedelta(days=90)  # a nightly job does not rest that long; a clock may jump
OVERDUE = timedelta(hours=36)  # since the last run of a job that runs every night
_MAY_LIE_AHEAD = {users.c.suppressed_until}


def last_run(connection: Connection, campaign: str, but: str = "") -> datetime | None:
    """When a run last began or ended, leaving out one."""
    others = (runs.c.campaign == campaign, runs.c.run_id != but)
    times = connection.execute(select(func.max(runs.c.started), func.max(runs.c.finished)).where(*others)).one()
    return max(filter(None, times), default=None)


def amiss(last: datetime | None, now: datetime) -> str:
    """What speaks against the clock, in words; "" if nothing does (pure)."""
    if last and now < last - _SLACK:
        return f"the clock shows {now:%Y-%m-%d %H:%M} UTC, but the last run was at {last:%Y-%m-%d %H:%M} UTC"
    if last and now > last + _PAUSE:
        return f"the clock shows {now:%Y-%m-%d} UTC, {(now - last).days} days after the last run"
    return ""


def trust(last: datetime | None, now: datetime) -> None:
    """Raise GuardTripped for a clock that jumped: every date would be wrong, and nothing is noted under a wrong date."""
    if wrong := amiss(last, now):
        raise GuardTripped(f"guard clock: {wrong}", "set the clock by NTP; if it is right: campaign adopt")


def corrected(connection: Connection, campaign: str, now: datetime) -> None:
    """Let nothing in the ledger lie ahead of a clock that was put right, and count from now on."""
    for table in metadata.sorted_tables:
        for column in table.c:
            if isinstance(column.type, Instant) and column not in _MAY_LIE_AHEAD:
                ahead = (table.c.campaign == campaign, column > now)
                connection.execute(table.update().where(*ahead).values({column: now}))
    this = {"campaign": campaign, "run_id": f"{now:%Y%m%dT%H%M%S.%fZ}-adopt", "started": now, "finished": now}
    connection.execute(runs.insert().values(**this))
