"""A seeded campaign: who lives through it, and what befalls them."""

import csv
import gc
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

from campaign import nightly
from campaign.errors import ExitCode, RosterError
from campaign.given import Means
from campaign.sandbox.accounts import DROPPED, CannedAnswer, json_answer
from campaign.stopping import Stop
from tests.postgres_server import Keys
from tests.random_nights.customers import NOBODYS, Customers
from tests.random_nights.dying import Hurried, Killed, dying
from tests.random_nights.journal import Run, Telling, WatchedRelay
from tests.random_nights.judge import Judge
from tests.random_nights.terms import Terms
from tests.world import CANARY, SCOPES, World, rows, user_id

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
SERVERS_MODULES = {"campaign/ledger/server.py": 60}
CUSTOMERS_MODULES = {"campaign/customers/asking.py": 300, "campaign/probing.py": 250}
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
        self.relay: WatchedRelay = self.world.relay  # type: ignore[assignment]  # made one line above
        self.customers = Customers(seed, folder) if has_customers(seed) else None
        self.modules = MODULES | (SERVERS_MODULES if ledger else {}) | (CUSTOMERS_MODULES if self.customers else {})
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
            admin_first=self.customers.admin_first if self.customers else 0,
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
            "customers": {"file": self.customers.file.name, "admin_first_days": terms.admin_first} if self.customers else {},
        }

    def _row(self, number: int) -> dict[str, str]:
        status = "Closed" if self.chance.random() < 0.07 else "Active"
        return {
            "user_id": user_id(number),
            "email": self._address(f"person{number}"),
            "name": f"Person {number}",
            "status": status,
        }

    def _address(self, name: str) -> str:
        return f"{name}@{self.customers.domain() if self.customers else NOBODYS}"

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
        if self.customers:
            self._change_customers(self.customers)

    def _change_customers(self, customers: Customers) -> None:
        """Let the file change, and now and then an administrator consent for all users of a domain."""
        customers.change([*self.people.values()])
        for domain in (domain for customer in customers.rows for domain in customer.domains):
            if customers.chance.random() < 0.05:
                users = [number for number, row in self.people.items() if row["email"].endswith(f"@{domain}")]
                self.world.consent(*users, scopes=self.scopes)

    def _change_mind(self, number: int, luck: float) -> None:
        if luck < 0.07:
            self.world.consent(number, scopes=self.scopes)
        elif luck < 0.11:
            self.world.revoke(number)
        elif luck < 0.13 and len(self.people) > 3:
            self.away[number] = self.people.pop(number)
        elif luck < 0.16:
            self.people[number]["email"] = self._address(f"person{number}.{self.chance.randint(1, 99)}")
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
        if self.customers:
            self.customers.are_refused = False

    def _meet_faults(self) -> None:
        self._be_well()
        if self.chance.random() < 0.3:
            self.chance.choice([*[self._some_unanswered] * 2, self._all_alike, self._all_but_the_canary, self._canary_lost])()
        if self.chance.random() < 0.6:
            self.chance.choice([*[self._some_refused] * 5, self._relay_ill])()
        self.stops = self.chance.choice([*["never"] * 5, "probing", "mailing"])
        if self.customers:
            self._meet_faults_about(self.customers)

    def _meet_faults_about(self, customers: Customers) -> None:
        """Let the relay refuse administrators, Docusign not speak of a customer's users, and the file be one to refuse."""
        chance = customers.chance
        customers.are_refused = chance.random() < 0.06
        for customer in customers.rows:
            if chance.random() < 0.3:
                phase = chance.choice([*ILLS, *["dot"] * 4])
                self.relay.script[phase, customer.admin_email] = chance.choice(ILLS[phase])
            if chance.random() < 0.05:
                silent = [row["user_id"] for row in self.rows if customer.has(row)]
                self.world.accounts.faults.answers.update(dict.fromkeys(silent, BROKEN))

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
        if self.customers:
            self.customers.write()
            self.relay.customers = run.customers = [*self.customers.rows]
            run.must_be_refused = self.customers.are_refused
        begun = len(self.journal)
        stop = Hurried()
        means = Means(lambda: self.world.now, stop, {}, self._progress(run, begun, stop), waits=self.world.waits)
        if kill:
            self._run_and_die(run, means, kill)
        else:
            self._run_to_the_end(run, means)
        self.relay.come_to_rest()
        run.journal = self.journal[begun:]
        run.slots = self._ledger()
        run.report = [] if run.killed else self._report()
        try:
            self.judge.judge(run)
        except AssertionError as broken:
            raise AssertionError(f"run {night} {'(killed)' if run.killed else ''} {self.terms}: {broken}") from None
        return run

    def _run_to_the_end(self, run: Run, means: Means) -> None:
        try:
            night = nightly.run(self.world.config(), means, run.approved)
        except RosterError as error:
            run.exit_code = error.exit_code
        else:
            run.exit_code, run.figures = night.exit_code, night.as_json().get("customers", [])

    def _run_and_die(self, run: Run, means: Means, kill: tuple[str, float]) -> None:
        module, share = kill
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the dead do not tidy up
            gc.freeze()  # so that only what the dead leave is looked through
            try:
                with dying(module, 1 + int(share * self.modules[module])):
                    self._run_to_the_end(run, means)
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


def has_customers(seed: int) -> bool:
    """Whether a life is that of an ISV's campaign; the others are as if there were none."""
    return seed % 3 == 2


def live(seed: int, folder: Path, ledger: Keys | None = None) -> Life:
    """Let one campaign live; a broken promise names its seed."""
    life = Life(seed, folder, ledger or {})
    try:
        life.live(life.chance.randint(12, 20))
    except AssertionError as broken:
        raise AssertionError(f"seed {seed}, {broken}") from None
    return life
