"""What an operator orders about one user or one message between nights."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select

from campaign.ledger.book.base import Book, many
from campaign.ledger.records import named
from campaign.ledger.schema import slots, users
from campaign.model import Outcome


class Orders(Book):
    """The chapter of orders."""

    def suppress(self, user_id: str, reason: str, until: datetime | None, now: datetime) -> None:
        """Let a user not be contacted, for good or until an instant."""
        detail = f"{reason}, until {until:%Y-%m-%d}" if until else reason
        to = {"key": user_id, "to_suppressed": reason, "to_suppressed_until": until}
        with self._transaction() as connection:
            connection.execute(self._update("suppressed", "suppressed_until"), to)
            self._tell(connection, [(user_id, "suppressed", detail)], now)

    def unsuppress(self, user_id: str, reason: str, now: datetime) -> None:
        """Let a user be contacted again, whether that was ordered otherwise, the user forgotten, or the address refused."""
        to = {"suppressed": "", "suppressed_until": None, "undeliverable": "", "forgotten_at": None}
        with self._transaction() as connection:
            connection.execute(self._update(*to), {"key": user_id} | {f"to_{name}": value for name, value in to.items()})
            self._tell(connection, [(user_id, "unsuppressed", reason)], now)

    def resolve(self, message_id: str, outcome: Outcome, reason: str, now: datetime) -> str:
        """Settle a message of unknown fate: ACCEPTED, or DEFERRED so that its slot is tried again.

        Return the id of the user whose message it is; "" if there is none.
        """
        unsettled = (self._mine(slots), slots.c.message_id == message_id, slots.c.outcome == Outcome.UNKNOWN)
        what = "arrived" if outcome is Outcome.ACCEPTED else "lost"
        with self._transaction() as connection:
            row = connection.execute(select(slots.c.user_id, slots.c.step, slots.c.message_id).where(*unsettled)).first()
            if row is None:
                return ""
            connection.execute(slots.update().where(*unsettled).values(outcome=outcome, attempts=1, reply="settled by hand"))
            self._tell(connection, [(row.user_id, what, f"{named(row)}: {reason}")], now)
            return str(row.user_id)

    def diagnosed(self, user_ids: Iterable[str], now: datetime) -> None:
        """Note that Docusign is asked about users at an order. The next night asks again, however fresh a consent is."""
        with self._transaction() as connection:
            known = list(connection.scalars(select(users.c.user_id).where(self._mine(users), users.c.user_id.in_(user_ids))))
            many(connection, self._update("verified_at"), ({"key": user_id, "to_verified_at": None} for user_id in known))
            self._tell(connection, ((user_id, "diagnosed", "") for user_id in known), now)
