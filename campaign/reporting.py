"""Gathers what the report tells beside its rows, from the ledger and the configuration alone, and has it written.

What else a person should read in the morning has its place here: a matter that needs somebody beside `_one_consent`, a part of
the report of its own beside `_customers`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from campaign import advice, plan, report
from campaign.config import Config
from campaign.customers import Administrator, Figures, figures, grouped, left_alone
from campaign.errors import ExitCode, LedgerError
from campaign.given import Means
from campaign.ledger import Change, Ledger, Run
from campaign.model import Outcome, Reason, Roster, Standing, Status
from campaign.words import CHANGES

_LISTED = 200  # users that a section lists
_NAMED = 5  # users that are named for each kind of change
_ABOUT_CUSTOMERS = (
    "Each customer's administrator is asked first, and its users are left alone meanwhile.",
    "That an administrator has consented shows only in that the users turn granted.",
)
_SAME_NIGHT = timedelta(hours=12)  # a night that was stopped and then approved is one


def write(  # noqa: PLR0913, PLR0917  # all that it is made of
    config: Config,
    roster: Roster,
    administrators: Sequence[Administrator],
    standings: Mapping[str, Standing],
    ledger: Ledger,
    means: Means,
) -> list[Path]:
    """Write the report of all rows of the roster; `standings` are by user id. Raises LedgerError; then the last one is whole."""
    about, at = config.report, means.clock()
    customers = grouped(administrators, roster.users, standings)
    waits = left_alone(config, customers, standings, at)
    upcoming = plan.upcoming_for(config.policy, waits)
    rows = report.rows(roster, standings, upcoming)
    background = _background(config, roster, standings, ledger)
    if customers:
        own = _customers(list(figures(customers, roster.users, standings, upcoming, waits)))
        background = replace(background, sections=[own, *background.sections])
    mode = int(about.mode, 8)
    try:
        return report.write(rows, about.directory, formats=about.formats, mode=mode, at=at, background=background)
    except OSError as error:
        what = f"the report cannot be written to {about.directory}: {error.strerror}"
        raise LedgerError(what, "the last report is whole; make room, then: campaign report") from error


def _background(config: Config, roster: Roster, standings: Mapping[str, Standing], ledger: Ledger) -> report.Background:
    runs = ledger.nights()
    since = _night_before(runs)
    return report.Background(
        campaign=config.name,
        users={user.user_id: user for user in roster.users},
        runs=[_run(run) for run in runs],
        since=since,
        changes=_changes(ledger.changes(since, _NAMED)),
        limits=list(_limits(config)),
        remarks=[] if config.customers.file else list(_one_consent(advice.count(roster.users, standings))),
        sections=list(_sections(standings, ledger)),
        waits=config.policy.remind_after_days,
        capacity=lambda day: _capacity(config, day),
    )


def _one_consent(found: advice.Advice) -> Iterator[report.Remark]:
    """What an administrator's consent would clear, where that is much."""
    if found.is_worth_a_word:
        yield report.Remark(found.sentence.rstrip("."), "See how an administrator gives it", "campaign advise")


def _sections(standings: Mapping[str, Standing], ledger: Ledger) -> Iterator[report.Section]:
    """Parts of the report of their own, after all others."""
    yield from _taken_back(standings)
    yield from _gone(ledger)


def _taken_back(standings: Mapping[str, Standing]) -> Iterator[report.Section]:
    """Who had consented and lacks it again, with the dates."""
    found = sorted((s.revoked_at, s.email, s.user_id, s.messages) for s in standings.values() if s.revoked_at)
    if found:
        text = f"{len(found):,} user(s) had consented and lack it again. Each is left alone for a while before the next message."
        more = [f"The last {_LISTED} of them:"] if len(found) > _LISTED else []
        table = [(email, user_id, f"{at:%Y-%m-%d}", messages) for at, email, user_id, messages in found[: -_LISTED - 1 : -1]]
        yield report.Section("Consent taken back", [text, *more], ("address", "user id", "found on", "messages"), table)


def _gone(ledger: Ledger) -> Iterator[report.Section]:
    """Who is not in the roster any more."""
    number, last = ledger.left(_LISTED)
    if number:
        text = f"{number:,} user(s) are not asked or mailed while the roster is without them. Who returns goes on from there."
        more = [f"The last {len(last):,} of them:"] if number > len(last) else []
        table = [(s.email, s.user_id, f"{s.left_at:%Y-%m-%d}", s.status) for s in last]
        yield report.Section("Not in the roster any more", [text, *more], ("address", "user id", "since", "last answer"), table)


