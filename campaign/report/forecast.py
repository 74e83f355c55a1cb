"""How many will have consented when the last reminder has had its time: an estimate with its uncertainty (pure).

Those who lack consent are taken to do as those before them did after the same message and the same number of days: of the
users who still lacked consent so many days after their n-th message, a certain share consented on that day. Each share is
a figure e/n with a range, Wilson's interval of 80 % (doi.org/10.1080/01621459.1927.10502953). Where fewer than 30 user-days
were seen, nothing is known: it lies anywhere between nothing and what was seen a day or a message before. All shares are low
together, or high together, which is wider than chance alone would have it: people who hear of each other do not act by
chance alone. Who was not mailed yet is mailed as the limits allow; who is new, or takes a consent back, is not foreseen.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from math import sqrt

Z80, Z95 = 1.2816, 1.96  # standard deviations on each side
LEAST_SEEN = 30  # user-days, or users: fewer tell nothing
_LEAST_CONSENTS = 5
_HORIZON = 365  # days
_BINS = (1, 2, 3, 5, 8, 15)  # the first day of each group of days; the last has no end


@dataclass(frozen=True, slots=True)
class Range:
    """An estimate and its range."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected; `path` has for each day from the last night on how many will have consented."""

    start: date
    path: tuple[Range, ...]
    ended: bool  # within the year that is looked at
    unseen: int = 0  # the first message, by its number, that nobody has had for long enough; 0 = all were seen

    @property
    def end(self) -> date:
        """The day on which the last message has had its time."""
        return self.start + timedelta(days=len(self.path) - 1)


@dataclass(frozen=True, slots=True)
class Silence:
    """Why there is no forecast."""

    why: str


def wilson(events: float, trials: float, z: float = Z95) -> Range:
    """The share events/trials and its interval."""
    if not trials:
        return Range(0.0, 0.0, 1.0)
    share, spread = events / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    reach = z * sqrt(share * (1 - share) / trials + spread / trials / 4) / (1 + spread)
    return Range(max(0.0, centre - reach), share, min(1.0, centre + reach))


@dataclass(frozen=True, slots=True)
class Course:
    """What is known of a campaign's course, and what its policy allows."""

    start: date  # of the last night
    consented: int
    # By how many messages, the days since the last one, and whether consent ended them. Without consent: still lacking.
    days: Mapping[tuple[int, int, bool], int]
    unmailed: int  # lack consent and have had no message
    waits: tuple[int, ...]  # days before each reminder
    final_wait: int  # days that the last message gets
    capacity: Callable[[date], int]  # messages on a day


def forecast(course: Course) -> Forecast | Silence:
    """What is to be expected, or why nothing can be said."""
    waiting = {(k, d): number for (k, d, consented), number in course.days.items() if not consented}
    if not course.unmailed and not any(_may_answer(course, *place) for place in waiting):
        return Silence("no message is under way or to come: what happens from here on is not the reminders' doing")
    consents = sum(number for (k, _, consented), number in course.days.items() if consented and k)
    seen = Counter[tuple[int, int]]()
    hits = Counter[tuple[int, int]]()
    _watch(course, seen, hits)
    if consents < _LEAST_CONSENTS or seen[1, 0] < LEAST_SEEN:
        return Silence(
            f"too little is known yet: {consents} consents after a message, and {seen[1, 0]} days on which somebody could have "
            f"consented just after the first; it takes {_LEAST_CONSENTS} and {LEAST_SEEN}"
        )
    shares = _shares(len(course.waits) + 1, seen, hits)
    paths = [_play(course, waiting, [[getattr(cell, side) for cell in step] for step in shares]) for side in _SIDES]
    unseen = next((k for k in range(1, len(course.waits) + 2) if seen[k, 0] < LEAST_SEEN), 0)
    return _joined(course, paths, sum(waiting.values()) + course.unmailed, unseen)


_SIDES = ("low", "middle", "high")


def _may_answer(course: Course, messages: int, days: int) -> bool:
    """Whether a message is to come, or the last one has not had its time."""
    return messages <= len(course.waits) or days < course.final_wait


def _bin(day: int) -> int:
    return next(number for number in reversed(range(len(_BINS))) if day >= _BINS[number])


