"""Messages, one slot each, whose intent is on disk before the relay is told, and whose outcome is right after."""

from datetime import datetime

from sqlalchemy import bindparam, exists, func, select

from campaign.errors import LedgerError
from campaign.ledger.book.base import Book, many
from campaign.ledger.records import named
from campaign.ledger.schema import events, slots
from campaign.ledger.standing import MAY_HAVE_ARRIVED
from campaign.model import ESCALATION, Delivery, Outcome, Slot

_REFUSED = "relay refused"  # an event
_TELL_US = "this should not happen: nothing was sent; please report it"

# Made once, for it takes longer to make a statement than to execute it; what is set stands in the parameters.
_THIS = (slots.c.campaign == bindparam("whose"), slots.c.user_id == bindparam("whom"), slots.c.step == bindparam("which"))
_READ = select(*(slots.c[name] for name in Slot.__slots__)).where(*_THIS)
_OPEN = slots.insert()
_OPEN_AGAIN = slots.update().where(*_THIS, slots.c.outcome == Outcome.DEFERRED)
_CHANGE = slots.update().where(*_THIS)
_FREE = slots.delete().where(*_THIS)


class Messages(Book):
    """The chapter of messages."""

    def last_mailed(self) -> dict[str, tuple[datetime, str]]:
        """For each address (as compared): when it was last mailed or may have been, and on behalf of which user."""
        with self._transaction() as connection:
            rows = connection.execute(
                select(slots.c.address, slots.c.tried_at, slots.c.user_id)
                .where(self._mine(slots), slots.c.outcome.in_(MAY_HAVE_ARRIVED))
                .order_by(slots.c.tried_at)
            )
            return {self._own(row.address): (row.tried_at, self._own(row.user_id)) for row in rows}

    def mailed_since(self, instant: datetime) -> list[datetime]:
        """When messages went out, or may have, since then; the oldest first."""
        with self._transaction() as connection:
            recent = (self._mine(slots), slots.c.outcome.in_(MAY_HAVE_ARRIVED), slots.c.tried_at > instant)
            return list(connection.execute(select(slots.c.tried_at).where(*recent).order_by(slots.c.tried_at)).scalars())

    def refused(self) -> set[str]:
        """The ids of users whose last message the relay refused for reasons of ours, as far as the history tells."""
        mine = (self._mine(events), events.c.what == _REFUSED)
        last = select(events.c.user_id, func.max(events.c.id).label("id")).where(*mine).group_by(events.c.user_id).subquery()
        later = events.alias()
        since = (self._mine(later), later.c.user_id == last.c.user_id, later.c.id > last.c.id, later.c.what.in_([*Outcome]))
        with self._transaction() as connection:
            these = connection.scalars(select(last.c.user_id).where(~exists().where(*since)))
            return {self._own(user_id) for user_id in these}

    def last_link(self, user_id: str) -> tuple[datetime, str] | None:
        """When a link last went out to a user, or may have, and for which scopes ("" = not known)."""
        with self._transaction() as connection:
            sent = (
                self._mine(slots),
                slots.c.user_id == user_id,
                slots.c.step != ESCALATION,
                slots.c.outcome.in_(MAY_HAVE_ARRIVED),
            )
            row = connection.execute(select(slots).where(*sent).order_by(slots.c.step.desc())).first()
        return (row.tried_at, row.scope) if row else None

    def slot(self, user_id: str, step: int) -> Slot | None:
        """The slot as it was opened on another night, whose message may be tried again; None if it is free."""
        with self._transaction() as connection:
            row = connection.execute(_READ, self._this(user_id, step)).first()
        return Slot(*row) if row else None

    def open(self, slot: Slot, sha256: str, now: datetime) -> None:
        """Put the intent to send on disk, before the relay is told. A slot that was deferred is opened again."""
        to: dict[str, object] = {"recipient": slot.recipient, "address": slot.address, "scope": self._scope}
        to |= {"sha256": sha256, "tried_at": now, "run_id": self.run_id, "outcome": Outcome.SENDING}
        self._store.still_there()
        with self._transaction() as connection:
            if slot.attempts:
                done = connection.execute(_OPEN_AGAIN, self._this(slot.user_id, slot.step) | to)
                if done.rowcount != 1:
                    raise LedgerError(f"{self._store.name}: the slot of {slot.user_id} is not deferred", _TELL_US)
                return
            fixed = {"step": slot.step, "message_id": slot.message_id, "date": slot.date, "attempts": 0}
            connection.execute(_OPEN, self._row(slot.user_id, **fixed, **to))

    def settle(self, slot: Slot, delivery: Delivery, now: datetime) -> None:
        """Put the outcome on disk. A user's address that is rejected is not mailed again until the roster shows another."""
        result = {"outcome": delivery.outcome, "reply": delivery.reply, "attempts": slot.attempts + 1, "tried_at": now}
        with self._transaction() as connection:
            connection.execute(_CHANGE, self._this(slot.user_id, slot.step) | result)
            if delivery.outcome is Outcome.REJECTED and slot.step != ESCALATION:
                many(connection, self._update("undeliverable"), [{"key": slot.user_id, "to_undeliverable": slot.address}])
            self._tell(connection, [(slot.user_id, delivery.outcome.value, f"{named(slot)}: {delivery.reply}")], now)

    def release(self, slot: Slot, reply: str, now: datetime) -> None:
        """Give back a slot whose message the relay refused for reasons of ours: nothing is used up."""
        this = self._this(slot.user_id, slot.step)
        with self._transaction() as connection:
            if slot.attempts:
                connection.execute(_CHANGE, this | {"outcome": Outcome.DEFERRED, "reply": reply})
            else:
                connection.execute(_FREE, this)
            self._tell(connection, [(slot.user_id, _REFUSED, f"{named(slot)}: {reply}")], now)

    def _this(self, user_id: str, step: int) -> dict[str, object]:
        return {"whose": self._campaign, "whom": user_id, "which": step}