def _customers(found: Sequence[Figures]) -> report.Section:
    """Each customer of an ISV: how far its users are, and what became of asking its administrator."""
    header = ("customer", "users", "granted", "lacking", "not known", "administrator", "messages", "last sent", "reason", "next")
    more = "users left alone until", "detail"
    table = [
        (
            *(one.customer or "(none)", one.users, one.granted, one.lacking, one.unknown, one.administrator, one.messages),
            *(_day(one.last_sent), one.reason, f"{one.next_action} {_day(one.next_due)}".strip()),
            *(_day(one.users_wait_until), one.detail),
        )
        for one in found
    ]
    return report.Section("Customers", _ABOUT_CUSTOMERS, (*header, *more), table)


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else ""


def _night_before(runs: Sequence[Run]) -> datetime | None:
    """When the last run of the night before last ended; None if there was but one night."""
    before = [run for run in runs if run.started < runs[-1].started - _SAME_NIGHT]
    return (before[-1].finished or before[-1].started) if before else None


def _run(run: Run) -> report.Run:
    """A run as the report shows it. What an earlier version did not note is not known."""
    noted = json.loads(run.counts)
    code = noted.get("exit_code") if run.exit_code is None else run.exit_code
    status, outcome = noted.get("status", {}), noted.get("outcome", {})
    stopping = [trip for trip in noted.get("guards", ()) if not trip["lifted"]]
    return report.Run(
        started=run.started,
        finished=run.finished,
        exit_code=None if code is None else ExitCode(code),
        users=noted.get("users"),
        consented=_consented(noted),
        lacking=status.get(Status.CONSENT_REQUIRED, 0) if status else None,
        no_answer=status.get(Status.UNKNOWN, 0) if status else None,
        mailed=sum(outcome.get(kind, 0) for kind in (Outcome.ACCEPTED, Outcome.UNKNOWN)) if status else None,
        outcome=outcome,
        guards=[trip["guard"] for trip in stopping],
        approvable=noted.get("planned", 0) if stopping and all(trip["liftable"] for trip in stopping) else 0,
    )


def _consented(noted: Mapping[str, Any]) -> int | None:
    """How many had consented; by reason, where an earlier version noted no states."""
    if "state" in noted:
        return int(noted["state"].get(report.State.CONSENTED, 0))
    return int(noted["reason"].get(Reason.GRANTED, 0)) if "reason" in noted else None


def _changes(changes: Sequence[Change]) -> list[report.Change]:
    by_kind = {change.what: change for change in changes}
    return [
        report.Change(words, by_kind[what].users if what in by_kind else 0, by_kind[what].emails if what in by_kind else ())
        for what, words in CHANGES.items()
    ]


def _capacity(config: Config, day: date) -> int:
    """How many messages may go out on a day."""
    policy = config.policy
    if not plan.is_open_on(policy, day):
        return 0
    return min(policy.max_per_run, config.mail.per_day or policy.max_per_run)


def _limits(config: Config) -> Iterator[report.Limit]:
    """Limits and guards in force, as campaign.toml has them."""
    policy, mail, limits = config.policy, config.mail, config.guards
    days = ", ".join(map(str, policy.remind_after_days)) or "none"
    yield report.Limit("[policy] remind_after_days", days, f"at most {1 + len(policy.remind_after_days)} messages to one person")
    yield report.Limit("[policy] max_per_run", f"{policy.max_per_run:,}", "messages in one run; the rest comes the next night")
    yield report.Limit("[mail] per_day", f"{mail.per_day:,}" if mail.per_day else "unlimited", "messages in 24 hours")
    windows = " ".join(filter(None, (", ".join(policy.days), policy.hours))) or "always"
    yield report.Limit("[policy] days, hours", windows, f"when mail may go out ({policy.timezone}, or the user's own zone)")
    domains = ", ".join(mail.allowed_domains[:_NAMED]) or "all"
    more = f" and {len(mail.allowed_domains) - _NAMED} more" if len(mail.allowed_domains) > _NAMED else ""
    yield report.Limit("[mail] allowed_domains", f"{domains}{more}", "no other recipient domain is mailed")
    yield report.Limit(
        "[docusign] canary", f"{len(config.docusign.canary)}", "users known to have consented; one must be granted"
    )
    share = f"{limits.max_error_share:.0%}"
    yield report.Limit("[guards] max_error_share", share, "of the users without a usable answer: beyond it nobody is mailed")
    lacking = f"{limits.max_new_lacking:,} or 20 %"
    yield report.Limit("[guards] max_new_lacking", lacking, "of the users newly lacking consent: beyond it an approval is needed")
    lost = f"{limits.max_regressions:,} or 2 %"
    yield report.Limit("[guards] max_regressions", lost, "of those who had consented: beyond it an approval is needed")
    change = f"{limits.max_roster_change:.0%}"
    yield report.Limit("[guards] max_roster_change", change, "of the roster's size: beyond it an approval is needed")
