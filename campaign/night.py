"""One night's record: what it was given, what it found, and how it ended."""

import secrets
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from campaign import plan
from campaign.config import Config
from campaign.customers import Administrator, Customer, Figures, figures, grouped, is_customer, left_alone
from campaign.errors import CampaignError, ExitCode, GuardTripped
from campaign.given import Given, Means
from campaign.ledger import RunLock
from campaign.message import freeze
from campaign.model import Action, Decision, Delivery, Finding, Reason, Reject, Slot, Standing, Status, Trip, User, stamp
from campaign.report import State, state

# The worst first. A bad template outranks a mere stop: the night cannot go on by itself.
_BY_GRAVITY = (
    ExitCode.LEDGER,
    ExitCode.REFUSED,
    ExitCode.USAGE,
    ExitCode.SIGINT,
    ExitCode.SIGTERM,
    ExitCode.STOPPED,
    ExitCode.ATTENTION,
    ExitCode.DONE,
)
_SLACK = timedelta(minutes=10)  # that NTP may set a clock back by


def new_run_id(now: datetime) -> str:
    """The name of a run that begins now: its time, and by chance what tells it from another of the same second."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


@dataclass(slots=True)
class Night:
    """One night's record, filled in as it goes."""

    config: Config = field(repr=False)
    means: Means = field(repr=False)
    given: Given = field(repr=False)
    started: datetime
    run_id: str
    lock: RunLock | None = None  # a plan needs none
    probed: datetime | None = None  # when the last answer had come
    finished: datetime | None = None
    canary: list[Finding] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    standings: dict[str, Standing] = field(default_factory=dict)  # of the roster's users, and of administrators
    left: list[Standing] = field(default_factory=list)  # of users who are not in the roster any more, as they were before
    decisions: list[Decision] = field(default_factory=list)  # about the roster's users
    asking: list[Decision] = field(default_factory=list)  # about administrators of customers
    planned: int = 0  # messages that the plan held before any guard
    trips: list[Trip] = field(default_factory=list)
    escalations: list[Decision] = field(default_factory=list)  # the messages to managers
    unwritable: list[Reject] = field(default_factory=list)  # rows for which a message of tonight cannot be written
    deliveries: list[Delivery] = field(default_factory=list)
    problems: list[CampaignError] = field(default_factory=list)  # what kept the night from its end
    attention: list[str] = field(default_factory=list)  # what is new and needs a person
    reports: list[Path] = field(default_factory=list)

    def still_holds(self, fresh: timedelta) -> None:
        """See to it that the lock is still ours, and that the findings are not older than `fresh` by the clock.

        Raises LedgerError, GuardTripped.
        """
        if self.lock:
            self.lock.check()
        self.was_awake_since(self.probed or self.started, fresh)

    def was_awake_since(self, answered: datetime, longest: timedelta) -> None:
        """See to it that no more than `longest` has passed since an answer of Docusign. Raises GuardTripped."""
        now = self.means.clock()
        if not -_SLACK <= now - answered <= longest:
            what = (
                f"guard clock: Docusign's last answer came at {answered:%Y-%m-%d %H:%M} UTC, and now it is {now:%Y-%m-%d %H:%M}"
            )
            raise GuardTripped(what, "the machine slept, or its clock was set; the next run asks again and goes on from here")

    def check(self, decision: Decision) -> None:
        """Render and audit the message of a decision. Raises TemplateError."""
        first_sent, messages = self._sent(decision.user)
        self.given.composer.check(decision.user, decision.step, first_sent=first_sent, messages=messages)

    def freeze(self, user: User, slot: Slot, *, eight_bit: bool) -> bytes:
        """The bytes of the message of a slot; `eight_bit` says whether the relay takes such. Raises TemplateError."""
        first_sent, messages = self._sent(user)
        message = self.given.composer.compose(
            user,
            slot.step,
            message_id=slot.message_id,
            date=slot.date,
            first_sent=first_sent,
            messages=messages,
            eight_bit=eight_bit,
        )
        return freeze(message)

    def _sent(self, user: User) -> tuple[datetime | None, int]:
        """When this user was first written to, in the campaign's time zone, and how often so far: later messages tell."""
        standing = self.standings[user.user_id]
        return standing.first_sent and standing.first_sent.astimezone(self.config.policy.zone), standing.messages

    @property
    def messages(self) -> list[Decision]:
        """Tonight's messages in the order in which they are sent: administrators and users first, then managers."""
        return [*plan.in_sending_order([*self.asking, *self.decisions]), *(d for d in self.escalations if d.action)]

    @property
    def administrators(self) -> list[Administrator]:
        """The administrators who can be asked."""
        return [one for one in self.given.administrators if not one.fault]

    @property
    def customers(self) -> list[Customer]:
        """An ISV's customers with their users, in the file's order."""
        return grouped(self.given.administrators, self.given.roster.users, self.standings)

    @property
    def customer_figures(self) -> list[Figures]:
        """Each customer in figures, with what this night decided about its administrator."""
        if not self.given.administrators:
            return []
        decided = {d.user.user_id: self.standings[d.user.user_id]._replace(reason=d.reason) for d in self.asking}
        standings, customers = {**self.standings, **decided}, self.customers
        waits = left_alone(self.config, customers, standings, self.means.clock())
        upcoming = plan.upcoming_for(self.config.policy, waits)
        return [*figures(customers, self.given.roster.users, standings, upcoming, waits)]

    @property
    def rejects(self) -> list[Reject]:
        """The rows that cannot be used, also those that only no message can be written for."""
        return [*self.given.roster.rejects, *(reject for reject in self.unwritable if not is_customer(reject.user_id))]

    @property
    def unfit_customers(self) -> list[Reject]:
        """The same of the customers' file."""
        unfit = (Reject(one.line, one.fault, one.user_id, one.email, one.name) for one in self.given.administrators if one.fault)
        return [*unfit, *(reject for reject in self.unwritable if is_customer(reject.user_id))]

    @property
    def withheld(self) -> bool:
        """Whether something keeps this night from mailing."""
        return bool(self.problems) or any(not trip.lifted for trip in self.trips)

    @property
    def exit_code(self) -> ExitCode:
        """The gravest of what happened."""
        codes = {problem.exit_code for problem in self.problems} | ({ExitCode.ATTENTION} if self.attention else set())
        return next((code for code in _BY_GRAVITY if code in codes), ExitCode.DONE)

    def counts(self) -> dict[str, Any]:
        """Figures for people and scripts: rows and users, and by user status, state, action, reason and this run's outcome."""
        rejects = len(self.given.roster.rejects)
        status = Counter(str(self.standings[d.user.user_id].found or Status.NOT_PROBED) for d in self.decisions)
        reason = Counter(str(d.reason) for d in self.decisions)
        users = [decision for decision in self.decisions if decision.action is not Action.ESCALATED]
        return {
            "rows": len(self.given.roster.rows),
            "users": len(self.given.roster.users),
            "status": dict(status + Counter({Status.REJECTED.value: rejects})),
            "state": dict(Counter(str(self._state(decision)) for decision in self.decisions)),
            "action": dict(Counter(str(d.action) for d in [*users, *self.asking, *self.escalations] if d.action)),
            "reason": dict(reason + Counter({Reason.INVALID_ROW.value: rejects})),
            "outcome": dict(Counter(str(d.outcome) for d in self.deliveries)),
        }

    def _state(self, decision: Decision) -> State:
        standing = self.standings[decision.user.user_id]
        return state(decision.reason, standing.found, standing.granted_at, standing.last_probed)

    def as_record(self) -> dict[str, Any]:
        """What the ledger keeps of this run, for reports to come: figures and names of kinds, nothing of any user."""
        guards = [{"guard": t.guard, "liftable": t.liftable, "lifted": t.lifted} for t in self.trips]
        return self.counts() | {"planned": self.planned, "guards": guards, "exit_code": int(self.exit_code)}

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "run_id": self.run_id,
            "started": stamp(self.started),
            "finished": stamp(self.finished or self.started),
            "exit_code": int(self.exit_code),
            "counts": self.counts(),
            "left": [standing.user_id for standing in self.left],
            "guards": [asdict(trip) for trip in self.trips],
            "doubts": list(self.given.doubts),
            "report": [str(path) for path in self.reports],
            **({"customers": [one.as_json() for one in self.customer_figures]} if self.given.administrators else {}),
        }
