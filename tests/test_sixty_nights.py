"""Sixty nights and three, from the crontab that `campaign init` writes: each start is a process of its own under libfaketime.

The machine is in Berlin, and so are its campaign's hours. Nearly everything goes wrong once.
"""

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest

from campaign.sandbox import DROPPED, CannedAnswer, json_answer
from tests.calendar_nights import DAY, Job, Judge, Machine, Run, Terms, report_is_whole
from tests.world import CLIENT_ID, user_id

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
FIRST, LAST = date(2027, 2, 22), date(2027, 4, 25)
SCHEDULES = ("15 9 * * *", "45 12 * * tue", "5 15 9,23 * *", "30 2 28 * *")  # on 28 March there is no 02:30
HOLIDAYS = (date(2027, 3, 26), date(2027, 3, 29))
MACHINE_OFF = range(15, 22)  # of March
TERMS = Terms(remind=(3, 7, 14), per_run=8, per_day=15, weekdays=range(5), hours=range(8, 18), holidays=HOLIDAYS)
KEYS: dict[str, dict[str, object]] = {
    "docusign": {"verify_granted_days": 1},
    "mail": {"per_day": TERMS.per_day},
    "policy": {
        "remind_after_days": TERMS.remind,
        "max_per_run": TERMS.per_run,
        "timezone": BERLIN.key,
        "days": ("mon", "tue", "wed", "thu", "fri"),
        "hours": "08:00-18:00",
    },
}
GIVEN = ("Zoë", "山田", "Amélie", "José", "Nguyễn", "Łukasz", "Ann", "Øyvind", "Žofia", "Bob")
FAMILY = ("Müller", "花子", "O'Neil", "García", "Brandt", "Smith", "Åkesson")
DOMAINS = ("example.com", "example.org", "partner.example.net")
LACKING = json_answer(400, error="consent_required")

# Who comes, goes and changes, on the morning of a day.
AT_FIRST = range(1, 35)
SHARED = {7, 8}  # have one address between them
MOVES = {"03-10": 5, "03-25": 12}  # the first from an address that the relay refuses
DEAD = {5: "gone@example.org", 6: "nobody@example.com"}
JOIN = {
    "03-03": (35, 36),
    "03-04": (37, 48),
    "03-09": (38, 39),
    "03-11": (40,),
    "03-12": (41,),
    "03-22": (42,),
    "03-24": (43,),
    "04-06": (44, 45, 46),
    "04-12": (50,),
    "04-14": (47,),
    "04-19": (49,),
}
LEAVE = {"03-02": (10, 11, 13)}
RETURN = {"03-30": (10, 11, 13)}
REVOKE = {"03-04": 2, "03-30": 1}  # so many of those who have consented


def email(number: int) -> str:
    return "shared@example.com" if number in SHARED else f"person{number}@{DOMAINS[number % 3]}"


def name(number: int) -> str:
    return f"{GIVEN[number % 10]} {FAMILY[number % 7]}"


# --- what goes wrong

During = Callable[["Story"], AbstractContextManager[object]]


@contextmanager
def relay_is_down(story: "Story") -> Iterator[None]:
    with story.machine.post.out_of_order():
        yield


@contextmanager
def relay_defers_everybody(story: "Story") -> Iterator[None]:
    post = story.machine.post
    post.at("RCPT", "421 4.3.2 Service not available", message=post.messages + 1)
    post.at("RCPT", "451 4.7.1 try again later")
    yield


@contextmanager
def relay_is_slow(story: "Story") -> Iterator[None]:
    story.machine.post.at("dot", "delay 2", message=story.machine.post.messages + 2)
    yield


@contextmanager
def everybody_is_answered(answer: CannedAnswer, story: "Story") -> Iterator[None]:
    faults = story.machine.accounts.faults
    faults.answer_all = answer
    yield
    faults.answer_all = None


@contextmanager
def all_but_the_canary_lack_consent(story: "Story") -> Iterator[None]:
    faults = story.machine.accounts.faults
    faults.answers = {user_id(number): LACKING for number in story.machine.people}
    yield
    faults.answers = {}


@contextmanager
def stop_file(story: "Story") -> Iterator[None]:
    (story.machine.folder / "STOP").touch()
    yield
    (story.machine.folder / "STOP").unlink()


@contextmanager
def half_a_roster(story: "Story") -> Iterator[None]:
    whole = story.machine.people
    story.machine.people = {number: about for number, about in whole.items() if number % 2}
    yield
    story.machine.people = whole


