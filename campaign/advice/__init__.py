"""One administrator's consent can be worth hundreds of mails: for which domain, how it is given, whether it has taken effect."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from campaign.advice.counting import Advice, count
from campaign.advice.verdict import Effect, Verdict
from campaign.config import Config
from campaign.docusign import Signer, load_key
from campaign.domains import PUBLIC
from campaign.errors import UsageError
from campaign.given import Means
from campaign.ledger import read_ledger
from campaign.model import Standing, Status, User, stamp
from campaign.probing import ask
from campaign.roster import read_roster

__all__ = ["Advice", "Advised", "Effect", "Verdict", "advise", "count", "verify"]

_HANDFUL = 5  # users asked: enough to tell an administrator's consent from one or two people's own


@dataclass(frozen=True, slots=True)
class Advised:
    """The advice for a campaign as its last run left it."""

    config: Config
    advice: Advice
    asked: datetime | None  # when the last run began; None before the first

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        docusign = self.config.docusign
        to_paste = {"client_id": docusign.client_id, "scope": docusign.scope}
        return {"as_of": stamp(self.asked) if self.asked else None, **to_paste, **self.advice.as_json()}


def advise(config: Config, domains: Collection[str] = ()) -> Advised:
    """Count from roster and ledger, without any network. Changes nothing; raises UsageError for a domain that nobody has."""
    users, standings, asked = _known(config)
    wanted = {_domain(name, users) for name in domains}
    return Advised(config, count(users, standings, wanted), asked)


def verify(config: Config, means: Means, domain: str) -> Verdict:
    """Ask Docusign about a handful of those who lack consent in a domain. Nothing is noted.

    Raises UsageError where nobody is known to lack it there, and what `probing.ask` raises.
    """
    users, standings, _ = _known(config)
    name = _domain(domain, users)
    lacking = [user for user in users if user.domain == name and _lacks(user, standings[user.user_id])]
    canary = {*config.docusign.canary}
    askable = [user.user_id for user in lacking if user.user_id not in canary]
    if not askable:
        raise UsageError(f"nobody in {name} is known to lack consent, so nothing can be seen", "what is known: campaign advise")
    signer = Signer(config.docusign, load_key(config.docusign.private_key_file))
    return Verdict(name, len(lacking), ask(config, means, signer, _spread(askable)))


def _known(config: Config) -> tuple[Sequence[User], dict[str, Standing], datetime | None]:
    """The roster's users, each with a standing, and when the last run began."""
    users = read_roster(config).users
    with read_ledger(config) as ledger:
        if ledger:
            ledger.meet(users)
        standings = ledger.standings() if ledger else {}
        run = ledger.last_night() if ledger else None
    return users, {u.user_id: standings.get(u.user_id) or Standing(u.user_id) for u in users}, run.started if run else None


def _domain(typed: str, users: Sequence[User]) -> str:
    """The domain as it is compared. Raises UsageError where no user has it, or where nobody can consent for it."""
    name = typed.strip().lstrip("@").lower()
    if name in PUBLIC:
        raise UsageError(f"{name} is a mail provider's: no organization can claim it", "its users consent one by one")
    for user in users:
        if name in {user.domain, user.email.rpartition("@")[2].lower()}:
            return user.domain
    raise UsageError(f"no user of the roster has an address in {typed}", "the domains that there are: campaign advise")


def _lacks(user: User, standing: Standing) -> bool:
    return standing.status == Status.CONSENT_REQUIRED and not user.closed and not standing.forgotten_at


def _spread(user_ids: Sequence[str]) -> list[str]:
    """A handful, from the whole length of the list."""
    step = max(1, len(user_ids) / _HANDFUL)
    return [user_ids[int(place * step)] for place in range(min(_HANDFUL, len(user_ids)))]
