"""The arithmetic of a large campaign: how many nights until everybody has been asked, and which limit decides (pure)."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from math import ceil
from typing import Any, NamedTuple

_HORIZON = 3_660  # days that are looked at
_BURSTS_AN_HOUR = 120  # a burst is what goes out in 30 s


class Batch(NamedTuple):
    """Messages that are due together: lower waves go out first, then what is due for longer."""

    wave: int
    due: date
    step: int  # 1 = the first message; later ones are reminders


class Limit(NamedTuple):
    """What bounds the messages of one night, and how many it lets through."""

    name: str
    messages: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What a campaign has to do, and what it may."""

    start: date
    asked: int  # users whom Docusign is asked about on one night
    probes_per_hour: int  # 0 = unlimited
    probe_burst: int
    batches: Mapping[Batch, int]  # messages to come next, if nobody consents
    limits: Sequence[Limit]
    per_minute: int  # messages; 0 = unlimited
    waits: Sequence[int]  # days before each reminder
    is_open: Callable[[date], bool]  # whether mail may go out on a day


@dataclass(frozen=True, slots=True)
class Outlook:
    """What comes of it, if nobody consents: an upper bound, for who consents gets no reminder."""

    asked: int
    asking_hours: float
    messages: int  # of a full night
    every: int  # days from one night to the next; more than one where a night lasts longer than a day
    first: int  # messages that are somebody's first
    reminders: int
    limits: Sequence[Limit]
    deciding: Sequence[str]  # the limits without which it would take fewer nights; none where one night is enough
    nights: int  # that send a first message
    everybody_asked: date | None  # the last of them; None where it never comes, or there is nobody to ask
    all_sent: date | None  # the day of the last reminder

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        dates = {name: day.isoformat() if day else None for name, day in self._dates().items()}
        return {**asdict(self), "limits": {limit.name: limit.messages for limit in self.limits}, **dates}

    def _dates(self) -> dict[str, date | None]:
        return {"everybody_asked": self.everybody_asked, "all_sent": self.all_sent}


def outlook(terms: Terms) -> Outlook:
    """Play the nights from the start on, until nothing is left to be sent."""
    hours = terms.asked / _questions_an_hour(terms) if terms.asked else 0.0
    messages = min((limit.messages for limit in terms.limits), default=0)
    every = max(1, ceil((hours + (messages / terms.per_minute / 60 if terms.per_minute else 0)) / 24))
    sent = [*_sent(terms, messages, every)]
    first = [day for day, steps in sent if steps.get(1)]
    due = sum(number for batch, number in terms.batches.items() if batch.step == 1)
    is_done = due == sum(steps.get(1, 0) for _, steps in sent)
    left = _messages_to_come(terms) - sum(sum(steps.values()) for _, steps in sent)
    return Outlook(
        asked=terms.asked,
        asking_hours=hours,
        messages=messages,
        every=every,
        first=due,
        reminders=_messages_to_come(terms) - due,
        limits=terms.limits,
        deciding=[*_deciding(terms, messages, every)] if len(first) > 1 or not is_done else [],
        nights=len(first),
        everybody_asked=first[-1] if first and is_done else None,
        all_sent=sent[-1][0] if sent and not left else None,
    )


def _questions_an_hour(terms: Terms) -> int:
    burst = terms.probe_burst * _BURSTS_AN_HOUR
    return min(terms.probes_per_hour or burst, burst)


def _messages_to_come(terms: Terms) -> int:
    return sum(number * (len(terms.waits) + 2 - batch.step) for batch, number in terms.batches.items())


def _deciding(terms: Terms, messages: int, every: int) -> Iterator[str]:
    yield from (limit.name for limit in terms.limits if limit.messages == messages)
    if every > 1:
        yield "[docusign] probes_per_hour" if terms.asked / _questions_an_hour(terms) > 24 else "[mail] per_minute"  # noqa: PLR2004  # hours
    if not all(terms.is_open(terms.start + timedelta(days=day)) for day in range(7)):
        yield "[policy] days"


def _sent(terms: Terms, messages: int, every: int) -> Iterator[tuple[date, dict[int, int]]]:
    """Each night that sends something, with its messages by step."""
    waiting = defaultdict(int, terms.batches)
    for days in range(0, _HORIZON, every):
        day, left, sent = terms.start + timedelta(days=days), messages, defaultdict[int, int](int)
        for batch in sorted(waiting) if terms.is_open(day) else ():
            if batch.due <= day and left:
                number = min(left, waiting[batch])
                left -= number
                sent[batch.step] += number
                waiting[batch] -= number
                if batch.step <= len(terms.waits):
                    due = day + timedelta(days=terms.waits[batch.step - 1])
                    waiting[Batch(batch.wave, due, batch.step + 1)] += number
        waiting = defaultdict(int, {batch: number for batch, number in waiting.items() if number})
        if sent:
            yield day, dict(sent)
        if not waiting:
            return
