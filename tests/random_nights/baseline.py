"""What the guards that an approval lifts must measure against."""

from datetime import datetime

from campaign.model import beyond
from tests.random_nights.journal import Run
from tests.random_nights.terms import Terms
from tests.world import CANARY


class Baseline:
    """What the guards that an approval lifts must measure against; where a kill leaves doubt, in the program's favour."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.approved = False  # whether an approved run may have passed
        self.passed_at: datetime | None = None  # at the latest
        self.sizes: set[int] = set()  # of the roster when a run last passed
        self.scopes: set[str] = set()  # that were asked for then
        self.lacking: dict[str, datetime] = {}  # since when, at the earliest
        self.revoked: dict[str, datetime] = {}
        self.granted: dict[str, str] = {}  # for certain, and for which scopes

    def lets_through(self, run: Run) -> None:
        """Assert that no guard had to trip in this run, which had no approval for what it did."""
        assert self.approved, "P5: the first live run mailed without approval"
        users = run.users
        answers = {user: answer for user, answer in run.last_answers().items() if user in users}
        lacking = {user for user, answer in answers.items() if answer == "consent_required"}
        passed = self.passed_at
        assert passed, "P5: mail without approval before any night had passed"
        new = [user for user in lacking if self.lacking.get(user, run.at) > passed]
        most = max(self.terms.new_lacking, 0.2 * len(users))
        assert len(new) <= most, f"P5: {len(new)} newly lacking, and mail without approval"
        lost = [user for user in lacking if self._holds(user, run) or self.revoked.get(user, passed) > passed]
        assert len(lost) <= self.terms.regressions, f"P5: {len(lost)} regressions, and mail without approval"
        near = [size for size in self.sizes if abs(len(users) - size) <= self.terms.roster_change * size]
        assert near, f"P5: {len(users)} users after {self.sizes}, and mail without approval"
        enough = [scope for scope in self.scopes if not beyond(run.scope, scope)]
        assert enough, f"P5: {run.scope} is asked for after {self.scopes}, and mail without approval"

    def follow(self, run: Run) -> None:
        """Take in what this run may have changed."""
        answers = run.last_answers()
        if run.called_relay and not run.killed:
            self.sizes.clear()
            self.scopes.clear()
        if run.called_relay or (run.killed and answers.get(CANARY) == "granted"):
            self.passed_at = run.at
            self.sizes.add(len(run.users))
            self.scopes.add(run.scope)
        self.approved |= bool(run.approved)
        for user in run.users & answers.keys():
            self._learn(user, answers[user], run)

    def _learn(self, user: str, answer: str, run: Run) -> None:
        if answer == "consent_required":
            if self._holds(user, run):
                self.revoked.setdefault(user, run.at)
            self.lacking.setdefault(user, run.at)
            self.granted.pop(user, None)
        elif answer == "granted":
            self.revoked.pop(user, None)
            if not run.killed:
                self.lacking.pop(user, None)
                self.granted[user] = run.scope
        elif answer == "user_not_found":
            self.granted.pop(user, None)
            if not run.killed:
                self.lacking.pop(user, None)

    def _holds(self, user: str, run: Run) -> bool:
        """Whether the last answer was a consent to all that is asked for now: one that is outgrown was not taken back."""
        return user in self.granted and not beyond(run.scope, self.granted[user])
