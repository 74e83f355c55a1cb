"""What is remembered between nights. Every public method is one transaction, committed when it returns."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, exists, func, select
from sqlalchemy.exc import SQLAlchemyError

from campaign.errors import LedgerError
from campaign.ledger import masking
from campaign.ledger.clock import last_run
from campaign.ledger.learning import change, learn
from campaign.ledger.records import Bounce, Change, Event, Figures, Letter, News, Passed, Removed, Run, named
from campaign.ledger.schema import adoptions, campaigns, events, rejects, runs, slots, users
from campaign.ledger.standing import MAY_HAVE_ARRIVED, standing_of
from campaign.ledger.store import Store, in_words
from campaign.model import ESCALATION, Decision, Delivery, Finding, Outcome, Slot, Standing, Status, User, address_key

_AT_ONCE = 500  # values in one query
_NIGHTS = ~runs.c.run_id.endswith("-adopt")  # an adoption is kept among the runs, too, but asked and mailed nobody
_NEEDS_A_PERSON = (Outcome.UNKNOWN, Outcome.REJECTED, "revoked", Status.USER_NOT_FOUND)


class Ledger:
    """One campaign's memory. Every method raises LedgerError when the disk or the database fails; then nothing was written."""

    def __init__(self, connection: Connection, campaign: str, store: Store, scope: str) -> None:
        self._connection = connection
        self._campaign = campaign
        self._store = store
        self._scope = scope  # that is asked for now
        self.run_id = ""
        self._unmasked: dict[str, str] = {}  # what masks stand for, as far as the roster has shown it

    # --- a run's frame

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

    def news(self) -> list[News]:
        """What is new and needs a person, of this run and of those before it that were killed before they could say so."""
        mine = (self._mine(events), self._mine(runs), self._mine(users))
        unheard = (*mine, runs.c.finished.is_(None), events.c.what.in_(_NEEDS_A_PERSON))
        joined = events.join(runs, events.c.run_id == runs.c.run_id).join(users, events.c.user_id == users.c.user_id)
        with self._transaction() as connection:
            columns = (users.c.email, events.c.what, events.c.detail)
            rows = connection.execute(select(*columns).select_from(joined).where(*unheard).order_by(events.c.id))
            return [News(*row) for row in rows]

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

    def adoptions(self) -> list[Event]:
        """When `campaign adopt` accepted this ledger, and what was wrong with it then, in order."""
        with self._transaction() as connection:
            mine = select(adoptions).where(self._mine(adoptions)).order_by(adoptions.c.id)
            return [Event(row.at, "adopted", row.found) for row in connection.execute(mine)]

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

    # --- users

    def standings(self) -> dict[str, Standing]:
        """Everybody ever seen, by user id; whose personal data were removed, by a mask until the roster shows them."""
        with self._transaction() as connection:
            messages = self._messages(connection)
            rows = connection.execute(select(users).where(self._mine(users))).mappings()
            standings = [self._unmask(standing_of(row, messages.get(row["user_id"], []))) for row in rows]
        return {standing.user_id: standing for standing in standings}

    def meet(self, roster: Iterable[User]) -> None:
        """Recognise users whose personal data were removed: from now on they are told of by their own ids and addresses."""
        with self._transaction() as connection:
            self._unmasked = masking.recognised(connection, self._campaign, roster)

    def enrol(self, roster: Sequence[User], known: Mapping[str, Standing], now: datetime) -> None:
        """Make room for users who are new, follow those whose address changed, and note who is there no more, or again.

        Who was purged goes on where the counts are; of who was forgotten nothing is written.
        """
        with self._transaction() as connection:
            back = self._welcome(connection, roster, known, now)
            self._see_off(connection, {user.user_id for user in roster}, known.keys(), back, now)

    def join(self, user: User, known: Mapping[str, Standing], now: datetime) -> None:
        """Make room for one user of the roster before a night does, or follow the address."""
        with self._transaction() as connection:
            self._welcome(connection, [user], known, now)

    def note(self, findings: Iterable[Finding], known: Mapping[str, Standing], now: datetime) -> None:
        """Remember what a batch of probes found. Users outside the roster (canaries) are passed over, and the forgotten."""
        noted = known.keys() - self._unmasked.values()
        steps = [(known[finding.user_id], finding) for finding in findings if finding.user_id in noted]
        learnt = [(before, learn(before, finding, now, self._scope)) for before, finding in steps]
        with self._transaction() as connection:
            _many(connection, self._update(*_LEARNT), [_changes(after, _LEARNT) for _, after in learnt])
            told = ((after.user_id, change(before, after), after.detail) for before, after in learnt)
            self._tell(connection, (event for event in told if event[1]), now)

    def note_decisions(self, decisions: Collection[Decision], known: Mapping[str, Standing]) -> None:
        """Remember what this run did for everybody and why, for the report; only what changed is written."""
        changed = [
            {"key": d.user.user_id, "to_action": d.action, "to_reason": d.reason}
            for d in decisions
            if (known[d.user.user_id].action, known[d.user.user_id].reason) != (d.action, d.reason)
        ]
        wrong = [{"key": d.user.user_id, "to_detail": d.detail} for d in decisions if d.detail]
        with self._transaction() as connection:
            _many(connection, self._update("action", "reason"), changed)
            _many(connection, self._update("detail"), wrong)

    def new_rejects(self, fingerprints: Iterable[str]) -> set[str]:
        """Which of the roster's rejected rows the last run that was finished did not have."""
        with self._transaction() as connection:
            return set(fingerprints) - self._rejects(connection)

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
            rows = connection.execute(select(users).where(*gone).order_by(users.c.left_at.desc(), users.c.user_id).limit(most))
            found = [self._unmask(standing_of(row, [])) for row in rows.mappings()]
        return number, [standing for standing in found if standing.email]

    def events(self, user_id: str) -> list[Event]:
        """Everything that happened to one user, in order."""
        with self._transaction() as connection:
            mine = select(events).where(self._mine(events), events.c.user_id == user_id).order_by(events.c.id)
            return [Event(row.at, row.what, row.detail) for row in connection.execute(mine)]

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

    def last_diagnosed(self, user_id: str) -> datetime | None:
        """When Docusign was last asked about a user for `campaign diagnose`."""
        with self._transaction() as connection:
            told = (self._mine(events), events.c.user_id == user_id, events.c.what == "diagnosed")
            return connection.execute(select(events.c.at).where(*told).order_by(events.c.id.desc())).scalar()

    def diagnosed(self, user_ids: Iterable[str], now: datetime) -> None:
        """Note that Docusign is asked about users at an order. The next night asks again, however fresh a consent is."""
        with self._transaction() as connection:
            known = list(connection.scalars(select(users.c.user_id).where(self._mine(users), users.c.user_id.in_(user_ids))))
            _many(connection, self._update("verified_at"), [{"key": user_id, "to_verified_at": None} for user_id in known])
            self._tell(connection, ((user_id, "diagnosed", "") for user_id in known), now)

    # --- what an operator orders

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

    # --- personal data

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

    # --- messages

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

    def slot(self, user_id: str, step: int) -> Slot | None:
        """The slot as it was opened on another night, whose message may be tried again; None if it is free."""
        with self._transaction() as connection:
            row = connection.execute(select(slots).where(*self._this(user_id, step))).mappings().first()
        return Slot(**{name: row[name] for name in Slot.__slots__}) if row else None

    def open(self, slot: Slot, sha256: str, now: datetime) -> None:
        """Put the intent to send on disk, before the relay is told. A slot that was deferred is opened again."""
        to: dict[str, object] = {"recipient": slot.recipient, "address": slot.address, "scope": self._scope}
        to |= {"sha256": sha256, "tried_at": now, "run_id": self.run_id}
        self._store.still_there()
        with self._transaction() as connection:
            if slot.attempts:
                again = (*self._this(slot.user_id, slot.step), slots.c.outcome == Outcome.DEFERRED)
                done = connection.execute(slots.update().where(*again).values(outcome=Outcome.SENDING, **to))
                if done.rowcount != 1:
                    raise LedgerError(f"{self._store.name}: the slot of {slot.user_id} is not deferred", _TELL_US)
                return
            fixed = {"step": slot.step, "message_id": slot.message_id, "date": slot.date, "attempts": 0}
            connection.execute(slots.insert().values(self._row(slot.user_id, outcome=Outcome.SENDING, **fixed, **to)))

    def settle(self, slot: Slot, delivery: Delivery, now: datetime) -> None:
        """Put the outcome on disk. A user's address that is rejected is not mailed again until the roster shows another."""
        with self._transaction() as connection:
            result = {"outcome": delivery.outcome, "reply": delivery.reply, "attempts": slot.attempts + 1, "tried_at": now}
            connection.execute(slots.update().where(*self._this(slot.user_id, slot.step)).values(**result))
            if delivery.outcome is Outcome.REJECTED and slot.step != ESCALATION:
                _many(connection, self._update("undeliverable"), [{"key": slot.user_id, "to_undeliverable": slot.address}])
            self._tell(connection, [(slot.user_id, delivery.outcome.value, f"{named(slot)}: {delivery.reply}")], now)

    def release(self, slot: Slot, reply: str, now: datetime) -> None:
        """Give back a slot whose message the relay refused for reasons of ours: nothing is used up."""
        with self._transaction() as connection:
            this = self._this(slot.user_id, slot.step)
            if slot.attempts:
                connection.execute(slots.update().where(*this).values(outcome=Outcome.DEFERRED, reply=reply))
            else:
                connection.execute(slots.delete().where(*this))
            self._tell(connection, [(slot.user_id, _REFUSED, f"{named(slot)}: {reply}")], now)

    # --- what comes back

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
            _many(connection, this.values(bounced=bindparam("to_bounced")), codes)
            blamed = [noted[message_id] for message_id, bounce in new.items() if bounce.blames_user]
            marks = [{"key": m.user_id, "to_undeliverable": m.address} for m in blamed if m.address == address_key(m.email)]
            _many(connection, self._update("undeliverable"), marks)
            told = (
                (m.letter.user_id, "returned" if m.blames_user else "bounced", f"{named(m.letter)}: {m.detail}")
                for m in new.values()
            )
            self._tell(connection, told, now)

    # --- within

    def _welcome(
        self, connection: Connection, roster: Sequence[User], known: Mapping[str, Standing], now: datetime
    ) -> Collection[str]:
        """Make room for users who are new, and follow addresses; return the ids of those who had been purged."""
        back = masking.take_up(connection, self._campaign, roster)
        self._unmasked = masking.recognised(connection, self._campaign, roster)
        passed_over = {*back, *self._unmasked.values()}
        present = [user for user in roster if user.user_id not in passed_over]
        new = [user for user in present if user.user_id not in known]
        moved = [(user, known[user.user_id].email) for user in present if user.user_id in known]
        moved = [(user, before) for user, before in moved if before != user.email]
        self._tell(connection, ((user_id, "recognised", "") for user_id in back), now)
        _many(connection, users.insert(), [self._row(user.user_id, email=user.email, joined_at=now) for user in new])
        _many(connection, self._update("email"), [{"key": user.user_id, "to_email": user.email} for user, _ in moved])
        self._tell(connection, ((user.user_id, "joined", "") for user in new), now)
        self._tell(connection, ((user.user_id, "address changed", f"{was} → {user.email}") for user, was in moved), now)
        return back

    def _see_off(
        self, connection: Connection, present: AbstractSet[str], known: Iterable[str], recognised: Collection[str], now: datetime
    ) -> None:
        """Note since when known users are not in the roster; `recognised` are told of already."""
        away = set(connection.scalars(select(users.c.user_id).where(self._mine(users), users.c.left_at.is_not(None))))
        left = [user_id for user_id in known if user_id not in present and user_id not in away and not masking.is_masked(user_id)]
        again = sorted(away & present)
        changes = [*((user_id, now) for user_id in left), *((user_id, None) for user_id in again)]
        _many(connection, self._update("left_at"), [{"key": user_id, "to_left_at": at} for user_id, at in changes])
        told = [*((user_id, "left") for user_id in left), *((user_id, "back") for user_id in again if user_id not in recognised)]
        self._tell(connection, ((user_id, what, "") for user_id, what in told), now)

    def _own(self, text: str) -> str:
        """What a mask stands for, if the roster has shown it; any other text as it is."""
        return self._unmasked.get(text, text)

    def _unmask(self, standing: Standing) -> Standing:
        if not masking.is_masked(standing.user_id):
            return standing
        email, undeliverable = self._unmasked.get(standing.email, ""), self._own(standing.undeliverable)
        return replace(standing, user_id=self._own(standing.user_id), email=email, undeliverable=undeliverable)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._connection.begin():
                yield self._connection
        except SQLAlchemyError as error:
            raise LedgerError(f"{self._store.name}: {in_words(error)}", self._store.advice) from error

    def _mine(self, table: Any) -> Any:  # noqa: ANN401  # SQLAlchemy's own expression types
        return table.c.campaign == self._campaign

    def _this(self, user_id: str, step: int) -> tuple[Any, ...]:
        return (self._mine(slots), slots.c.user_id == user_id, slots.c.step == step)

    def _row(self, user_id: str, **values: object) -> dict[str, object]:
        return {"campaign": self._campaign, "user_id": user_id, **values}

    def _update(self, *columns: str) -> Any:  # noqa: ANN401
        """An update of these columns for many users at once: parameters `key` and `to_<column>`."""
        this = users.update().where(self._mine(users), users.c.user_id == bindparam("key"))
        return this.values({column: bindparam(f"to_{column}") for column in columns})

    def _tell(self, connection: Connection, told: Iterable[tuple[str, str, str]], now: datetime) -> None:
        shared = {"campaign": self._campaign, "at": now, "run_id": self.run_id}
        _many(connection, events.insert(), [{"user_id": u, "what": w, "detail": d, **shared} for u, w, d in told])

    def _first(self, connection: Connection, these: tuple[Any, ...], most: int) -> tuple[str, ...]:
        """The addresses of the first users of whom such events tell."""
        joined = events.join(users, (events.c.campaign == users.c.campaign) & (events.c.user_id == users.c.user_id))
        unmasked = ~users.c.user_id.startswith(masking.MARK)
        first = select(users.c.email).select_from(joined).where(*these, unmasked)
        return tuple(
            connection.scalars(first.group_by(users.c.user_id, users.c.email).order_by(func.min(events.c.id)).limit(most))
        )

    def _rejects(self, connection: Connection) -> set[str]:
        return set(connection.scalars(select(rejects.c.fingerprint).where(self._mine(rejects))))

    def _keep_rejects(self, connection: Connection, present: AbstractSet[str]) -> None:
        if present != self._rejects(connection):
            connection.execute(rejects.delete().where(self._mine(rejects)))
            _many(connection, rejects.insert(), [{"campaign": self._campaign, "fingerprint": f} for f in sorted(present)])

    def _letters(self, connection: Connection, message_ids: Iterable[str]) -> dict[str, Letter]:
        columns = [users.c.email if name == "email" else slots.c[name] for name in Letter.__slots__]
        joined = slots.join(users, (slots.c.campaign == users.c.campaign) & (slots.c.user_id == users.c.user_id))
        wanted, found = sorted(set(message_ids)), dict[str, Letter]()
        for start in range(0, len(wanted), _AT_ONCE):
            these = (self._mine(slots), slots.c.message_id.in_(wanted[start : start + _AT_ONCE]))
            rows = connection.execute(select(*columns).select_from(joined).where(*these))
            found |= {row.message_id: Letter(*row) for row in rows}
        return found

    def _messages(self, connection: Connection) -> dict[str, list[RowMapping]]:
        columns = (slots.c.user_id, slots.c.step, slots.c.tried_at, slots.c.outcome, slots.c.attempts)
        rows = connection.execute(select(*columns).where(self._mine(slots)).order_by(slots.c.user_id, slots.c.step)).mappings()
        return {user_id: list(group) for user_id, group in groupby(rows, key=lambda row: row["user_id"])}


