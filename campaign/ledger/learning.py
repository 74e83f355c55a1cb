"""What a finding changes in what is remembered of a user (pure)."""

from datetime import datetime
from typing import Any

from campaign.customers import is_customer
from campaign.model import Finding, Standing, Status, beyond

_ANSWERS = {Status.GRANTED, Status.CONSENT_REQUIRED, Status.USER_NOT_FOUND}


def learn(standing: Standing, finding: Finding, now: datetime, scope: str) -> Standing:
    """The standing after this finding, for which `scope` was asked. What is no answer changes no knowledge: unknown is not no.

    A consent that did not hold all of these scopes is not taken back when it turns out to be too little.
    """
    trace = f" (trace {finding.trace})" if finding.trace and finding.status is Status.UNKNOWN else ""
    learnt: dict[str, Any] = {"found": finding.status, "detail": finding.detail + trace, "last_probed": now}
    if finding.status in _ANSWERS:
        learnt |= {"status": finding.status, **_answered(standing, finding.status, now, scope)}
    return standing._replace(**learnt)


def _answered(before: Standing, answer: Status, now: datetime, scope: str) -> dict[str, Any]:
    """What an answer changes beside the status."""
    if answer is Status.GRANTED:
        since = before.granted_at if before.status == Status.GRANTED else now
        known = "" if is_customer(before.user_id) else scope  # a customer's consent is but inferred from its users'
        return {"granted_at": since, "verified_at": now, "granted_scope": known, "lacking_since": None, "revoked_at": None}
    if answer is Status.CONSENT_REQUIRED:
        return _lacking(before, now, beyond(scope, before.granted_scope))
    return {}


def _lacking(before: Standing, now: datetime, added: list[str]) -> dict[str, Any]:
    changed: dict[str, Any] = {"detail": f"consented before {', '.join(added)} was asked for"} if added else {}
    if before.status == Status.CONSENT_REQUIRED:
        return changed
    changed |= {"lacking_since": now, "granted_at": None}
    taken_back = before.granted_at and not added and not is_customer(before.user_id)
    return changed | {"revoked_at": now, "granted_scope": ""} if taken_back else changed


def change(before: Standing, after: Standing) -> str:
    """The event that this step is worth in the user's history; "" if nothing changed."""
    if after.revoked_at and after.revoked_at != before.revoked_at:
        return "revoked"
    if before.granted_at and not after.granted_at and not is_customer(before.user_id):
        return "outgrown"
    if after.found == Status.UNKNOWN:
        return "no_answer"  # a message can be `unknown` too
    return after.found if after.found not in {before.found, before.status} else ""
