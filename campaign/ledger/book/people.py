"""Users: who is there, what is known of them, and what was decided about them."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from itertools import groupby

from sqlalchemy import ColumnElement, Connection, func, select

from campaign.ledger import masking
from campaign.ledger.book.base import Book, Told, many
from campaign.ledger.learning import change, learn
from campaign.ledger.schema import slots, users
from campaign.ledger.standing import REMEMBERED, standing_of
from campaign.model import Decision, Finding, Standing, User, address_key

_CONSENT = ("granted_at", "verified_at", "granted_scope", "lacking_since", "revoked_at")
_DECIDED = ("action", "reason", "detail")
_RECOGNISED = "recognised"  # an event
_LEARNT = ("status", "found", "detail", "last_probed", *_CONSENT)


class People(Book):
    """The chapter of users."""

    def standings(self) -> dict[str, Standing]:
        """Everybody ever seen, by user id; whose personal data were removed, by a mask until the roster shows them."""
        with self._transaction() as connection:
            standings = self._standings(connection, self._mine(users), self._mine(slots))
        return {standing.user_id: standing for standing in standings}

    def standing(self, user_id: str) -> Standing:
        """One user's, or that of a mask; the ledger must know it."""
        with self._transaction() as connection:
            these = (self._mine(table) & (table.c.user_id == user_id) for table in (users, slots))
            return self._standings(connection, *these)[0]

    def meet(self, roster: Iterable[User]) -> bool:
        """Recognise users whose personal data were removed: from now on they are told of by their own ids and addresses.

        Return whether there are any.
        """
        with self._transaction() as connection:
            self._recognise(connection, roster)
        return bool(self._unmasked)

    def enrol(self, roster: Sequence[User], known: Mapping[str, Standing], now: datetime) -> Mapping[str, Standing]:
        """Make room for users who are new, follow those whose address changed, and note who is there no more, or again.

        Who was purged goes on where the counts are; of who was forgotten nothing is written. Return everybody's standing as it
        is now.
        """
        with self._transaction() as connection:
            told = self._welcome(connection, roster, known, now)
            told += self._see_off(connection, {user.user_id for user in roster}, known.keys(), told, now)
            self._tell(connection, told, now)
        return self.standings() if told or self._unmasked else known

    def join(self, user: User, known: Mapping[str, Standing], now: datetime) -> None:
        """Make room for one user of the roster before a night does, or follow the address."""
        with self._transaction() as connection:
            self._tell(connection, self._welcome(connection, [user], known, now), now)

    def note(self, findings: Iterable[Finding], known: Mapping[str, Standing], now: datetime) -> dict[str, Standing]:
        """Remember what a batch of probes found; return the standings of these users, as they are remembered now.

        Users outside the roster (canaries) are passed over, and the forgotten.
        """
        steps = [(known[finding.user_id], finding) for finding in findings if self._is_named(finding.user_id, known)]
        learnt = [(before, learn(before, finding, now, self._scope)) for before, finding in steps]
        with self._transaction() as connection:
            many(connection, self._update(*_LEARNT), (_changes(after, _LEARNT) for _, after in learnt))
            told = ((after.user_id, change(before, after), after.detail) for before, after in learnt)
            self._tell(connection, (event for event in told if event[1]), now)
        return {after.user_id: after for _, after in learnt}

    def note_decisions(self, decisions: Iterable[Decision], known: Mapping[str, Standing]) -> dict[str, Standing]:
        """Remember what this run did for everybody and why, for the report; only what changed is written.

        Return the standings of those for whom it changed, as they are remembered now.
        """
        steps = ((known[d.user.user_id], d) for d in decisions if self._is_named(d.user.user_id, known))
        changed = [after for before, decision in steps if (after := _decided(before, decision)) is not before]
        with self._transaction() as connection:
            many(connection, self._update(*_DECIDED), (_changes(after, _DECIDED) for after in changed))
        return {after.user_id: after for after in changed}

    def find(self, user: str) -> list[str]:
        """The ids of the users whom a user id or an e-mail address means; masks where personal data were removed."""
        wanted = {address_key(user)}
        with self._transaction() as connection:
            if masks := masking.masks_of(connection, self._campaign):
                wanted.add(masks.of(address_key(user)))
            rows = connection.execute(select(users.c.user_id, users.c.email).where(self._mine(users)))
            return [row.user_id for row in rows if wanted & {row.user_id, address_key(row.email)}]

    def left_at(self, user_id: str) -> datetime | None:
        """When the roster was first read without this user; None while it shows the user."""
        with self._transaction() as connection:
            this = (self._mine(users), users.c.user_id == user_id)
            return connection.execute(select(users.c.left_at).where(*this)).scalar()

    def left(self, most: int) -> tuple[int, list[Standing]]:
        """How many users are not in the roster any more, and the last of them, at most so many; the nameless left out."""
        gone = (self._mine(users), users.c.left_at.is_not(None), users.c.forgotten_at.is_(None))
        with self._transaction() as connection:
            number = connection.execute(select(func.count()).select_from(users).where(*gone)).scalar_one()
            last = select(*REMEMBERED).where(*gone).order_by(users.c.left_at.desc(), users.c.user_id).limit(most)
            found = [self._unmask(standing_of(row, [])) for row in connection.execute(last)]
        return number, [standing for standing in found if standing.email]

    def _welcome(
        self, connection: Connection, roster: Sequence[User], known: Mapping[str, Standing], now: datetime
    ) -> list[Told]:
        """Make room for users who are new, recognise those who had been purged, and follow addresses; return what happened."""
        back = masking.take_up(connection, self._campaign, roster)
        self._recognise(connection, roster)
        passed_over = {*back, *self._hidden}
        present = [user for user in roster if user.user_id not in passed_over]
        new = [user for user in present if user.user_id not in known]
        there = ((user, known[user.user_id].email) for user in present if user.user_id in known)
        moved = [(user, before) for user, before in there if before != user.email]
        many(connection, users.insert(), (self._row(user.user_id, email=user.email, joined_at=now) for user in new))
        many(connection, self._update("email"), ({"key": user.user_id, "to_email": user.email} for user, _ in moved))
        return [
            *((user_id, _RECOGNISED, "") for user_id in back),
            *((user.user_id, "joined", "") for user in new),
            *((user.user_id, "address changed", f"{was} → {user.email}") for user, was in moved),
        ]

    def _see_off(
        self, connection: Connection, present: AbstractSet[str], known: Iterable[str], told: Iterable[Told], now: datetime
    ) -> list[Told]:
        """Note since when known users are not in the roster; return what happened beside what was `told` of them already."""
        recognised = {user_id for user_id, what, _ in told if what == _RECOGNISED}
        away = set(connection.scalars(select(users.c.user_id).where(self._mine(users), users.c.left_at.is_not(None))))
        left = [user_id for user_id in known if user_id not in present and user_id not in away and not masking.is_masked(user_id)]
        again = sorted(away & present)
        changes = [*((user_id, now) for user_id in left), *((user_id, None) for user_id in again)]
        many(connection, self._update("left_at"), ({"key": user_id, "to_left_at": at} for user_id, at in changes))
        return [
            *((user_id, "left", "") for user_id in left),
            *((user_id, "back", "") for user_id in again if user_id not in recognised),
        ]

    def _recognise(self, connection: Connection, roster: Iterable[User]) -> None:
        self._unmasked = masking.recognised(connection, self._campaign, roster)
        self._hidden = frozenset(self._unmasked.values())

    def _is_named(self, user_id: str, known: Mapping[str, Standing]) -> bool:
        """Whether the ledger knows a user by name: of the forgotten nothing is written, though the roster shows them."""
        return user_id in known and user_id not in self._hidden

    def _standings(
        self, connection: Connection, these_users: ColumnElement[bool], these_slots: ColumnElement[bool]
    ) -> list[Standing]:
        columns = (slots.c.user_id, slots.c.step, slots.c.tried_at, slots.c.outcome, slots.c.attempts)
        sent = connection.execute(select(*columns).where(these_slots).order_by(slots.c.user_id, slots.c.step)).mappings()
        messages = {user_id: list(group) for user_id, group in groupby(sent, key=lambda row: row["user_id"])}
        rows = connection.execute(select(*REMEMBERED).where(these_users))
        return [self._unmask(standing_of(row, messages.get(row[0], []))) for row in rows]


def _decided(before: Standing, decision: Decision) -> Standing:
    """The standing after a decision; the same object where nothing changes."""
    detail = decision.detail or before.detail
    if (decision.action, decision.reason, detail) == (before.action, before.reason, before.detail):
        return before
    return before._replace(action=decision.action, reason=decision.reason, detail=detail)


def _changes(standing: Standing, columns: Iterable[str]) -> dict[str, object]:
    return {"key": standing.user_id} | {f"to_{column}": getattr(standing, column) for column in columns}