@dataclass(frozen=True, slots=True)
class Event:
    """What a day, or one start of it, has in store, how a process must end then, and what it must say."""

    what: str
    code: int | None = None  # None: as if nothing were
    says: str = ""  # a regular expression
    during: During = lambda _: nullcontext()
    wrong: timedelta = timedelta(0)  # the machine's clock
    kill_after: int = 0  # messages


RESTORED = Event("the ledger is a copy of 5 April", 6, "is not the last one: .*campaign adopt")
ALMANAC = {
    "02-22": Event("the first night: nobody has approved it", 4, r"guard first_run: .*campaign run --approve \d+"),
    "03-03": Event("the relay refuses connections", 5, "cannot be reached", relay_is_down),
    "03-04": Event("the relay defers everybody", 5, "deferred 3 messages in a row", relay_defers_everybody),
    "03-09 09:15": Event("killed after the second message", -9, during=relay_is_slow, kill_after=2),
    "03-09 12:45": Event("after the kill", 3, "new: .* may or may not have arrived"),
    "03-11": Event("Docusign: all lack consent", 4, "guard canary", partial(everybody_is_answered, LACKING)),
    "03-12": Event("Docusign: all but the canary lack it", 4, "guard regressions", all_but_the_canary_lack_consent),
    "03-14": Event("summer time in New York"),
    "03-22": Event("after a week without the machine"),
    "03-24": Event("Docusign is down", 5, "no usable answer", partial(everybody_is_answered, DROPPED)),
    "03-26": Event("Good Friday"),
    "03-28": Event("summer time in Berlin"),
    "03-29": Event("Easter Monday"),
    "04-01": Event("the clock is a year behind", 4, "guard clock", wrong=-365 * DAY),
    "04-02": Event("the clock is a year ahead", 4, "guard clock", wrong=365 * DAY),
    **dict.fromkeys(("04-08", "04-09", "04-10", "04-11"), RESTORED),
    "04-12": Event("adopted, not approved", 4, r"guard first_run: .*campaign run --approve \d+"),
    **dict.fromkeys(("04-14", "04-15"), Event("a STOP file", 4, "STOP exists", stop_file)),
    "04-19": Event("half a roster", 4, "guard roster_change", half_a_roster),
}
APPROVED = "as it was printed"
BY_HAND = {"02-23 08:30": APPROVED, "04-12 08:40": "adopt --yes", "04-12 10:00": APPROVED}
COPIED, RESTORED_ON = "04-05", "04-08"


def _luck(of_what: str) -> Random:
    return Random(f"{of_what} 63")  # noqa: S311  # luck, not secrecy


# --- the story


