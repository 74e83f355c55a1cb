"""What `report.html` and the workbook's summary say, in words and figures (pure)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor
from typing import NamedTuple

from campaign.model import Reason
from campaign.report.attention import Need, needs
from campaign.report.background import Run
from campaign.report.forecast import Course, Forecast, Silence, forecast
from campaign.report.steps import Step, steps, useless
from campaign.report.tally import COUNTED, Groups, State, Tally
from campaign.words import REASONS

STATES = {
    State.CONSENTED: "have consented",
    State.ASKED: "lack consent and are being asked",
    State.SILENT: "have had all messages and have not consented",
    State.BARRED: "cannot be asked",
    State.UNCLEAR: "gave no usable answer yet",
    State.CLOSED: "are closed in Docusign",
    State.UNUSABLE: "are rows that cannot be used",
}
_MOST_GROUPS = 12
_LONGEST_NAME = 60


class Group(NamedTuple):
    """One line of a table by domain, department or locale."""

    name: str
    users: int
    consented: int
    lacking: int  # all others


class Grouping(NamedTuple):
    """The users by one of their properties; what is beyond the cap is one line."""

    heading: str
    groups: Sequence[Group]
    others: int  # groups in the last line; 0 = there is none


@dataclass(frozen=True)
class Page:
    """All that is said of one campaign."""

    tally: Tally

    @property
    def states(self) -> list[tuple[State, str, int]]:
        """Where the users stand: those who count always, the others if there are any."""
        counted = [(state, words, self.tally.states[state]) for state, words in STATES.items()]
        return [line for line in counted if line[0] in COUNTED or line[2]]

    @property
    def lead(self) -> str:
        """Where the campaign stands, in one sentence."""
        total, found = self.tally.total, self.tally.states
        if not total:
            return "There is nobody in the roster who could be asked."
        if found[State.CONSENTED] == total:
            return f"All {total:,} users have consented."
        others = "; ".join(f"{found[s]:,} {STATES[s]}" for s in COUNTED[1:] if found[s])
        return f"{found[State.CONSENTED]:,} of {total:,} users ({share(found[State.CONSENTED], total)}) have consented; {others}."

    @property
    def reasons(self) -> list[tuple[str, int, str]]:
        """Users and rows by the report's own reasons."""
        words = {str(reason): meaning for reason, meaning in REASONS.items()}
        words |= {Reason.INVALID_ROW: STATES[State.UNUSABLE], "": "were in no run yet"}
        return [
            (reason, count, words[reason]) for reason, count in sorted(self.tally.reasons.items(), key=lambda r: (-r[1], r[0]))
        ]

    @property
    def needs(self) -> list[Need]:
        """What needs a person."""
        return list(needs(self.tally, self.tally.background))

    @property
    def nights(self) -> list[Run]:
        """The last run of each day; the present figures are those of the rows."""
        runs = self.tally.background.runs
        by_day = {run.started.date(): run for run in runs if run.consented is not None}
        if not runs:
            return []
        last = runs[-1]._replace(users=self.tally.total, consented=self.tally.states[State.CONSENTED])
        return list((by_day | {last.started.date(): last}).values())

    @cached_property
    def forecast(self) -> Forecast | Silence:
        """What is to be expected."""
        tally, waits = self.tally, self.tally.background.waits
        if tally.asked_at is None:
            return Silence("no night has been noted yet")
        course = Course(
            start=tally.asked_at.date(),
            consented=tally.states[State.CONSENTED],
            days=tally.days,
            unmailed=tally.by_messages[0, State.ASKED],
            waits=waits,
            final_wait=tally.background.wait(len(waits) + 1),
            capacity=tally.background.capacity,
        )
        return forecast(course)

    @property
    def outlook(self) -> str:
        """The forecast in words."""
        found, total = self.forecast, self.tally.total
        if isinstance(found, Silence):
            return f"No forecast: {found.why}."
        if not found.ended:
            return "No forecast: with [policy] max_per_run and [mail] per_day as they are, the messages take more than a year."
        end = found.path[-1]
        low, middle, high = floor(end.low), round(end.middle), ceil(end.high)
        return (
            f"If people go on as so far, about {middle:,} of {total:,} users ({share(middle, total)}) will have consented by "
            f"{found.end:%-d %B %Y}, when the last message has had its time. In at least eight cases of ten it will be between "
            f"{low:,} and {high:,}. The other {total - middle:,} will need another way than a reminder."
        )

    @property
    def doubt(self) -> str:
        """What the forecast could not know."""
        found = self.forecast
        if isinstance(found, Silence) or not found.unseen:
            return ""
        few = f"Too few have had message {found.unseen} to know what it does"
        return f"{few}: the range goes from nothing to as much as the one before."

    @property
    def steps(self) -> list[Step]:
        """What each message brought."""
        return list(steps(self.tally))

    @property
    def widest_share(self) -> int:
        """The end of the scale on which the messages' shares are drawn, in per cent."""
        return max(10, *(10 * ceil(10 * step.share.high) for step in self.steps if step.ripe), 0)

    @property
    def advice_on_reminders(self) -> str:
        """Where another reminder no longer helps."""
        found = self.steps
        if step := useless(found):
            return (
                f"Message {step.number} no longer helps: fewer than one in twenty who get it consent. Ask them in another way, "
                "and shorten [policy] remind_after_days."
            )
        if found and found[-1].verdict == "helps":
            return "The last reminder still helps: another one in [policy] remind_after_days would move some more."
        return "No message has proved useless so far."

    @property
    def groupings(self) -> list[Grouping]:
        """The users by domain, department and locale, as far as the roster knows these."""
        found = (("e-mail domain", self.tally.domains), ("department", self.tally.departments), ("locale", self.tally.locales))
        return [_grouping(heading, groups) for heading, groups in found if set(groups) - {""}]

    @property
    def unmailed(self) -> int:
        """How many consented without any message."""
        return self.tally.by_messages[0, State.CONSENTED]


def share(part: float, whole: float) -> str:
    """A share in per cent, rounded down: only all are 100 %, and only none are 0 %."""
    if part and whole and part * 100 < whole:
        return "<1 %"
    return f"{floor(100 * part / whole) if whole else 0} %"


def _grouping(heading: str, groups: Groups) -> Grouping:
    """Those with most users who lack consent first; what is beyond the cap in one line."""
    lines = sorted((_line(name, states) for name, states in groups.items()), key=lambda g: (-g.lacking, -g.users, g.name))
    if len(lines) <= _MOST_GROUPS + 1:
        return Grouping(heading, lines, 0)
    rest = lines[_MOST_GROUPS:]
    others = Group(f"{len(rest):,} others", *(sum(column) for column in zip(*(line[1:] for line in rest), strict=True)))
    return Grouping(heading, [*lines[:_MOST_GROUPS], others], len(rest))


def _line(name: str, states: Counter[State]) -> Group:
    users, consented = states.total(), states[State.CONSENTED]
    shown = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return Group(shown or "(none given)", users, consented, users - consented)
