"""Nights and plans in words: what `run` and `plan` print, and the plan as a CSV file."""

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from campaign.files import replaced
from campaign.given import Progress, unwatched
from campaign.model import Check, Decision, Grade, Outcome, Reason, stamp
from campaign.night import Night
from campaign.report import inert
from campaign.words import REASONS

_NAMES_SHOWN = 50


def night(done: Night) -> str:
    """The summary of a night, a few lines."""
    sent = sum(delivery.outcome in {Outcome.ACCEPTED, Outcome.UNKNOWN} for delivery in done.deliveries)
    lines = [_headline(done, f"{sent} message(s) sent"), *_reasons(done.decisions)]
    rejects = len(done.given.roster.rejects)
    lines += [f"{rejects:>7}  {Reason.INVALID_ROW:<18}  are rows of the roster that cannot be used"] if rejects else []
    lines += [f"report: {path}" for path in done.reports[:1]]
    return "\n".join(lines)


def one_line(done: Night) -> str:
    """The same on one line, for cron's mail."""
    reasons = Counter(decision.reason for decision in done.decisions)
    figures = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"{done.config.name}: {len(done.decisions)} users: {figures}"


def plan(done: Night) -> str:
    """A plan: who would be mailed, and why not the others, in counts and then by name."""
    lines = [_headline(done, f"{done.planned} message(s) planned"), *_reasons(done.decisions)]
    wanted = [_to_user(d) for d in done.decisions if d.action or d.reason in {Reason.NOT_APPROVED, Reason.GUARD}]
    wanted += [f"  escalate {d.user.manager_email}  about {d.user.email}" for d in done.escalations]
    lines += ["", "would be mailed:", *wanted[:_NAMES_SHOWN]] if wanted else []
    if len(wanted) > _NAMES_SHOWN:
        lines.append(f"  and {len(wanted) - _NAMES_SHOWN} more: campaign plan --out plan.csv has them all")
    lines += ["", *(f"guard {trip.guard}: {trip.seen}" for trip in done.trips)] if done.trips else []
    if done.planned and all(trip.liftable for trip in done.trips) and not done.problems:
        lines += ["", f"to run this night: campaign run{f' --approve {done.planned}' if done.trips else ''}"]
    rejects = done.given.roster.rejects
    lines += ["", f"rows of {done.config.roster.file.name} that cannot be used:"] if rejects else []
    lines += [f"  line {reject.line}: {reject.reason}" for reject in rejects[:_NAMES_SHOWN]]
    return "\n".join(lines)


def _to_user(decision: Decision) -> str:
    return f"  {decision.next_action or decision.action:<8} {decision.user.email}  {decision.user.name}"


def check(one: Check) -> str:
    """One check of the doctor: a line, and the remedy below it."""
    mark = {Grade.GOOD: "ok", Grade.DOUBT: "look", Grade.BAD: "FAIL"}[one.grade]
    return f"{mark:<5} {one.what}: {one.found}" + (f"\n      {one.advice}" if one.advice else "")


def write_plan(done: Night, path: Path) -> None:
    """Every decision as CSV, replaced in one step. Raises OSError."""
    with replaced(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["user_id", "email", "name", "action", "reason", "next_action", "next_due", "line"])
        for d in [*done.decisions, *done.escalations]:
            due = stamp(d.next_due) if d.next_due else ""
            texts = (d.user.user_id, d.user.email, d.user.name, d.action, d.reason, d.next_action, due)
            table.writerow([*map(inert, texts), d.user.line])


@contextmanager
def progress(*, quiet: bool) -> Iterator[Progress]:
    """A progress bar on a terminal; elsewhere nothing at all."""
    if quiet or not sys.stderr.isatty():
        yield unwatched
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {stage: bars.add_task(stage, visible=False) for stage in ("probing", "mailing")}
        yield lambda stage, done, total: bars.update(tasks[stage], completed=done, total=total, visible=True)


def _headline(done: Night, messages: str) -> str:
    return f"{done.config.name}, {done.started:%Y-%m-%d %H:%M} UTC: {len(done.decisions)} users, {messages}"


def _reasons(decisions: list[Decision]) -> list[str]:
    counts = Counter(decision.reason for decision in decisions)
    return [f"{count:>7}  {reason:<18}  {REASONS[reason]}" for reason, count in counts.most_common()]
