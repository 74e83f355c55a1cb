"""May this night mail at all? A mass failure must never become mass mail (pure)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from campaign.config import Guards
from campaign.model import Finding, Standing, Status, Trip

_SHARE_OF_GRANTED = 0.02  # regressions beyond the configured number, on a large campaign
_SHARE_OF_USERS = 0.20  # newly lacking beyond the configured number, on a large campaign


@dataclass(frozen=True, slots=True)
class Night:
    """What the guards look at. `standings` are tonight's, of the roster's users; `passed_at` is the last night that mailed."""

    canary: Sequence[Finding]
    findings: Sequence[Finding]
    standings: Mapping[str, Standing]
    passed_at: datetime | None
    passed_users: int
    planned: int  # messages that this night would send


def check(night: Night, guards: Guards, approved: int | None) -> list[Trip]:
    """All guards that trip. Those that can be lifted are, where `approved` covers every message of this night.

    Jumps are measured against the last night that was let through, not against yesterday: a night that was stopped
    would otherwise make the next one look normal. A night that would mail nobody has nothing to lift.
    """
    trips = [*_canary(night), *_errors(night, guards)]
    if night.planned:
        liftable = [*_first(night), *_lacking(night, guards), *_regressions(night, guards), *_roster(night, guards)]
        covered = approved is not None and night.planned <= approved
        trips += [replace(trip, lifted=covered) for trip in liftable]
    return trips


def _canary(night: Night) -> Iterable[Trip]:
    if not night.canary:
        what = "no canary is configured"
    elif any(finding.status is Status.GRANTED for finding in night.canary):
        return
    else:
        what = "of the canary users " + ", ".join(f"{f.user_id} answered {f.status}" for f in night.canary)
    meaning = (
        "A canary is a user known to have consented. If even that one is not granted, the fault is in scopes, client_id or "
        "environment, and everybody would look as if they lacked consent. Let a canary accept at the link of `campaign link`"
    )
    yield Trip("canary", what, meaning, liftable=False)


def _errors(night: Night, guards: Guards) -> Iterable[Trip]:
    unknown = sum(finding.status is Status.UNKNOWN for finding in night.findings)
    if unknown > guards.max_error_share * len(night.findings):
        share = f"more than max_error_share = {guards.max_error_share:g}"
        seen = f"{unknown} of {len(night.findings)} users got no usable answer, {share}"
        yield Trip("error_share", seen, "An outage at Docusign or in the network. Run again when it is over", liftable=False)


def _first(night: Night) -> Iterable[Trip]:
    if night.passed_at is None:
        seen = f"no night of this campaign has mailed yet; this one would send {night.planned}"
        yield Trip(
            "first_run", seen, "Look at the plan, and at one message (campaign preview), before the first mail", liftable=True
        )


def _lacking(night: Night, guards: Guards) -> Iterable[Trip]:
    if night.passed_at is None:
        return
    new = sum(_is_lacking(s) and _later(s.lacking_since, night.passed_at) for s in night.standings.values())
    most = max(guards.max_new_lacking, _SHARE_OF_USERS * len(night.standings))
    if new > most:
        seen = f"{new} users newly lack consent since the last night that mailed; {most:.0f} would pass"
        yield Trip("new_lacking", seen, "A new group in the roster, or scopes that nobody has consented to yet", liftable=True)


def _regressions(night: Night, guards: Guards) -> Iterable[Trip]:
    if night.passed_at is None:
        return
    standings = night.standings.values()
    lost = sum(_is_lacking(s) and _later(s.revoked_at, night.passed_at) for s in standings)
    most = max(guards.max_regressions, _SHARE_OF_GRANTED * (lost + sum(s.status == Status.GRANTED for s in standings)))
    if lost > most:
        seen = f"{lost} users who had consented lack it now; {most:.0f} would pass"
        yield Trip(
            "regressions", seen, "Changed scopes or a changed integration key; people seldom revoke together", liftable=True
        )


def _roster(night: Night, guards: Guards) -> Iterable[Trip]:
    before, now = night.passed_users, len(night.standings)
    if night.passed_at and before and abs(now - before) > guards.max_roster_change * before:
        seen = f"the roster has {now} users, it had {before} on the last night that mailed"
        yield Trip("roster_change", seen, "An export with another filter, or cut short", liftable=True)


def _is_lacking(standing: Standing) -> bool:
    return standing.status == Status.CONSENT_REQUIRED


def _later(instant: datetime | None, than: datetime) -> bool:
    return instant is not None and instant > than
