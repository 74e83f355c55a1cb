"""What can be learnt of Docusign before anybody of the roster is asked about."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial

from campaign import guards
from campaign.config import Config
from campaign.doctor.steps import attempt, in_turn, not_checked
from campaign.docusign import Prober, Signer
from campaign.docusign.survey import Survey
from campaign.errors import DocusignUnreachable, GuardTripped
from campaign.given import Means
from campaign.model import Check, Finding, Grade, Status

_HANDFUL = 5  # canaries; one that is granted is enough for a night


def account(config: Config, means: Means, signer: Signer | None) -> Iterator[Check]:
    """The account server, its consent page and its clock; and with a key to sign with, the canaries."""
    server = Survey(config.docusign, means.clock)
    reached = attempt("account server", server.reach)
    yield reached
    if reached.grade is Grade.BAD:
        yield not_checked(["consent page", "clock", "canary"])
        return
    yield attempt("consent page", server.open_consent_page)
    canary = {"canary": partial(_canary, config, means, signer)} if signer else {}
    yield from in_turn({"clock": server.compare_clocks, **canary})
    if not signer:
        yield not_checked(["canary"])


def _canary(config: Config, means: Means, signer: Signer) -> Check:
    found = _ask(config, means, signer)
    if found and all(finding.status is Status.UNKNOWN for finding in found):
        what = f"{config.docusign.server}: no usable answer for any canary, the last: {found[-1].detail}"
        raise DocusignUnreachable(what, "check the network; Docusign's status page tells of outages")
    night = guards.Night(canary=found, findings=(), standings={}, passed_at=None, passed_users=0, planned=0)
    for trip in guards.check(night, config.guards, approved=None):
        raise GuardTripped(trip.seen, trip.meaning)
    if lacking := [finding for finding in found if finding.status is not Status.GRANTED]:
        told = ", ".join(f"{finding.user_id} answered {finding.status}" for finding in lacking)
        advice = "let them accept at the link of `campaign link`, or take them out of [docusign] canary"
        return Check("canary", Grade.DOUBT, f"{len(found) - len(lacking)} granted, but {told}", advice)
    return Check("canary", Grade.GOOD, f"granted for {', '.join(finding.user_id for finding in found)}")


def _ask(config: Config, means: Means, signer: Signer) -> list[Finding]:
    with closing(Prober(config.docusign, signer, means.clock, means.stop, back_off=means.waits.probe)) as prober:
        return list(prober.probe(config.docusign.canary[:_HANDFUL]))
