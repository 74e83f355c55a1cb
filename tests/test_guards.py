"""A mass failure must never become mass mail."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from campaign.config import Guards
from campaign.errors import ExitCode
from campaign.given import Waits
from campaign.guards import Night, check
from campaign.ledger import read_ledger
from campaign.model import Finding, Standing, Status, Trip
from campaign.sandbox import CannedAnswer, json_answer
from tests.world import CANARY, World, email, user_id

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
LAST_NIGHT = NOW - timedelta(days=1)
GRANTED = Finding(CANARY, Status.GRANTED)


def lacking(number: int, since: datetime = LAST_NIGHT, **changes: Any) -> Standing:
    return Standing(user_id(number), email(number), status=Status.CONSENT_REQUIRED, lacking_since=since, **changes)


def granted(number: int) -> Standing:
    return Standing(user_id(number), email(number), status=Status.GRANTED)


def trips(approved: int | None = None, guards: Guards | None = None, **changes: Any) -> list[Trip]:
    """What trips on a night that is well but for these changes."""
    standings = changes.pop("standings", [lacking(n) for n in range(100)])
    well: dict[str, Any] = {
        "canary": [GRANTED],
        "findings": [Finding(s.user_id, Status(s.status)) for s in standings],
        "standings": {s.user_id: s for s in standings},
        "passed_at": LAST_NIGHT,
        "passed_users": len(standings),
        "planned": 5,
    }
    return check(Night(**{**well, **changes}), guards or Guards(), approved)


def tripped(approved: int | None = None, guards: Guards | None = None, **changes: Any) -> dict[str, bool]:
    """The guards that trip, and whether each was lifted."""
    return {trip.guard: trip.lifted for trip in trips(approved, guards, **changes)}


def seen(**changes: Any) -> str:
    """What the one guard that trips saw."""
    (only,) = trips(**changes)
    return only.seen


@pytest.mark.promise(5)
def test_an_ordinary_night_trips_nothing() -> None:
    assert tripped() == {}


@pytest.mark.promise(5)
@pytest.mark.parametrize("canary", [[], [Finding(CANARY, Status.CONSENT_REQUIRED)], [Finding(CANARY, Status.UNKNOWN)]])
def test_without_a_granted_canary_no_approval_helps(canary: list[Finding]) -> None:
    assert tripped(approved=1000, canary=canary) == {"canary": False}


def test_one_granted_canary_is_enough() -> None:
    assert tripped(canary=[Finding(user_id(7), Status.UNKNOWN), GRANTED]) == {}


@pytest.mark.promise(5)
def test_too_many_answers_that_are_none_stop_the_night() -> None:
    def findings(unknown: int) -> list[Finding]:
        return [Finding(user_id(n), Status.UNKNOWN if n < unknown else Status.CONSENT_REQUIRED) for n in range(100)]

    assert tripped(approved=1000, findings=findings(11)) == {"error_share": False}
    assert tripped(findings=findings(10)) == {}


@pytest.mark.promise(19)
def test_the_first_night_needs_an_approval_of_at_least_its_messages() -> None:
    assert tripped(passed_at=None) == {"first_run": False}
    assert tripped(passed_at=None, approved=4) == {"first_run": False}
    assert tripped(passed_at=None, approved=5) == {"first_run": True}


def test_a_night_that_mails_nobody_needs_no_approval() -> None:
    assert tripped(passed_at=None, planned=0) == {}


@pytest.mark.promise(5)
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


@pytest.mark.promise(5)
def test_many_who_lose_their_consent_together_need_an_approval() -> None:
    lost = [lacking(n, NOW, revoked_at=NOW) for n in range(4)]
    crowd = [*lost, *(granted(n) for n in range(4, 100))]

    assert tripped(standings=crowd) == {"regressions": False}
    assert tripped(standings=crowd[1:]) == {}
    assert tripped(standings=[*crowd, *(granted(n) for n in range(100, 300))]) == {}


@pytest.mark.promise(5)
@pytest.mark.case(36)
@pytest.mark.parametrize(("before", "what"), [(100, {}), (143, {"roster_change": False}), (76, {"roster_change": False})])
def test_a_roster_that_grew_or_shrank_by_a_third_needs_an_approval(before: int, what: dict[str, bool]) -> None:
    assert tripped(passed_users=before) == what


# --- at the very edge


@pytest.mark.parametrize(("share", "of", "passes"), [(0.1, 9, 0), (0.1, 10, 1), (0.1, 30, 3), (0.29, 100, 29), (0.0, 50, 0)])
def test_exactly_the_share_of_missing_answers_passes_and_one_more_does_not(share: float, of: int, passes: int) -> None:
    def findings(unknown: int) -> list[Finding]:
        return [Finding(user_id(n), Status.UNKNOWN if n < unknown else Status.CONSENT_REQUIRED) for n in range(of)]

    guards = Guards(max_error_share=share)

    assert tripped(guards=guards, findings=findings(passes)) == {}
    assert tripped(guards=guards, findings=findings(passes + 1)) == {"error_share": False}


@pytest.mark.parametrize(
    ("most", "of", "passes"), [(25, 26, 25), (25, 125, 25), (25, 130, 26), (0, 9, 1), (0, 10, 2), (3, 14, 3)]
)
def test_exactly_the_newly_lacking_that_are_allowed_pass_and_one_more_does_not(most: int, of: int, passes: int) -> None:
    def crowd(new: int) -> list[Standing]:
        return [lacking(n, NOW if n < new else LAST_NIGHT) for n in range(of)]

    guards = Guards(max_new_lacking=most)

    assert tripped(guards=guards, standings=crowd(passes)) == {}
    assert tripped(guards=guards, standings=crowd(passes + 1)) == {"new_lacking": False}


@pytest.mark.parametrize(("most", "of", "passes"), [(3, 4, 3), (3, 199, 3), (3, 200, 4), (0, 49, 0), (0, 50, 1), (5, 250, 5)])
def test_exactly_the_lost_consents_that_are_allowed_pass_and_one_more_does_not(most: int, of: int, passes: int) -> None:
    def crowd(lost: int) -> list[Standing]:
        return [lacking(n, NOW, revoked_at=NOW) if n < lost else granted(n) for n in range(of)]

    guards = Guards(max_regressions=most, max_new_lacking=1000)

    assert tripped(guards=guards, standings=crowd(passes)) == {}
    assert tripped(guards=guards, standings=crowd(passes + 1)) == {"regressions": False}


@pytest.mark.parametrize(("before", "now", "passes"), [(100, 130, True), (100, 131, False), (100, 70, True), (100, 69, False)])
def test_exactly_the_change_of_the_roster_that_is_allowed_passes(before: int, now: int, passes: bool) -> None:
    standings = [lacking(n) for n in range(now)]

    assert tripped(standings=standings, passed_users=before) == ({} if passes else {"roster_change": False})


def test_what_was_lacking_when_the_last_night_was_let_through_is_not_new() -> None:
    crowd = [lacking(n, LAST_NIGHT) for n in range(100)]

    assert tripped(standings=crowd) == {}
    assert tripped(standings=[lacking(n, LAST_NIGHT + timedelta(seconds=1)) for n in range(100)]) == {"new_lacking": False}


# --- what a trip says


def test_each_guard_tells_what_it_saw_in_figures() -> None:
    silent = [Finding(user_id(n), Status.UNKNOWN, "timed out" if n % 5 else "HTTP 503") for n in range(20)]
    fine = [Finding(user_id(n), Status.GRANTED) for n in range(20, 100)]
    lost = [lacking(n, NOW, revoked_at=NOW) for n in range(5)]
    unfit = [Finding(CANARY, Status.CONSENT_REQUIRED), Finding(user_id(7), Status.UNKNOWN)]

    assert seen(findings=[*silent, *fine]) == "20 of 100 users got no usable answer (16 times timed out); 10 would pass"
    assert seen(passed_at=None) == "no night of this campaign has mailed yet, or none since campaign adopt; this one would send 5"
    assert seen(standings=[lacking(n, NOW) for n in range(40)]) == (
        "40 of 40 users newly lack consent since the last night that mailed (2026-11-22); 25 would pass"
    )
    assert seen(standings=[*lost, *(granted(n) for n in range(5, 60))]) == (
        "5 of 60 users who had consented lack it since the last night that mailed (2026-11-22) "
        f"({user_id(0)}, {user_id(1)}, {user_id(2)}, …); 3 would pass"
    )
    assert seen(passed_users=60) == (
        "the roster has 100 users, 40 more than the 60 of the last night that mailed (2026-11-22); a change of 18 would pass"
    )
    assert seen(canary=[]) == "no canary is configured ([docusign] canary)"
    assert (
        seen(canary=unfit)
        == f"of 2 canary users none is granted: {CANARY} answered consent_required, {user_id(7)} answered unknown"
    )


def test_while_answers_are_missing_no_approval_is_offered() -> None:
    silent = [Finding(user_id(n), Status.UNKNOWN) for n in range(100)]

    assert tripped(passed_at=None, findings=silent) == {"error_share": False}


# --- whole nights


@pytest.fixture
def world(quick_path: Path) -> Iterator[World]:
    """Twelve users, of whom four consented; eight were invited three days ago, so that a reminder is due to each."""
    waits = Waits(probe=(), outage=(0.01, 0.01, 0.01))
    with World(quick_path, keys={"docusign": {"verify_granted_days": 0, "concurrency": 1}}, waits=waits) as world:
        world.roster(range(12))
        world.consent(*range(4))
        world.night(approve=8)
        world.days_pass(3)
        yield world


def answering(lie: CannedAnswer, *numbers: int) -> Callable[[World], None]:
    return lambda world: world.accounts.faults.answers.update(dict.fromkeys(map(user_id, numbers), lie))


def revoking(world: World) -> None:
    world.revoke(*range(4))


def halved(world: World) -> None:
    world.roster(range(6))


REFUSED = json_answer(400, error="invalid_grant", error_description="no_valid_keys_or_signatures")
STOPPING: dict[str, tuple[Callable[[World], None], ExitCode, str, str, int]] = {
    "missing answers": (
        answering(CannedAnswer(502), 2, 5, 8),
        ExitCode.STOPPED,
        r"error_share: 3 of 12 users got no usable answer \(3 times HTTP 502\); 1 would pass",
        "when it is over: campaign run",
        9,
    ),
    "an outage": (
        answering(CannedAnswer(502), *range(3, 12)),
        ExitCode.REFUSED,
        r"8 users in a row got no usable answer, also after 3 pauses of 0 s in all; the last: HTTP 502",
        "in order again: campaign run",
        3,
    ),
    "a refusal of the app": (answering(REFUSED, 6), ExitCode.REFUSED, "no_valid_keys_or_signatures", "private_key_file", 6),
    "a long throttling": (
        answering(CannedAnswer(429, b"", {"Retry-After": "3600"}), 6),
        ExitCode.REFUSED,
        r"it asks to wait 3600 s \(HTTP 429\)",
        "campaign run",
        6,
    ),
    "lost consents": (
        revoking,
        ExitCode.STOPPED,
        "regressions: 4 of 4 users who had consented lack it",
        "campaign run --approve 8",
        12,
    ),
    "half a roster": (
        halved,
        ExitCode.STOPPED,
        "roster_change: the roster has 6 users, 6 fewer than the 12",
        "campaign run --approve 2",
        6,
    ),
}


@pytest.mark.parametrize("kind", STOPPING)
@pytest.mark.promise(5)
def test_a_night_that_is_stopped_says_why_and_how_to_go_on_and_keeps_what_it_found(kind: str, world: World) -> None:
    happens, exit_code, what, next_step, found = STOPPING[kind]
    happens(world)
    night = world.night()
    (problem,) = night.problems
    with read_ledger(world.config()) as ledger:
        noted = ledger.standings().values() if ledger else []
    known = [row for row in world.report().values() if row["status"] in {"granted", "consent_required"}]

    assert night.exit_code == exit_code
    assert re.search(what, str(problem))
    assert next_step in problem.advice
    assert world.mailed() == [email(n) for n in range(4, 12)]  # of the night before
    assert len(known) == found
    assert {row["last_probed"] for row in known} == {"2026-11-26T02:00:00Z"}
    assert sum(s.last_probed == world.now and s.found in {Status.GRANTED, Status.CONSENT_REQUIRED} for s in noted) == found


@pytest.mark.parametrize("kind", STOPPING)
def test_after_a_night_that_was_stopped_the_next_goes_on(kind: str, world: World) -> None:
    STOPPING[kind][0](world)
    world.night()
    world.accounts.faults.answers.clear()
    world.days_pass(1)
    night = world.night(approve=8)

    assert night.exit_code in {ExitCode.DONE, ExitCode.ATTENTION}
    assert len(world.mailed()) == 8 + (2 if kind == "half a roster" else 8)


def test_who_lost_their_consent_is_listed(world: World) -> None:
    revoking(world)
    news = world.night().attention

    assert [text.partition(":")[0] for text in news] == [email(n) for n in range(4)]


@pytest.mark.promise(5)
def test_an_outage_of_a_minute_in_the_middle_of_few_users_does_not_cost_the_night(world: World) -> None:
    world.accounts.faults.coming.extend([json_answer(200, access_token="x", token_type="Bearer"), *[CannedAnswer(503)] * 7])
    night = world.night()

    assert night.exit_code == ExitCode.DONE
    assert world.mailed()[8:] == [email(n) for n in range(4, 12)]
