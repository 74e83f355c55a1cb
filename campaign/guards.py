"""May this night mail at all? A mass failure must never become mass mail (pure)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import floor

from campaign.config import Guards
from campaign.model import Finding, Standing, Status, Trip, beyond

_SHARE_OF_GRANTED = 0.02  # regressions beyond the configured number, on a large campaign
_SHARE_OF_USERS = 0.20  # newly lacking beyond the configured number, on a large campaign
_NAMED = 3  # users that are named as examples


@dataclass(frozen=True, slots=True)
class Night:
    """What the guards look at. `standings` are tonight's, of the roster's users; `passed_at` is the last night that mailed."""

    canary: Sequence[Finding]
    findings: Sequence[Finding]
    standings: Mapping[str, Standing]
    passed_at: datetime | None
    passed_users: int
    planned: int  # messages that this night would send
    scope: str = ""  # that is asked for
    passed_scope: str = ""  # that was asked for on the last night that mailed; "" = not known


def check(night: Night, guards: Guards, approved: int | None) -> list[Trip]:
    """All guards that trip. Those that can be lifted are, where `approved` covers every message of this night.

    Jumps are measured against the last night that was let through, not against yesterday: a night that was stopped
    would otherwise make the next one look normal. A night that would mail nobody has nothing to lift, and while answers are
    missing no approval could be given.
    """
    if trips := [*_canary(night), *_errors(night, guards)]:
        return trips
    liftable = [*_first(night), *_scopes(night), *_lacking(night, guards), *_regressions(night, guards), *_roster(night, guards)]
    covered = approved is not None and night.planned <= approved
    return [replace(trip, lifted=covered) for trip in liftable] if night.planned else []


def _canary(night: Night) -> Iterable[Trip]:
    if not night.canary:
        what = "no canary is configured ([docusign] canary)"
    elif any(finding.status is Status.GRANTED for finding in night.canary):
        return
    else:
        told = ", ".join(f"{finding.user_id} answered {finding.status}" for finding in night.canary)
        what = f"of {len(night.canary)} canary users none is granted: {told}"
    meaning = (
        "A canary is a user known to have consented. If even that one is not granted, the fault is in scopes, client_id or "
        "environment, and everybody would look as if they lacked consent. Let a canary accept at the link of `campaign link`, "
        "then: campaign run"
    )
    yield Trip("canary", what, meaning, liftable=False)


def _errors(night: Night, guards: Guards) -> Iterable[Trip]:
    wrong = Counter(finding.detail for finding in night.findings if finding.status is Status.UNKNOWN)
    most = _part(guards.max_error_share, len(night.findings))
    if wrong.total() > most:
        common, times = wrong.most_common(1)[0]
        seen = f"{wrong.total()} of {len(night.findings)} users got no usable answer ({times} times {common}); {most} would pass"
        meaning = (
            "An outage at Docusign or in the network; when it is over: campaign run. If it is the same users every night, "
            "Docusign has trouble with their accounts: take them out of the roster"
        )
        yield Trip("error_share", seen, meaning, liftable=False)


def _first(night: Night) -> Iterable[Trip]:
    if night.passed_at is None:
        seen = f"no night of this campaign has mailed yet, or none since campaign adopt; this one would send {night.planned}"
        yield Trip(
            "first_run", seen, "Look at the plan, and at one message (campaign preview), before the first mail", liftable=True
        )


def _scopes(night: Night) -> Iterable[Trip]:
    """Asking for more is a new question to everybody, so somebody must mean it; asking for less is none to anybody."""
    added = beyond(night.scope, night.passed_scope)
    if night.passed_at and added:
        again = sum(_is_lacking(s) and bool(beyond(night.scope, s.granted_scope)) for s in night.standings.values())
        seen = f"{', '.join(added)} is asked for since {_last(night.passed_at)}; {again} users who had consented must do so again"
        meaning = "A consent for fewer scopes is none for more. If nobody meant that, take the scope out of [docusign] scopes"
        yield Trip("scopes", seen, meaning, liftable=True)


def _lacking(night: Night, guards: Guards) -> Iterable[Trip]:
    if night.passed_at is None:
        return
    new = sum(_is_lacking(s) and _later(s.lacking_since, night.passed_at) for s in night.standings.values())
    most = max(guards.max_new_lacking, _part(_SHARE_OF_USERS, len(night.standings)))
    if new > most:
        seen = f"{new} of {len(night.standings)} users newly lack consent since {_last(night.passed_at)}; {most} would pass"
        yield Trip("new_lacking", seen, "A new group in the roster, or scopes that nobody has consented to yet", liftable=True)


def _regressions(night: Night, guards: Guards) -> Iterable[Trip]:
    if night.passed_at is None:
        return
    standings = night.standings.values()
    lost = [s.user_id for s in standings if _is_lacking(s) and _later(s.revoked_at, night.passed_at)]
    had = len(lost) + sum(s.status == Status.GRANTED for s in standings)
    most = max(guards.max_regressions, _part(_SHARE_OF_GRANTED, had))
    if len(lost) > most:
        named = ", ".join(lost[:_NAMED]) + (", …" if len(lost) > _NAMED else "")
        seen = f"{len(lost)} of {had} users who had consented lack it since {_last(night.passed_at)} ({named}); {most} would pass"
        meaning = "Changed scopes or a changed integration key; people seldom revoke together (campaign explain USER)"
        yield Trip("regressions", seen, meaning, liftable=True)


def _roster(night: Night, guards: Guards) -> Iterable[Trip]:
    before, now = night.passed_users, len(night.standings)
    most = _part(guards.max_roster_change, before)
    if night.passed_at and before and abs(now - before) > most:
        change = f"{abs(now - before)} {'more' if now > before else 'fewer'} than the {before}"
        seen = f"the roster has {now} users, {change} of {_last(night.passed_at)}; a change of {most} would pass"
        yield Trip("roster_change", seen, "An export with another filter, or cut short", liftable=True)


def _part(share: float, whole: int) -> int:
    """The most users that are no more than this share of all; 0.29 of 100 are 29, whatever binary fractions make of it."""
    return floor(round(share * whole, 6))


def _last(passed_at: datetime) -> str:
    return f"the last night that mailed ({passed_at:%Y-%m-%d})"


def _is_lacking(standing: Standing) -> bool:
    return standing.status == Status.CONSENT_REQUIRED


def _later(instant: datetime | None, than: datetime) -> bool:
    return instant is not None and instant > than
