"""Random nights: many seeded campaigns of many nights with crashes, refusals, outages, changes of mind.

What the relay truly took, what the account server truly answered and in which order is kept in a journal. A judge that knows
nothing of the program but its promises looks at the journal, the ledger's file and the report after every run.
"""

import csv
import gc
import json
import re
import socket
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email import message_from_string
from email.policy import default
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import pytest
from sqlalchemy import Engine, event

from campaign import given, guards, handover, nightly, plan, probing, reporting
from campaign.docusign import Prober
from campaign.docusign.answers import Answer, interpret
from campaign.errors import ExitCode
from campaign.given import Means
from campaign.ledger import Ledger
from campaign.message import new_message_id
from campaign.model import Decision, Delivery, Outcome, Slot, Standing, Status, User, beyond
from campaign.night import Night
from campaign.sandbox.accounts import DROPPED, CannedAnswer, TokenRequest, json_answer
from campaign.stopping import Stop
from tests.fakes import Accepted, Relay, _Conversation
from tests.postgres_server import Keys, PostgresServer
from tests.world import CANARY, SCOPES, World, email, private_key, rows, user_id

TOLERANCE = timedelta(hours=6)  # a mail goes out some time into the night
RETRY = timedelta(hours=12)
DAY = timedelta(days=1)
REASONS = {
    *("granted", "sent", "waiting", "cap_reached", "run_full", "day_full", "outside_hours", "suppressed", "undeliverable"),
    *("unresolved", "user_not_found", "no_answer", "closed", "same_address", "domain_not_allowed", "invalid_row", "guard"),
    *("not_approved", "relay_refused", "stopped"),
}
GOOD_REASONS = {"sent", "waiting", "unresolved", "undeliverable", "cap_reached", "same_address", "run_full", "day_full"}
STATUSES = {"granted", "consent_required", "user_not_found", "unknown", "not_probed", "rejected"}
EXIT_CODES = {0, 3, 4, 5, 143}


# --- the journal: what truly happened, in its order


@dataclass(frozen=True, slots=True)
class Step:
    """The relay is about to answer at this phase."""

    phase: str
    recipient: str
    connection: int


@dataclass(frozen=True, slots=True)
class Dot:
    """A whole message has come to the relay, which answers thus; "" is the usual 250."""

    at: datetime
    recipient: str
    person: str
    message_id: str
    date: str
    answer: str

    @classmethod
    def of(cls, at: datetime, message: Accepted, answer: str) -> "Dot":
        head = message_from_string(message.data, policy=default)
        person = head["To"].addresses[0].display_name
        return cls(at, message.recipient, person, head["Message-ID"], head["Date"], answer)

    @property
    def address(self) -> str:
        return self.recipient.casefold()

    @property
    def step(self) -> int:
        return int(self.message_id.split(".")[1])

    @property
    def kept(self) -> bool:
        return not self.answer or self.answer.startswith(("store", "2"))

    @property
    def ambiguous(self) -> bool:
        """Whether the program got no readable yes or no."""
        return self.answer.removeprefix("store ")[:1] not in {"", "2", "4", "5"}

    @property
    def may_have_arrived(self) -> bool:
        return self.kept or self.ambiguous


class Telling(list[Any]):
    """A list that also tells the journal what is appended."""

    def __init__(self, journal: list[Any]) -> None:
        super().__init__()
        self.journal = journal

    def append(self, item: Any) -> None:  # whatever the list holds
        super().append(item)
        self.journal.append(item)


class WatchedRelay(Relay):
    """Does what `script` says at a phase, for one recipient or ("") for all, and tells the journal."""

    def __init__(self, journal: list[Any], clock: Callable[[], datetime]) -> None:
        super().__init__()
        self.journal, self.clock = journal, clock
        self.script: dict[tuple[str, str], str] = {}

    def action(self, phase: str, talk: _Conversation) -> str:
        action = self._scripted(phase, talk.recipient)
        self.journal.append(Step(phase, talk.recipient, talk.number))
        return f"store {action}" if phase == "dot" and action and not action.startswith("store ") else action

    def take(self, message: Accepted) -> None:
        """Come here with every whole message; keep those that the script does not lose."""
        dot = Dot.of(self.clock(), message, self._scripted("dot", message.recipient))
        self.journal.append(dot)
        if dot.kept:
            super().take(message)

    def come_to_rest(self) -> None:
        """Wait until what a dead program left on the wire has been read."""
        with socket.create_connection(("127.0.0.1", self.port)) as own:
            own.recv(1)  # connections are taken in turn: whoever came before is being served by now
        for talk in self._talks:
            talk.join(10)
        self.journal[:] = [entry for entry in self.journal if getattr(entry, "connection", 0) != self.connections]

    def _scripted(self, phase: str, recipient: str) -> str:
        return self.script.get((phase, recipient)) or self.script.get((phase, ""), "")


