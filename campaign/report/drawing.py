"""Where the lines of the report's charts go: from dates and figures to the units of an SVG (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import log10

from campaign.report.background import Run
from campaign.report.forecast import Forecast, Silence

WIDTH, HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 36, 10, 12, 22
_STEPS = (1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10)  # whose halves are round, too


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Progress:
    """The chart of those who have consented, night by night, and what is to be expected. Paths are those of SVG's `d`."""

    x: Sequence[Tick]
    y: Sequence[Tick]
    total: str
    consented: str
    fan: str  # "" = no forecast
    expected: str
    now: tuple[float, float]
    all_at: float  # the height of the roster's users


def progress(nights: Sequence[Run], outlook: Forecast | Silence) -> Progress:
    """Draw it. `nights` holds one run a day, one at least."""
    first, last = nights[0].started.date(), nights[-1].started.date()
    path = outlook.path if isinstance(outlook, Forecast) and outlook.ended else ()
    end = max(last + timedelta(days=len(path) - 1) if path else last, first + timedelta(days=7))
    top = _nice(max(max(run.users or 0, run.consented or 0) for run in nights))
    days = (end - first).days

    def x(day: date) -> float:
        return round(_LEFT + (day - first).days / days * (WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - value / top * (HEIGHT - _TOP - _BOTTOM), 1)

    ahead = [x(last + timedelta(days=number)) for number in range(len(path))]
    expected = [(at, y(each.middle)) for at, each in zip(ahead, path, strict=True)]
    fan = [(at, y(each.high)) for at, each in zip(ahead, path, strict=True)]
    fan += reversed([(at, y(each.low)) for at, each in zip(ahead, path, strict=True)])
    return Progress(
        x=[Tick(x(day), f"{day:%-d %b}") for day in _days(first, end)],
        y=[Tick(y(value), _short(value)) for value in (0, top / 2, top)],
        total=_line([(x(run.started.date()), y(run.users)) for run in nights if run.users is not None]),
        consented=_line([(x(run.started.date()), y(run.consented or 0)) for run in nights]),
        fan=f"{_line(fan)}Z" if path else "",
        expected=_line(expected),
        now=(x(last), y(nights[-1].consented or 0)),
        all_at=y(nights[-1].users or 0),
    )


def _line(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) if points else ""


def _nice(value: float) -> float:
    """The least round number that is not below."""
    power = 10.0 ** int(log10(value)) if value >= 1 else 1.0
    return next(step * power for step in _STEPS if step * power >= value)


def _days(first: date, end: date) -> list[date]:
    """A few days from the first to the last, evenly."""
    span = (end - first).days
    return [first + timedelta(days=round(span * part / 4)) for part in range(5)]


_THOUSAND = 1000


def _short(value: float) -> str:
    return f"{value / _THOUSAND:g}k" if value >= 10 * _THOUSAND else f"{value:,g}"
