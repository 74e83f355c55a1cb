"""Takes personal data out: of one user by order, or of all that is old."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import select

from campaign.ledger import masking
from campaign.ledger.book.base import Book
from campaign.ledger.records import Removed
from campaign.ledger.schema import events, runs, slots


class Removal(Book):
    """The chapter of what is removed."""

    def forget(self, user_id: str, now: datetime) -> None:
        """Remove a user's personal data, and have the user neither asked nor mailed; what caps need is kept under a mask."""
        with self._transaction() as connection:
            self._store.leave_no_trace(connection)
            if mask := masking.forget(connection, self._campaign, user_id, now):
                self._tell(connection, [(mask, "forgotten", "")], now)

    def purge(self, roster: Collection[str], before: datetime, now: datetime) -> Removed:
        """Remove the personal data of users who are not in the roster (ids) and silent since `before`, and all older history.

        Kept is what caps, spacing, guards and bounces need, and what a killed run found and no run has told yet.
        """
        untold = select(runs.c.run_id).where(self._mine(runs), runs.c.finished.is_(None))
        old = (self._mine(events), events.c.at < before, events.c.run_id.not_in(untold))
        with self._transaction() as connection:
            self._store.leave_no_trace(connection)
            removed = connection.execute(events.delete().where(*old)).rowcount
            gone = masking.silent(connection, self._campaign, before).difference(roster)
            masking.hide(connection, self._campaign, gone, masking.made(connection, self._campaign), now)
            connection.execute(slots.update().where(self._mine(slots), slots.c.tried_at < before).values(reply=""))
        return Removed(len(gone), removed)

    def compact(self) -> None:
        """Write everything anew, so that nothing of what was removed or changed is left between the rows."""
        self._store.compact(self._connection)