# --- sudden death


class Killed(BaseException):
    """The program dies here."""


@contextmanager
def dying(module: str, lines: int) -> Iterator[None]:
    """Let the program die at the so-many-th line that it executes of one of its modules.

    What is committed stays, a transaction that is open is rolled back, and nothing is written after death.
    """
    dead = False

    def line(_: FrameType, what: str, __: object) -> Any:  # a trace function
        nonlocal lines, dead
        lines -= what == "line"
        if not lines:
            dead = True
            raise Killed
        return line

    def call(frame: FrameType, _: str, __: object) -> Any:
        # The frame of the whole night holds the lock: a line of its `with` is no place to die without releasing it.
        return line if frame.f_code.co_filename.endswith(module) and frame.f_code.co_name != "run" else None

    def refuse(_: object) -> None:
        if dead:
            raise Killed

    event.listen(Engine, "begin", refuse)
    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)
        event.remove(Engine, "begin", refuse)


class Hurried(Stop):
    """Waits for nothing, so that the program's pauses take no time."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002  # the signature is Event's
        return self.is_set()


# --- one run, and who judges it


@dataclass(slots=True)
class Run:
    """What one run was given and what came of it."""

    at: datetime
    approved: int | None
    roster: list[dict[str, str]]
    scope: str  # that the configuration asks for
    stopped_at: int | None = None  # in the journal
    journal: list[Any] = field(default_factory=list)
    exit_code: int | None = None  # None: it was killed
    report: list[dict[str, str]] = field(default_factory=list)
    slots: list[dict[str, Any]] = field(default_factory=list)

    @property
    def killed(self) -> bool:
        return self.exit_code is None

    @property
    def users(self) -> set[str]:
        return {row["user_id"] for row in self.roster if "@" in row["email"] and row["status"] != "Closed"}

    @property
    def dots(self) -> list[Dot]:
        return [entry for entry in self.journal if isinstance(entry, Dot)]

    @property
    def called_relay(self) -> bool:
        return any(isinstance(entry, Step) for entry in self.journal)

    def last_answers(self, until: int | None = None) -> dict[str, str]:
        """By user id: what Docusign's last answer in this run, until then, meant."""
        return {e.user_id: meaning(e) for e in self.journal[:until] if isinstance(e, TokenRequest)}


def meaning(request: TokenRequest) -> str:
    """What the contract says of an answer."""
    if request.status == 200 and not request.body:
        return "granted"
    try:
        content = json.loads(request.body)
    except ValueError:
        return "unknown"
    if request.status == 400 and content.get("error") == "consent_required":
        return "consent_required"
    no_such_user = content.get("error_description") in {"user_not_found", "invalid_subject"}
    return "user_not_found" if request.status == 400 and no_such_user else "unknown"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a campaign's configuration promises."""

    remind: tuple[int, ...]
    per_run: int
    per_day: int
    verify: int
    error_share: float
    regressions: int
    new_lacking: int
    roster_change: float
    connections: int

    @property
    def spacing(self) -> timedelta:
        return timedelta(days=self.remind[0]) - TOLERANCE if self.remind else timedelta.max