@dataclass(slots=True)
class Story:
    """The machine and its people, from day to day."""

    machine: Machine
    job: Job
    judge: Judge = field(default_factory=lambda: Judge(TERMS))
    errors: str = ""  # of the last process
    report: bytes = b""  # the last that was written
    copied: datetime | None = None

    def tell(self) -> None:
        """Live through all days, to the end."""
        self._come(*AT_FIRST)
        self.machine.dead = {*DEAD.values()}
        day = ""
        for start, order in self._starts():
            if f"{start:%m-%d}" != day:
                day = f"{start:%m-%d}"
                self._morning(day)
            self._process(start, order)

    def _starts(self) -> list[tuple[datetime, str]]:
        """When a process starts, and what a person orders then, nothing where it is cron."""
        jobs = (Job.of(f"{schedule} {self.job.command}") for schedule in SCHEDULES)
        due = (start.astimezone(BERLIN) for job in jobs for start in job.starts(FIRST, LAST, BERLIN))
        by_cron = [(start, "") for start in due if start.month != 3 or start.day not in MACHINE_OFF]
        by_hand = [(datetime.fromisoformat(f"2027-{at}").replace(tzinfo=BERLIN), order) for at, order in BY_HAND.items()]
        return sorted([*by_cron, *by_hand])

    # people

    def _come(self, *numbers: int) -> None:
        for number in numbers:
            self.machine.people[number] = (name(number), DEAD.get(number) or email(number))
            self.judge.names[name(number)] = user_id(number)

    def _morning(self, day: str) -> None:
        people = self.machine.people
        self._come(*JOIN.get(day, ()), *RETURN.get(day, ()))
        for number in LEAVE.get(day, ()):
            del people[number]
        if moved := MOVES.get(day):
            people[moved] = (name(moved), f"new.{email(moved)}")
        for _ in range(REVOKE.get(day, 0)):
            self.machine.revoke(_luck(day).choice([number for number in people if self._has_consented(number)]))
        if day == RESTORED_ON:
            shutil.copyfile(self._copy, self._ledger)
            assert self.copied
            self.judge.forget_since(self.copied)

    def _has_consented(self, number: int) -> bool:
        return bool(self.machine.accounts.consented(user_id(number), CLIENT_ID))

    def _answer_mail(self, run: Run) -> None:
        """A third of those who were written to accept before the next run; who does, does not depend on their order."""
        for arrival in run.arrivals:
            if _luck(f"{arrival.person} {arrival.step}").random() < 0.3:
                self.machine.consent(self.judge.names[arrival.person])

    # processes

    def _process(self, start: datetime, order: str) -> None:
        event = self._event(start) if not order else Event("")
        words = self._as_printed() if order is APPROVED else order
        with event.during(self):
            run = self.machine.run(self._line(words), start, event.wrong, event.kill_after)
        self.errors = run.err
        _show(f"by hand: {words}" if order else event.what, run)
        self._judge(event, run, may_speak=order.startswith("adopt"))
        self._answer_mail(run)
        if f"{start:%m-%d}" == COPIED:
            shutil.copyfile(self._ledger, self._copy)
            self.copied = self.machine.clock()

    def _as_printed(self) -> str:
        """The approval that the last process asked for."""
        found = re.search(r"campaign (run --approve \d+)", self.errors)
        assert found, self.errors
        return found[1]

    def _line(self, order: str) -> str:
        """The command of the crontab, or the same with other words."""
        program, _, *options = shlex.split(self.job.command)
        return shlex.join([program, *order.split(), *options]) if order else self.job.command

    def _event(self, start: datetime) -> Event:
        return ALMANAC.get(f"{start:%m-%d %H:%M}") or ALMANAC.get(f"{start:%m-%d}") or Event("")

    def _judge(self, event: Event, run: Run, *, may_speak: bool) -> None:
        self.judge.judge(run)
        came_to_its_end = run.code in {0, 3, 4, 5} and "guard clock" not in run.err
        usual = self.judge.expects() if came_to_its_end else None

        assert run.code == (usual if event.code is None else event.code), run.err
        assert re.search(event.says, run.err, re.DOTALL), run.err
        assert may_speak or not run.out
        assert bool(run.err) == (run.code not in {0, -9})
        assert run.code in {0, 3, -9} or not run.arrivals
        if came_to_its_end and not may_speak:
            report_is_whole(self.machine, run, self.judge.remembered)
            self.report = self._report.read_bytes()
        assert self._report.read_bytes() == self.report

    @property
    def _report(self) -> Path:
        return self.machine.folder / "reports" / "report.csv"

    @property
    def _ledger(self) -> Path:
        return self.machine.folder / "ledger.sqlite3"

    @property
    def _copy(self) -> Path:
        return self.machine.home / "ledger-of-5-april"

    # in the end

    def nobody_was_lost(self) -> None:
        """Assert that everybody who still lacks consent got every message that was due by the last Friday, and nobody too few."""
        lacking = {number for number in self.machine.people if not self._has_consented(number)}
        reachable = {number: name(number) for number in lacking if self.machine.people[number][1] not in self.machine.dead}
        friday = datetime(2027, 4, 23, 9, 15, tzinfo=BERLIN)
        got = {person: sum(arrival.person == person for arrival in self.judge.remembered) for person in reachable.values()}

        assert self.judge.overdue({n: who for n, who in reachable.items() if n not in SHARED}, friday) == []
        assert all(got.values())
        assert sum(count == 1 + len(TERMS.remind) for count in got.values()) >= 5
        assert {name(number) for number in DEAD if number not in MOVES.values()}.isdisjoint(
            a.person for a in self.judge.remembered
        )


@pytest.mark.promise(1, 4, 6, 9, 10)
@pytest.mark.case(22)
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_sixty_nights_from_a_crontab_double_and_lose_no_message(quick_path: Path) -> None:
    with Machine(quick_path, BERLIN, KEYS, HOLIDAYS) as machine:
        story = Story(machine, machine.crontab())
        story.tell()

        story.nobody_was_lost()


