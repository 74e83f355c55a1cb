"""The judge, who knows nothing of the program but its promises."""

from collections import Counter
from datetime import datetime, timedelta

from campaign.sandbox.accounts import TokenRequest
from tests.random_nights.asking import Asking
from tests.random_nights.baseline import Baseline
from tests.random_nights.journal import Dot, Run, Step
from tests.random_nights.terms import DAY, TOLERANCE, Terms
from tests.world import CANARY

RETRY = timedelta(hours=12)
REASONS = {
    *("granted", "sent", "waiting", "cap_reached", "run_full", "day_full", "outside_hours", "suppressed", "undeliverable"),
    *("unresolved", "user_not_found", "no_answer", "closed", "same_address", "domain_not_allowed", "invalid_row", "guard"),
    *("not_approved", "relay_refused", "stopped"),
}
GOOD_REASONS = {"sent", "waiting", "unresolved", "undeliverable", "cap_reached", "same_address", "run_full", "day_full"}
STATUSES = {"granted", "consent_required", "user_not_found", "unknown", "not_probed", "rejected"}
EXIT_CODES = {0, 3, 4, 5, 143}


class Judge:
    """Asserts after each run that every promise was kept, from what truly happened."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.dots: list[Dot] = []  # of all runs
        self.in_flight: set[str] = set()  # Message-IDs that came to the relay while the program died
        self.left_in_flight = False  # by the run before
        self.ever_granted: set[str] = set()
        self.baseline = Baseline(terms)
        self.asking = Asking(terms)

    def judge(self, run: Run) -> None:
        """Raise AssertionError with the promise's number where one was broken."""
        if run.must_be_refused:
            assert not run.journal, f"P12: a customers' file that must be refused, and {run.journal}"
            return
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
        self.asking.judge(run)
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
        tried = Counter(step.recipient.casefold() for step in run.journal if isinstance(step, Step) and step.phase == "RCPT")
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
            if isinstance(entry, Dot) and entry.link == "user":
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
                known = dot.link == "administrator" or told[dot.person]["last_outcome"] == "unknown"
                assert known, f"P2: {dot} is not reported unknown"
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
        addresses = Counter(address.casefold() for address in run.addresses)
        known |= {address for address, users in addresses.items() if users > 1}
        fresh = [row for row in lacking.values() if not known & {row["user_id"], row["email"].casefold()}]
        late = [row for row in fresh if row["reason"] not in {"sent", "run_full", "day_full"}]
        late = [row for row in late if not self.asking.may_wait(row, run)]
        assert not late, f"not mailed on a good night: {late}"
        self.asking.all_were_asked(run)

    def report_is_complete(self, run: Run) -> None:
        assert run.exit_code in EXIT_CODES, f"exit code {run.exit_code}"
        ids = [row["user_id"] for row in run.roster]
        assert [row["user_id"] for row in run.report] == ids, "the report does not hold the roster's rows"
        assert {row["reason"] for row in run.report} <= REASONS, f"reasons: {Counter(row['reason'] for row in run.report)}"
        assert {row["status"] for row in run.report} <= STATUSES, f"statuses: {Counter(row['status'] for row in run.report)}"
        mailed = {dot.person for dot in run.dots if dot.may_have_arrived and dot.link == "user"}
        acted = {row["name"] for row in run.report if row["action"]}
        assert mailed <= acted, f"P3: the report does not say that {mailed - acted} were mailed"
        had = Counter(dot.person for dot in self.dots if dot.kept)
        short = [row for row in run.report if int(row["messages"]) < had[row["name"]]]
        assert not short, f"P3: the report counts fewer messages than the relay took: {short}"