class Judge:
    """Asserts after each run that every promise was kept, from what truly happened."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.dots: list[Dot] = []  # of all runs
        self.in_flight: set[str] = set()  # Message-IDs that came to the relay while the program died
        self.left_in_flight = False  # by the run before
        self.ever_granted: set[str] = set()
        self.baseline = Baseline(terms)

    def judge(self, run: Run) -> None:
        """Raise AssertionError with the promise's number where one was broken."""
        self.dots += run.dots
        if run.killed:
            self.in_flight |= {dot.message_id for dot in run.dots}
        self.one_message_a_slot(run)
        self.retries_are_the_same_message()
        self.consent_was_lacking(run)
        self.probing_came_first(run)
        self.guards_held(run)
        self.caps_and_spacing_held(run)
        self.nothing_after_a_stop(run)
        if not run.killed:
            self.ambiguous_are_unknown(run)
            self.ledger_knows_them_all(run)
            self.report_is_complete(run)
        self.left_in_flight = run.killed and "sending" in {slot["outcome"] for slot in run.slots}
        self.ever_granted |= {user for user, answer in run.last_answers().items() if answer == "granted"}
        self.baseline.follow(run)

    def one_message_a_slot(self, run: Run) -> None:
        arrived = [dot for dot in self.dots if dot.may_have_arrived]
        twice = [key for key, count in Counter(dot.message_id for dot in arrived).items() if count > 1]
        assert not twice, f"P1/P2: the relay got {twice} again after it had, or may have, taken it"
        slots = [key for key, count in Counter((dot.person, dot.step) for dot in arrived).items() if count > 1]
        assert not slots, f"P1: two messages for the slots {slots}"
        most = max(Counter(dot.person for dot in arrived).values(), default=0)
        assert most <= 1 + len(self.terms.remind), f"P6: {most} messages for one user"
        beyond = [dot for dot in run.dots if dot.step > 1 + len(self.terms.remind)]
        assert not beyond, f"P6: {beyond} are beyond the last reminder"
        tried = Counter(step.recipient for step in run.journal if isinstance(step, Step) and step.phase == "RCPT")
        assert max(tried.values(), default=0) <= 1, f"P1: several attempts in one run: {tried}"

    def retries_are_the_same_message(self) -> None:
        last: dict[tuple[str, int], list[Dot]] = {}
        for dot in self.dots:
            before = last.setdefault((dot.person, dot.step), [])
            if before and before[-1].answer.startswith("4"):
                same = (before[-1].message_id, before[-1].date)
                assert same == (dot.message_id, dot.date), f"P1: {dot} has another Message-ID or Date than when it was deferred"
                assert dot.at - before[-1].at >= RETRY, f"P6: {dot} was tried again too soon"
            before.append(dot)
            deferred = sum(dot.answer.startswith("4") for dot in before)
            assert deferred <= 3, f"P6: the relay deferred {dot.message_id} {deferred} times"

    def consent_was_lacking(self, run: Run) -> None:
        ids = {row["name"]: row["user_id"] for row in run.roster}
        for index, entry in enumerate(run.journal):
            if isinstance(entry, Dot):
                answer = run.last_answers(index).get(ids.get(entry.person, ""), "nothing")
                assert answer == "consent_required", f"P4: {entry.person} was mailed when Docusign had answered {answer}"

    def probing_came_first(self, run: Run) -> None:
        kinds = [type(entry) for entry in run.journal]
        first = kinds.index(Step) if Step in kinds else len(kinds)
        assert TokenRequest not in kinds[first:], "P5: somebody was probed after the relay had been called"

    def guards_held(self, run: Run) -> None:
        if not run.called_relay:
            return
        answers = run.last_answers()
        canary = answers.pop(CANARY, "nothing")
        assert canary == "granted", f"P5: mail although the canary answered {canary}"
        unknown = sum(answer == "unknown" for answer in answers.values())
        assert unknown <= self.terms.error_share * len(answers), f"P5: mail with {unknown} of {len(answers)} unanswered"
        refused = [e for e in run.journal if isinstance(e, TokenRequest) and b"issuer_not_found" in e.body]
        assert not refused, "P5: mail although Docusign refused the app"
        if run.approved is None or len(run.dots) > run.approved:
            self.baseline.lets_through(run)

    def caps_and_spacing_held(self, run: Run) -> None:
        assert len(run.dots) <= self.terms.per_run, f"P6: {len(run.dots)} messages in one run"
        arrived = [dot for dot in self.dots if dot.may_have_arrived]
        for dot in run.dots if self.terms.per_day else []:
            day = sum(dot.at - DAY < other.at <= dot.at for other in arrived)
            assert day <= self.terms.per_day, f"P6: {day} messages in 24 hours"
        self._spaced(arrived)

    def _spaced(self, arrived: list[Dot]) -> None:
        by_address: dict[str, datetime] = {}
        by_slot: dict[tuple[str, int], datetime] = {}
        for dot in arrived:
            lately = by_address.get(dot.address)
            assert lately is None or dot.at - lately >= self.terms.spacing, f"P6: {dot} came {dot.at - lately} after the last"
            before = by_slot.get((dot.person, dot.step - 1))
            pause = timedelta(days=self.terms.remind[dot.step - 2]) - TOLERANCE if dot.step > 1 else DAY
            assert before is None or dot.at - before >= pause, f"P6: the reminder {dot} came {dot.at - before} after"
            by_address[dot.address] = by_slot[dot.person, dot.step] = dot.at

    def nothing_after_a_stop(self, run: Run) -> None:
        if run.stopped_at is not None:
            late = [entry for entry in run.journal[run.stopped_at :] if isinstance(entry, Step) and entry.phase == "MAIL"]
            assert len(late) < self.terms.connections, "P5: a message was begun after the run had been told to stop"

    def ambiguous_are_unknown(self, run: Run) -> None:
        outcomes = {slot["message_id"]: slot["outcome"] for slot in run.slots}
        wrong = [dot for dot in self.dots if dot.ambiguous and outcomes.get(dot.message_id) != "unknown"]
        assert not wrong, f"P2: ambiguous, but not `unknown` in the ledger: {wrong}"
        assert run.exit_code or not self.left_in_flight, "P2: a message was lost in flight, and the next exit code is 0"
        told = {row["name"]: row for row in run.report}
        for dot in run.dots:
            if dot.ambiguous:
                assert told[dot.person]["last_outcome"] == "unknown", f"P2: {dot} is not reported unknown"
                assert run.exit_code, f"P2: {dot} is newly unknown, and the exit code is 0"

    def ledger_knows_them_all(self, run: Run) -> None:
        outcomes = {slot["message_id"]: slot["outcome"] for slot in run.slots}
        assert "sending" not in outcomes.values(), "P3: a message is still in flight in the ledger after a run"
        for dot in self.dots:
            fair = {"accepted", "unknown"} if dot.message_id in self.in_flight else {"unknown" if dot.ambiguous else "accepted"}
            if dot.may_have_arrived:
                outcome = outcomes.get(dot.message_id, "nothing")
                assert outcome in fair, f"P3: {dot} may have arrived, and the ledger says {outcome}"
        kept = {dot.message_id for dot in self.dots if dot.kept}
        invented = [key for key, outcome in outcomes.items() if outcome == "accepted" and key not in kept]
        assert not invented, f"P3: the ledger says accepted, the relay never took {invented}"

    def all_were_served(self, run: Run) -> None:
        """Assert that on an approved night on which all is well nobody is passed over without a reason."""
        lacking = {row["user_id"]: row for row in run.report if row["status"] == "consent_required" and row["reason"] != "closed"}
        reasons = Counter(row["reason"] for row in lacking.values())
        assert {*reasons} <= GOOD_REASONS, f"nobody needed to wait on a good night, but: {reasons}"
        known = {slot[key].casefold() for slot in run.slots for key in ("user_id", "recipient")} | self.ever_granted
        addresses = Counter(row["email"].casefold() for row in run.roster)
        known |= {address for address, users in addresses.items() if users > 1}
        fresh = [row for row in lacking.values() if not known & {row["user_id"], row["email"].casefold()}]
        late = [row for row in fresh if row["reason"] not in {"sent", "run_full", "day_full"}]
        assert not late, f"not mailed on a good night: {late}"

    def report_is_complete(self, run: Run) -> None:
        assert run.exit_code in EXIT_CODES, f"exit code {run.exit_code}"
        ids = [row["user_id"] for row in run.roster]
        assert [row["user_id"] for row in run.report] == ids, "the report does not hold the roster's rows"
        assert {row["reason"] for row in run.report} <= REASONS, f"reasons: {Counter(row['reason'] for row in run.report)}"
        assert {row["status"] for row in run.report} <= STATUSES, f"statuses: {Counter(row['status'] for row in run.report)}"
        mailed = {dot.person for dot in run.dots if dot.may_have_arrived}
        acted = {row["name"] for row in run.report if row["action"]}
        assert mailed <= acted, f"P3: the report does not say that {mailed - acted} were mailed"
        had = Counter(dot.person for dot in self.dots if dot.kept)
        short = [row for row in run.report if int(row["messages"]) < had[row["name"]]]
        assert not short, f"P3: the report counts fewer messages than the relay took: {short}"


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


