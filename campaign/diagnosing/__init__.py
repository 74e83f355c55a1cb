"""Finds out why consent is lacking for one user, above all for somebody who says "I already consented"."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from campaign.config import Config
from campaign.diagnosing.answers import ask_all
from campaign.diagnosing.causes import Cause, Evidence
from campaign.diagnosing.telling import Diagnosis
from campaign.docusign import Signer, load_key
from campaign.errors import GuardTripped, UsageError
from campaign.explaining import in_roster
from campaign.given import Means
from campaign.ledger import Ledger
from campaign.ledger.masking import is_masked
from campaign.model import User, address_key
from campaign.orders import ledger_of, whom
from campaign.probing import ask

__all__ = ["Cause", "Diagnosis", "diagnose"]

PAUSE = timedelta(minutes=15)  # for one user: each answer may be a live token, and Docusign limits those of one user
_MOST_OTHERS = 5  # user ids with the same address that are asked about


def diagnose(config: Config, means: Means, user: str, *, listed: bool | None = None) -> Diagnosis:
    """Ask Docusign about one user until the most likely cause is found. Nothing of it counts as a night's finding.

    `listed` is what the user sees: whether Connected Apps names the application; None where nobody has looked. Raises UsageError
    for a user who is unknown, or was forgotten; GuardTripped where no canary is granted, or the user was asked about lately;
    and what `probing.ask` raises.
    """
    signer = Signer(config.docusign, load_key(config.docusign.private_key_file))
    ask(config, means, signer, ())  # a canary that is granted: without one, no answer could be believed
    now = means.clock()
    with ledger_of(config) as ledger:
        known = _known(config, ledger, whom(config, ledger, user, now), now, listed)
    return Diagnosis(config, now, now + PAUSE, ask_all(config, means, signer, known))


def _known(config: Config, ledger: Ledger, user_id: str, now: datetime, listed: bool | None) -> Evidence:
    """What is known before anybody is asked; that it is asked now is on the disk first. Raises GuardTripped, UsageError."""
    if is_masked(user_id):
        raise UsageError("this user was forgotten, so nobody asks about the user", "to lift that: campaign unsuppress USER")
    standing = ledger.standing(user_id)
    others = [other for other in dict.fromkeys(_same_address(config, ledger, standing.email)) if other != user_id]
    if (last := ledger.last_diagnosed(user_id)) and last <= now < last + PAUSE:
        again = (last + PAUSE).astimezone(config.policy.zone)
        what = f"{standing.email} was asked about at {last.astimezone(config.policy.zone):%H:%M}"
        raise GuardTripped(what, f"ask again from {again:%H:%M} on ({config.policy.timezone})")
    ledger.diagnosed([user_id, *others[:_MOST_OTHERS]], now)
    return Evidence(standing, config.docusign.scope, tuple(others[:_MOST_OTHERS]), ledger.last_link(user_id), listed)


def _same_address(config: Config, ledger: Ledger, email: str) -> Iterator[str]:
    """The ids of all users who have, or had, this address, by roster and ledger."""
    yield from (row.user_id for row in in_roster(config, address_key(email)) if isinstance(row, User))
    yield from (user_id for user_id in ledger.find(email) if not is_masked(user_id))
