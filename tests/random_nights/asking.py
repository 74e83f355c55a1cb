"""What is promised of customers: their administrators are asked first, and their users left alone meanwhile."""

from collections import Counter, defaultdict
from datetime import datetime, timedelta

from tests.random_nights.customers import Customer
from tests.random_nights.journal import Dot, Run, Step
from tests.random_nights.terms import TOLERANCE, Terms

MAY_HAVE_ARRIVED = {"accepted", "unknown", "sending"}
REFUSED = ("550 5.1.", "550 5.2.")  # an address
MOST_ATTEMPTS = 3
SURELY = timedelta(hours=1)  # for a message to be on record as sent


class Asking:
    """Asserts what the README promises of customers; where a kill leaves doubt, in the program's favour."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.asked: dict[str, datetime] = {}  # by customer: when the first message may have gone out, at the earliest
        self.surely_asked: dict[str, datetime] = {}  # at the latest
        self.given_up: dict[str, datetime] = {}  # since when the relay has put off a message to it as often as it may
        self.refused: set[str] = set()  # addresses
        self.may_come_last: set[str] = set()  # customers to whom the relay may have refused a message
        self.granted: set[str] = set()  # user ids, for certain
        self.lacked: dict[str, set[str]] = defaultdict(set)  # by customer: who surely lacked consent after it was asked
        self.unfit: set[Customer] = set()  # that a person was told of

    def judge(self, run: Run) -> None:
        """Raise AssertionError where a promise was broken."""
        self._learn_answers(run)
        self.everybody_got_the_right_link(run)
        self.a_user_lacks_consent(run)
        self.users_are_left_alone(run)
        self.who_is_done_is_not_asked(run)
        self.administrators_come_first(run)
        if not run.killed:
            self.figures_are_told(run)
        self._follow(run)

    def everybody_got_the_right_link(self, run: Run) -> None:
        meant = {("user", row["name"], row["email"]) for row in run.roster}
        meant |= {("administrator", customer.key, customer.admin_email) for customer in run.customers}
        for dot in run.dots:
            assert (dot.link, dot.person, dot.recipient) in meant, f"P11: nobody was to get {dot}"

    def a_user_lacks_consent(self, run: Run) -> None:
        for index, entry in enumerate(run.journal):
            if isinstance(entry, Dot) and entry.link == "administrator":
                answers = run.last_answers(index)
                found = {answers.get(user, "nothing") for user in run.users_of(run.customer(entry.person))}
                assert "consent_required" in found, (
                    f"P4: {entry.person} was asked when Docusign had answered {found} of its users"
                )

    def users_are_left_alone(self, run: Run) -> None:
        for dot in run.dots:
            customer = run.customer_of(dot.recipient)
            if dot.link == "administrator" or customer is None:
                continue
            assert customer.is_fit, f"customers: {dot} is a user of {customer}, whose row cannot be used"
            if customer.admin_email.casefold() not in self.refused:
                begun = self.asked.get(customer.key) or self.given_up.get(customer.key)
                assert begun, f"customers: {dot} came before anybody was asked at {customer}"
                time = timedelta(days=self.terms.admin_first) - TOLERANCE
                assert dot.at - begun >= time, f"customers: {dot} came {dot.at - begun} after {customer} was asked"

    def who_is_done_is_not_asked(self, run: Run) -> None:
        for dot in run.dots:
            for domain in run.customer(dot.person).domains if dot.link == "administrator" else ():
                users = run.users_of(Customer("", "", (domain,)))
                turned, others = users & self.granted & self.lacked[dot.person], users - self.granted
                assert len(turned) <= len(others), (
                    f"customers: {dot} although {turned} turned granted, and only {others} may lack it"
                )

    def administrators_come_first(self, run: Run) -> None:
        """Assert it but for those whose last message the relay refused: they come after all others."""
        if self.terms.connections > 1:
            return
        links = [dot.link for dot in run.dots if dot.link == "user" or dot.person not in self.may_come_last]
        assert links == sorted(links), f"customers: users were mailed before administrators: {run.dots}"

    def figures_are_told(self, run: Run) -> None:
        told = [one for one in run.figures if one["customer"]]
        assert [one["customer"] for one in told] == [customer.name for customer in run.customers], (
            "customers: not all are told of"
        )
        kept = Counter(dot.person for dot in run.dots if dot.kept)
        for customer, one in zip(run.customers, told, strict=True):
            users = len(run.users_of(customer))
            counted = one["granted"] + one["lacking"] + one["unknown"]
            assert (one["users"], counted) == (users, users), f"customers: {customer} has {users} users, not {one}"
            assert customer.is_fit or one["reason"] == "invalid_row", f"customers: {one} is told of {customer}"
            assert one["messages"] >= kept[customer.key], f"P3: fewer messages than the relay took: {one}"
        unfit = {customer for customer in run.customers if not customer.is_fit}
        assert run.exit_code or unfit <= self.unfit, (
            f"customers: new in the file are {unfit - self.unfit}, and the exit code is 0"
        )
        self.unfit |= unfit

    def may_wait(self, row: dict[str, str], run: Run) -> bool:
        """Whether a user may still be left alone for an administrator."""
        customer = run.customer_of(row["email"])
        if row["reason"] != "waiting" or customer is None:
            return False
        since = self.surely_asked.get(customer.key)
        return not customer.is_fit or since is None or run.at < since + timedelta(days=self.terms.admin_first)

    def all_were_asked(self, run: Run) -> None:
        """Assert that on an approved night on which all is well every administrator was asked who should be."""
        known = {slot[key].casefold() for slot in run.slots for key in ("user_id", "recipient")}
        addresses = Counter(customer.admin_email.casefold() for customer in run.customers)
        lacking = {row["user_id"] for row in run.report if row["status"] == "consent_required"}
        told = {one["customer"]: one["reason"] for one in run.figures}
        for customer in run.customers:
            address = customer.admin_email.casefold()
            fresh = customer.is_fit and addresses[address] == 1 and not known & {customer.key, address}
            if fresh and lacking & run.users_of(customer):
                assert told[customer.name] in {"run_full", "day_full"}, f"not asked on a good night: {customer}"

    def _learn_answers(self, run: Run) -> None:
        """Take in who has consented for certain: what a run found that died may have died with it."""
        for user, answer in run.last_answers().items():
            if answer == "granted" and (run.called_relay or not run.killed):
                self.granted.add(user)
            elif answer not in {"granted", "unknown"}:
                self.granted.discard(user)

    def _follow(self, run: Run) -> None:
        """Take in what this run did."""
        slots = [slot for slot in run.slots if slot["user_id"].startswith("customer:")]
        used = Counter(slot["user_id"] for slot in slots if slot["outcome"] != "deferred")
        for slot in slots:
            customer = slot["user_id"]
            if slot["outcome"] in MAY_HAVE_ARRIVED:
                self.asked.setdefault(customer, run.at)
            if slot["attempts"] >= MOST_ATTEMPTS or used[customer] > len(self.terms.remind):
                self.given_up.setdefault(customer, run.at)
        for dot in run.dots:
            if dot.link == "administrator" and dot.kept:
                self.surely_asked.setdefault(dot.person, dot.at + SURELY)
        self.refused |= {entry.recipient.casefold() for entry in run.journal if _is_refusal(entry)}
        if run.called_relay and run.exit_code != 0:
            self.may_come_last |= {customer.key for customer in run.customers}
        if not run.killed:
            lacking = {user for user, answer in run.last_answers().items() if answer == "consent_required"}
            for customer in run.customers:
                self.lacked[customer.key] |= lacking & run.users_of(customer) if customer.key in self.asked else set()


def _is_refusal(entry: object) -> bool:
    """Whether the relay refused an address for good."""
    return isinstance(entry, Step | Dot) and entry.answer.removeprefix("store ").startswith(REFUSED)