# --- who lives through it


MODULES = {  # where the program may die, and within how many lines
    "campaign/handover.py": 200,
    "campaign/ledger/book/base.py": 200,
    "campaign/ledger/book/messages.py": 80,
    "campaign/ledger/book/people.py": 150,
    "campaign/ledger/book/runs.py": 70,
    "campaign/ledger/opening.py": 120,
    "campaign/ledger/witness.py": 25,
    "campaign/mailer/__init__.py": 250,
    "campaign/mailer/wire.py": 600,
    "campaign/nightly.py": 120,
    "campaign/probing.py": 150,
    "campaign/files.py": 60,
    "campaign/reporting.py": 100,
    "campaign/report/writing.py": 200,
}
MAILING = ["campaign/handover.py", "campaign/mailer/wire.py", "campaign/mailer/__init__.py"]
THROTTLED = CannedAnswer(429, b"", {"Retry-After": "0"})
BROKEN = CannedAnswer(500, b'{"error":"consent_required"}')
LACKING = json_answer(400, error="consent_required")
NOT_FOUND = json_answer(400, error="invalid_grant", error_description="user_not_found")
NO_APP = json_answer(400, error="invalid_grant", error_description="issuer_not_found")
FIREWALL = CannedAnswer(403, b'{"error":"forbidden"}')
SOFT = ("450 4.2.0 later", "451 4.7.1 greylisted", "421 4.3.2 bye", "drop", "garbage")
HARD = ("550 5.1.1 no such user", "550 5.2.1 disabled", "554 5.7.1 policy")
LOST = ("drop", "garbage", "store drop", "store garbage", "store 354 go on")
ILLS = {  # what may befall one recipient, by phase
    "RCPT": (*SOFT, *HARD),
    "DATA": SOFT,
    "body": ("drop",),
    "dot": (*LOST, *SOFT[:3], SOFT[0], HARD[0]),
}
DOWN = (("connect", "drop"), ("connect", "421 4.3.2 busy"), ("connect", "554 5.7.1 go away"), ("EHLO", "drop"))
REFUSING = (("MAIL", "451 4.3.0 later"), ("MAIL", "550 5.7.60 send as denied"), ("dot", "554 5.2.0 quota"), ("DATA", "drop"))


