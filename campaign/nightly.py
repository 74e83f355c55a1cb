"""THE STORY: one night from roster to report, top to bottom.

    lock -> read what is given -> open the ledger -> probe -> plan -> guards -> mail -> report

All probing ends before the first mail, and the plan is complete before the relay is called: only so can the night be
shown, capped, guarded and refused as a whole.
"""

import hashlib
import json
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from campaign import guards, plan, report, reporting
from campaign.config import Config
from campaign.customers import left_alone
from campaign.errors import CampaignError, GuardTripped, LedgerError, TemplateError
from campaign.given import Means, prepare
from campaign.handover import hand_over
from campaign.ledger import Ledger, Memory, News, Scratch, hold, open_ledger, read_ledger, trust, witness_of
from campaign.model import Action, Decision, Reason, Reject, Trip
from campaign.night import Night, new_run_id
from campaign.probing import of_roster, probe
from campaign.rehearsing import rehearse
from campaign.roster import read_customers, read_roster
from campaign.words import EVENTS


def run(config: Config, means: Means, approved: int | None = None, *, run_id: str = "") -> Night:
    """One night, under a `run_id` of its own where none is given.

    What stops it stands in the result; raises only where nothing was attempted or the ledger fails.
    """
    with hold(config) as lock:
        given = prepare(config, means)
        report.check(config.report.directory)
        with open_ledger(config, lock) as ledger:
            now = means.clock()
            night = Night(config, means, given, now, run_id or new_run_id(now), lock)
            _begin(night, ledger)
            probe(night, ledger)
            _decide(night, ledger, approved)
            night.problems += [_as_problem(trip, night.planned) for trip in night.trips if not trip.lifted]
            _mail(night, ledger)
            _end(night, ledger)
    return night


def plan_only(config: Config, means: Means) -> Night:
    """Probe and decide as `run` does; mail nobody, write nothing, need no ledger."""
    night = Night(config, means, prepare(config, means), means.clock(), run_id="")
    with read_ledger(config) as ledger:
        memory = Scratch(ledger, config.docusign.scope)
        trust(memory.last_run(), night.started)
        probe(night, memory)
        _decide(night, memory, approved=None)
    night.problems += [_as_problem(trip, night.planned) for trip in night.trips if not trip.liftable]
    return night


def rewrite_report(config: Config, means: Means) -> list[Path]:
    """Write the report again from roster and ledger, without any network. Raises LedgerError where there is no ledger.

    Raises Busy while a run holds the campaign: half a night would look like a whole one, and might replace it.
    """
    roster = read_roster(config)
    report.check(config.report.directory)
    with hold(config), read_ledger(config) as ledger:
        if ledger is None:
            raise LedgerError(f"{config.ledger_name} knows nothing of this campaign", "the first night makes it: campaign run")
        ledger.meet(roster.users)
        return reporting.write(config, roster, read_customers(config), ledger.standings(), ledger, means)


def _begin(night: Night, ledger: Ledger) -> None:
    """Open the run in the ledger. What a killed run left in flight is settled as unknown there."""
    trust(ledger.last_run(), night.started)
    witness_of(night.config, ledger)
    ledger.begin(night.run_id, night.started)


def _decide(night: Night, memory: Memory, approved: int | None) -> None:
    """Make the whole plan, then let the guards look at it; without their leave it mails nobody."""
    users = night.given.roster.users
    try:
        rehearse(night, _terms(night, memory))
    except TemplateError as error:
        night.problems.append(error)
    night.planned = len(night.messages)
    if not night.problems:
        asked = {user.user_id: night.standings[user.user_id] for user in users if not user.closed}
        passed = memory.last_passed()
        seen = guards.Night(
            night.canary, night.findings, asked, passed.at, passed.users, night.planned, night.config.docusign.scope, passed.scope
        )
        night.trips = guards.check(seen, night.config.guards, approved)
    if night.withheld:
        reason = _why_withheld(night)
        for decided in (night.decisions, night.asking, night.escalations):
            decided[:] = _without_mail(decided, reason)


