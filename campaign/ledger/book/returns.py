"""What comes back of messages: delivery failures, matched with what was sent."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from campaign.ledger.book.base import Book, many
from campaign.ledger.records import Bounce, Letter, named
from campaign.ledger.schema import slots, users
from campaign.model import address_key

_AT_ONCE = 500  # values in one query


class Returns(Book):
    """The chapter of what comes back."""

    def letters(self, message_ids: Iterable[str]) -> dict[str, Letter]:
        """What was sent under these Message-IDs, as far as they are ours."""
        with self._transaction() as connection:
            return self._letters(connection, message_ids)

    def returned(self, bounces: Iterable[Bounce], now: datetime) -> None:
        """Note what came back, at most one for each message, and nothing that has been noted with the same code.

        An address that is to blame is not mailed again until the roster shows another; one that it shows no longer is past.
        """
        by_id = {bounce.letter.message_id: bounce for bounce in bounces}
        with self._transaction() as connection:
            noted = self._letters(connection, by_id)
            new = {message_id: bounce for message_id, bounce in by_id.items() if noted[message_id].bounced != bounce.code}
            this = slots.update().where(self._mine(slots), slots.c.message_id == bindparam("key"))
            codes = [{"key": message_id, "to_bounced": bounce.code} for message_id, bounce in new.items()]
            many(connection, this.values(bounced=bindparam("to_bounced")), codes)
            blamed = [noted[message_id] for message_id, bounce in new.items() if bounce.blames_user]
            marks = [{"key": m.user_id, "to_undeliverable": m.address} for m in blamed if m.address == address_key(m.email)]
            many(connection, self._update("undeliverable"), marks)
            told = (
                (m.letter.user_id, "returned" if m.blames_user else "bounced", f"{named(m.letter)}: {m.detail}")
                for m in new.values()
            )
            self._tell(connection, told, now)

    def _letters(self, connection: Connection, message_ids: Iterable[str]) -> dict[str, Letter]:
        columns = [users.c.email if name == "email" else slots.c[name] for name in Letter.__slots__]
        joined = slots.join(users, (slots.c.campaign == users.c.campaign) & (slots.c.user_id == users.c.user_id))
        wanted, found = sorted(set(message_ids)), dict[str, Letter]()
        for start in range(0, len(wanted), _AT_ONCE):
            these = (self._mine(slots), slots.c.message_id.in_(wanted[start : start + _AT_ONCE]))
            rows = connection.execute(select(*columns).select_from(joined).where(*these))
            found |= {row.message_id: Letter(*row) for row in rows}
        return found