class Life:
    """A seeded campaign: its people, its luck, and its runs."""

    def __init__(self, seed: int, folder: Path, ledger: Keys) -> None:
        self.chance = Random(seed)  # noqa: S311  # luck, not secrecy
        self.journal: list[Any] = []
        self.world = World(folder, relay=WatchedRelay(self.journal, lambda: self.world.now), ledger=ledger)
        self.modules = MODULES | ({"campaign/ledger/server.py": 60} if ledger else {})
        self.relay: WatchedRelay = self.world.relay  # type: ignore[assignment]  # made one line above
        self.terms = self._terms()
        self.world.keys = self._keys()
        self.judge = Judge(self.terms)
        self.people = {number: self._row(number) for number in range(self.chance.randint(6, 15))}
        self.away: dict[int, dict[str, str]] = {}
        self.scopes: tuple[str, ...] = SCOPES
        self.runs = self.kills = 0

    def _terms(self) -> Terms:
        pick = self.chance.choice
        return Terms(
            remind=pick([(3, 7, 14), (3, 7), (1,), (2, 2, 2), (5, 3), (1, 1, 1), ()]),
            per_run=pick([3, 6, 300]),
            per_day=pick([0, 3, 5, 300]),
            verify=pick([0, 0, 2, 30]),
            error_share=pick([0.1, 0.1, 0.3, 1.0]),
            regressions=pick([0, 1, 3]),
            new_lacking=pick([2, 4, 25]),
            roster_change=pick([0.2, 0.3, 1.0]),
            connections=pick([1, 1, 3]),
        )

    def _keys(self) -> dict[str, dict[str, Any]]:
        terms = self.terms
        return {
            "policy": {"remind_after_days": terms.remind, "max_per_run": terms.per_run},
            "mail": {"per_day": terms.per_day, "connections": terms.connections},
            "docusign": {"verify_granted_days": terms.verify, "concurrency": self.chance.randint(1, 4)},
            "guards": {
                "max_error_share": terms.error_share,
                "max_regressions": terms.regressions,
                "max_new_lacking": terms.new_lacking,
                "max_roster_change": terms.roster_change,
            },
        }

    def _row(self, number: int) -> dict[str, str]:
        status = "Closed" if self.chance.random() < 0.07 else "Active"
        return {"user_id": user_id(number), "email": email(number), "name": f"Person {number}", "status": status}

    def live(self, nights: int) -> None:
        """Live through so many nights, and one more on which all is well."""
        with self.world:
            self.world.accounts.requests = Telling(self.journal)
            for night in range(nights):
                self._change_minds()
                self._meet_faults()
                where, when = self.chance.choice([*self.modules, *MAILING * 3]), self.chance.random()
                kill = (where, when) if self.chance.random() < 0.3 else None
                self._run(night, kill, self.chance.choice([None, None, None, 1000, 1000, 1000, self.chance.randint(0, 4)]))
                self.world.now += timedelta(days=self.chance.choice([0.001, 0.1, 0.2, 0.3, 0.4, 0.8, 1, 1.1, 2, 3, 5, 7]))
            self._be_well()
            self.judge.all_were_served(self._run(nights, None, 1000))

    # --- what people do

    def _change_minds(self) -> None:
        if self.chance.random() < 0.06:
            self.scopes = SCOPES if self.scopes != SCOPES else (*SCOPES, "user_read")
            self.world.keys["docusign"]["scopes"] = self.scopes
        for number in [*self.people]:
            self._change_mind(number, self.chance.random())
        for number in [*self.away]:
            if self.chance.random() < 0.3:
                self.people[number] = self.away.pop(number)
        if self.chance.random() < 0.15:
            known = len(self.people) + len(self.away)
            self.people.update((number, self._row(number)) for number in range(known, known + self.chance.choice([1, 3, 5])))
        if self.chance.random() < 0.05:
            self.away.update((number, self.people.pop(number)) for number in [*self.people][: len(self.people) // 3])
        rows = [*self.people.values()]
        if self.chance.random() < 0.1:
            rows.append({"user_id": user_id(9999), "email": "nobody at all", "name": "Nobody", "status": "Active"})
        self.rows = rows
        self.world.roster(rows)

    def _change_mind(self, number: int, luck: float) -> None:
        if luck < 0.07:
            self.world.consent(number, scopes=self.scopes)
        elif luck < 0.11:
            self.world.revoke(number)
        elif luck < 0.13 and len(self.people) > 3:
            self.away[number] = self.people.pop(number)
        elif luck < 0.16:
            self.people[number]["email"] = f"person{number}.{self.chance.randint(1, 99)}@example.com"
        elif luck < 0.18:
            self.people[number]["email"] = self.chance.choice([*self.people.values()])["email"].replace("person", "Person")

    # --- what goes wrong

    def _be_well(self) -> None:
        self.stops = "never"
        self.relay.script.clear()
        self.world.accounts.faults.answers.clear()
        self.world.accounts.faults.answer_all = None
        self.world.consent(CANARY, scopes=self.scopes)
        (self.world.folder / "STOP").unlink(missing_ok=True)

    def _meet_faults(self) -> None:
        self._be_well()
        if self.chance.random() < 0.3:
            self.chance.choice([*[self._some_unanswered] * 2, self._all_alike, self._all_but_the_canary, self._canary_lost])()
        if self.chance.random() < 0.6:
            self.chance.choice([*[self._some_refused] * 5, self._relay_ill])()
        self.stops = self.chance.choice([*["never"] * 5, "probing", "mailing"])

    def _some_unanswered(self) -> None:
        for row in self.rows:
            if self.chance.random() < self.chance.choice([0.1, 0.3]):
                answer = self.chance.choice([BROKEN, THROTTLED, DROPPED, FIREWALL, NOT_FOUND])
                self.world.accounts.faults.answers[row["user_id"]] = answer
        if self.chance.random() < 0.15:
            self.world.accounts.faults.answers[self.chance.choice(self.rows)["user_id"]] = NO_APP

    def _all_alike(self) -> None:
        self.world.accounts.faults.answer_all = self.chance.choice([BROKEN, THROTTLED, DROPPED, LACKING, LACKING, NO_APP])

    def _all_but_the_canary(self) -> None:
        answer = self.chance.choice([LACKING, LACKING, BROKEN])
        self.world.accounts.faults.answers.update({row["user_id"]: answer for row in self.rows})

    def _canary_lost(self) -> None:
        self.world.revoke(CANARY)

    def _some_refused(self) -> None:
        for row in self.rows:
            if self.chance.random() < 0.4:
                phase = self.chance.choice([*ILLS, *["dot"] * 4])
                self.relay.script[phase, row["email"]] = self.chance.choice(ILLS[phase])

    def _relay_ill(self) -> None:
        phase, action = self.chance.choice([*DOWN, *REFUSING])
        self.relay.script[phase, ""] = action

    # --- a run

    def _run(self, night: int, kill: tuple[str, float] | None, approved: int | None) -> Run:
        self.runs += 1
        run = Run(self.world.now, approved, [dict(row) for row in self.rows], " ".join(self.scopes))
        begun = len(self.journal)
        stop = Hurried()
        means = Means(lambda: self.world.now, stop, {}, self._progress(run, begun, stop), waits=self.world.waits)
        if kill:
            self._run_and_die(run, means, kill)
        else:
            run.exit_code = nightly.run(self.world.config(), means, approved).exit_code
        self.relay.come_to_rest()
        run.journal = self.journal[begun:]
        run.slots = self._ledger()
        run.report = [] if run.killed else self._report()
        try:
            self.judge.judge(run)
        except AssertionError as broken:
            raise AssertionError(f"run {night} {'(killed)' if run.killed else ''} {self.terms}: {broken}") from None
        return run

    def _run_and_die(self, run: Run, means: Means, kill: tuple[str, float]) -> None:
        module, share = kill
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the dead do not tidy up
            gc.freeze()  # so that only what the dead leave is looked through
            try:
                with dying(module, 1 + int(share * self.modules[module])):
                    run.exit_code = nightly.run(self.world.config(), means, run.approved).exit_code
            except Killed:
                self.kills += 1
            gc.collect()
            gc.unfreeze()

    def _progress(self, run: Run, begun: int, stop: Stop) -> Callable[[str, int, int], None]:
        """Let time pass between messages, and now and then stop the run."""
        after, by_file = self.chance.randint(1, 4), self.chance.random() < 0.5
        pause = timedelta(seconds=self.chance.choice([0, 3, 200]))

        def progress(stage: str, done: int, _: int) -> None:
            self.world.now += pause if stage == "mailing" else timedelta(0)
            if stage == self.stops and done == after:
                run.stopped_at = len(self.journal) - begun
                (self.world.folder / "STOP").touch() if by_file else stop.ask(ExitCode.SIGTERM)

        return progress

    def _ledger(self) -> list[dict[str, Any]]:
        return rows(self.world.config(), "slots")

    def _report(self) -> list[dict[str, str]]:
        file = self.world.folder / "reports" / "report.csv"
        return [*csv.DictReader(file.read_text(encoding="utf-8").splitlines())] if file.exists() else []


def live(seed: int, folder: Path, ledger: Keys | None = None) -> Life:
    """Let one campaign live; a broken promise names its seed."""
    life = Life(seed, folder, ledger or {})
    try:
        life.live(life.chance.randint(12, 20))
    except AssertionError as broken:
        raise AssertionError(f"seed {seed}, {broken}") from None
    return life


@pytest.fixture(autouse=True)
def _what_only_takes_time_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "load_key", lambda _: private_key())  # reading it takes longer than the rest of a night


@pytest.mark.promise(1, 2, 3, 4, 5, 6, 8, 19)
@pytest.mark.parametrize("seed", range(4))
def test_every_promise_holds_in_every_random_night(seed: int, tmp_path: Path) -> None:
    live(seed, tmp_path)


@pytest.mark.promise(1, 2, 3, 4, 5, 6, 8, 19)
@pytest.mark.long
@pytest.mark.parametrize("seed", range(4, 84))
def test_every_promise_holds_in_many_more_random_nights(seed: int, tmp_path: Path) -> None:
    live(seed, tmp_path)


@pytest.mark.promise(1, 2, 3, 4, 5, 6, 8, 19)
@pytest.mark.postgres
@pytest.mark.long
@pytest.mark.parametrize("seed", range(1000, 1012))
def test_every_promise_holds_in_random_nights_where_the_ledger_is_on_a_server(
    seed: int, tmp_path: Path, postgres: PostgresServer
) -> None:
    live(seed, tmp_path, postgres.keys(postgres.database()))


# --- the judge is judged: each of these faults, planted into the program, must be found


Plant = Callable[[pytest.MonkeyPatch], None]


def send_before_the_slot_is_on_disk(patch: pytest.MonkeyPatch) -> None:
    really_open, really_settle = Ledger.open, Ledger.settle

    def settle(ledger: Ledger, slot: Slot, delivery: Delivery, now: datetime) -> None:
        really_open(ledger, slot, "", now)
        really_settle(ledger, slot, delivery, now)

    patch.setattr(Ledger, "open", lambda *_: None)
    patch.setattr(Ledger, "settle", settle)


def send_unknown_again(patch: pytest.MonkeyPatch) -> None:
    _settle_as(patch, Outcome.UNKNOWN, Outcome.DEFERRED)


def take_deferred_for_accepted(patch: pytest.MonkeyPatch) -> None:
    _settle_as(patch, Outcome.DEFERRED, Outcome.ACCEPTED)


def _settle_as(patch: pytest.MonkeyPatch, true: Outcome, told: Outcome) -> None:
    really = Ledger.settle

    def settle(ledger: Ledger, slot: Slot, delivery: Delivery, now: datetime) -> None:
        really(ledger, slot, replace(delivery, outcome=told) if delivery.outcome is true else delivery, now)

    patch.setattr(Ledger, "settle", settle)


def send_again_what_was_in_flight(patch: pytest.MonkeyPatch) -> None:
    really = Ledger.begin

    def begin(ledger: Ledger, run_id: str, now: datetime) -> None:
        with ledger._connection.begin() as _:
            ledger._connection.exec_driver_sql("DELETE FROM slots WHERE outcome = 'sending'")
        really(ledger, run_id, now)

    patch.setattr(Ledger, "begin", begin)


def forget_what_was_in_flight(patch: pytest.MonkeyPatch) -> None:
    really = Ledger.begin

    def begin(ledger: Ledger, run_id: str, now: datetime) -> None:
        with ledger._connection.begin() as _:
            ledger._connection.exec_driver_sql("UPDATE slots SET outcome = 'sending ' WHERE outcome = 'sending'")
        really(ledger, run_id, now)
        with ledger._connection.begin() as _:
            ledger._connection.exec_driver_sql("UPDATE slots SET outcome = 'sending' WHERE outcome = 'sending '")

    patch.setattr(Ledger, "begin", begin)


def take_no_answer_for_no_consent(patch: pytest.MonkeyPatch) -> None:
    def credulous(code: int, body: bytes) -> Answer:
        answer = interpret(code, body)
        return Answer(Status.CONSENT_REQUIRED, "") if answer.status is Status.UNKNOWN and not answer.refusal else answer

    patch.setattr("campaign.docusign.prober.interpret", credulous)


def ignore_the_canary(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "_canary", lambda _: ())
    patch.setattr(probing, "_canary_speaks", lambda *_: True)


def ignore_the_error_share(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "_errors", lambda *_: ())


def need_no_approval(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "_first", lambda _: ())


def ignore_regressions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "_regressions", lambda *_: ())