def _watch(course: Course, seen: Counter[tuple[int, int]], hits: Counter[tuple[int, int]]) -> None:
    """Count, by message and group of days, the user-days without consent that could have ended in one, and those that did."""
    for (messages, days, consented), number in course.days.items():
        for k in range(1, messages):
            _spend(seen, k, course.waits[min(k, len(course.waits)) - 1] if course.waits else 0, number)
        spent = max(1, days) if consented else days
        _spend(seen, messages, spent, number)
        if consented:
            hits[messages, _bin(spent)] += number


def _spend(seen: Counter[tuple[int, int]], k: int, days: int, number: int) -> None:
    for day in range(1, days + 1):
        seen[k, _bin(day)] += number


def _shares(steps: int, seen: Mapping[tuple[int, int], int], hits: Mapping[tuple[int, int], int]) -> list[list[Range]]:
    """For each message and group of days, the share that consents on one day."""
    shares: list[list[Range]] = []
    for k in range(1, steps + 1):
        row: list[Range] = []
        for number in range(len(_BINS)):
            if seen.get((k, number), 0) >= LEAST_SEEN:
                row.append(wilson(hits.get((k, number), 0), seen[k, number], Z80))
            else:
                before = shares[-1][number] if shares else row[-1]
                known = row[-1] if row and row[-1].high < before.high else before
                row.append(Range(0.0, known.middle / 2, known.high))
        shares.append(row)
    return shares


def _play(course: Course, waiting: Mapping[tuple[int, int], int], shares: list[list[float]]) -> list[float]:
    """How many have consented on each day, if these shares hold; until nobody has a message to come, or to answer."""
    groups: dict[tuple[int, int], float] = dict(waiting)
    unmailed, consented = float(course.unmailed), float(course.consented)
    path = [consented]
    while len(path) <= _HORIZON and (unmailed or any(_may_answer(course, *place) for place in groups)):
        later: dict[tuple[int, int], float] = {}
        for (k, d), number in groups.items():
            gained = number * shares[min(k, len(shares)) - 1][_bin(d + 1)] if k else 0.0
            consented += gained
            later[k, d + 1] = later.get((k, d + 1), 0.0) + number - gained
        groups, unmailed = _mail(course, later, unmailed, course.start + timedelta(days=len(path)))
        path.append(consented)
    return path


def _mail(
    course: Course, groups: dict[tuple[int, int], float], unmailed: float, day: date
) -> tuple[dict[tuple[int, int], float], float]:
    """Send what is due and what the day allows; who has waited longest comes first."""
    room = float(course.capacity(day))
    due = sorted((course.waits[k - 1] - d, k, d) for k, d in groups if 1 <= k <= len(course.waits) and d >= course.waits[k - 1])
    for _, k, d in due:
        sent = min(room, groups[k, d])
        room -= sent
        groups[k, d] -= sent
        groups[k + 1, 0] = groups.get((k + 1, 0), 0.0) + sent
    sent = min(room, unmailed)
    groups[1, 0] = groups.get((1, 0), 0.0) + sent
    return {
        place: number for place, number in groups.items() if number > _NOBODY
    }, unmailed - sent if unmailed - sent > _NOBODY else 0.0


_NOBODY = 0.01  # of a user


def _joined(course: Course, paths: list[list[float]], open_users: int, unseen: int) -> Forecast:
    """One path with its range: that of the shares, and beside it that of people, who come whole."""
    length = max(map(len, paths))
    low, middle, high = ([*path, *[path[-1]] * (length - len(path))] for path in paths)
    return Forecast(
        start=course.start,
        path=tuple(_widened(course.consented, open_users, *at) for at in zip(low, middle, high, strict=True)),
        ended=length <= _HORIZON,
        unseen=unseen,
    )


def _widened(consented: int, open_users: int, low: float, middle: float, high: float) -> Range:
    share = (middle - consented) / open_users
    chance = Z80 * sqrt(open_users * share * max(0.0, 1 - share))
    down, up = sqrt((middle - low) ** 2 + chance**2), sqrt((high - middle) ** 2 + chance**2)
    return Range(max(float(consented), middle - down), middle, min(float(consented + open_users), middle + up))
