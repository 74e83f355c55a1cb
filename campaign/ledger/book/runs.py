"""A run's frame: how it begins and ends, what it notes of itself, and what earlier ones left for it to be measured against."""

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from datetime import datetime

from sqlalchemy import Connection, select

from campaign.ledger.book.base import Book, many
from campaign.ledger.clock import last_run
from campaign.ledger.records import Passed, Run, named
from campaign.ledger.schema import campaigns, rejects, runs, slots, users
from campaign.model import Outcome

_NIGHTS = ~runs.c.run_id.endswith("-adopt")  # an adoption is kept among the runs, too, but asked and mailed nobody


class Runs(Book):
    """The chapter of runs."""

    def begin(self, run_id: str, now: datetime) -> None:
        """Open a run. What a killed run left in flight becomes `unknown`."""
        self.run_id = run_id
        in_flight = (self._mine(slots), slots.c.outcome == Outcome.SENDING)
        reply = "the run ended before the relay's answer was noted"
        with self._transaction() as connection:
            lost = connection.execute(select(slots.c.user_id, slots.c.step, slots.c.message_id).where(*in_flight)).all()
            connection.execute(slots.update().where(*in_flight).values(outcome=Outcome.UNKNOWN, reply=reply))
            told = ((m.user_id, Outcome.UNKNOWN.value, f"{named(m)}: {reply}") for m in lost)
            self._tell(connection, told, now)
            connection.execute(users.update().where(self._mine(users), users.c.found != "").values(found="", detail=""))
            connection.execute(runs.insert().values(campaign=self._campaign, run_id=run_id, started=now))

    def note_counts(self, counts: str) -> None:
        """Note what this run counts (JSON), before its report is written: the ledger is all that a report draws on."""
        with self._transaction() as connection:
            this = (self._mine(runs), runs.c.run_id == self.run_id)
            connection.execute(runs.update().where(*this).values(counts=counts))

    def finish(self, now: datetime, exit_code: int, rejected: Collection[str] = ()) -> None:
        """Close the run, and with it those before that were killed; theirs is no exit code.

        `rejected` are the marks of the roster's rejected rows, which from now on are not new.
        """
        with self._transaction() as connection:
            self._keep_rejects(connection, set(rejected))
            this = (self._mine(runs), runs.c.run_id == self.run_id)
            connection.execute(runs.update().where(*this).values(exit_code=exit_code))
            connection.execute(runs.update().where(self._mine(runs), runs.c.finished.is_(None)).values(finished=now))

    def last_run(self) -> datetime | None:
        """When another run last began or ended; None before the first."""
        with self._transaction() as connection:
            return last_run(connection, self._campaign, but=self.run_id)

    def last_night(self) -> Run | None:
        """The run that began last; None before the first."""
        with self._transaction() as connection:
            return last_night(connection, self._campaign)

    def nights(self) -> list[Run]:
        """Every run, the oldest first, but for adoptions."""
        with self._transaction() as connection:
            columns = (runs.c.started, runs.c.finished, runs.c.exit_code, runs.c.run_id, runs.c.counts)
            mine = select(*columns).where(self._mine(runs), _NIGHTS).order_by(runs.c.started, runs.c.run_id)
            return [Run(*row) for row in connection.execute(mine)]

    def new_rejects(self, fingerprints: Iterable[str]) -> set[str]:
        """Which of the roster's rejected rows the last run that was finished did not have."""
        with self._transaction() as connection:
            return set(fingerprints) - self._rejects(connection)

    def turn_page(self) -> int:
        """Count the generation up and return it; the witness is told after the commit, so it is at most one behind."""
        with self._transaction() as connection:
            mine = campaigns.c.campaign == self._campaign
            connection.execute(campaigns.update().where(mine).values(generation=campaigns.c.generation + 1))
            return int(connection.execute(select(campaigns.c.generation).where(mine)).scalar_one())

    def last_passed(self) -> Passed:
        """When a night was last let through, how many users the roster had then, and which scopes were asked for."""
        with self._transaction() as connection:
            row = connection.execute(select(campaigns).where(campaigns.c.campaign == self._campaign)).one()
        return Passed(row.passed_at, row.passed_users or 0, row.passed_scope or "")

    def let_through(self, now: datetime, roster_users: int) -> None:
        """Note that this night was let through to mail: later nights are measured against it."""
        with self._transaction() as connection:
            mine = campaigns.c.campaign == self._campaign
            passed = {"passed_at": now, "passed_users": roster_users, "passed_scope": self._scope}
            connection.execute(campaigns.update().where(mine).values(**passed))

    def _rejects(self, connection: Connection) -> set[str]:
        return set(connection.scalars(select(rejects.c.fingerprint).where(self._mine(rejects))))

    def _keep_rejects(self, connection: Connection, present: AbstractSet[str]) -> None:
        if present != self._rejects(connection):
            connection.execute(rejects.delete().where(self._mine(rejects)))
            many(connection, rejects.insert(), ({"campaign": self._campaign, "fingerprint": f} for f in sorted(present)))


def last_night(connection: Connection, campaign: str) -> Run | None:
    """The run that began last."""
    columns = (runs.c.started, runs.c.finished, runs.c.exit_code)
    row = connection.execute(select(*columns).where(runs.c.campaign == campaign, _NIGHTS).order_by(runs.c.started.desc())).first()
    return Run(*row) if row else None