def ignore_who_newly_lacks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "_lacking", lambda *_: ())


def ignore_added_scopes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "_scopes", lambda _: ())


def ignore_the_size_of_the_roster(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "_roster", lambda *_: ())


def believe_an_approval_of_any_size(patch: pytest.MonkeyPatch) -> None:
    really = guards.check

    def check(night: guards.Night, limits: Any, approved: int | None) -> Any:
        return really(night, limits, None if approved is None else 1000)

    patch.setattr(guards, "check", check)


def mail_by_what_was_found_long_ago(patch: pytest.MonkeyPatch) -> None:
    really = plan._obstacle

    def obstacle(user: User, standing: Standing, terms: plan.Terms) -> Any:
        return really(user, standing._replace(found=standing.status), terms)

    patch.setattr(plan, "_obstacle", obstacle)


def probe_between_mails(patch: pytest.MonkeyPatch) -> None:
    really = handover._slot

    def slot(night: Night, decision: Decision, ledger: Ledger) -> Slot:
        with closing(Prober(night.config.docusign, night.given.signer, night.means.clock, night.means.stop)) as asked:
            list(asked.probe([decision.user.user_id]))
        return really(night, decision, ledger)

    patch.setattr(handover, "_slot", slot)


def mail_an_address_as_often_as_it_stands_there(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "_one_an_address", lambda candidates, _: candidates)


