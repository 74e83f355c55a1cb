"""Which figures there are, and the yardstick of each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tests.benchmarks import limits, ours, rivals
from tests.benchmarks.measuring import Sample
from tests.benchmarks.scene import FIRST, address_of

DELAY = 0.15  # seconds that an answer takes over the Atlantic
REPLY = 0.005  # seconds that a relay takes for a reply


class Work(NamedTuple):
    """Something to be measured, with what it is given besides the scene."""

    do: Callable[..., Sample]
    given: tuple[object, ...]


class Metric(NamedTuple):
    """What is looked at in a sample."""

    name: str
    unit: str
    of: Callable[[Sample], float]


CPU = Metric("processor time", "ms", lambda sample: sample.cpu_each)
THRIFT = Metric("for a second of processor time", "", lambda sample: sample.units / sample.cpu)
WALL = Metric("time", "ms", lambda sample: sample.wall_each)
RATE = Metric("rate", "/s", lambda sample: sample.rate)
SECONDS = Metric("time", "s", lambda sample: sample.wall)
PEAK = Metric("memory", "MB", lambda sample: sample.peak)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: ours beside its yardstick, and how the two should compare."""

    what: str
    metric: Metric
    ours: Work
    yardstick: Work
    named: str  # the yardstick
    at_most: float | None = None  # ours divided by the yardstick's
    at_least: float | None = None
    value_at_most: float | None = None  # ours, in the metric's unit


def figures(scale: float = 1) -> Iterator[Figure]:
    """All figures; `scale` makes the work smaller."""

    def many(count: int) -> int:
        return max(5, int(count * scale))

    yield from _probing(many)
    yield from _nights(many)
    yield from _mail(many)
    yield from _ledger(many)
    yield from _files(many)
    yield from _starting()


_Many = Callable[[int], int]


def _probing(many: _Many) -> Iterator[Figure]:
    one, wide = Work(ours.probes, (many(600), 0, 1)), Work(ours.probes, (many(600), 0, 8))
    sdk, plain = Work(rivals.sdk_probes, (many(40), 0)), Work(rivals.plain_probes, (many(600), 0))
    signing = Work(limits.signatures, (many(1500),))
    yield Figure("a probe", CPU, one, plain, "best plain loop", at_most=1.25)
    yield Figure("probes", THRIFT, one, sdk, "Docusign's SDK in a loop", at_least=30)
    yield Figure("a probe", CPU, one, signing, "limit: one RSA signature")
    yield Figure("probes, answers at once", RATE, wide, sdk, "Docusign's SDK in a loop", at_least=40)
    for concurrency, bound in ((32, 1.10), (64, 1.20)):
        users = many(40 * concurrency)
        far = Work(ours.probes, (users, DELAY, concurrency))
        limit = Work(limits.waiting, (users, DELAY, concurrency))
        yield Figure(
            f"a probe, {concurrency} at a time, answers after 150 ms", WALL, far, limit, "limit: latency ÷ concurrency", bound
        )
    slow = Work(rivals.sdk_probes, (many(10), DELAY))
    yield Figure("probes, 64 at a time, answers after 150 ms", RATE, far, slow, "Docusign's SDK in a loop", at_least=65)


def _nights(many: _Many) -> Iterator[Figure]:
    near, far = Work(ours.night, (many(4000), 0, 4)), Work(ours.night, (many(2000), 0.1, 64))
    sdk, plain = Work(rivals.sdk_night, (many(30), 0)), Work(rivals.plain_night, (many(600), 0))
    signing = Work(limits.signatures, (many(1500),))
    yield Figure("a user of a night, 30 % mailed", CPU, near, plain, "best plain loop, remembering nothing", value_at_most=2)
    yield Figure("a user of a night, 30 % mailed", CPU, near, signing, "limit: one RSA signature")
    yield Figure("users of a night, answers at once", RATE, near, sdk, "SDK loop, a connection each mail", at_least=30)
    slow = Work(rivals.sdk_night, (many(10), 0.1))
    yield Figure(
        "users of a night, 64 at a time, answers after 100 ms", RATE, far, slow, "SDK loop, a connection each mail", at_least=90
    )


def _mail(many: _Many) -> Iterator[Figure]:
    count = many(300)
    yield Figure(
        "a message composed and handed over",
        CPU,
        Work(ours.mails, (count, 0)),
        Work(rivals.plain_mails, (count, 0)),
        "jinja2, email, smtplib",
        at_most=1.3,
    )
    yield Figure(
        "a message composed", CPU, Work(ours.composing, (count,)), Work(rivals.plain_composing, (count,)), "jinja2, email"
    )
    yield Figure("a message handed over", CPU, Work(ours.hand_over, (count,)), Work(rivals.plain_hand_over, (count,)), "smtplib")
    few = many(60)
    yield Figure(
        "messages, replies at once",
        RATE,
        Work(ours.mails, (count, 0)),
        Work(rivals.mails_one_by_one, (few, 0)),
        "smtplib, a connection each",
        at_least=1,
    )
    yield Figure(
        "messages, replies after 5 ms",
        RATE,
        Work(ours.mails, (few, REPLY)),
        Work(rivals.mails_one_by_one, (few, REPLY)),
        "smtplib, a connection each",
        at_least=1.6,
    )


def _ledger(many: _Many) -> Iterator[Figure]:
    both, one = Work(ours.commits, (many(200),)), Work(limits.syncs, (many(1000),))
    yield Figure("two commits of a message", WALL, both, one, "limit: one write that is on the disk")
    yield Figure("two commits of a message", CPU, both, one, "limit: one write that is on the disk")


def _files(many: _Many) -> Iterator[Figure]:
    rows, lines, all_ = many(100_000), many(20_000), many(100_000)
    yield Figure(
        "a row of the roster", CPU, Work(ours.roster, (rows,)), Work(rivals.pandas_roster, (rows,)), "pandas, unchecked", 5
    )
    yield Figure("a row of report.csv", CPU, Work(ours.csv_report, (lines,)), Work(rivals.csv_report, (lines,)), "csv module", 2)
    yield Figure(
        "a row of report.xlsx",
        CPU,
        Work(ours.xlsx_report, (lines,)),
        Work(rivals.xlsx_report, (lines,)),
        "XlsxWriter and csv by rows",
        1.5,
    )
    quiet = Work(ours.quiet_night, (all_,))
    plain = Work(rivals.plain_quiet_night, (all_,))
    named = "pandas, csv, XlsxWriter"
    yield Figure(f"a quiet night of {all_:,} users", SECONDS, quiet, plain, named, value_at_most=10)
    yield Figure(f"a quiet night of {all_:,} users", PEAK, quiet, plain, named, value_at_most=400)


def _starting() -> Iterator[Figure]:
    typer = Work(limits.start, ("-c", "import typer"))
    for option in ("--help", "--version"):
        yield Figure(f"campaign {option}", SECONDS, _campaign(option), typer, "import typer", at_most=2.5)
    for command in (("link",), ("explain", address_of(FIRST))):
        yield Figure(f"campaign {command[0]}", SECONDS, _campaign(*command), typer, "import typer", value_at_most=0.5)


def _campaign(*words: str) -> Work:
    return Work(limits.start, ("-m", "campaign", *words))
