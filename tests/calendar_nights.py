"""Nights by the calendar: starts as Debian's cron makes them, each a process of its own that libfaketime tells the time."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from email import message_from_string
from email.policy import default
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from campaign.sandbox import TokenRequest
from tests.commands import command
from tests.fakes import Accepted, Relay
from tests.world import World, user_id

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
EARLY = timedelta(hours=6)  # by which a reminder may come early
MONTHS = ("", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


# --- cron


@dataclass(frozen=True, slots=True)
class Job:
    """A line of a crontab, read as crontab(5) says."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # Sunday is 0
    either: bool  # days of the month and of the week are both given: one of them suffices
    wild: bool  # minute or hour is `*`: then it is not caught up with, and not held back, when the clock is changed
    command: str
    stdin: str = ""

    @classmethod
    def of(cls, line: str) -> "Job":
        """Five fields and a command, which ends at the first `%` that no backslash stands before: the rest is its input."""
        *fields, rest = line.split(None, 5)
        minutes, hours, days, months, weekdays = fields
        command, *stdin = re.split(r"(?<!\\)%", rest.strip())
        return cls(
            _values(minutes, 0, 59),
            _values(hours, 0, 23),
            _values(days, 1, 31),
            _values(months, 1, 12, MONTHS),
            frozenset(number % 7 for number in _values(weekdays, 0, 7, WEEKDAYS)),
            either=not (days.startswith("*") or weekdays.startswith("*")),
            wild=minutes.startswith("*") or hours.startswith("*"),
            command=command.replace(r"\%", "%"),
            stdin="\n".join(stdin),
        )

    def runs_on(self, day: date) -> bool:
        """Whether it starts on this day at all."""
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (of_month or of_week if self.either else of_month and of_week)

    def starts(self, first: date, last: date, zone: ZoneInfo) -> list[datetime]:
        """Every start from the first day to the last, by the clock on the wall, which may be changed in between.

        As cron(8) has it on Debian: what falls into an hour that is left out starts right after it, what falls into an hour
        that comes twice starts in the first; but a job with `*` as minute or hour goes by the clock as it shows.
        """
        days = (first + DAY * n for n in range((last - first).days + 1))
        on_the_wall = (
            datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
            for day in days
            if self.runs_on(day)
            for hour in sorted(self.hours)
            for minute in sorted(self.minutes)
        )
        return sorted({start for wall in on_the_wall for start in self._instants(wall, zone)})

    def _instants(self, wall: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        instant = wall.astimezone(UTC)
        if instant.astimezone(zone).replace(tzinfo=None) != wall.replace(tzinfo=None):
            if not self.wild:
                yield _right_after_the_change(instant, zone)
            return
        yield instant
        if self.wild:
            yield wall.replace(fold=1).astimezone(UTC)


def _right_after_the_change(instant: datetime, zone: ZoneInfo) -> datetime:
    offset = instant.astimezone(zone).utcoffset()
    while (instant - MINUTE).astimezone(zone).utcoffset() == offset:
        instant -= MINUTE
    return instant


def _values(text: str, lowest: int, highest: int, names: Sequence[str] = ()) -> frozenset[int]:
    """What one field stands for: `*`, numbers or names, ranges, steps, lists."""
    found = set[int]()
    for part in text.lower().split(","):
        span, _, step = part.partition("/")
        low, _, high = (f"{lowest}-{highest}" if span == "*" else span).partition("-")
        begin, end = (names.index(word) if word in names else int(word) for word in (low, high or low))
        assert lowest <= begin <= end <= highest, f"{text} is outside {lowest}-{highest}"
        found.update(range(begin, end + 1, int(step or 1)))
    return frozenset(found)


# --- processes that are told the time


@cache
def faketime() -> Path:
    """libfaketime, for programs with threads. Skips without it, except where nothing may be skipped."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if found:
        return found[0]
    if os.environ.get("CI") == "true":
        pytest.fail("libfaketime is missing")
    pytest.skip("libfaketime is missing")


def started(line: str, home: Path, seconds_ahead: int, zone: str) -> subprocess.Popen[str]:
    """Start a command as cron does: by /bin/sh in the home folder, with cron's bare environment and no locale.

    libfaketime adds the seconds to the clock that is asked for the time of day; waits and deadlines go by another clock. TZ
    stands for the machine's /etc/localtime.
    """
    bare = {"HOME": str(home), "LOGNAME": "campaign", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
    told = {"LD_PRELOAD": str(faketime()), "FAKETIME": f"{seconds_ahead:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "TZ": zone}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        ["/bin/sh", "-c", line],
        cwd=home,
        env={**bare, **told},
        stdin=subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """How it ended, and what it printed on stdout and stderr."""
    with process:
        out, err = process.communicate(timeout=60)
    for left in (f"faketime_shm_{process.pid}", f"sem.faketime_sem_{process.pid}"):  # the shell leaves without clearing it away
        Path("/dev/shm", left).unlink(missing_ok=True)  # noqa: S108  # where glibc keeps shared memory
    return process.returncode, out, err


# --- the world that the nights meet


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that the relay took."""

    at: datetime
    recipient: str
    person: str  # the name in `To`
    message_id: str

    @classmethod
    def of(cls, at: datetime, message: Accepted) -> "Arrival":
        head = message_from_string(message.data, policy=default)
        return cls(at, message.recipient, head["To"].addresses[0].display_name, head["Message-ID"])

    @property
    def step(self) -> int:
        """The so-many-th message to this user, as the campaign counts."""
        return int(self.message_id.split(".")[1])


class TimedRelay(Relay):
    """Knows when each message came, and can be out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[Arrival] = []
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def take(self, message: Accepted) -> None:
        self.arrivals.append(Arrival.of(self.clock(), message))
        super().take(message)

    @contextmanager
    def out_of_order(self) -> Iterator[None]:
        """Refuse every connection for a while; the port stays ours."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        try:
            yield
        finally:
            self._listener.listen(64)
            self._thread = threading.Thread(target=self._listen)
            self._thread.start()


@dataclass(frozen=True, slots=True)
class Run:
    """One process: when it started by the true clock, who was in the roster, and what came of it."""

    at: datetime
    roster: tuple[str, ...]
    code: int
    out: str
    err: str
    arrivals: list[Arrival]
    answers: list[TokenRequest]
    refused: set[str]  # recipients


class Machine(World):
    """A machine in its time zone, with a campaign in one folder and HOME in another; Docusign and relay have the true time."""

    def __init__(self, folder: Path, zone: ZoneInfo, keys: dict[str, dict[str, object]], holidays: Collection[date] = ()) -> None:
        self.post = TimedRelay()
        super().__init__(folder / "campaign", keys={name: dict(table) for name, table in keys.items()}, relay=self.post)
        self.zone, self.holidays = zone, holidays
        self.home = folder / "home"
        self.ahead = 0  # seconds, of the true time before the time of the machine that plays all this
        self.post.clock = self.clock
        self.people: dict[int, tuple[str, str]] = {}  # by number: name and address, as the roster has them
        self.dead: set[str] = set()  # addresses that the relay refuses

    def clock(self) -> datetime:
        """The true time."""
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def crontab(self) -> Job:
        """The line that `campaign init` writes."""
        self.home.mkdir()
        self.config()
        file = self.folder / "campaign.toml"
        holidays = f"[policy]\nholidays = [{', '.join(map(str, self.holidays))}]\n"
        file.write_text(file.read_text(encoding="utf-8").replace("[policy]\n", holidays), encoding="utf-8")
        laid_out = command("init", self.folder)
        assert laid_out.exit_code == 0, laid_out.stderr
        lines = (self.folder / "crontab").read_text(encoding="utf-8").splitlines()
        (line,) = (line for line in lines if line and not line.startswith("#"))
        return Job.of(line)

    def run(self, line: str, at: datetime, wrong: timedelta = timedelta(0), kill_after: int = 0) -> Run:
        """One process at a true time, on a clock that may be wrong; it may be killed when the relay took so many messages."""
        self.ahead = round((at - datetime.now(UTC)).total_seconds())
        self.now = at
        self.roster([{"user_id": user_id(n), "name": name, "email": email} for n, (name, email) in self.people.items()])
        for address in self.dead:
            self.post.at("RCPT", "550 5.1.1 no such user", recipient=address)
        mailed, asked, said = len(self.post.arrivals), len(self.accounts.requests), len(self.post.commands)
        process = started(line, self.home, self.ahead + round(wrong.total_seconds()), self.zone.key)
        if kill_after:
            self._kill(process, mailed + kill_after)
        code, out, err = ended(process)
        self.post.heal()
        roster = tuple(user_id(number) for number in self.people)
        refused = {a for a in self.dead for _, line in self.post.commands[said:] if line.startswith(f"RCPT TO:<{a}>")}
        arrivals, answers = self.post.arrivals[mailed:], self.accounts.requests[asked:]
        return Run(at.astimezone(self.zone), roster, code, out, err, arrivals, answers, refused)

    def _kill(self, process: subprocess.Popen[str], arrivals: int) -> None:
        """SIGKILL for all of it once so many messages came: the last one's sender has no answer yet."""
        deadline = time.monotonic() + 30
        while len(self.post.arrivals) < arrivals:
            assert process.poll() is None, "it ended too soon"
            assert time.monotonic() < deadline, "it never mailed"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)


