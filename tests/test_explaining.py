"""The letter about one user: whole lives, told by real nights."""

import re
import shlex
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from campaign import ledger, orders
from campaign.errors import UsageError
from campaign.explaining import Story, explain
from campaign.forgetting import forget
from campaign.ledger import open_ledger
from campaign.model import Reason
from campaign.words import WHY
from tests.world import FIRST_NIGHT, World, email, user_id

LETTERS = Path(__file__).with_name("letters")
NOBODY = user_id(9)  # has no account at Docusign


@pytest.fixture
def world(quick_path: Path) -> Iterator[World]:
    """A campaign in Berlin, of which person 1 is the subject and person 2 everybody else."""
    with World(quick_path, keys={"policy": {"timezone": "Europe/Berlin"}}) as world:
        world.roster([1, 2])
        yield world


def story(world: World, user: str = user_id(1)) -> Story:
    return explain(world.config(), user, world.now)


def letter(world: World, user: str) -> str:
    """The letter, in which the random part of Message-IDs is A, B, C in order, and the folder is one of everybody's."""
    text = story(world, user).as_text().replace(str(world.folder), "/srv/campaign")
    ids = dict.fromkeys(re.findall(r"<test\.\d\.(\w{32})@", text))
    for name, found in zip("ABCDEFG", ids, strict=False):
        text = text.replace(found, name)
    return text + "\n"


def nights(world: World, *pauses: float) -> None:
    for days in pauses:
        world.days_pass(days)
        world.night()


def life_of_everybody(world: World) -> None:
    world.night(approve=2)
    nights(world, 3)


def life_until_consent(world: World) -> None:
    life_of_everybody(world)
    world.consent(1)
    nights(world, 1)


def life_to_the_end_of_all_messages(world: World) -> None:
    world.keys["policy"] |= {"escalate_after": 2}
    world.roster([{"user_id": user_id(1), "email": email(1), "manager_email": "boss@example.com"}])
    world.night(approve=1)
    nights(world, 3, 7, 14)


def life_with_a_message_of_unknown_fate(world: World) -> None:
    world.relay.at("dot", "drop", message=1)
    world.night(approve=2)


def life_with_a_message_that_was_lost(world: World) -> None:
    life_with_a_message_of_unknown_fate(world)
    message_id = re.findall(r"'(<.*>)' --lost", story(world).as_text())[0]
    world.days_pass(1)
    orders.resolve(world.config(), message_id, arrived=False, now=world.now, reason="not in the log of mx1")
    world.relay.at("RCPT", "450 4.2.0 later", recipient=email(1))
    nights(world, 1, 1)


def life_with_a_refused_address_and_a_better_one(world: World) -> None:
    world.relay.at("RCPT", "550 5.1.1 no such user", recipient=email(1))
    world.night(approve=2)
    world.roster([{"user_id": user_id(1), "email": "new@example.com"}, {"user_id": user_id(2), "email": email(2)}])
    nights(world, 3)


def life_with_a_refused_address(world: World) -> None:
    world.relay.at("RCPT", "550 5.1.1 no such user", recipient=email(1))
    world.night(approve=2)


def life_under_orders(world: World) -> None:
    world.night(approve=2)
    world.days_pass(1)
    orders.suppress(world.config(), email(1), "on leave", FIRST_NIGHT + timedelta(days=40), world.now)
    nights(world, 3)


def life_under_orders_for_good(world: World) -> None:
    life_under_orders(world)
    orders.suppress(world.config(), email(1), "the works council objects", None, world.now)
    (world.folder / "STOP").touch()
    nights(world, 1)
    world.days_pass(2)


def life_with_a_consent_that_was_taken_back(world: World) -> None:
    world.consent(1)
    world.night(approve=2)
    world.revoke(1)
    nights(world, 31)


def life_unknown_to_docusign(world: World) -> None:
    row = f"user_id,email\n{NOBODY},nobody@example.com\n"
    (world.folder / "roster.csv").write_text(row, encoding="utf-8")
    world.night(approve=1)


def life_that_left_and_returned(world: World) -> None:
    world.night(approve=2)
    world.roster([2])
    nights(world, 1)
    world.roster([1, 2])
    nights(world, 1)


def life_that_left(world: World) -> None:
    life_of_everybody(world)
    world.roster([2])
    nights(world, 1)


def life_before_its_first_night(world: World) -> None:
    world.roster([2])
    world.night(approve=2)
    world.roster([2, 1])


def life_before_an_approval(world: World) -> None:
    world.keys["policy"] |= {"days": ["mon", "tue"], "hours": "02:00-18:00"}
    world.night()


def life_after_an_old_ledger_was_restored(world: World) -> None:
    world.night(approve=2)
    copy = (world.folder / "ledger.sqlite3").read_bytes()
    nights(world, 3)
    (world.folder / "ledger.sqlite3").write_bytes(copy)
    world.days_pass(1)
    ledger.adopt(world.config(), world.now)
    nights(world, 1)


def life_that_was_forgotten(world: World) -> None:
    life_of_everybody(world)
    forget(world.config(), user_id(1), world.now)


LIVES: dict[str, Callable[[World], None]] = {
    name.removeprefix("life_"): life for name, life in sorted(globals().items()) if name.startswith("life_")
}
WHOSE = {"unknown_to_docusign": NOBODY}  # else person 1's


