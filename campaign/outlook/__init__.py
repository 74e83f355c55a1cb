"""Looks ahead: from the roster and what the ledger knows, without any network, to the nights that a campaign takes."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta

from campaign import plan
from campaign.config import Config
from campaign.customers import grouped, left_alone
from campaign.ledger import read_ledger
from campaign.model import Standing, Status, User, beyond
from campaign.outlook.nights import Batch, Limit, Outlook, Terms, outlook
from campaign.roster import read_customers, read_roster

__all__ = ["Outlook", "look_ahead"]


def look_ahead(config: Config, now: datetime) -> Outlook:
    """How many nights it takes until everybody has been asked, if nobody consents. Raises RosterError, LedgerError."""
    users = [user for user in read_roster(config).users if not user.closed]
    with read_ledger(config) as ledger:
        if ledger:
            ledger.meet(users)
        known = ledger.standings() if ledger else {}
    standings = [(user, known.get(user.user_id) or Standing(user.user_id, user.email)) for user in users]
    waits = left_alone(config, grouped(read_customers(config), users, known), known, now)
    policy, start = config.policy, now.astimezone(config.policy.zone).date()
    lacking = [(user, standing) for user, standing in standings if not _has_consented(standing, config)]
    return outlook(
        Terms(
            start=start,
            asked=_asked(len(lacking), len(users), config),
            probes_per_hour=config.docusign.probes_per_hour,
            probe_burst=config.docusign.probe_burst,
            batches=Counter(batch for user, standing in lacking for batch in _batches(user, standing, config, waits, start)),
            limits=[*_limits(config)],
            per_minute=config.mail.per_minute,
            waits=policy.remind_after_days,
            is_open=lambda day: plan.is_open_on(policy, day),
        )
    )


def _has_consented(standing: Standing, config: Config) -> bool:
    return standing.status == Status.GRANTED and not beyond(config.docusign.scope, standing.granted_scope)


def _asked(lacking: int, users: int, config: Config) -> int:
    """Everybody who lacks consent is asked about every night, the others now and then."""
    return lacking + (users - lacking) // max(1, config.docusign.verify_granted_days)


def _batches(user: User, standing: Standing, config: Config, waits: Mapping[str, datetime], start: date) -> Iterator[Batch]:
    """The message that the user gets next, where it is one that a night could send. Who is not known is taken to lack consent."""
    if standing.status == Status.USER_NOT_FOUND:
        return
    assumed = standing._replace(status=Status.CONSENT_REQUIRED)
    what, due = plan.upcoming_for(config.policy, waits)(user, assumed)
    domains = {domain.lower() for domain in config.mail.allowed_domains}
    is_allowed = not domains or user.recipient.rpartition("@")[2].lower() in domains
    if what and is_allowed and not standing.forgotten_at:
        yield Batch(user.wave, max(start, due.astimezone(config.policy.zone).date()) if due else start, standing.used + 1)


def _limits(config: Config) -> Iterator[Limit]:
    """What bounds the messages of a night. Answers are good for six hours, and mail goes out in the hours that are open."""
    mail, policy = config.mail, config.policy
    yield Limit("[policy] max_per_run", policy.max_per_run)
    if mail.per_day:
        yield Limit("[mail] per_day", mail.per_day)
    if mail.per_minute:
        opens, closes = (timedelta(hours=at.hour, minutes=at.minute) for at in policy.opening)
        is_window = bool(policy.hours) and closes - opens < plan.FRESH
        span, why = (closes - opens, "in [policy] hours") if is_window else (plan.FRESH, "as long as an answer holds")
        yield Limit(f"[mail] per_minute {why}", int(span / timedelta(minutes=1) * mail.per_minute))
