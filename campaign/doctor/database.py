"""The database server that a ledger lies on: whether it can be reached, keeps what it is given, and tells the same time."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from campaign.config import Config
from campaign.errors import LedgerError
from campaign.given import Means
from campaign.ledger import hold
from campaign.ledger.opening import facts_of
from campaign.model import Check, Grade

_APART = timedelta(seconds=30)  # that two clocks may be: enough for the network, too little for a message's date to be wrong


def steps(config: Config, means: Means) -> Mapping[str, Callable[[], Check]]:
    """What is looked at, in its order; each is worth nothing without the one before."""
    return {
        "database": partial(_database, config),
        "durable commits": partial(_commits, config),
        "database clock": partial(_clock, config, means),
        "lock": partial(_lock, config),
    }


def _database(config: Config) -> Check:
    facts = facts_of(config)
    if not facts.may_create:
        what = f"{config.ledger_name} does not let this user make tables"
        raise LedgerError(what, "make the database the user's own: ALTER DATABASE … OWNER TO …; or GRANT CREATE ON SCHEMA public")
    way = f"over {facts.tls}" if facts.tls else "on this machine, without TLS"
    return Check("database", Grade.GOOD, f"{config.ledger_name} is PostgreSQL {facts.version}, {way}")


def _commits(config: Config) -> Check:
    standbys = facts_of(config).standbys
    found = "what is written is on the server's disk before anything is mailed"
    if standbys:
        return Check("durable commits", Grade.GOOD, f"{found}, and on those of {standbys}")
    return Check(
        "durable commits", Grade.GOOD, f"{found}; no standby is waited for, so one that takes over may lack the last messages"
    )


def _clock(config: Config, means: Means) -> Check:
    before = means.clock()
    there, after = facts_of(config).now, means.clock()
    apart = max(before - there, there - after, timedelta(0))
    if apart > _APART:
        found = f"the database's clock and this machine's are {apart / timedelta(seconds=1):.0f} seconds apart"
        return Check("database clock", Grade.DOUBT, found, "set both by NTP: hosts that share a ledger must agree on the time")
    return Check("database clock", Grade.GOOD, "shows the time that this machine shows")


def _lock(config: Config) -> Check:
    with hold(config):
        pass
    return Check("lock", Grade.GOOD, f"no run holds the campaign {config.name!r}")
