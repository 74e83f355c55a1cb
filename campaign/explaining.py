"""One user's story for the help desk: every event in order, what happens next, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from campaign import plan
from campaign.config import Config
from campaign.errors import UsageError
from campaign.ledger import Event, read_ledger
from campaign.ledger.masking import is_masked
from campaign.model import Reason, Standing, address_key, stamp
from campaign.words import EVENTS, REASONS

_REMOVED = "a user whose personal data were removed: what is left are the number and dates of messages"


@dataclass(frozen=True, slots=True)
class Story:
    """What is known of one user."""

    standing: Standing
    events: Sequence[Event]
    next_action: str
    next_due: datetime | None

    def as_text(self) -> str:
        """The story as a letter."""
        standing = self.standing
        lines = [_REMOVED if is_masked(standing.user_id) else f"{standing.email} ({standing.user_id})", ""]
        lines += [f"{event.at:%Y-%m-%d %H:%M} UTC  {_sentence(event)}" for event in self.events]
        lines += ["", f"messages so far: {standing.messages}", f"last run: {_last(standing)}", f"next: {self._next()}"]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The same for scripts."""
        return {
            "user_id": self.standing.user_id,
            "email": self.standing.email,
            "status": self.standing.status,
            "reason": self.standing.reason,
            "suppressed": self.standing.suppressed,
            "messages": self.standing.messages,
            "events": [{"at": stamp(event.at), "what": event.what, "detail": event.detail} for event in self.events],
            "next_action": self.next_action,
            "next_due": stamp(self.next_due) if self.next_due else None,
        }

    def _next(self) -> str:
        standing = self.standing
        if standing.undeliverable and standing.undeliverable == address_key(standing.email):
            return "no message until the roster shows another address, or campaign unsuppress"
        if standing.suppressed and not standing.suppressed_until:
            return "no message until campaign unsuppress"
        if not self.next_action or not self.next_due:
            return "no message is due"
        verb = {"invite": "an invitation", "remind": "a reminder"}[self.next_action]
        return f"{verb} from {self.next_due:%Y-%m-%d %H:%M} UTC on, if Docusign still says that consent is lacking"


def explain(config: Config, user: str) -> Story:
    """The story of the user whom a user id or an e-mail address means. Raises UsageError where it means none or several."""
    with read_ledger(config) as ledger:
        if ledger is None:
            raise UsageError("there is no ledger yet", "the first night makes it: campaign run")
        user_id = one_of(ledger.find(user), user)
        standing = ledger.standings()[user_id]
        return Story(standing, ledger.events(user_id), *plan.upcoming(standing, config.policy))


def one_of(user_ids: Sequence[str], wanted: str) -> str:
    """The only id among the matches. Raises UsageError, with the list where there are several."""
    if not user_ids:
        advice = "give a user id or an e-mail address as the roster has it; somebody new there has a story after the next run"
        raise UsageError(f"no user {wanted!r} is known", advice)
    if len(user_ids) > 1:
        raise UsageError(f"{wanted!r} fits several users: {', '.join(user_ids)}", "give one of these user ids")
    return user_ids[0]


def _sentence(event: Event) -> str:
    words = EVENTS.get(event.what, event.what)
    return f"{words} ({event.detail})" if event.detail else words


def _last(standing: Standing) -> str:
    return f"among those who {REASONS[Reason(standing.reason)]}" if standing.reason else "none yet"
