"""The hand-over, whose order is the whole crash story.

    compose -> freeze bytes -> COMMIT slot `sending` -> SMTP transaction -> COMMIT outcome

Killed in between, the slot stays `sending`, becomes `unknown` at the next start, and is never sent again.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from campaign.errors import CampaignError, LedgerError, RelayRefused, RelayUnreachable
from campaign.given import message_id
from campaign.ledger import Ledger
from campaign.message import freeze
from campaign.model import Action, Decision, Delivery, Outcome, Reason, Slot
from campaign.night import Night
from campaign.pace import Pace
from campaign.stopping import stop_if_asked

_DEFERRED_IN_A_ROW = 3  # then it is the relay, not the recipients

# What the report says of a message, by what became of it.
_TOLD = {
    Outcome.ACCEPTED: Reason.SENT,
    Outcome.UNKNOWN: Reason.UNRESOLVED,
    Outcome.DEFERRED: Reason.WAITING,
    Outcome.REJECTED: Reason.UNDELIVERABLE,
}


@dataclass(slots=True)
class HandedOver:
    """The decisions as they turned out, what became of each message, and what stopped them."""

    decisions: dict[str, Decision] = field(default_factory=dict)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    problem: CampaignError | None = None


def hand_over(night: Night, planned: Sequence[Decision], ledger: Ledger) -> HandedOver:
    """Send in the given order until all are sent or something stops it. Raises LedgerError, at once."""
    done = HandedOver()
    pace = Pace((night.config.mail.per_minute, 60))
    deferred = 0
    try:
        for decision in planned:
            _may_go_on(night, pace, deferred)
            delivery = _send(night, decision, ledger)
            done.deliveries[decision.user.user_id] = delivery
            done.decisions[decision.user.user_id] = _as_it_turned_out(decision, delivery)
            deferred = deferred + 1 if delivery.outcome is Outcome.DEFERRED else 0
            night.means.progress("mailing", len(done.deliveries), len(planned))
    except LedgerError:
        raise
    except CampaignError as error:
        done.problem = error
    reason = Reason.RELAY_REFUSED if isinstance(done.problem, RelayRefused | RelayUnreachable) else Reason.STOPPED
    for decision in planned[len(done.deliveries) :]:
        done.decisions[decision.user.user_id] = replace(decision, action=Action.NONE, step=0, reason=reason)
    return done


def _may_go_on(night: Night, pace: Pace, deferred: int) -> None:
    """Wait for the next message's turn. Raises whatever keeps it from being sent, before its slot is opened."""
    mail = night.config.mail
    if deferred >= _DEFERRED_IN_A_ROW:
        what = f"{mail.host}:{mail.port} deferred {deferred} messages in a row"
        raise RelayUnreachable(what, "look into the relay's log; the next run tries again")
    pace.wait(night.means.stop)
    stop_if_asked(night.means.stop, night.config.stop_file)
    night.given.mailer.ready()


def _send(night: Night, decision: Decision, ledger: Ledger) -> Delivery:
    user, clock = decision.user, night.means.clock
    slot = _slot(night, decision, ledger)
    first_sent = night.first_sent(user.user_id)
    data = freeze(
        night.given.composer.compose(user, slot.step, message_id=slot.message_id, date=slot.date, first_sent=first_sent)
    )
    ledger.open(slot, user, hashlib.sha256(data).hexdigest(), clock())
    try:
        delivery = night.given.mailer.send(data, slot.recipient)
    except RelayRefused as error:
        ledger.release(slot, str(error), clock())
        raise
    ledger.settle(slot, user, delivery, clock())
    return delivery


def _slot(night: Night, decision: Decision, ledger: Ledger) -> Slot:
    """The slot that was deferred on another night, with its Message-ID and Date, or a new one."""
    user = decision.user
    if before := ledger.slot(user.user_id, decision.step):
        return replace(before, recipient=user.recipient)
    date = night.means.clock().replace(microsecond=0)
    return Slot(user.user_id, decision.step, user.recipient, message_id(night.config, decision.step), date, attempts=0)


def _as_it_turned_out(decision: Decision, delivery: Delivery) -> Decision:
    went_out = delivery.outcome in {Outcome.ACCEPTED, Outcome.UNKNOWN}
    return replace(decision, action=decision.action if went_out else Action.NONE, reason=_TOLD[delivery.outcome])
