"""The hand-over, whose order is the whole crash story.

    compose -> freeze bytes -> COMMIT slot `sending` -> SMTP transaction -> COMMIT outcome

Killed in between, the slot stays `sending`, becomes `unknown` at the next start, and is never sent again. With several
connections only the transactions run side by side: ledger, pace and every decision stay with one thread.
"""

import hashlib
import re
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from typing import NamedTuple, TypeAlias

from campaign import plan
from campaign.errors import CampaignError, DomainRefused, LedgerError, RelayBusy, RelayRefused, RelayUnreachable
from campaign.given import message_id
from campaign.ledger import Ledger
from campaign.mailer import Mailer
from campaign.model import ESCALATION, Action, Decision, Delivery, Outcome, Reason, Slot, Standing
from campaign.night import Night
from campaign.pace import Pace
from campaign.stopping import stop_if_asked

_IN_A_ROW = 3  # messages deferred or of unknown fate: then it is the relay, not the recipients
_GREYLISTS = re.compile(r"gr[ae]y[ -]?list", re.IGNORECASE)
_DOMAINS = 3  # that refuse us: then all would
_GLANCE = 1.0  # seconds of waiting after which a stop is looked for while messages are on their way

# What the report says of a message, by what became of it.
_TOLD = {
    Outcome.ACCEPTED: Reason.SENT,
    Outcome.UNKNOWN: Reason.UNRESOLVED,
    Outcome.DEFERRED: Reason.WAITING,
    Outcome.REJECTED: Reason.UNDELIVERABLE,
}

_Start: TypeAlias = Callable[[Callable[[], Delivery]], Future[Delivery]]


@dataclass(slots=True)
class HandedOver:
    """The decisions as they turned out, by user id and step as planned; what became of the messages; what went wrong."""

    decisions: dict[tuple[str, int], Decision] = field(default_factory=dict)
    deliveries: list[Delivery] = field(default_factory=list)
    problems: list[CampaignError] = field(default_factory=list)


def hand_over(night: Night, planned: Sequence[Decision], ledger: Ledger) -> HandedOver:
    """Send in the given order until all are sent or something stops it. Raises LedgerError, at once."""
    mailers = night.given.mailers
    if len(mailers) == 1:
        return _HandOver(night, planned, ledger, _at_once).run()
    with ThreadPoolExecutor(len(mailers)) as threads:
        return _HandOver(night, planned, ledger, threads.submit).run()


def _at_once(work: Callable[[], Delivery]) -> Future[Delivery]:
    """Do the work here and now: one connection needs no thread."""
    done: Future[Delivery] = Future()
    try:
        done.set_result(work())
    except CampaignError as error:
        done.set_exception(error)
    return done


class _Flight(NamedTuple):
    """A message on its way."""

    decision: Decision
    slot: Slot
    mailer: Mailer