def forget_the_cap_of_a_run(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "_wave", lambda candidates, _: candidates)


def forget_the_cap_of_a_day(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "mailed_since", lambda *_: [])


def remind_without_pause(patch: pytest.MonkeyPatch) -> None:
    really = plan.upcoming

    def upcoming(standing: Standing, policy: Any) -> Any:
        what, due = really(standing, policy)
        return what, standing.last_tried if standing.used else due

    patch.setattr(plan, "upcoming", upcoming)


def remind_without_end(patch: pytest.MonkeyPatch) -> None:
    really = plan.upcoming

    def upcoming(standing: Standing, policy: Any) -> Any:
        return really(standing._replace(used=min(standing.used, len(policy.remind_after_days))), policy)

    patch.setattr(plan, "upcoming", upcoming)


def retry_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "_RETRY_AFTER", timedelta(0))


def retry_under_a_new_message_id(patch: pytest.MonkeyPatch) -> None:
    really = handover._slot

    def slot(night: Night, decision: Decision, ledger: Ledger) -> Slot:
        return replace(really(night, decision, ledger), message_id=new_message_id("test", decision.step, "example.com"))

    patch.setattr(handover, "_slot", slot)


def go_on_after_a_stop(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handover, "stop_if_asked", lambda *_: None)


def keep_the_report_of_yesterday(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reporting, "write", lambda *_: [])