def figures(connection: Connection, campaign: str, generation: int) -> Figures:
    """How far the ledger of a campaign has got."""
    went_out = (slots.c.campaign == campaign, slots.c.outcome.in_(MAY_HAVE_ARRIVED))
    count = select(func.count())
    return Figures(
        generation=generation,
        last_run=last_night(connection, campaign),
        users=connection.execute(count.where(users.c.campaign == campaign)).scalar_one(),
        messages=connection.execute(count.where(*went_out)).scalar_one(),
    )


def last_night(connection: Connection, campaign: str) -> Run | None:
    """The run that began last."""
    columns = (runs.c.started, runs.c.finished, runs.c.exit_code)
    row = connection.execute(select(*columns).where(runs.c.campaign == campaign, _NIGHTS).order_by(runs.c.started.desc())).first()
    return Run(*row) if row else None


_REFUSED = "relay refused"  # an event
_TELL_US = "this should not happen: nothing was sent; please report it"
_CONSENT = ("granted_at", "verified_at", "granted_scope", "lacking_since", "revoked_at")
_LEARNT = ("status", "found", "detail", "last_probed", *_CONSENT)


def _many(connection: Connection, statement: Any, rows: list[dict[str, Any]]) -> None:  # noqa: ANN401
    """Execute for all rows at once; for none at all, nothing."""
    if rows:
        connection.execute(statement, rows)


def _changes(standing: Standing, columns: Iterable[str]) -> dict[str, object]:
    return {"key": standing.user_id} | {f"to_{column}": getattr(standing, column) for column in columns}