def _show(what: str, run: Run) -> None:
    """One line for each process, shown by -rP; below it what else it printed."""
    first, *others = [*(run.err + run.out).splitlines(), ""]
    told = f"{run.at:%a %Y-%m-%d %H:%M %z}  {what:<42}  exit {run.code:>2}  sent {len(run.arrivals):>2}  {first}"
    print(told.rstrip(), *(f"    {line}" for line in others if line), sep="\n")  # noqa: T201


# --- a few nights, and cron itself


@pytest.mark.parametrize(
    ("zone", "first", "hour", "starts"),
    [
        (BERLIN, date(2027, 3, 27), 2, ("27T01:30", "28T01:00", "29T00:30")),  # right after the hour left out
        # Where 02:30 or 01:30 comes twice: in the first.
        pytest.param(BERLIN, date(2027, 10, 30), 2, ("30T00:30", "31T00:30", "01T01:30"), marks=pytest.mark.long),
        pytest.param(NEW_YORK, date(2027, 3, 13), 2, ("13T07:30", "14T07:00", "15T06:30"), marks=pytest.mark.long),
        pytest.param(NEW_YORK, date(2027, 11, 6), 1, ("06T05:30", "07T05:30", "08T06:30"), marks=pytest.mark.long),
    ],
)
def test_three_nights_across_a_change_of_the_clock_send_everybody_one_message_each(
    zone: ZoneInfo, first: date, hour: int, starts: tuple[str, ...], quick_path: Path
) -> None:
    keys: dict[str, dict[str, object]] = {"policy": {"remind_after_days": (1, 1), "timezone": zone.key}}
    with Machine(quick_path, zone, keys) as machine:
        job = replace(machine.crontab(), minutes=frozenset({30}), hours=frozenset({hour}))
        machine.people = {1: ("Zoë", "zoe@example.com"), 2: ("山田", "yamada@example.com")}
        due = job.starts(first, first + 2 * DAY, zone)
        program, run, *options = shlex.split(job.command)
        runs = [machine.run(shlex.join([program, run, "--approve", "2", *options]), start) for start in due]

        assert tuple(f"{start:%dT%H:%M}" for start in due) == starts
        assert [(run.code, run.out, run.err) for run in runs] == 3 * [(0, "", "")]
        assert [sorted(arrival.person for arrival in run.arrivals) for run in runs] == 3 * [["Zoë", "山田"]]
        assert [{arrival.step for arrival in run.arrivals} for run in runs] == [{1}, {2}, {3}]


@pytest.mark.parametrize(
    ("line", "starts"),
    [
        ("15 9 * * *  x", ["25T08:15", "26T08:15", "27T08:15", "28T07:15", "29T07:15"]),
        ("0 9 * * mon-fri  x", ["25T08:00", "26T08:00", "29T07:00"]),
        ("0 9 26 3,4 7  x", ["26T08:00", "28T07:00"]),  # a day of the month or a day of the week
        ("0 9 26 * *  x", ["26T08:00"]),
        ("0 9 * apr *  x", []),
        ("10,50 8-10/2 27 * *  x", ["27T07:10", "27T07:50", "27T09:10", "27T09:50"]),
        ("0,30 2 28 * *  x", ["28T01:00"]),  # both are in the hour that is left out
        ("0 */8 28 * *  x", ["27T23:00", "28T06:00", "28T14:00"]),
        ("*/30 1-3 28 * *  x", ["28T00:00", "28T00:30", "28T01:00", "28T01:30"]),  # by the clock as it shows
    ],
)
def test_a_line_of_a_crontab_starts_as_on_debian(line: str, starts: list[str]) -> None:
    due = Job.of(line).starts(date(2027, 3, 25), date(2027, 3, 29), BERLIN)

    assert [f"{start:%dT%H:%M}" for start in due] == starts


def test_an_hour_that_comes_twice_starts_a_job_once_but_for_one_that_goes_by_the_clock() -> None:
    day = date(2027, 10, 31)
    fixed, wild = (Job.of(f"{fields}  x").starts(day, day, BERLIN) for fields in ("30 2 * * *", "30 * * * *"))

    assert fixed == [datetime(2027, 10, 31, 0, 30, tzinfo=UTC)]
    assert len(wild) == 25


def test_a_percent_sign_ends_the_command_of_a_crontab() -> None:
    job = Job.of(r"15 2 * * *  /opt/50\%/campaign run%one%two")

    assert (job.command, job.stdin) == ("/opt/50%/campaign run", "one\ntwo")