@pytest.mark.parametrize("name", LIVES)
def test_a_life_reads_like_a_letter(world: World, name: str) -> None:
    LIVES[name](world)

    assert letter(world, WHOSE.get(name, user_id(1))) == (LETTERS / f"{name}.txt").read_text(encoding="utf-8")


def test_every_letter_belongs_to_a_life() -> None:
    assert sorted(path.stem for path in LETTERS.iterdir()) == sorted(LIVES)


def test_every_reason_has_a_sentence_of_why() -> None:
    assert set(WHY) == set(Reason)
    assert [why for why in WHY.values() if not why[0].isupper() or why.format(user="x") == ""] == []


def test_the_message_id_in_a_letter_settles_the_message(world: World) -> None:
    life_with_a_message_of_unknown_fate(world)
    offered = re.findall(r"campaign (resolve .*)", story(world).as_text())
    _, message_id, flag = shlex.split(offered[0])
    orders.resolve(world.config(), message_id, arrived=flag == "--arrived", now=world.now)
    settled = story(world)

    assert settled.standing.last_outcome == "accepted"
    assert "somebody settled by hand that the invitation (message 1) did arrive" in settled.as_text()
    assert "campaign resolve" not in settled.as_text()


def test_what_comes_next_is_what_a_night_then_does(world: World) -> None:
    life_of_everybody(world)
    due = story(world).due
    assert due
    before = len(world.mailed())
    world.now = due - timedelta(hours=7)
    world.night()
    early = len(world.mailed())
    world.now = due
    world.night()

    assert (early, len(world.mailed())) == (before, before + 2)


def test_the_pause_of_a_shared_address_is_told_with_its_end(world: World) -> None:
    world.roster([{"user_id": user_id(n), "email": "shared@example.com"} for n in (1, 2)])
    world.night(approve=2)
    told = story(world, user_id(2))
    world.now = told.due or world.now
    world.night()

    assert f"mailed on Mon 2026-11-23 03:00 on behalf of the user id {user_id(1)}" in told.as_text()
    assert "another user id with the same address was mailed shortly before" in told.as_text()
    assert told.due == FIRST_NIGHT + timedelta(days=3)
    assert world.mailed() == ["shared@example.com"] * 2


def test_a_pause_that_is_longer_than_the_time_between_two_reminders_is_heeded(world: World) -> None:
    world.keys["policy"] |= {"remind_after_days": [7, 3]}
    world.night(approve=2)
    nights(world, 7)

    assert story(world).due == FIRST_NIGHT + timedelta(days=14)
    assert "the address was mailed on Mon 2026-11-30 03:00, and is left alone for 7 days after that" in story(world).as_text()


@pytest.mark.parametrize(("hours", "overdue"), [(35.9, False), (36.1, True)])
def test_it_is_told_when_no_run_came_for_long(world: World, hours: float, overdue: bool) -> None:
    world.night(approve=2)
    world.days_pass(hours / 24)

    assert ("No run has been noted for more than 36 hours" in story(world).as_text()) is overdue
    assert story(world).as_json()["overdue"] is overdue


def test_a_run_that_was_killed_has_no_reason_to_give(world: World) -> None:
    world.night(approve=2)
    world.days_pass(1)
    with open_ledger(world.config()) as book:
        book.begin("killed", world.now)

    assert "The last run, on Tue 2026-11-24 03:00, has not ended: it is under way, or was killed." in story(world).as_text()
    assert story(world).why == ""


def test_a_row_that_cannot_be_used_is_told_with_its_line(world: World) -> None:
    world.night(approve=2)
    world.roster([{"user_id": user_id(n), "email": address} for n, address in ((1, email(1)), (5, "not an address"))])
    told = story(world, user_id(5))

    assert "In the roster at line 3, in a row that cannot be used: " in told.as_text()
    assert told.as_json()["why"] == WHY[Reason.INVALID_ROW]


def test_who_is_closed_before_the_first_night_gets_nothing(world: World) -> None:
    world.night(approve=2)
    world.roster([{"user_id": user_id(n), "email": email(n), "status": status} for n, status in ((1, ""), (5, "closed"))])

    assert "No message: the roster says that this account is closed." in story(world, email(5)).as_text()


def test_whom_nobody_knows_is_refused_also_without_a_roster(world: World) -> None:
    world.night(approve=2)
    with pytest.raises(UsageError, match=r"no user 'x@example\.com' is known"):
        story(world, "x@example.com")
    (world.folder / "roster.csv").unlink()
    with pytest.raises(UsageError, match=r"no user 'x@example\.com' is known"):
        story(world, "x@example.com")


def test_scripts_get_times_in_utc_and_the_reasons(world: World) -> None:
    life_of_everybody(world)
    told = story(world).as_json()

    assert (told["next_action"], told["next_due"], told["last_run"]) == ("remind", "2026-12-03T02:00:00Z", "2026-11-26T02:00:00Z")
    assert (told["why"], told["last_run_exit_code"]) == (WHY[Reason.SENT], 0)
    assert told["events"][2]["address"] == email(1)
    assert told["next"].startswith("Next: the second reminder (message 3 of at most 4), due from Thu 2026-12-03 03:00")