def _terms(night: Night, memory: Memory) -> plan.Terms:
    config, now = night.config, night.means.clock()
    sent, per_day = memory.mailed_since(now - plan.DAY), config.mail.per_day
    return plan.Terms(
        policy=config.policy,
        now=now,
        scope=config.docusign.scope,
        run=config.policy.max_per_run,
        day=plan.room(sent, per_day, now, timedelta(seconds=night.means.waits.room)) if per_day else config.policy.max_per_run,
        domains=frozenset(domain.lower() for domain in config.mail.allowed_domains),
        mailed=memory.last_mailed(),
        refused=memory.refused(),
        left_alone=left_alone(config, night.customers, night.standings, now),
    )


def _without_mail(decisions: list[Decision], reason: Reason) -> list[Decision]:
    return [d._replace(action=Action.NONE, step=0, reason=reason) if d.action else d for d in decisions]


def _why_withheld(night: Night) -> Reason:
    if night.problems:
        return Reason.STOPPED
    return Reason.NOT_APPROVED if all(trip.liftable for trip in night.trips) else Reason.GUARD


def _as_problem(trip: Trip, planned: int) -> GuardTripped:
    go_on = f". If this night is as it should be: campaign run --approve {planned}" if trip.liftable else ""
    return GuardTripped(f"guard {trip.guard}: {trip.seen}", f"{trip.meaning}{go_on}")


def _mail(night: Night, ledger: Ledger) -> None:
    """Hand the planned messages to the relay, each in its own slot."""
    if not night.messages:
        return
    ledger.let_through(night.means.clock(), sum(not user.closed for user in night.given.roster.users))
    with ExitStack() as connections:
        for mailer in night.given.mailers:
            connections.enter_context(mailer)
        done = hand_over(night, night.messages, ledger)
    night.standings = of_roster(night, ledger.standings())
    for decided in (night.decisions, night.asking):
        decided[:] = [done.decisions[d.user.user_id, d.step] if d.action else d for d in decided]
    night.escalations = [done.decisions[d.user.user_id, d.step] for d in night.escalations if d.action]
    night.deliveries = done.deliveries
    night.problems += done.problems
    _mention_escalations(night)


def _mention_escalations(night: Night) -> None:
    """Let the report say that a manager was written to, where nothing else was done for the user."""
    told = {decision.user.user_id for decision in night.escalations if decision.action}
    night.decisions = [
        d._replace(action=Action.ESCALATED) if d.user.user_id in told and not d.action else d for d in night.decisions
    ]


def _end(night: Night, ledger: Ledger) -> None:
    """Remember the decisions, write the report, and close the run."""
    night.standings |= ledger.note_decisions([*night.decisions, *night.asking], night.standings)
    rejects = _rejects(night)
    new = ledger.new_rejects(rejects)
    night.attention = [told for mark, told in rejects.items() if mark in new]
    night.attention += [_in_words(news) for news in ledger.news()]
    ledger.note_counts(json.dumps(night.as_record()))
    try:
        given, standings = night.given, night.standings
        night.reports = reporting.write(night.config, given.roster, given.administrators, standings, ledger, night.means)
    except CampaignError as error:
        night.problems.append(error)
    night.finished = night.means.clock()
    ledger.finish(night.finished, night.exit_code, rejects)
    witness_of(night.config, ledger)


def _rejects(night: Night) -> dict[str, str]:
    """The rows that cannot be used, of the roster and of the customers' file, by their fingerprints."""
    files = ((night.config.roster.file, night.rejects), (night.config.customers.file, night.unfit_customers))
    return {_fingerprint(reject): f"{file}:{reject.line}: {reject.reason}" for file, rejects in files for reject in rejects}


def _fingerprint(reject: Reject) -> str:
    """Recognises a rejected row from night to night, whatever line it stands in."""
    return hashlib.sha256(repr((reject.reason, reject.user_id, reject.email, reject.name)).encode()).hexdigest()


def _in_words(news: News) -> str:
    return f"{news.email}: {EVENTS[news.what]}{f' ({news.detail})' if news.detail else ''}"
