"""Asks first the canaries, then everybody whose consent is not fresh; a night commits what is found before it believes it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from functools import partial

from campaign import guards, plan
from campaign.config import Config, Docusign
from campaign.customers import finding
from campaign.docusign import Prober, Signer
from campaign.errors import CampaignError, DocusignUnreachable, GuardTripped, LedgerError
from campaign.given import Means
from campaign.ledger import Memory
from campaign.model import Finding, Standing, Status, User, beyond
from campaign.night import Night
from campaign.stopping import stop_if_asked

_BATCH = 500  # findings in one commit
_ASLEEP = timedelta(hours=2)  # between two answers; the longest pause is an hour, at probes_per_hour = 1


def probe(night: Night, memory: Memory) -> None:
    """Fill in the night's findings and standings. What stops it is a problem of the night; only LedgerError is raised."""
    everybody, known = [*night.given.roster.users, *night.administrators], memory.standings()
    before = of_roster(night, memory.enrol(everybody, known, night.started))
    night.left = _without(everybody, known)
    night.standings = dict(before)
    try:
        _ask(night, memory, before)
    except LedgerError:
        raise
    except CampaignError as error:
        night.problems.append(error)


def _without(users: Iterable[User], known: Mapping[str, Standing]) -> list[Standing]:
    """Whom the ledger knows by name and the roster does not show."""
    present = {user.user_id for user in users}
    return [standing for user_id, standing in known.items() if user_id not in present and standing.email]


def ask(config: Config, means: Means, signer: Signer, user_ids: Iterable[str]) -> list[Finding]:
    """What Docusign answers about a few users, asked as safely as in a night: the canaries first. Nothing is noted.

    Raises GuardTripped where no canary is granted or the STOP file is there, DocusignRefused, DocusignUnreachable, Interrupted.
    """
    stop_if_asked(means.stop, config.stop_file)
    with closing(Prober(config.docusign, signer, means.clock, means.stop, back_off=means.waits.probe)) as prober:
        canary = list(prober.probe(config.docusign.canary))
        _canary_speaks(canary, config.docusign)
        for trip in guards.check(guards.Night(canary, (), {}, None, 0, 0), config.guards, approved=None):
            raise GuardTripped(f"guard {trip.guard}: {trip.seen}", trip.meaning)
        findings = list(prober.probe(user_ids))
    stop_if_asked(means.stop, config.stop_file)
    return findings


def of_roster(night: Night, standings: Mapping[str, Standing]) -> dict[str, Standing]:
    """The standings of the roster's users and of customers' administrators, also of those who are new."""
    everybody = [*night.given.roster.users, *night.administrators]
    return {user.user_id: standings.get(user.user_id) or Standing(user.user_id, user.email) for user in everybody}


def _ask(night: Night, memory: Memory, before: Mapping[str, Standing]) -> None:
    config, means = night.config, night.means
    stop_if_asked(means.stop, config.stop_file)
    waits = {"back_off": means.waits.probe, "pauses": means.waits.outage}
    waiting = partial(means.waiting, "probing")
    with closing(Prober(config.docusign, night.given.signer, means.clock, means.stop, **waits, waiting=waiting)) as prober:
        night.canary = list(prober.probe(config.docusign.canary))
        if _canary_speaks(night.canary, config.docusign):
            night.standings |= memory.note(night.canary, before, means.clock())
            asked = {finding.user_id for finding in night.canary}
            others = (user for user in night.given.roster.users if user.user_id not in asked)
            todo = [user.user_id for user in others if _is_due(user, before[user.user_id], night)]
            with closing(prober.probe(todo)) as findings:
                _note_all(findings, len(todo), night, memory, before)
            _note_customers(night, memory)
    night.probed = means.clock()
    stop_if_asked(means.stop, config.stop_file)


def _canary_speaks(canary: Sequence[Finding], docusign: Docusign) -> bool:
    """Whether the other answers could be believed. Raises DocusignUnreachable where no canary got an answer at all."""
    if canary and all(finding.status is Status.UNKNOWN for finding in canary):
        what = f"{docusign.server}: no usable answer for any canary, the last: {canary[-1].detail}"
        raise DocusignUnreachable(what, "check the network; Docusign's status page tells of outages")
    return not docusign.canary or any(finding.status is Status.GRANTED for finding in canary)


def _is_due(user: User, standing: Standing, night: Night) -> bool:
    """Everybody is asked every night, but those who have consented only now and then: each answer is a live token.

    A consent is none for scopes that came later; for which scopes an older ledger's were, has to be asked once.
    """
    if user.closed or standing.forgotten_at:
        return False
    if standing.status != Status.GRANTED or standing.verified_at is None:
        return True
    if not standing.granted_scope or beyond(night.config.docusign.scope, standing.granted_scope):
        return True
    return standing.verified_at <= night.started - timedelta(days=night.config.docusign.verify_granted_days) + plan.EARLY


def _note_all(findings: Iterator[Finding], total: int, night: Night, memory: Memory, before: Mapping[str, Standing]) -> None:
    """Note findings in batches; the last ones also when the prober stops half-way.

    Raises GuardTripped after a sleep: those from before it would soon be too old to cause mail, and look as new as the others.
    """
    noted, answered = 0, night.means.clock()
    try:
        for finding in findings:
            night.was_awake_since(answered, _ASLEEP)
            answered = night.means.clock()
            night.findings.append(finding)
            night.means.progress("probing", len(night.findings), total)
            if len(night.findings) - noted == _BATCH:
                night.standings |= memory.note(night.findings[noted:], before, night.means.clock())
                noted = len(night.findings)
    finally:
        night.standings |= memory.note(night.findings[noted:], before, night.means.clock())


def _note_customers(night: Night, memory: Memory) -> None:
    """Note what the answers about a customer's users say of its administrator's consent."""
    if night.administrators:
        asked = (customer for customer in night.customers if not customer.administrator.fault)
        found = filter(None, (finding(customer, night.standings) for customer in asked))
        night.standings |= memory.note(found, night.standings, night.means.clock())
