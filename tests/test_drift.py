"""What becomes of users as the roster changes under them, and as they change their minds."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from campaign.errors import ExitCode
from campaign.showing.nights import plan as shown
from campaign.showing.page import as_text
from tests.world import CANARY, World, email, user_id


@pytest.fixture
def world(quick_path: Path) -> Iterator[World]:
    """Ten users, who were invited three days ago."""
    with World(quick_path, keys={"docusign": {"verify_granted_days": 0}, "report": {"formats": ["csv", "html"]}}) as world:
        world.roster(range(10))
        world.night(approve=10)
        world.days_pass(3)
        yield world


def page(world: World) -> str:
    return (world.folder / "reports" / "report.html").read_text(encoding="utf-8")


def asked(world: World) -> list[str]:
    """Who was asked in this night, the canary left out."""
    return sorted({r.user_id for r in world.accounts.requests if r.at == world.now.timestamp()} - {CANARY})


def test_who_joins_begins_with_the_invitation(world: World) -> None:
    world.roster(range(11))
    world.night()
    report = world.report()

    assert (report[user_id(0)]["action"], report[user_id(10)]["action"]) == ("reminded", "invited")


@pytest.mark.promise(6)
def test_users_who_exchange_their_addresses_keep_their_own_histories(world: World) -> None:
    world.night()
    world.consent(0, *range(2, 10))
    world.roster([{"user_id": user_id(n), "email": email({0: 1, 1: 0}.get(n, n))} for n in range(10)])
    world.days_pass(7)
    before = len(world.mailed())
    world.night()
    report = world.report()

    assert (report[user_id(0)]["status"], report[user_id(1)]["messages"]) == ("granted", "3")
    assert world.mailed()[before:] == [email(0)]


def test_who_leaves_is_neither_asked_nor_mailed_and_is_listed(world: World) -> None:
    world.roster(range(9))
    plan = world.plan()
    night = world.night()
    just_asked = asked(world)
    report = page(world)
    world.days_pass()
    later = world.plan()

    assert just_asked == [user_id(n) for n in range(9)]
    assert world.mailed()[10:] == [email(n) for n in range(9)]
    assert f"not in the roster any more:\n  new  {email(9)}  {user_id(9)}" in as_text(shown(plan))
    assert f"  since 2026-11-26  {email(9)}  {user_id(9)}" in as_text(shown(later))
    assert night.as_json()["left"] == [user_id(9)]
    assert "Not in the roster any more" in report
    assert email(9) in report[report.index("Not in the roster any more") :]


def test_who_returns_is_listed_no_more(world: World) -> None:
    world.roster(range(1, 10))
    world.night()
    world.roster(range(10))
    world.days_pass()
    plan = world.plan()
    world.night()

    assert "not in the roster any more" not in as_text(shown(plan))
    assert "Not in the roster any more" not in page(world)


@pytest.mark.promise(6)
@pytest.mark.case(35)
def test_an_address_that_two_ids_come_to_share_is_mailed_once_and_both_are_shown(world: World) -> None:
    world.roster([{"user_id": user_id(n), "email": email(min(n, 8))} for n in range(10)])
    plan = world.plan()
    world.night()
    report = world.report()

    assert world.mailed()[10:] == [email(n) for n in range(9)]
    assert (report[user_id(8)]["reason"], report[user_id(9)]["reason"]) == ("sent", "same_address")
    assert f"same_address  {email(8)}" in as_text(shown(plan))


def test_one_id_in_several_accounts_is_one_user(world: World) -> None:
    rows = [{"user_id": user_id(0), "email": email(0), "account": account, "status": "Active"} for account in ("A", "B", "C")]
    rows[1]["status"] = "Closed"
    world.roster(rows)
    world.night(approve=1)
    with (world.folder / "reports" / "report.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))

    assert asked(world) == [user_id(0)]
    assert world.mailed()[10:] == [email(0)]
    assert [(line["line"], line["action"]) for line in lines] == [("2", "reminded"), ("3", "reminded"), ("4", "reminded")]


# --- consent that is taken back


def test_a_consent_that_is_taken_back_is_news_once_and_dated(world: World) -> None:
    world.consent(1)
    world.night()
    world.revoke(1)
    world.days_pass()
    found = world.night()
    report, html = world.report(), page(world)
    world.days_pass()
    later = world.night()

    assert (found.exit_code, later.exit_code) == (ExitCode.ATTENTION, ExitCode.DONE)
    assert [line.partition(":")[0] for line in found.attention] == [email(1)]
    assert [row["revoked_at"] for row in report.values()][:3] == ["", "2026-11-27T02:00:00Z", ""]
    section = html[html.index("Consent taken back") :]
    assert email(1) in section
    assert "2026-11-27" in section


@pytest.mark.promise(5, 6)
def test_it_is_mailed_only_after_the_pause_and_after_the_guard(world: World) -> None:
    world.keys["guards"] = {"max_regressions": 0}
    world.consent(1)
    world.night()
    world.revoke(1)
    world.days_pass()
    before = len(world.mailed())
    world.night()
    world.days_pass(2)
    early = world.night()
    assert (early.trips, world.mailed()[before:]) == ([], [])  # nobody is due, so nothing is to be lifted
    world.consent(0, *range(2, 10))
    world.days_pass(1)
    stopped = world.night()
    assert (stopped.exit_code, [trip.guard for trip in stopped.trips]) == (ExitCode.STOPPED, ["regressions"])
    assert world.mailed()[before:] == []
    world.night(approve=10)

    assert email(1) in world.mailed()[before:]
