"""What each message brought: the funnel from the invitation to the last reminder (pure)."""

from collections.abc import Iterator
from typing import NamedTuple

from campaign.report.forecast import LEAST_SEEN, Range, wilson
from campaign.report.tally import COUNTED, State, Tally

_WORTH = 0.05  # a message that moves fewer than one in twenty is not worth sending


class Step(NamedTuple):
    """The so-many-th message. A user is counted as consenting after the last message that went out before."""

    number: int
    sent: int  # users who had it
    consented: int  # after it, and before a next one
    went_on: int  # got the next one
    waiting: int  # may yet answer it, or get the next one
    ripe: int  # users who have had the whole wait after it, whatever they did
    ripe_consented: int  # of those

    @property
    def share(self) -> Range:
        """The share that consented of those who have had the whole wait, with its 95 % interval."""
        return wilson(self.ripe_consented, self.ripe)

    @property
    def verdict(self) -> str:
        """Whether such a message still helps, as far as that can be said."""
        if self.ripe < LEAST_SEEN:
            return "too few to tell"
        if self.share.high < _WORTH:
            return "no longer helps"
        return "helps" if self.share.low >= _WORTH else "not clear"


def steps(tally: Tally) -> Iterator[Step]:
    """Every message that somebody has had or that the policy allows, the invitation first."""
    most = max((messages for messages, _ in tally.by_messages), default=0)
    for k in range(1, max(most, len(tally.background.waits) + 1) + 1):
        later = range(k + 1, most + 1)
        yield Step(
            number=k,
            sent=_had(tally, range(k, most + 1)),
            consented=tally.by_messages[k, State.CONSENTED],
            went_on=_had(tally, later),
            waiting=tally.by_messages[k, State.ASKED],
            # Who got a later message has had the whole wait after this one.
            ripe=sum(tally.followed[m] for m in later) + tally.ripe[k, True] + tally.ripe[k, False],
            ripe_consented=tally.ripe[k, True],
        )


def _had(tally: Tally, messages: range) -> int:
    return sum(tally.by_messages[k, state] for k in messages for state in COUNTED)


def useless(found: list[Step]) -> Step | None:
    """The first message that no longer helps."""
    return next((step for step in found if step.verdict == "no longer helps"), None)
