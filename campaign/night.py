"""One night's record: what it was given, what it found, and how it ended."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from campaign.config import Config
from campaign.errors import CampaignError, ExitCode
from campaign.given import Given, Means
from campaign.model import Decision, Delivery, Finding, Reason, Standing, Status, Trip, stamp

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


@dataclass(slots=True)
class Night:
    """One night's record, filled in as it goes."""

    config: Config = field(repr=False)
    means: Means = field(repr=False)
    given: Given = field(repr=False)
    started: datetime
    run_id: str
    finished: datetime | None = None
    canary: list[Finding] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    standings: dict[str, Standing] = field(default_factory=dict)  # of the roster's users
    decisions: list[Decision] = field(default_factory=list)
    planned: int = 0  # messages that the plan held before any guard
    trips: list[Trip] = field(default_factory=list)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    problems: list[CampaignError] = field(default_factory=list)  # what kept the night from its end
    attention: list[str] = field(default_factory=list)  # what is new and needs a person
    reports: list[Path] = field(default_factory=list)

    def first_sent(self, user_id: str) -> datetime | None:
        """When this user was first written to, in the campaign's time zone: the reminder tells the date."""
        first = self.standings[user_id].first_sent
        return first and first.astimezone(self.config.policy.zone)

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
        """Figures for people and scripts: rows and users, and by user the status, action, reason and this run's outcome."""
        rejects = len(self.given.roster.rejects)
        status = Counter(str(self.standings[d.user.user_id].found or Status.NOT_PROBED) for d in self.decisions)
        reason = Counter(str(d.reason) for d in self.decisions)
        return {
            "rows": len(self.given.roster.rows),
            "users": len(self.given.roster.users),
            "status": dict(status + Counter({Status.REJECTED.value: rejects})),
            "action": dict(Counter(str(d.action) for d in self.decisions if d.action)),
            "reason": dict(reason + Counter({Reason.INVALID_ROW.value: rejects})),
            "outcome": dict(Counter(str(d.outcome) for d in self.deliveries.values())),
        }

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "run_id": self.run_id,
            "started": stamp(self.started),
            "finished": stamp(self.finished or self.started),
            "exit_code": int(self.exit_code),
            "counts": self.counts(),
            "guards": [asdict(trip) for trip in self.trips],
            "report": [str(path) for path in self.reports],
        }
