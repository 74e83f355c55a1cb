"""What a finding changes in what is remembered of a user (pure)."""

from dataclasses import replace
from datetime import datetime

from campaign.customers import is_customer
from campaign.model import Finding, Standing, Status, beyond

_ANSWERS = {Status.GRANTED, Status.CONSENT_REQUIRED, Status.USER_NOT_FOUND}


def learn(standing: Standing, finding: Finding, now: datetime, scope: str) -> Standing:
    """The standing after this finding, for which `scope` was asked. What is no answer changes no knowledge: unknown is not no.

    A consent that did not hold all of these scopes is not taken back when it turns out to be too little.
    """
    trace = f" (trace {finding.trace})" if finding.trace and finding.status is Status.UNKNOWN else ""
    after = replace(standing, found=finding.status, detail=finding.detail + trace, last_probed=now)
    if finding.status not in _ANSWERS:
        return after
    after = replace(after, status=finding.status)
    if finding.status is Status.GRANTED:
        since = standing.granted_at if standing.status == Status.GRANTED else now
        known = "" if is_customer(standing.user_id) else scope  # a customer's consent is but inferred from its users'
        return replace(after, granted_at=since, verified_at=now, granted_scope=known, lacking_since=None, revoked_at=None)
    if finding.status is Status.CONSENT_REQUIRED:
        return _lacking(standing, after, now, beyond(scope, standing.granted_scope))
    return after


def _lacking(before: Standing, after: Standing, now: datetime, added: list[str]) -> Standing:
    after = replace(after, detail=f"consented before {', '.join(added)} was asked for") if added else after
    if before.status == Status.CONSENT_REQUIRED:
        return after
    after = replace(after, lacking_since=now, granted_at=None)
    taken_back = before.granted_at and not added and not is_customer(before.user_id)
    return replace(after, revoked_at=now, granted_scope="") if taken_back else after


def change(before: Standing, after: Standing) -> str:
    """The event that this step is worth in the user's history; "" if nothing changed."""
    if after.revoked_at and after.revoked_at != before.revoked_at:
        return "revoked"
    if before.granted_at and not after.granted_at and not is_customer(before.user_id):
        return "outgrown"
    if after.found == Status.UNKNOWN:
        return "no_answer"  # a message can be `unknown` too
    return after.found if after.found not in {before.found, before.status} else ""
