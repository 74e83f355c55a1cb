"""What is known of one user, the campaign around it, and the names of things (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from campaign import plan
from campaign.config import Config
from campaign.customers import Figures, is_customer
from campaign.ledger import OVERDUE, Event, Letter
from campaign.ledger.masking import is_masked
from campaign.ledger.records import Run
from campaign.model import ESCALATION, Reason, Reject, Standing, Status, User, beyond
from campaign.words import WHY

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a story is made of. All times are UTC; `local` puts them into the campaign's time zone."""

    config: Config = field(repr=False)
    now: datetime
    standing: Standing
    events: Sequence[Event] = ()
    letters: Mapping[str, Letter] = field(default_factory=dict)  # by Message-ID, those that the events tell of
    left_at: datetime | None = None  # when the roster was first read without this user
    mailed: tuple[datetime, str] | None = None  # when the user's address was last mailed, on behalf of which user
    row: User | Reject | None = None  # of a user whom only the roster knows
    customer: Figures | None = None  # whose user this is, or whose administrator
    left_alone_until: datetime | None = None  # because that administrator is asked first
    last_run: Run | None = None
    is_stopped: bool = False  # by a STOP file

    @property
    def next_action(self) -> str:
        """What the plan has next: "invite", "remind" or nothing more."""
        return self._upcoming[0]

    @property
    def due(self) -> datetime | None:
        """When the next message is due, the pause of the address included; None where there is none."""
        due = self._upcoming[1]
        return max(due, self.pause_ends or due) if due else None

    @property
    def pause_ends(self) -> datetime | None:
        """Until when the address is left alone after the last message to it."""
        return self.mailed[0] + plan.spacing(self.config.policy) if self.mailed else None

    @property
    def _upcoming(self) -> tuple[str, datetime | None]:
        """What the plan has next, and when by itself; nothing for a user who is out."""
        if self._is_out:
            return "", None
        return plan.after_the_administrator(plan.upcoming(self.standing, self.config.policy), self.left_alone_until)

    @property
    def _is_out(self) -> bool:
        """Whether nobody is asked or mailed whatever the ledger says of consent."""
        return bool(self.left_at or self.standing.forgotten_at or self.standing.reason == Reason.CLOSED)

    @property
    def is_overdue(self) -> bool:
        """Whether no run was noted for longer than a nightly job should take."""
        times = (self.last_run.started, self.last_run.finished) if self.last_run else ()
        return self.now - max(filter(None, times), default=self.now) > OVERDUE

    @property
    def why(self) -> str:
        """What the last run's reason means for this user; "" where it had none."""
        if isinstance(self.row, Reject):
            return WHY[Reason.INVALID_ROW]
        said_nothing = not self.standing.reason or self.left_at or (self.last_run and self.last_run.exit_code is None)
        return "" if said_nothing else WHY[Reason(self.standing.reason)].format(user=self.to_command)

    @property
    def to_command(self) -> str:
        """How a command names this user: by the user id, which means nobody else."""
        return "USER" if is_masked(self.standing.user_id) else self.standing.user_id

    @property
    def is_administrator(self) -> bool:
        """Whether this is a customer's administrator, not a user."""
        return is_customer(self.standing.user_id)

    @property
    def lacks_consent(self) -> bool:
        """Whether Docusign's last answer was that consent is lacking."""
        return self.standing.status == Status.CONSENT_REQUIRED

    @property
    def added(self) -> list[str]:
        """The scopes that are asked for now, and to which the consent that was there does not extend."""
        return beyond(self.config.docusign.scope, self.standing.granted_scope)

    @property
    def most(self) -> int:
        """How many messages the policy allows, the invitation included."""
        return 1 + len(self.config.policy.remind_after_days)

    def local(self, moment: datetime) -> str:
        """A time as people at the campaign's place read it."""
        return f"{moment.astimezone(self.config.policy.zone):%a %Y-%m-%d %H:%M}"


def message_name(step: int) -> str:
    """What people call the message of a step: the invitation, the first reminder."""
    if step == ESCALATION:
        return "the message to the manager"
    if step == 1:
        return "the invitation"
    return f"the {_ORDINALS[step - 2]} reminder" if step - 2 < len(_ORDINALS) else f"reminder number {step - 1}"
