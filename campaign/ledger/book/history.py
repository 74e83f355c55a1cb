"""What happened, as it was told event by event: to one user, to many since an instant, and what nobody has heard of yet."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from campaign.ledger import masking
from campaign.ledger.book.base import Book
from campaign.ledger.records import Change, Event, News
from campaign.ledger.schema import adoptions, events, runs, users
from campaign.model import Outcome, Status

_NEEDS_A_PERSON = (Outcome.UNKNOWN, Outcome.REJECTED, "revoked", Status.USER_NOT_FOUND)


class History(Book):
    """The chapter of events, which only reads: each is told by the chapter that makes it."""

    def events(self, user_id: str) -> list[Event]:
        """Everything that happened to one user, in order."""
        with self._transaction() as connection:
            mine = select(events).where(self._mine(events), events.c.user_id == user_id).order_by(events.c.id)
            return [Event(row.at, row.what, row.detail) for row in connection.execute(mine)]

    def changes(self, since: datetime | None, named: int) -> list[Change]:
        """What happened to users after an instant, or ever: each kind of event with the number of users and the first `named`.

        Users whose personal data were removed are counted, not named.
        """
        later = (self._mine(events), *((events.c.at > since,) if since else ()))
        whom = func.count(events.c.user_id.distinct())
        with self._transaction() as connection:
            counted = connection.execute(
                select(events.c.what, whom).where(*later).group_by(events.c.what).order_by(events.c.what)
            )
            return [
                Change(what, number, self._first(connection, (*later, events.c.what == what), named)) for what, number in counted
            ]

    def news(self) -> list[News]:
        """What is new and needs a person, of this run and of those before it that were killed before they could say so."""
        mine = (self._mine(events), self._mine(runs), self._mine(users))
        unheard = (*mine, runs.c.finished.is_(None), events.c.what.in_(_NEEDS_A_PERSON))
        joined = events.join(runs, events.c.run_id == runs.c.run_id).join(users, events.c.user_id == users.c.user_id)
        with self._transaction() as connection:
            columns = (users.c.email, events.c.what, events.c.detail)
            rows = connection.execute(select(*columns).select_from(joined).where(*unheard).order_by(events.c.id))
            return [News(*row) for row in rows]

    def adoptions(self) -> list[Event]:
        """When `campaign adopt` accepted this ledger, and what was wrong with it then, in order."""
        with self._transaction() as connection:
            mine = select(adoptions).where(self._mine(adoptions)).order_by(adoptions.c.id)
            return [Event(row.at, "adopted", row.found) for row in connection.execute(mine)]

    def last_diagnosed(self, user_id: str) -> datetime | None:
        """When Docusign was last asked about a user for `campaign diagnose`."""
        with self._transaction() as connection:
            told = (self._mine(events), events.c.user_id == user_id, events.c.what == "diagnosed")
            return connection.execute(select(events.c.at).where(*told).order_by(events.c.id.desc())).scalar()

    def _first(self, connection: Connection, these: tuple[Any, ...], most: int) -> tuple[str, ...]:
        """The addresses of the first users of whom such events tell."""
        joined = events.join(users, (events.c.campaign == users.c.campaign) & (events.c.user_id == users.c.user_id))
        unmasked = ~users.c.user_id.startswith(masking.MARK)
        first = select(users.c.email).select_from(joined).where(*these, unmasked)
        return tuple(
            connection.scalars(first.group_by(users.c.user_id, users.c.email).order_by(func.min(events.c.id)).limit(most))
        )
