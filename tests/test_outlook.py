"""The arithmetic of a large campaign, and `campaign plan --forecast`, which asks nobody."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from campaign.outlook import look_ahead
from campaign.outlook.nights import Batch, Limit, Outlook, Terms, outlook
from campaign.showing import ahead
from campaign.showing.page import as_text
from tests.commands import command
from tests.world import World

MONDAY = date(2026, 11, 30)
RUN, DAY, MINUTE = Limit("[policy] max_per_run", 300), Limit("[mail] per_day", 2_000), Limit("[mail] per_minute", 7_200)


def seen(users: int = 1_000, **changes: Any) -> Outlook:
    """What comes of so many users, none of whom was written to before."""
    terms: dict[str, Any] = {
        "start": MONDAY,
        "asked": users,
        "probes_per_hour": 3_000,
        "probe_burst": 200,
        "batches": {Batch(0, MONDAY, 1): users} if users else {},
        "limits": [RUN, DAY, MINUTE],
        "per_minute": 20,
        "waits": (3, 7, 14),
        "is_open": lambda _: True,
    }
    return outlook(Terms(**{**terms, **changes}))


def test_the_smallest_limit_decides_how_many_nights_it_takes() -> None:
    by_run, by_day = seen(1_000), seen(5_000, limits=[Limit("[policy] max_per_run", 10_000), DAY, MINUTE])

    assert (by_run.nights, by_run.everybody_asked, by_run.deciding) == (4, MONDAY + timedelta(days=3), ["[policy] max_per_run"])
    assert (by_day.nights, by_day.messages, by_day.deciding) == (3, 2_000, ["[mail] per_day"])


def test_limits_that_are_equal_decide_together() -> None:
    assert seen(1_000, limits=[RUN, Limit("[mail] per_day", 300)]).deciding == ["[policy] max_per_run", "[mail] per_day"]


def test_where_one_night_is_enough_nothing_decides() -> None:
    found = seen(300)

    assert (found.nights, found.everybody_asked, found.deciding) == (1, MONDAY, [])


def test_reminders_come_after_everybodys_first_message_and_share_its_limits() -> None:
    found = seen(600, waits=(1,))

    assert (found.first, found.reminders) == (600, 600)
    assert (found.everybody_asked, found.all_sent) == (MONDAY + timedelta(days=1), MONDAY + timedelta(days=3))


def test_reminders_of_a_lower_wave_go_before_first_messages_of_a_higher_one() -> None:
    found = seen(600, waits=(1,), batches={Batch(1, MONDAY, 1): 300, Batch(2, MONDAY, 1): 300})

    assert found.everybody_asked == MONDAY + timedelta(days=2)


def test_a_reminder_waits_its_days_from_the_message_before_it() -> None:
    assert seen(1).all_sent == MONDAY + timedelta(days=3 + 7 + 14)
    assert seen(1, batches={Batch(0, MONDAY + timedelta(days=2), 4): 1}).all_sent == MONDAY + timedelta(days=2)


def test_on_a_day_that_is_closed_nothing_goes_out() -> None:
    found = seen(1_800, is_open=lambda day: day.weekday() < 5)

    assert (found.nights, found.everybody_asked) == (6, MONDAY + timedelta(days=7))
    assert found.deciding == ["[policy] max_per_run", "[policy] days"]


def test_a_night_that_lasts_longer_than_a_day_comes_less_often() -> None:
    asking, sending = seen(100_000, limits=[Limit("[policy] max_per_run", 50_000)], per_minute=0), seen(300, per_minute=1)
    long = seen(5_000, limits=[Limit("[policy] max_per_run", 2_000)], per_minute=1)

    assert (round(asking.asking_hours, 1), asking.every) == (33.3, 2)
    assert asking.everybody_asked == MONDAY + timedelta(days=2)
    assert asking.deciding == ["[policy] max_per_run", "[docusign] probes_per_hour"]
    assert sending.every == 1
    assert (long.every, long.deciding) == (2, ["[policy] max_per_run", "[mail] per_minute"])


def test_a_burst_bounds_the_questions_where_nothing_else_does() -> None:
    assert seen(24_000, probes_per_hour=0).asking_hours == 1


def test_what_never_comes_has_no_date() -> None:
    never = seen(10, is_open=lambda _: False)

    assert (never.everybody_asked, never.all_sent, never.nights) == (None, None, 0)
    assert "not everybody is asked within ten years" in as_text(ahead.page("test", never))


def test_nobody_to_ask_needs_no_night() -> None:
    found = seen(0)

    assert (found.nights, found.deciding, found.asking_hours) == (0, [], 0)
    assert "Everybody has had the first message" in as_text(ahead.page("test", found))


# --- for a campaign


@pytest.fixture
def world(tmp_path: Path) -> Any:
    with World(tmp_path, keys={"policy": {"max_per_run": 2}}) as world:
        yield world


def at(world: World) -> Outlook:
    return look_ahead(world.config(), world.now)


def test_it_counts_whom_a_night_could_write_to_and_asks_nobody(world: World) -> None:
    world.roster(range(6))
    world.consent(0)
    before = at(world)
    world.night(approve=2)
    asked = len(world.accounts.requests)
    world.days_pass()
    after = at(world)

    assert (before.first, before.asked, before.nights) == (6, 6, 3)
    assert (after.first, after.asked, after.nights) == (3, 5, 2)
    assert after.reminders == 5 * 3
    assert len(world.accounts.requests) == asked


def test_it_leaves_out_who_may_not_be_written_to(world: World) -> None:
    world.keys["mail"] = {"allowed_domains": ["example.com"]}
    rows = [{"user_id": f"0000000{n}-0000-4000-8000-000000000000", "email": f"p{n}@example.com", "status": ""} for n in range(4)]
    rows[1]["email"], rows[2]["status"] = "p@elsewhere.example", "closed"
    world.roster(rows)

    assert (at(world).first, at(world).asked) == (2, 3)


def test_mail_goes_out_in_the_hours_that_are_open_and_while_answers_hold(world: World) -> None:
    world.roster(range(3))
    world.keys["mail"] = {"per_minute": 2, "per_day": 0}
    all_day = at(world).limits[-1]
    world.keys["policy"] |= {"hours": "08:00-10:00"}
    in_hours = at(world).limits[-1]

    assert (all_day.messages, in_hours.messages) == (6 * 60 * 2, 2 * 60 * 2)
    assert "in [policy] hours" in in_hours.name


def test_the_command_says_what_decides_and_works_without_servers(world: World) -> None:
    world.roster(range(6))
    world.config()
    path = world.folder / "campaign.toml"
    text = command("plan", "--forecast", "--config", path)
    told = json.loads(command("plan", "--forecast", "--json", "--config", path).stdout)
    refused = command("plan", "--forecast", "--out", "plan.csv", "--config", path)

    assert (text.exit_code, text.stderr) == (0, "")
    assert "Everybody has been asked after 3 nights" in text.stdout
    assert "what decides: [policy] max_per_run" in text.stdout
    assert (told["nights"], told["limits"]["[policy] max_per_run"]) == (3, 2)
    assert told["everybody_asked"] == (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    assert refused.exit_code == 2
    assert not world.accounts.requests