# --- who judges them


@dataclass(frozen=True, slots=True)
class Terms:
    """What the configuration promises."""

    remind: tuple[int, ...]
    per_run: int
    per_day: int
    weekdays: Collection[int]
    hours: range
    holidays: Collection[date]


@dataclass(slots=True)
class Judge:
    """Asserts after each process what was promised, from what the relay took and Docusign answered."""

    terms: Terms
    names: dict[str, str] = field(default_factory=dict)  # user ids by name, of everybody ever in the roster
    remembered: list[Arrival] = field(default_factory=list)
    forgotten: list[Arrival] = field(default_factory=list)  # of which a restored ledger knows nothing
    answers: dict[str, str] = field(default_factory=dict)  # the last that was one, by user id
    news: bool = False  # something new needs a person, since the last run that ended

    def judge(self, run: Run) -> None:
        """Raise AssertionError where a promise was broken."""
        self.remembered += run.arrivals
        self._news(run)
        self._only_who_lacks_consent(run)
        self._no_slot_twice()
        self._spacing()
        self._when_and_how_many(run)

    def forget_since(self, instant: datetime) -> None:
        """From now on the ledger is a copy from that instant.

        What is promised is what a ledger can know: nobody is mailed until a person has adopted the copy and approved a night;
        then a message that it does not know of may come again, once, and counts neither for caps nor for the pause. All else
        holds.
        """
        self.forgotten += [arrival for arrival in self.remembered if arrival.at >= instant]
        self.remembered = [arrival for arrival in self.remembered if arrival.at < instant]

    def expects(self) -> int:
        """The exit code of a run that nothing kept from its end; then the news are told."""
        code, self.news = (3 if self.news else 0), False
        return code

    def _news(self, run: Run) -> None:
        for user, answer in _meanings(run):
            self.news |= (self.answers.get(user), answer) == ("granted", "consent_required") and user in run.roster
            self.answers[user] = answer if answer != "unknown" else self.answers.get(user, "")
        self.news |= bool(run.refused) or run.code == -signal.SIGKILL

    def _only_who_lacks_consent(self, run: Run) -> None:
        lacking = {user for user, answer in _meanings(run) if answer == "consent_required"}
        wrongly = [arrival for arrival in run.arrivals if self.names[arrival.person] not in lacking & {*run.roster}]
        assert not wrongly, f"mailed without consent_required in this run: {wrongly}"

    def _no_slot_twice(self) -> None:
        everything = [*self.remembered, *self.forgotten]
        assert len({arrival.message_id for arrival in everything}) == len(everything), "a message came twice"
        for some in (self.remembered, self.forgotten):
            twice = [slot for slot, count in Counter((a.person, a.step) for a in some).items() if count > 1]
            assert not twice, f"two messages for the slots {twice}"
        beyond = [arrival for arrival in everything if arrival.step > 1 + len(self.terms.remind)]
        assert not beyond, f"more messages than anybody may get: {beyond}"

    def _spacing(self) -> None:
        last: dict[str, datetime] = {}
        for arrival in self.remembered:
            pause = arrival.at - last.get(arrival.recipient, arrival.at - 100 * DAY)
            assert pause >= self.terms.remind[0] * DAY - EARLY, f"{arrival} came {pause} after the one before"
            last[arrival.recipient] = arrival.at

    def _when_and_how_many(self, run: Run) -> None:
        zone, terms = run.at.tzinfo, self.terms
        for arrival in run.arrivals:
            local = arrival.at.astimezone(zone)
            fine = local.weekday() in terms.weekdays and local.hour in terms.hours and local.date() not in terms.holidays
            assert fine, f"{arrival} came at {local}"
            day = [a for a in (*self.remembered, *self.forgotten) if arrival.at - DAY + MINUTE < a.at <= arrival.at]
            assert len(day) <= terms.per_day, f"{len(day)} messages within a day before {local}"
        assert len(run.arrivals) <= terms.per_run, f"{len(run.arrivals)} messages in one run"

    def overdue(self, people: dict[int, str], now: datetime) -> list[str]:
        """Who should have been mailed by now and was not: people who may be mailed, number and name."""
        late = []
        for name in people.values():
            got = [arrival for arrival in self.remembered if arrival.person == name]
            left = self.terms.remind[got[-1].step - 1 :] if got else (0,)  # a refused message has used up its slot, too
            since = got[-1].at if got else datetime.min.replace(tzinfo=UTC)
            if left and now >= since + left[0] * DAY:
                late.append(f"{name}: {len(got)} messages, the last at {since}")
        return late


def _meanings(run: Run) -> Iterator[tuple[str, str]]:
    """What Docusign answered in this run, in its order: user id, and granted, consent_required or unknown."""
    for request in run.answers:
        lacking = request.status == 400 and json.loads(request.body).get("error") == "consent_required"
        yield request.user_id, "granted" if request.status == 200 else "consent_required" if lacking else "unknown"


def report_is_whole(machine: Machine, run: Run, remembered: list[Arrival]) -> None:
    """Assert that report.csv shows everybody of tonight's roster, in its order, with the messages that the relay took."""
    with (machine.folder / "reports" / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    counts = Counter(arrival.person for arrival in remembered)
    wrong = {row["name"]: row["messages"] for row in rows if row["messages"] != str(counts[row["name"]])}

    assert tuple(row["user_id"] for row in rows) == run.roster, "the report does not show tonight's roster"
    assert not wrong, f"the report counts other messages than the relay: {wrong}"
    assert all(row["reason"] and None not in row for row in rows), "the report is not whole"
