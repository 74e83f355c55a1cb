"""What a finding changes in what is remembered of a user (pure)."""

from dataclasses import replace
from datetime import datetime

from campaign.model import Finding, Standing, Status

_ANSWERS = {Status.GRANTED, Status.CONSENT_REQUIRED, Status.USER_NOT_FOUND}


def learn(standing: Standing, finding: Finding, now: datetime) -> Standing:
    """The standing after this finding. What is no answer changes no knowledge: unknown is not no."""
    trace = f" (trace {finding.trace})" if finding.trace and finding.status is Status.UNKNOWN else ""
    after = replace(standing, found=finding.status, detail=finding.detail + trace, last_probed=now)
    if finding.status not in _ANSWERS:
        return after
    after = replace(after, status=finding.status)
    if finding.status is Status.GRANTED:
        since = standing.granted_at if standing.status == Status.GRANTED else now
        return replace(after, granted_at=since, verified_at=now, lacking_since=None, revoked_at=None)
    if finding.status is Status.CONSENT_REQUIRED and standing.status != Status.CONSENT_REQUIRED:
        revoked = now if standing.granted_at else standing.revoked_at
        return replace(after, lacking_since=now, revoked_at=revoked, granted_at=None)
    return after


def change(before: Standing, after: Standing) -> str:
    """The event that this step is worth in the user's history; "" if nothing changed."""
    if after.revoked_at and after.revoked_at != before.revoked_at:
        return "revoked"
    if after.found == Status.UNKNOWN:
        return "no_answer"  # a message can be `unknown` too
    return after.found if after.found not in {before.found, before.status} else ""