class _HandOver:
    """One night's hand-over: what waits, what is on its way, and what is done."""

    def __init__(self, night: Night, planned: Sequence[Decision], ledger: Ledger, start: _Start) -> None:
        self._night = night
        self._ledger = ledger
        self._start = start
        self._planned = len(planned)
        self._waiting = deque(planned)
        self._idle = [*night.given.mailers]
        self._lanes = len(self._idle)  # connections that may be open at once
        self._flights: dict[Future[Delivery], _Flight] = {}
        self._pace = _pace(night, ledger)
        self._pauses = iter(night.means.waits.slower)
        self._unsure = 0  # messages in a row that were deferred or whose fate is unknown
        self._shunned: set[str] = set()  # domains whose provider refuses us
        self._done = HandedOver()

    def run(self) -> HandedOver:
        """Send what waits; what is on its way is always seen to its end."""
        try:
            self._send_all()
        except LedgerError:
            raise
        except CampaignError as error:
            self._done.problems.append(error)
            while self._flights:
                self._land(None)
        by_relay = any(isinstance(problem, RelayRefused | RelayUnreachable) for problem in self._done.problems)
        for decision in self._waiting:
            self._leave_out(decision, Reason.RELAY_REFUSED if by_relay else Reason.STOPPED)
        return self._done

    def _send_all(self) -> None:
        while self._waiting or self._flights:
            if not self._waiting or not self._idle:
                self._land(None, self._heed)
            elif _domain(self._waiting[0]) in self._shunned:
                self._leave_out(self._waiting.popleft(), Reason.RELAY_REFUSED)
            elif not self._is_open_for(self._waiting[0]):
                self._leave_out(self._waiting.popleft(), Reason.OUTSIDE_HOURS)
            elif self._is_time():
                self._launch(self._waiting[0])
                self._land(0, self._heed)
        self._doubt_the_relay()

    def _is_open_for(self, decision: Decision) -> bool:
        policy = self._night.config.policy
        return plan.is_open(policy, self._night.means.clock(), plan.zone_of(decision, policy))

    def _look_around(self) -> None:
        """Raise whatever keeps the next message from being sent."""
        self._doubt_the_relay()
        stop_if_asked(self._night.means.stop, self._night.config.stop_file)
        self._night.still_holds(plan.FRESH)

    def _is_time(self) -> bool:
        """Whether it is the next message's turn, if need be after a while. Raises whatever keeps it from being sent."""
        self._look_around()
        means, left = self._night.means, self._pace.begin()
        if left and self._flights:
            self._land(min(left, _GLANCE), self._heed)
        elif left:
            means.waiting("mailing", f"the pace of per_minute and per_day: {ceil(left)} s")
            means.stop.wait(left)
        return not left

    def _doubt_the_relay(self) -> None:
        """Raise RelayUnreachable where the last messages were all deferred, or are of unknown fate."""
        if self._unsure >= _IN_A_ROW:
            mail = self._night.config.mail
            what = f"{mail.host}:{mail.port} deferred {self._unsure} messages in a row, or gave no readable answer to them"
            raise RelayUnreachable(what, "look into the relay's log; the next run tries again")

    def _launch(self, decision: Decision) -> None:
        """Open the slot of the message that waits first, and send it on its way."""
        mailer = self._idle[-1]
        self._night.means.waiting("mailing", self._night.config.mail.host)
        try:
            mailer.ready()
        except RelayBusy as error:
            self._pace.end()
            self._slow_down(error)
            return
        self._look_around()  # to connect may have taken long, and the machine may have slept meanwhile
        if not self._is_open_for(decision):
            self._pace.end()
            return
        slot, data = self._open(decision, eight_bit=mailer.eight_bit)
        self._idle.pop()
        self._waiting.popleft()
        send = partial(mailer.send, data, slot.recipient, envelope_id=slot.message_id.strip("<>"))
        self._flights[self._start(send)] = _Flight(decision, slot, mailer)

    def _open(self, decision: Decision, *, eight_bit: bool) -> tuple[Slot, bytes]:
        """Put the intent to send on disk; give the slot and the bytes of its message."""
        slot = _slot(self._night, decision, self._ledger)
        data = self._night.freeze(decision.user, slot, eight_bit=eight_bit)
        self._ledger.open(slot, hashlib.sha256(data).hexdigest(), self._night.means.clock())
        return slot, data

    def _land(self, seconds: float | None, heed: Callable[[RelayRefused], None] | None = None) -> None:
        """Put on disk what became of the messages that are done, waiting for the first so many seconds or as long as it takes."""
        for future in wait(self._flights, seconds, FIRST_COMPLETED).done:
            flight = self._flights.pop(future)
            self._pace.end()
            self._park(flight.mailer)
            try:
                self._settle(flight, future.result())
            except RelayRefused as error:
                self._ledger.release(flight.slot, str(error), self._night.means.clock())
                self._waiting.appendleft(flight.decision)
                if heed:
                    heed(error)

    def _park(self, mailer: Mailer) -> None:
        if len(self._idle) + len(self._flights) < self._lanes:
            self._idle.append(mailer)
        else:
            mailer.close()

    def _settle(self, flight: _Flight, delivery: Delivery) -> None:
        """Put the outcome on disk."""
        self._ledger.settle(flight.slot, delivery, self._night.means.clock())
        self._night.means.settled(flight.slot, delivery)
        self._done.deliveries.append(delivery)
        self._remember(flight.decision, _as_it_turned_out(flight.decision, delivery))
        self._unsure = self._unsure + 1 if _is_unsure(delivery) else 0
        self._night.means.progress("mailing", len(self._done.deliveries), self._planned)

    def _heed(self, error: RelayRefused) -> None:
        """Go on more slowly, or without one domain, or not at all: then it raises the error."""
        if isinstance(error, RelayBusy):
            self._slow_down(error)
        elif isinstance(error, DomainRefused) and len(self._shunned) + 1 < _DOMAINS:
            self._shunned.add(_domain(self._waiting[0]))
            self._done.problems.append(error)
        else:
            raise error

    def _slow_down(self, error: RelayBusy) -> None:
        """From now on over one connection, and after a pause. Raises the error when there have been enough."""
        pause = next(self._pauses, None)
        if pause is None:
            raise error
        self._lanes = 1
        while len(self._idle) > 1:
            self._idle.pop().close()
        self._pace.hold(pause)

    def _leave_out(self, decision: Decision, reason: Reason) -> None:
        self._remember(decision, decision._replace(action=Action.NONE, step=0, reason=reason))

    def _remember(self, planned: Decision, done: Decision) -> None:
        self._done.decisions[planned.user.user_id, planned.step] = done


def _pace(night: Night, ledger: Ledger) -> Pace:
    """The rates that the relay allows, those of earlier runs' messages included; some relays count by the second."""
    mail, now = night.config.mail, night.means.clock()
    past = ((now - sent).total_seconds() for sent in ledger.mailed_since(now - plan.DAY))
    per_second = ceil(mail.per_minute / 60)
    return Pace((per_second, 1), (mail.per_minute, 60), (mail.per_day, plan.DAY.total_seconds()), past=past)


def _slot(night: Night, decision: Decision, ledger: Ledger) -> Slot:
    """The slot that was deferred on another night, with its Message-ID and Date, or a new one."""
    user_id, step, recipient, address = decision.user.user_id, decision.step, decision.recipient, decision.address
    if _was_tried(night.standings[user_id], step) and (before := ledger.slot(user_id, step)):
        return replace(before, recipient=recipient, address=address)
    date = night.means.clock().replace(microsecond=0)
    return Slot(user_id, step, recipient, address, message_id(night.config, step), date)


def _was_tried(standing: Standing, step: int) -> bool:
    """Whether the slot may be one that was deferred. A mistake here sends nothing: the ledger opens no slot twice as new."""
    return standing.escalation_tried is not None if step == ESCALATION else standing.attempts > 0


def _is_unsure(delivery: Delivery) -> bool:
    """Whether this may be the relay's trouble. One that greylists is well, and takes each of them on another night (RFC 6647)."""
    return delivery.outcome in {Outcome.DEFERRED, Outcome.UNKNOWN} and not _GREYLISTS.search(delivery.reply)


def _domain(decision: Decision) -> str:
    return decision.recipient.rpartition("@")[2].lower()


def _as_it_turned_out(decision: Decision, delivery: Delivery) -> Decision:
    went_out = delivery.outcome in {Outcome.ACCEPTED, Outcome.UNKNOWN}
    return decision._replace(action=decision.action if went_out else Action.NONE, reason=_TOLD[delivery.outcome])
