"""Nights, plans and checks as pages: what `run`, `plan` and `doctor` show."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from campaign import advice
from campaign.customers import Administrator, Figures
from campaign.model import Action, Check, Decision, Grade, Outcome, Reason, Status, beyond
from campaign.night import Night
from campaign.showing.page import Line, Page, Table, Tone, spaced
from campaign.words import REASONS

_NAMES = 50  # as many are shown as still can be read; the file has them all
_NAMES_A_REASON = 5

_ALL_IS_WELL = {Reason.GRANTED, Reason.SENT}
_WOULD_BE_MAILED = {Reason.NOT_APPROVED, Reason.GUARD}
_NEEDS_A_PERSON = {Reason.UNDELIVERABLE, Reason.UNRESOLVED, Reason.USER_NOT_FOUND, Reason.INVALID_ROW, Reason.NO_ANSWER}
_MARKS = {Grade.GOOD: ("ok", Tone.GOOD), Grade.DOUBT: ("look", Tone.DOUBT), Grade.BAD: ("FAIL", Tone.BAD)}
_VERBS = {Action.INVITED: "invite", Action.REMINDED: "remind", Action.ESCALATED: "escalate", Action.ASKED: "ask"}


def night(done: Night) -> Page:
    """The summary of a night."""
    sent = sum(delivery.outcome in {Outcome.ACCEPTED, Outcome.UNKNOWN} for delivery in done.deliveries)
    reports = [Line(f"report: {path}", Tone.ASIDE) for path in done.reports[:1]]
    return [_headline(done, f"{sent} message(s) sent"), _reasons(done), *_doubtful(done), *reports]


def one_line(done: Night) -> str:
    """The same on one line, for cron's mail."""
    reasons = Counter(decision.reason for decision in done.decisions)
    figures = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"{done.config.name}: {len(done.decisions)} users: {figures}"


def plan(done: Night) -> Page:
    """What this night would change: who would be mailed, and who not and why, in counts and then by name."""
    return spaced(
        [_headline(done, f"{done.planned} message(s) planned"), _reasons(done)],
        _outgrown(done),
        [_mailed(done)] if done.planned else [],
        _customers(done),
        _left_alone(done.decisions),
        _gone(done),
        _unusable(done),
        _doubtful(done),
        [Line(f"guard {trip.guard}: {trip.seen}", Tone.DOUBT) for trip in done.trips],
        _one_consent(done),
        _command(done),
    )


def check(one: Check) -> Page:
    """One check of the doctor, and the remedy below it."""
    mark, tone = _MARKS[one.grade]
    remedy = [Line(f"      {one.advice}", Tone.ASIDE)] if one.advice else []
    return [Line(f"{mark:<5} {one.what}: {one.found}", tone), *remedy]


def _headline(done: Night, messages: str) -> Line:
    return Line(f"{done.config.name}, {done.started:%Y-%m-%d %H:%M} UTC: {len(done.decisions)} users, {messages}", Tone.HEAD)


def _reasons(done: Night) -> Table:
    counts = Counter(decision.reason for decision in done.decisions)
    unusable = counts.pop(Reason.INVALID_ROW, 0) + len(done.given.roster.rejects)
    rows = [*counts.most_common(), *([(Reason.INVALID_ROW, unusable)] if unusable else [])]
    texts = {**REASONS, Reason.INVALID_ROW: "are rows of the roster that cannot be used"}
    return Table(
        ("users", "reason", "which"),
        [(count, str(reason), texts[reason]) for reason, count in rows],
        tones=[_tone(reason) for reason, _ in rows],
    )


def _tone(reason: Reason) -> Tone:
    if reason in _ALL_IS_WELL:
        return Tone.GOOD
    return Tone.DOUBT if reason in _NEEDS_A_PERSON | _WOULD_BE_MAILED else Tone.PLAIN


def _mailed(done: Night) -> Table:
    wanted = [d for d in [*done.asking, *done.decisions] if d.action or d.reason in _WOULD_BE_MAILED]
    rows = [*map(_to_user, wanted), *map(_to_manager, done.escalations)]
    left_out = len(rows) - _NAMES
    more = f"and {left_out} more: campaign plan --out plan.csv has them all" if left_out > 0 else ""
    return Table(("message", "to", "name"), rows[:_NAMES], heading="would be mailed", more=more)


def _to_user(decision: Decision) -> tuple[str, str, str]:
    verb = _VERBS[Action.ASKED] if isinstance(decision.user, Administrator) else decision.next_action
    return _VERBS.get(decision.action, verb), decision.user.email, decision.user.name


def _to_manager(decision: Decision) -> tuple[str, str, str]:
    return _VERBS[Action.ESCALATED], decision.user.manager_email, f"about {decision.user.email}"