FAULTS: dict[Plant, str] = {  # and the promise at which one may be found
    send_before_the_slot_is_on_disk: "P[1236]",
    send_unknown_again: "P[12]",
    take_deferred_for_accepted: "P3",
    send_again_what_was_in_flight: "P[1236]",
    forget_what_was_in_flight: "P[23]",
    take_no_answer_for_no_consent: "P[45]",
    ignore_the_canary: "P[45]",
    ignore_the_error_share: "P5",
    need_no_approval: "P5",
    ignore_regressions: "P5",
    ignore_who_newly_lacks: "P5",
    ignore_added_scopes: "P5",
    ignore_the_size_of_the_roster: "P5",
    believe_an_approval_of_any_size: "P5",
    mail_by_what_was_found_long_ago: "P4",
    probe_between_mails: "P5",
    mail_an_address_as_often_as_it_stands_there: "P[16]",
    forget_the_cap_of_a_run: "P6",
    forget_the_cap_of_a_day: "P6",
    remind_without_pause: "P6",
    remind_without_end: "P6",
    retry_at_once: "P6",
    retry_under_a_new_message_id: "P[123]",
    go_on_after_a_stop: "P5",
    keep_the_report_of_yesterday: "the report",
}
SEEDS = 60


def found(plant: Plant, patch: pytest.MonkeyPatch, folder: Path) -> tuple[int, str]:
    """How many seeds it takes until the judge finds the fault, and what it says then; (0, "") if it never does."""
    plant(patch)
    for seed in range(SEEDS):
        try:
            live(seed, folder / str(seed))
        except AssertionError as broken:
            return seed + 1, str(broken)
    return 0, ""


def plants() -> Iterator[Any]:
    """All faults; those that take many seeds only where there is time."""
    quick = {probe_between_mails, send_unknown_again, remind_without_end}
    for plant in FAULTS:
        yield pytest.param(plant, id=plant.__name__, marks=[] if plant in quick else [pytest.mark.long])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("plant", [*plants()])
def test_planted_faults_are_caught(plant: Plant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seeds, said = found(plant, monkeypatch, tmp_path)

    print(f"{plant.__name__}: {seeds} seeds: {said}")  # noqa: T201  # shown by -rP
    assert re.search(FAULTS[plant], said), f"after {seeds or SEEDS} seeds the judge said: {said or 'nothing'}"
