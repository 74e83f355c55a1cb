"""One user's story for the help desk: every event in order, what happens next, when, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from campaign.config import Config
from campaign.errors import RosterError, UsageError
from campaign.explaining.belonging import belonging
from campaign.explaining.coming import following
from campaign.explaining.facts import Facts
from campaign.explaining.letter import letter
from campaign.ledger import Ledger, read_ledger
from campaign.ledger.records import told_of
from campaign.model import Reject, Standing, User, address_key, stamp
from campaign.roster import read_customers, read_roster
from campaign.showing.page import Page, as_text


@dataclass(frozen=True, slots=True)
class Story(Facts):
    """What is known of one user."""

    def as_page(self) -> Page:
        """The story as a letter."""
        return letter(self)

    def as_text(self) -> str:
        """The letter, to be passed on by mail."""
        return as_text(self.as_page())

    def as_json(self) -> dict[str, Any]:
        """The same for scripts; all times are UTC."""
        standing, due, run = self.standing, self.due, self.last_run
        return {
            "user_id": standing.user_id,
            "email": standing.email,
            "status": standing.status,
            "reason": standing.reason,
            "why": self.why,
            "suppressed": standing.suppressed,
            "suppressed_until": _stamp(standing.suppressed_until),
            "left_at": _stamp(self.left_at),
            "messages": standing.messages,
            "events": list(self._events()),
            "customer": self.customer.as_json() if self.customer else None,
            "next": " ".join(following(self)),
            "next_action": self.next_action,
            "next_due": _stamp(due),
            "last_run": _stamp(run.started if run else None),
            "last_run_exit_code": run.exit_code if run else None,
            "overdue": self.is_overdue,
            "stopped": self.is_stopped,
        }

    def _events(self) -> Iterator[dict[str, Any]]:
        for event in self.events:
            told = told_of(event.detail)
            sent = self.letters.get(told.message_id) if told else None
            about = {"message_id": told.message_id, "address": sent.recipient if sent else ""} if told else {}
            yield {"at": stamp(event.at), "what": event.what, "detail": event.detail, **about}


def explain(config: Config, user: str, now: datetime) -> Story:
    """The story of the user whom a user id or an e-mail address means; without an event of one whom only the roster knows.

    Raises UsageError where it means nobody or several, or where there is no ledger yet; LedgerError.
    """
    with read_ledger(config) as ledger:
        if ledger is None:
            raise UsageError("there is no ledger yet", "the first night makes it: campaign run")
        if found := ledger.find(user):
            return _remembered(config, ledger, one_of(found, user), now)
        row = _new(config, user)
        standing = Standing(row.user_id, row.email)
        customer, until = belonging(config, row.user_id, ledger.standings, now)
        return Story(
            config,
            now,
            standing,
            row=row,
            customer=customer,
            left_alone_until=until,
            last_run=ledger.last_night(),
            is_stopped=config.stop_file.exists(),
        )


def one_of(user_ids: Sequence[str], wanted: str) -> str:
    """The only id among the matches. Raises UsageError, with the list where there are several."""
    if not user_ids:
        advice = "give a user id or an e-mail address as the roster has it"
        raise UsageError(f"no user {wanted!r} is known", advice)
    if len(user_ids) > 1:
        raise UsageError(f"{wanted!r} fits several users: {', '.join(user_ids)}", "give one of these user ids")
    return user_ids[0]


def in_roster(config: Config, user: str) -> list[User | Reject]:
    """The users, administrators, and rows that cannot be used, whom a user id or an e-mail address means. Raises RosterError."""
    wanted, roster = address_key(user), read_roster(config)
    administrators = (one for one in read_customers(config) if not one.fault)
    rows: list[User | Reject] = [*roster.users, *administrators, *roster.rejects]
    return [row for row in rows if wanted in {address_key(row.user_id), address_key(row.email)}]


def _remembered(config: Config, ledger: Ledger, user_id: str, now: datetime) -> Story:
    standing, events = ledger.standing(user_id), ledger.events(user_id)
    customer, until = belonging(config, user_id, ledger.standings, now)
    return Story(
        config,
        now,
        standing,
        events=sorted([*ledger.adoptions(), *events], key=lambda event: event.at),
        letters=ledger.letters(told.message_id for event in events if (told := told_of(event.detail))),
        left_at=ledger.left_at(user_id),
        mailed=ledger.last_mailed().get(address_key(standing.email)),
        customer=customer,
        left_alone_until=until,
        last_run=ledger.last_night(),
        is_stopped=config.stop_file.exists(),
    )


def _new(config: Config, user: str) -> User | Reject:
    """Whom the roster shows, and no night has seen. Raises UsageError."""
    try:
        rows = in_roster(config, user)
    except RosterError:
        rows = []
    user_id = one_of([*dict.fromkeys(row.user_id for row in rows)], user)
    return next(row for row in rows if row.user_id == user_id)


def _stamp(moment: datetime | None) -> str | None:
    return stamp(moment) if moment else None
