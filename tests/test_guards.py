"""A mass failure must never become mass mail."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from campaign.config import Guards
from campaign.guards import Night, check
from campaign.model import Finding, Standing, Status
from tests.world import CANARY, email, user_id

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
LAST_NIGHT = NOW - timedelta(days=1)
GRANTED = Finding(CANARY, Status.GRANTED)


def lacking(number: int, since: datetime = LAST_NIGHT, **changes: Any) -> Standing:
    return Standing(user_id(number), email(number), status=Status.CONSENT_REQUIRED, lacking_since=since, **changes)


def granted(number: int) -> Standing:
    return Standing(user_id(number), email(number), status=Status.GRANTED)


def tripped(approved: int | None = None, guards: Guards | None = None, **changes: Any) -> dict[str, bool]:
    """The guards that trip on a night that is well but for these changes, and whether each was lifted."""
    standings = changes.pop("standings", [lacking(n) for n in range(100)])
    well: dict[str, Any] = {
        "canary": [GRANTED],
        "findings": [Finding(s.user_id, Status(s.status)) for s in standings],
        "standings": {s.user_id: s for s in standings},
        "passed_at": LAST_NIGHT,
        "passed_users": len(standings),
        "planned": 5,
    }
    return {trip.guard: trip.lifted for trip in check(Night(**{**well, **changes}), guards or Guards(), approved)}


def test_an_ordinary_night_trips_nothing() -> None:
    assert tripped() == {}


@pytest.mark.parametrize("canary", [[], [Finding(CANARY, Status.CONSENT_REQUIRED)], [Finding(CANARY, Status.UNKNOWN)]])
def test_without_a_granted_canary_no_approval_helps(canary: list[Finding]) -> None:
    assert tripped(approved=1000, canary=canary) == {"canary": False}


def test_one_granted_canary_is_enough() -> None:
    assert tripped(canary=[Finding(user_id(7), Status.UNKNOWN), GRANTED]) == {}


def test_too_many_answers_that_are_none_stop_the_night() -> None:
    def findings(unknown: int) -> list[Finding]:
        return [Finding(user_id(n), Status.UNKNOWN if n < unknown else Status.CONSENT_REQUIRED) for n in range(100)]

    assert tripped(approved=1000, findings=findings(11)) == {"error_share": False}
    assert tripped(findings=findings(10)) == {}


def test_the_first_night_needs_an_approval_of_at_least_its_messages() -> None:
    assert tripped(passed_at=None) == {"first_run": False}
    assert tripped(passed_at=None, approved=4) == {"first_run": False}
    assert tripped(passed_at=None, approved=5) == {"first_run": True}


def test_a_night_that_mails_nobody_needs_no_approval() -> None:
    assert tripped(passed_at=None, planned=0) == {}


def test_a_jump_of_the_newly_lacking_needs_an_approval() -> None:
    crowd = [lacking(n, NOW if n < 26 else LAST_NIGHT) for n in range(100)]

    assert tripped(standings=crowd) == {"new_lacking": False}
    assert tripped(standings=crowd, approved=5) == {"new_lacking": True}
    assert tripped(standings=crowd[1:]) == {}


def test_a_large_campaign_may_jump_by_a_fifth() -> None:
    crowd = [lacking(n, NOW if n < 200 else LAST_NIGHT) for n in range(1000)]

    assert tripped(standings=crowd) == {}
    assert tripped(standings=[*crowd, lacking(1001, NOW), lacking(1002, NOW)]) == {"new_lacking": False}


def test_a_jump_stays_one_until_a_night_is_let_through() -> None:
    crowd = [lacking(n, NOW) for n in range(50)]

    assert tripped(standings=crowd, passed_at=NOW - timedelta(days=9)) == {"new_lacking": False}


def test_many_who_lose_their_consent_together_need_an_approval() -> None:
    lost = [lacking(n, NOW, revoked_at=NOW) for n in range(4)]
    crowd = [*lost, *(granted(n) for n in range(4, 100))]

    assert tripped(standings=crowd) == {"regressions": False}
    assert tripped(standings=crowd[1:]) == {}
    assert tripped(standings=[*crowd, *(granted(n) for n in range(100, 300))]) == {}


@pytest.mark.parametrize(("before", "trips"), [(100, {}), (143, {"roster_change": False}), (76, {"roster_change": False})])
def test_a_roster_that_grew_or_shrank_by_a_third_needs_an_approval(before: int, trips: dict[str, bool]) -> None:
    assert tripped(passed_users=before) == trips