def _customers(done: Night) -> list[Table]:
    """Each customer of an ISV in figures: how far its users are, whom it was asked of, and until when they are left alone."""
    rows = [_customer(one) for one in done.customer_figures]
    more = f"and {len(rows) - _NAMES} more: campaign plan --json has them all" if len(rows) > _NAMES else ""
    columns = ("customer", "users", "granted", "lacking", "not known", "administrator", "asked", "and")
    return [Table(columns, rows[:_NAMES], heading="customers", more=more)] if rows else []


def _customer(one: Figures) -> tuple[str, ...]:
    figures = (f"{one.users} users", f"{one.granted} granted", f"{one.lacking} lacking", f"{one.unknown} not known")
    until = f"users left alone until {one.users_wait_until:%Y-%m-%d}" if one.users_wait_until else ""
    state = one.detail or ", ".join(filter(None, (one.reason, until)))
    return one.customer or "(none)", *figures, one.administrator, f"{one.messages} times" if one.customer else "", state


def _left_alone(decisions: Iterable[Decision]) -> list[Table]:
    """Who would not be mailed: a few names for each reason, those that need a person first."""
    groups: dict[Reason, list[Decision]] = {}
    for decision in decisions:
        if not decision.action and decision.reason not in _WOULD_BE_MAILED:
            groups.setdefault(decision.reason, []).append(decision)
    order = sorted(groups, key=lambda reason: (reason not in _NEEDS_A_PERSON, reason in _ALL_IS_WELL, len(groups[reason])))
    rows = [row for reason in order for row in _few(reason, groups[reason])]
    return [Table(("reason", "whom", "next"), rows, heading="would not be mailed")] if rows else []


def _few(reason: Reason, decisions: list[Decision]) -> Iterator[tuple[str, str, str]]:
    for decision in islice(decisions, _NAMES_A_REASON):
        due = f"{decision.next_action} from {decision.next_due:%Y-%m-%d %H:%M} UTC" if decision.next_due else ""
        yield str(reason), decision.user.email, due
    if len(decisions) > _NAMES_A_REASON:
        yield str(reason), f"and {len(decisions) - _NAMES_A_REASON} more", ""


def _outgrown(done: Night) -> list[Line]:
    """Who has consented, but not to all that is asked for now."""
    scope, lacking = done.config.docusign.scope, [s for s in done.standings.values() if s.found == Status.CONSENT_REQUIRED]
    again = {standing.user_id: more for standing in lacking if (more := beyond(scope, standing.granted_scope))}
    spent = sum(s.user_id in again and s.used > len(done.config.policy.remind_after_days) for s in lacking)
    had = f"; {spent} of them have had all their messages, which go on being counted" if spent else ""
    added = ", ".join(dict.fromkeys(one for scopes in again.values() for one in scopes))
    text = f"{len(again)} user(s) consented before {added} was asked for, and must do so again{had}"
    return [Line(text, Tone.DOUBT)] if again else []


def _gone(done: Night) -> list[Table]:
    """Who is not in the roster any more, those first whom the last night still saw."""
    gone = sorted(done.left, key=lambda standing: (standing.left_at is None, standing.left_at or done.started), reverse=True)
    rows = [(f"since {s.left_at:%Y-%m-%d}" if s.left_at else "new", s.email, s.user_id) for s in gone[:_NAMES]]
    more = f"and {len(gone) - _NAMES} more: see the report" if len(gone) > _NAMES else ""
    return [Table(("since", "whom", "user id"), rows, heading="not in the roster any more", more=more)] if rows else []


def _unusable(done: Night) -> list[Table]:
    rejects = done.rejects
    rows = [(f"line {reject.line}:", reject.reason) for reject in rejects[:_NAMES]]
    more = f"and {len(rejects) - _NAMES} more: see the report" if len(rejects) > _NAMES else ""
    heading = f"rows of {done.config.roster.file.name} that cannot be used"
    return [Table(("row", "what is wrong"), rows, heading=heading, more=more)] if rows else []


def _doubtful(done: Night) -> list[Line]:
    """What in the mails looks like spam."""
    return [Line(f"looks like spam: {doubt}", Tone.DOUBT) for doubt in done.given.doubts]


def _one_consent(done: Night) -> list[Line]:
    """What an administrator's consent would clear, where that is much; an ISV asks the customers' administrators anyway."""
    found = advice.count(done.given.roster.users, done.standings)
    is_said = found.is_worth_a_word and not done.config.customers.file
    return [Line(f"{found.sentence} How: campaign advise", Tone.GOOD)] if is_said else []


def _command(done: Night) -> list[Line]:
    """The command that runs this night, where one does."""
    if not done.planned or done.problems or not all(trip.liftable for trip in done.trips):
        return []
    approval = f" --approve {done.planned}" if done.trips else ""
    return [Line(f"to run this night: campaign run{approval}", Tone.COMMAND)]
