"""What users' answers say of their administrator's consent, and how long they are left alone for it (pure).

Docusign tells nobody whether an organization's administrator has consented. It shows in the users: the consent counts at once
for everybody whose address is in a claimed domain.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from campaign.config import Config
from campaign.customers.people import Administrator, Customer
from campaign.model import Finding, Standing, Status

NEVER = datetime.max.replace(tzinfo=UTC)  # until somebody corrects the file


def finding(customer: Customer, standings: Mapping[str, Standing]) -> Finding | None:
    """What this run's answers about a customer's users say of its administrator's consent; None where it has no users.

    It counts as given where no user lacks consent; or where, in one of the domains, more users have turned granted since the
    administrator was first written to than still lack it: the others are in no claimed domain, then. Better to ask once too
    few than somebody who has consented.
    """
    members = [standings[user.user_id] for user in customer.users]
    if not members:
        return None
    lacking = sum(_lacks(standing) for standing in members)
    told = f"{lacking} of {len(members)} users lack it"
    granted = any(standing.status == Status.GRANTED for standing in members)
    if (granted and not lacking) or _has_turned(customer, standings):
        status = Status.GRANTED
    elif any(standing.found == Status.CONSENT_REQUIRED for standing in members):
        status = Status.CONSENT_REQUIRED
    else:
        status, told = Status.UNKNOWN, "no usable answer about its users"
    return Finding(customer.administrator.user_id, status, told)


def _has_turned(customer: Customer, standings: Mapping[str, Standing]) -> bool:
    """Whether in one of the domains most of those who lacked consent have it since the administrator was asked."""
    since = standings[customer.administrator.user_id].first_sent
    balance = dict.fromkeys(customer.administrator.domains, 0)
    for user in customer.users:
        standing = standings[user.user_id]
        turned = bool(since and standing.granted_at and standing.granted_at >= since and standing.status == Status.GRANTED)
        balance[user.domain] += turned - _lacks(standing)
    return any(more > 0 for more in balance.values())


def _lacks(standing: Standing) -> bool:
    return standing.status == Status.CONSENT_REQUIRED


def left_alone(
    config: Config, customers: Iterable[Customer], standings: Mapping[str, Standing], now: datetime
) -> dict[str, datetime]:
    """Until when users are left alone because their administrator is asked first, by user id.

    That is `admin_first_days` after the first message to the administrator, or from now while it is still to come. Nobody waits
    for an administrator who cannot be reached. Where the row is not fit for use, its users wait until it is corrected.
    """
    ends: dict[str, datetime] = {}
    for customer in customers:
        until = _until(config, customer.administrator, standings, now)
        ends |= {user.user_id: until for user in customer.users} if until and until > now else {}
    return ends


def _until(config: Config, administrator: Administrator, standings: Mapping[str, Standing], now: datetime) -> datetime | None:
    """Until when this administrator's users are left alone; None where nobody waits for this one."""
    if administrator.fault:
        return NEVER
    standing = standings.get(administrator.user_id) or Standing(administrator.user_id)
    if not _can_be_reached(config, administrator, standing, now):
        return None
    begun = standing.first_sent or (None if _is_yet_to_be_asked(config, standing) else standing.last_tried)
    return (begun or now) + timedelta(days=config.customers.admin_first_days)


def _is_yet_to_be_asked(config: Config, standing: Standing) -> bool:
    """Whether an administrator whom no message has reached will get a first one still.

    One that was tried as often as it may be is over, but not for an address that was refused and corrected since.
    """
    is_over = standing.used > len(config.policy.remind_after_days)
    return not standing.used or (bool(standing.undeliverable) and not is_over)


def _can_be_reached(config: Config, administrator: Administrator, standing: Standing, now: datetime) -> bool:
    suppressed = standing.suppressed and (standing.suppressed_until is None or now < standing.suppressed_until)
    refused = standing.undeliverable == administrator.address
    domains = {domain.lower() for domain in config.mail.allowed_domains}
    return not (suppressed or standing.forgotten_at or refused) and (not domains or administrator.domain in domains)
