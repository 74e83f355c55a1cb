"""What happens when the configuration asks for other scopes than before."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from campaign.errors import ExitCode
from campaign.explaining import explain
from campaign.ledger import open_ledger
from campaign.ledger.learning import change, learn
from campaign.model import Finding, Standing, Status, beyond
from campaign.showing.nights import plan as shown
from campaign.showing.page import as_text
from tests.postgres_server import Keys
from tests.world import CANARY, FIRST_NIGHT, SCOPES, World, email, sql, user_id

BOTH = " ".join(SCOPES)
MORE = (*SCOPES, "click.manage")
LATER = FIRST_NIGHT + timedelta(days=3)


@pytest.fixture
def world(quick_path: Path, ledger_keys: Keys) -> Iterator[World]:
    """Four users, of whom 0 and 1 have consented and 2 and 3 were invited, three days ago."""
    with World(quick_path, ledger=ledger_keys) as world:
        world.roster(range(4))
        world.consent(0, 1)
        world.night(approve=2)
        world.days_pass(3)
        yield world


def ask_for(world: World, scopes: tuple[str, ...]) -> None:
    """Change the configuration, and let the canary accept at the new link, as whoever does that must do first."""
    world.keys = {"docusign": {"scopes": scopes}}
    world.consent(CANARY, scopes=scopes)


def asked(world: World) -> list[str]:
    """Who was asked in the last run, the canary left out."""
    return sorted(r.user_id for r in world.accounts.requests if r.at == world.now.timestamp() and r.user_id != CANARY)


def remembered(world: World, column: str, table: str) -> list[str]:
    return [row[column] for row in sql(world.config(), f"SELECT {column} FROM {table} ORDER BY user_id")]  # noqa: S608


# --- a scope is added


@pytest.mark.promise(5)
def test_a_consent_for_fewer_scopes_is_asked_about_anew_and_nobody_is_mailed_before_somebody_means_it(world: World) -> None:
    ask_for(world, MORE)
    night = world.night()

    assert asked(world) == [user_id(n) for n in range(4)]
    assert (night.exit_code, night.attention) == (ExitCode.STOPPED, [])
    assert {trip.guard for trip in night.trips} == {"scopes"}
    assert night.trips[0].seen == (
        "click.manage is asked for since the last night that mailed (2026-11-23); 2 users who had consented must do so again"
    )
    assert world.mailed() == [email(2), email(3)]  # of the night before
    assert world.report()[user_id(0)]["detail"] == "consented before click.manage was asked for"


def test_an_approval_announces_it_once(world: World) -> None:
    ask_for(world, MORE)
    approved = world.night(approve=4)
    world.days_pass(7)
    world.consent(0, 2, scopes=MORE)
    later = world.night()

    assert (approved.exit_code, later.exit_code, later.trips) == (ExitCode.DONE, ExitCode.DONE, [])
    assert sorted(world.mailed()[2:6]) == [email(n) for n in range(4)]
    assert sorted(world.mailed()[6:]) == [email(1), email(3)]


def test_scopes_that_are_taken_back_again_cost_nobody_a_mail(world: World) -> None:
    ask_for(world, MORE)
    world.night()
    ask_for(world, SCOPES)
    world.days_pass()
    night = world.night()

    assert (night.exit_code, night.trips) == (ExitCode.DONE, [])
    assert world.mailed()[2:] == [email(2), email(3)]
    assert world.report()[user_id(0)]["status"] == "granted"


@pytest.mark.promise(6)
def test_messages_go_on_being_counted_and_the_plan_says_so(world: World) -> None:
    for days in (7, 14, 1):
        world.night()
        world.days_pass(days)
    assert len(world.mailed()) == 8
    world.consent(2, 3)
    world.night()
    ask_for(world, MORE)
    world.days_pass()
    plan = world.plan()
    world.night(approve=2)

    assert (
        "4 user(s) consented before click.manage was asked for, and must do so again; "
        "2 of them have had all their messages, which go on being counted"
    ) in as_text(shown(plan))
    assert world.mailed()[8:] == [email(0), email(1)]
    assert world.report()[user_id(2)]["reason"] == "cap_reached"


def test_the_ledger_knows_the_scopes_of_each_grant_and_each_mail(world: World) -> None:
    ask_for(world, MORE)
    world.consent(0, scopes=MORE)
    world.night(approve=3)

    assert remembered(world, "granted_scope", "users") == [" ".join(MORE), BOTH, "", ""]
    assert remembered(world, "scope", "slots") == [" ".join(MORE), BOTH, " ".join(MORE), BOTH, " ".join(MORE)]


def test_a_letter_tells_it(world: World) -> None:
    ask_for(world, MORE)
    before = explain(world.config(), user_id(0), world.now).as_text()
    world.night()
    after = explain(world.config(), user_id(0), world.now).as_text()

    assert "The next run asks Docusign again: the consent that is there does not extend to click.manage." in before
    assert "Consent was there before click.manage was asked for, and is lacking for that" in after
    assert "it was there for fewer (consented before click.manage was asked for)" in after


def test_a_night_that_stops_before_it_asks_takes_no_old_consent_for_one(world: World) -> None:
    ask_for(world, MORE)
    world.revoke(CANARY)
    world.night()

    assert world.report()[user_id(0)]["reason"] == "stopped"


# --- a scope is removed


def test_asking_for_less_needs_no_new_consent(world: World) -> None:
    ask_for(world, MORE)
    world.consent(0, 1, scopes=MORE)
    world.night(approve=2)
    ask_for(world, SCOPES)
    world.days_pass(7)
    night = world.night()

    assert (night.exit_code, night.trips) == (ExitCode.DONE, [])
    assert asked(world) == [user_id(2), user_id(3)]


def test_what_counts_is_what_was_last_seen(world: World) -> None:
    world.keys = {"docusign": {"scopes": MORE}}
    world.consent(CANARY, 0, 1, scopes=MORE)
    world.night(approve=2)
    world.keys = {"docusign": {"verify_granted_days": 0}}
    world.days_pass()
    world.night()
    ask_for(world, MORE)
    world.days_pass()
    world.night()

    assert asked(world) == [user_id(n) for n in range(4)]
    assert world.report()[user_id(0)]["status"] == "granted"


def test_the_order_of_scopes_means_nothing(world: World) -> None:
    world.keys = {"docusign": {"scopes": SCOPES[::-1]}}
    night = world.night()

    assert (night.trips, asked(world)) == ([], [user_id(2), user_id(3)])


# --- an older ledger


def test_of_an_older_ledger_the_scopes_are_not_known_and_everybody_is_asked_once(world: World) -> None:
    for table, column in (("campaigns", "passed_scope"), ("users", "granted_scope"), ("slots", "scope")):
        sql(world.config(), f"ALTER TABLE {table} DROP COLUMN {column}")
    sql(world.config(), "UPDATE schema SET version = 4")
    first = world.night()
    everybody = asked(world)
    world.days_pass(7)
    world.night()

    assert (first.exit_code, first.trips) == (ExitCode.DONE, [])
    assert everybody == [user_id(n) for n in range(4)]
    assert asked(world) == [user_id(2), user_id(3)]


def test_who_is_forgotten_leaves_no_scopes(world: World) -> None:
    with open_ledger(world.config()) as ledger:
        ledger.forget(user_id(0), world.now)

    assert sorted(remembered(world, "granted_scope", "users")) == ["", "", "", BOTH]


# --- what is learnt


def granted(scope: str) -> Standing:
    return learn(Standing(user_id(1)), Finding(user_id(1), Status.GRANTED), FIRST_NIGHT, scope)


def lacking(before: Standing, scope: str) -> Standing:
    return learn(before, Finding(user_id(1), Status.CONSENT_REQUIRED), LATER, scope)


@pytest.mark.parametrize(
    ("had", "wanted", "event", "revoked"),
    [
        (BOTH, BOTH, "revoked", True),
        (" ".join(MORE), BOTH, "revoked", True),
        ("", BOTH, "revoked", True),  # not known: the graver
        (BOTH, " ".join(MORE), "outgrown", False),
    ],
)
def test_a_consent_is_taken_back_only_if_it_held_what_is_asked_for(had: str, wanted: str, event: str, revoked: bool) -> None:
    before = granted(had)
    after = lacking(before, wanted)

    assert (change(before, after), after.revoked_at) == (event, LATER if revoked else None)
    assert (after.granted_at, after.lacking_since) == (None, LATER)
    assert after.granted_scope == ("" if revoked else had)


def test_who_took_it_back_did_not_consent_before_a_scope_was_added() -> None:
    taken_back = lacking(granted(BOTH), BOTH)

    assert lacking(taken_back, " ".join(MORE)).detail == ""


@pytest.mark.parametrize(
    ("scope", "consented", "added"),
    [
        ("signature impersonation", "impersonation signature", []),
        ("signature impersonation a b", "impersonation signature", ["a", "b"]),
        ("signature", "signature impersonation", []),
        ("signature impersonation", "", []),
    ],
)
def test_what_lies_beyond_a_consent(scope: str, consented: str, added: list[str]) -> None:
    assert beyond(scope, consented) == added
