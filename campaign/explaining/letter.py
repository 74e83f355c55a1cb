"""The facts of one user as a letter (pure)."""

import shlex
from collections.abc import Iterator

from campaign.errors import ExitCode
from campaign.explaining.coming import following
from campaign.explaining.facts import Facts, message_name
from campaign.ledger import Event, Letter
from campaign.ledger.masking import is_masked
from campaign.ledger.records import Told, told_of
from campaign.model import ESCALATION, Outcome, Reject, Status, printable
from campaign.showing.page import Line, Page, Table, Tone, spaced
from campaign.words import ENDINGS, EVENTS, MESSAGES

_REMOVED = "a user whose personal data were removed: what is left are the number and dates of messages"
_NOT_READ = "That the relay accepted a message means that it was handed over, not that somebody has read it."
_QUOTED = {"unknown": "why", "returned": "the notice says", "bounced": "the notice says", "arrived": "reason", "lost": "reason"}
_MOST = 2000  # characters of foreign text


def letter(facts: Facts) -> Page:
    """Who it is and where it stands; what happened, in order; what comes next, when, and why."""
    standing = facts.standing
    who = _REMOVED if is_masked(standing.user_id) else f"{standing.email} ({standing.user_id})"
    stopped = [f"Nobody is asked or mailed while this file is there: {facts.config.stop_file}"] if facts.is_stopped else []
    return spaced(
        [Line(who, Tone.HEAD)],
        [Line(_stands(facts)), *map(Line, _customer(facts))],
        *_history(facts),
        [Line("What happens next", Tone.HEAD)],
        map(Line, [*stopped, *following(facts)]),
        map(Line, _last_run(facts)),
    )


def _stands(facts: Facts) -> str:
    """Where it stands, in one sentence."""
    standing, row = facts.standing, facts.row
    if row:
        unusable = f", in a row that cannot be used: {row.reason}" if isinstance(row, Reject) else ""
        return f"In the roster at line {row.line}{unusable or '; no night has asked about this user yet'}."
    if standing.status == Status.GRANTED and standing.granted_at:
        seen = "seems to be" if facts.is_administrator else "is"
        return f"Consent {seen} there: first seen on {facts.local(standing.granted_at)}{_so_far(facts)}."
    if facts.lacks_consent:
        lacks = "was there, and is lacking again" if standing.revoked_at else "is lacking"
        if added := facts.added:
            lacks = f"was there before {', '.join(added)} was asked for, and is lacking for that"
        return f"Consent {lacks}{_so_far(facts)}."
    if standing.status == Status.USER_NOT_FOUND:
        return f"Docusign does not know this user id{_so_far(facts)}."
    if is_masked(standing.user_id):
        return f"Nothing is kept of what Docusign said{_so_far(facts)}."
    asked = "has given no usable answer about" if standing.last_probed else "has not been asked about"
    return f"Docusign {asked} this user yet{_so_far(facts)}."


def _customer(facts: Facts) -> Iterator[str]:
    """The customer of an ISV whose user or administrator this is, in figures."""
    if one := facts.customer:
        who = "Administrator of" if facts.is_administrator else f"A user of {one.customer}, whose administrator is"
        figures = f"of its {one.users} users {one.granted} are granted and {one.lacking} lack consent"
        yield f"{who} {one.customer if facts.is_administrator else one.administrator}: {figures}."


def _so_far(facts: Facts) -> str:
    standing = facts.standing
    if not standing.messages or not standing.last_sent:
        return "; no message has been sent"
    unsure = ", of which it is not known whether it arrived" if standing.last_outcome == Outcome.UNKNOWN else ""
    count = f"messages so far: {standing.messages} of at most {facts.most}"
    return f"; {count}, the last on {facts.local(standing.last_sent)}{unsure}"


def _history(facts: Facts) -> Iterator[list[Line] | list[Table]]:
    if not facts.events:
        return
    zone = facts.config.policy.timezone
    first = f" (the first is {facts.events[0].at:%Y-%m-%d %H:%M} UTC)" if zone != "UTC" else ""
    yield [Line(f"What happened; times are in {zone}{first}", Tone.HEAD)]
    yield [Table(("when", "what"), [(facts.local(event.at), "\n".join(_lines(facts, event))) for event in facts.events])]
    if any(event.what == Outcome.ACCEPTED for event in facts.events):
        yield [Line(_NOT_READ)]


def _lines(facts: Facts, event: Event) -> Iterator[str]:
    """An event in words, with what belongs to it below."""
    told = told_of(event.detail)
    if told and event.what in MESSAGES:
        yield from _of_message(facts, event, told)
        return
    words, detail = EVENTS.get(event.what, event.what), printable(event.detail, _MOST)
    yield f"{words} ({detail})" if detail and detail != event.what else words


def _of_message(facts: Facts, event: Event, told: Told) -> Iterator[str]:
    sent = facts.letters.get(told.message_id)
    is_current = bool(sent and sent.outcome == event.what)  # else it may have gone to another address since
    to = f" to {sent.recipient}" if sent and sent.recipient and is_current else ""
    number = f" (message {told.step})" if told.step != ESCALATION else ""
    what = "given up" if sent and is_current and _is_given_up(facts, sent, event) else event.what
    yield MESSAGES[what].format(message=f"{message_name(told.step)}{number}", to=to)
    said = f"; {_QUOTED.get(event.what, 'the relay said')}: {printable(told.said, _MOST)}" if told.said else ""
    yield f"Message-ID {told.message_id}{said}"
    if event.what == Outcome.UNKNOWN and is_current:
        yield "look for that Message-ID in the relay's log, then settle it by one of these:"
        yield from (f"  campaign resolve {shlex.quote(told.message_id)} {flag}" for flag in ("--arrived", "--lost"))


def _is_given_up(facts: Facts, sent: Letter, event: Event) -> bool:
    """Whether the relay put the message off for the last time."""
    if sent.outcome != Outcome.DEFERRED or event is not [e for e in facts.events if sent.message_id in e.detail][-1]:
        return False
    standing = facts.standing
    return standing.escalated if sent.step == ESCALATION else not (standing.attempts and sent.step == standing.used + 1)


def _last_run(facts: Facts) -> Iterator[str]:
    run = facts.last_run
    if run is None:
        yield "No run has been noted yet."
        return
    ended = "has not ended: it is under way, or was killed" if run.exit_code is None else ENDINGS[ExitCode(run.exit_code)]
    yield f"The last run, on {facts.local(run.started)}, {ended}. {facts.why}".rstrip()
    if facts.is_overdue:
        yield "No run has been noted for more than 36 hours: see whether cron still starts it, and what it says: campaign doctor"
