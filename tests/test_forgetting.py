"""Personal data leave the ledger for good, and every cap still holds for whoever comes back."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from campaign import nightly, orders
from campaign.errors import Busy, RosterError, UsageError
from campaign.explaining import explain
from campaign.forgetting import Purged, forget, purge
from campaign.ledger import examine, hold, open_ledger
from campaign.night import Night
from tests.commands import ROOT, command
from tests.postgres_server import Keys, in_a_file
from tests.test_kills import strace
from tests.world import World, email, rows, sql, user_id

OLD_ADDRESS = "Önce.Person1@Example.ORG"
BOSS = "boss1@example.net"
RULES: dict[str, dict[str, Any]] = {
    "policy": {"remind_after_days": [3, 3], "escalate_after": 1},
    "guards": {"max_new_lacking": 0},
}
TRACES = ("person1@", "önce.person1", "boss1", user_id(1))


def person(number: int, **cells: str) -> dict[str, str]:
    return {"user_id": user_id(number), "email": email(number), "manager_email": "", **cells}


ONE = person(1, manager_email=BOSS)
OTHERS = [person(2), person(3)]


@pytest.fixture
def world(tmp_path: Path, ledger_keys: Keys) -> Iterator[World]:
    """Three people, two nights: the first of them is mailed at an address that changes, and the manager is told.

    The relay quotes addresses in its answers, as relays do, and so does an operator.
    """
    with World(tmp_path, keys={**RULES}, ledger=ledger_keys) as world:
        for number in (1, 2, 3):
            world.relay.at("dot", f"250 2.0.0 <PERSON{number}@Example.com> queued", recipient=email(number))
        world.roster([{**ONE, "email": OLD_ADDRESS}, *OTHERS])
        world.night(approve=3)
        world.roster([ONE, *OTHERS])
        orders.suppress(world.config(), email(3), "a colleague of Person1@example.com", None, world.now)
        world.days_pass(3)
        world.night(approve=9)
        yield world


def traces(world: World, texts: tuple[str, ...] = TRACES) -> set[str]:
    """What of these texts any file of the ledger holds, or any row where it is no file, in whatever case."""
    if world.ledger:
        held = str([sql(world.config(), f"SELECT * FROM {name}") for name in ("campaigns", "users", "slots", "events", "runs")])  # noqa: S608
        return {text for text in texts if text.casefold() in held.casefold()}
    files = [path for path in world.folder.glob("ledger.sqlite3*") if path.is_file()]
    held = " ".join(path.read_bytes().decode(errors="replace") for path in files).casefold()
    return {text for text in texts if text.casefold() in held}


def tables(world: World) -> dict[str, list[tuple[Any, ...]]]:
    names = ("users", "slots", "events")
    rows = {name: sql(world.config(), f"SELECT * FROM {name}") for name in names}  # noqa: S608
    return {name: sorted((tuple(row.values()) for row in rows[name]), key=repr) for name in names}


def nights(world: World, number: int, *, days: float = 3) -> list[Night]:
    """So many nights that far apart, all of them let through."""
    held = []
    for _ in range(number):
        world.days_pass(days)
        held.append(world.night(approve=99))
    return held


def mailed(world: World, number: int, before: int = 0) -> int:
    return sum(recipient == email(number) for recipient in world.mailed()[before:])


# --- forget


@in_a_file
@pytest.mark.promise(20)
@pytest.mark.case(45)
def test_nothing_that_names_a_forgotten_user_is_left_in_the_ledgers_file(world: World) -> None:
    assert traces(world) == set(TRACES)
    forget(world.config(), email(1), world.now)

    assert traces(world) == set()
    assert sorted(path.name for path in world.folder.glob("ledger.sqlite3*")) == [
        *("ledger.sqlite3", "ledger.sqlite3.lock", "ledger.sqlite3.witness")
    ]


def test_forgetting_leaves_everybody_else_as_they_were(world: World) -> None:
    before = [line for number in (2, 3) for line in explain(world.config(), email(number), world.now).as_text().splitlines()]
    forget(world.config(), user_id(1), world.now)
    after = [line for number in (2, 3) for line in explain(world.config(), email(number), world.now).as_text().splitlines()]
    changed = [(one, other) for one, other in zip(before, after, strict=True) if one != other]

    assert [one.replace("Person1@example.com", "(forgotten)") for one, _ in changed] == [other for _, other in changed]
    assert len(changed) == 1


def test_who_was_written_to_as_a_manager_is_forgotten_there_too(world: World) -> None:
    world.roster([ONE, *OTHERS, person(4, email=BOSS)])
    nights(world, 1)
    forget(world.config(), user_id(4), world.now)

    assert traces(world, (BOSS, user_id(4))) == set()


def test_a_forgotten_user_who_is_still_in_the_roster_is_not_mailed_and_not_written_down(world: World) -> None:
    forget(world.config(), user_id(1), world.now)
    before = len(world.mailed())
    nights(world, 3)
    row = world.report()[user_id(1)]

    assert (mailed(world, 1, before), BOSS in world.mailed()[before:]) == (0, False)
    assert (row["reason"], row["detail"], row["messages"]) == ("suppressed", "forgotten", "2")
    assert (row["status"], row["next_action"], row["email"]) == ("not_probed", "", email(1))
    assert traces(world) == set()


@pytest.mark.promise(6, 20)
@pytest.mark.case(45)
def test_a_forgotten_user_may_return_and_the_cap_and_the_spacing_still_hold(world: World) -> None:
    """One invitation and two reminders are all there is: two of the three have gone out."""
    forget(world.config(), user_id(1), world.now)
    orders.unsuppress(world.config(), email(1), world.now)
    before = len(world.mailed())
    world.days_pass(1)
    world.night(approve=9)
    soon = mailed(world, 1, before)
    nights(world, 4)
    told = [message.data for message in world.relay.accepted[before:] if message.recipient == email(1)]

    assert (soon, len(told)) == (0, 1)
    assert "\r\nMessage-ID: <test.3." in told[0]
    assert world.report()[user_id(1)]["reason"] == "cap_reached"


def test_who_returns_has_a_story_that_says_so(world: World) -> None:
    forget(world.config(), user_id(1), world.now)
    orders.unsuppress(world.config(), email(1), world.now)
    nights(world, 1)
    story = explain(world.config(), email(1), world.now)

    assert [event.what for event in story.events][:3] == ["forgotten", "unsuppressed", "recognised"]
    assert story.standing.messages == 3


def test_an_address_is_left_alone_after_a_message_to_somebody_who_was_forgotten(world: World) -> None:
    forget(world.config(), user_id(1), world.now)
    world.roster([*OTHERS, person(5, email=email(1).upper())])
    before = len(world.mailed())
    nights(world, 1, days=1)
    early = world.report()[user_id(5)]["reason"]
    nights(world, 1, days=2)

    assert early == "same_address"
    assert world.mailed()[before:].count(email(1).upper()) == 1


def test_a_manager_is_left_alone_after_a_message_about_somebody_who_was_forgotten(world: World) -> None:
    world.roster([ONE, person(2, manager_email=BOSS), person(3)])
    assert world.mailed().count(BOSS) == 1
    forget(world.config(), user_id(1), world.now)
    nights(world, 2, days=1)
    early = world.mailed().count(BOSS)
    nights(world, 1, days=1)

    assert (early, world.mailed().count(BOSS)) == (1, 2)


def test_an_address_that_was_refused_is_known_to_whoever_returns_with_it(world: World) -> None:
    world.relay.heal()
    world.relay.at("RCPT", "550 5.1.1 <person2@example.com>: no such user", recipient=email(2))
    nights(world, 1)
    world.roster([ONE])
    purge_after(world, 40)
    world.roster([ONE, *OTHERS])
    nights(world, 1)

    assert world.report()[user_id(2)]["reason"] == "undeliverable"


def test_a_message_that_was_deferred_is_tried_again_as_a_message_of_its_own(world: World) -> None:
    world.relay.heal()
    world.relay.at("dot", "450 4.2.1 later", recipient=email(1))
    nights(world, 1)
    [before] = slot_of(world, "deferred")
    forget(world.config(), user_id(1), world.now)
    orders.unsuppress(world.config(), user_id(1), world.now)
    world.relay.heal()
    nights(world, 1)
    sent = message_id(world.relay.accepted[-1].data)

    assert sent != before
    assert sent.endswith("@example.com>")
    assert world.report()[user_id(1)]["messages"] == "3"


def slot_of(world: World, outcome: str) -> list[str]:
    return [row["message_id"] for row in rows(world.config(), "slots") if row["outcome"] == outcome]


def test_no_relays_log_tells_whose_mask_it_is(world: World) -> None:
    sent = {message_id(message.data): message.recipient for message in world.relay.accepted}
    forget(world.config(), user_id(1), world.now)

    assert {sent[kept] for kept in traces(world, tuple(sent))} == {email(2), email(3)}


def message_id(data: str) -> str:
    return data.partition("Message-ID: ")[2].partition("\r\n")[0]


def test_no_guard_trips_because_somebody_was_forgotten(world: World) -> None:
    forget(world.config(), user_id(1), world.now)
    world.days_pass(3)

    assert [trip.guard for trip in world.night().trips] == []


def test_the_story_of_a_forgotten_user_names_nobody(world: World) -> None:
    forget(world.config(), user_id(1), world.now)
    told = explain(world.config(), email(1), world.now).as_text()

    assert told.splitlines()[0] == "a user whose personal data were removed: what is left are the number and dates of messages"
    assert "ordered: forgotten" in told
    assert "messages so far: 2" in told
    assert "\nNo message until somebody lifts the order not to contact this user: campaign unsuppress USER\n" in told
    assert not any(trace.casefold() in told.casefold() for trace in TRACES)


def test_a_forgotten_user_who_is_still_in_the_roster_is_not_asked(world: World) -> None:
    forget(world.config(), user_id(1), world.now)
    [night] = nights(world, 1)

    assert user_id(1) not in {finding.user_id for finding in night.findings}
    assert night.counts()["reason"]["suppressed"] == 2


def test_plan_and_report_recognise_whose_personal_data_were_removed(world: World) -> None:
    world.roster([ONE, person(3)])
    purge_after(world, 40)
    forget(world.config(), user_id(1), world.now)
    world.roster([ONE, *OTHERS])
    planned = {decision.user.user_id: decision for decision in world.plan().decisions}
    nightly.rewrite_report(world.config(), world.means())

    assert (planned[user_id(1)].reason, planned[user_id(2)].next_action) == ("suppressed", "remind")
    assert world.report()[user_id(1)]["reason"] == "suppressed"
    assert world.report()[user_id(2)]["messages"] == "2"


def test_nothing_is_noted_of_a_forgotten_user(world: World) -> None:
    forget(world.config(), user_id(1), world.now)
    before = masked(world)
    world.consent(1)
    nights(world, 1)
    world.revoke(1)
    nights(world, 1)

    assert before
    assert masked(world) == before


def masked(world: World) -> list[tuple[Any, ...]]:
    return [row for rows in tables(world).values() for row in rows if any(str(cell).startswith("mask:") for cell in row)]


def test_to_forget_twice_is_to_forget_once(world: World) -> None:
    forget(world.config(), email(1), world.now)
    before = tables(world)
    forget(world.config(), user_id(1).upper(), world.now + timedelta(days=1))

    assert tables(world) == before
    assert examine(world.config(), world.now) == ""


@in_a_file
def test_what_was_left_in_the_file_before_goes_with_it(world: World) -> None:
    """The address had changed; SQLite may keep what a row was until the place is needed."""
    path = world.folder / "ledger.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA secure_delete = OFF")
        database.execute("INSERT INTO rejects VALUES ('test', ?)", ["person1@example.com was here" * 500])
        database.commit()
        database.execute("DELETE FROM rejects")
        database.commit()
    forget(world.config(), user_id(1), world.now)

    assert traces(world) == set()


def test_nothing_is_left_even_if_the_file_cannot_be_written_anew(world: World) -> None:
    world.roster([person(6), *OTHERS])
    world.night(approve=9)
    with open_ledger(world.config()) as ledger:
        ledger.forget(user_id(6), world.now)

    assert traces(world, (email(6), user_id(6))) == set()


def test_an_unknown_user_cannot_be_forgotten(world: World) -> None:
    with pytest.raises(UsageError, match="no user 'nobody@"):
        forget(world.config(), "nobody@example.com", world.now)
    with hold(world.config()), pytest.raises(Busy):
        forget(world.config(), email(1), world.now)


def test_the_reports_that_still_name_a_forgotten_user_are_told(world: World) -> None:
    told = forget(world.config(), email(1), world.now)
    again = forget(world.config(), email(1), world.now)

    assert (len(told), told[-1]) == (3, world.folder / "reports" / "report.csv")
    assert again == told[1:]  # of the first night another address is known, and the user id no more


def test_a_ledger_from_before_is_brought_up_to_date(world: World) -> None:
    for table, column in (("campaigns", "mask_key"), ("users", "forgotten_at")):
        sql(world.config(), f"ALTER TABLE {table} DROP COLUMN {column}")
    sql(world.config(), "UPDATE schema SET version = 2")
    forget(world.config(), user_id(1), world.now)

    assert traces(world) == set()


# --- purge


def purge_after(world: World, days: int, older_than: int = 30) -> Purged:
    world.days_pass(days)
    return purge(world.config(), older_than, world.now)


@pytest.mark.promise(20)
def test_who_left_the_roster_long_ago_is_purged_and_the_others_are_not(world: World) -> None:
    orders.unsuppress(world.config(), email(3), world.now)  # the order quoted an address
    world.roster(OTHERS)
    nights(world, 1, days=20)
    recent = purge_after(world, 5)
    assert (recent.users, traces(world)) == (0, set(TRACES))

    before = len(tables(world)["events"])
    purged = purge_after(world, 10)
    own = 1  # that the user left is told of the user, and goes with it
    assert purged == Purged(1, before - own - len(tables(world)["events"]), 2)
    assert traces(world, (*TRACES, user_id(2), user_id(3), email(2))) == {user_id(2), user_id(3), email(2)}


@pytest.mark.promise(20)
@pytest.mark.case(45)
def test_who_was_purged_and_returns_goes_on_where_the_counts_are(world: World) -> None:
    world.roster([person(3)])
    nights(world, 1)
    assert purge_after(world, 40).users == 2
    world.roster([ONE, *OTHERS])
    before = len(world.mailed())
    nights(world, 4)

    assert (mailed(world, 1, before), mailed(world, 2, before)) == (1, 1)
    assert world.report()[user_id(1)]["messages"] == "3"
    assert explain(world.config(), user_id(1), world.now).events[0].what == "recognised"


def test_who_was_not_to_be_contacted_is_not_contacted_after_a_purge_either(world: World) -> None:
    world.roster([ONE])
    nights(world, 1)
    purge_after(world, 40)
    world.roster([ONE, *OTHERS])
    before = len(world.mailed())
    nights(world, 2)

    assert mailed(world, 3, before) == 0
    assert world.report()[user_id(3)]["reason"] == "suppressed"


def test_old_history_goes_and_new_history_stays(world: World) -> None:
    nights(world, 1, days=40)
    before = len(tables(world)["events"])
    removed = purge(world.config(), 30, world.now)

    assert [event.what for event in explain(world.config(), email(2), world.now).events] == ["accepted"]
    assert removed.events == before - len(tables(world)["events"])


def test_a_purge_changes_nothing_in_the_nights_that_follow(world: World) -> None:
    before = len(world.mailed())
    purge(world.config(), 0, world.now)
    world.days_pass(3)
    night = world.night()
    nights(world, 2)

    assert night.trips == []
    assert (mailed(world, 1, before), mailed(world, 2, before)) == (1, 1)


def test_a_message_of_an_old_night_is_still_known_when_it_comes_back(world: World) -> None:
    message = world.relay.accepted[1]
    purge(world.config(), 0, world.now)
    with open_ledger(world.config()) as ledger:
        [letter] = ledger.letters([message_id(message.data)]).values()

        assert letter.recipient == message.recipient


def test_what_a_killed_run_found_is_told_after_a_purge(world: World) -> None:
    sql(world.config(), f"UPDATE slots SET outcome = 'sending' WHERE user_id = '{user_id(2)}' AND step = 2")  # noqa: S608
    with open_ledger(world.config()) as ledger:
        ledger.begin("killed", world.now)
    purge(world.config(), 0, world.now + timedelta(days=1))
    world.days_pass(1)

    assert [line for line in world.night().attention if line.startswith(email(2))]


def test_old_reports_go_by_their_names(world: World) -> None:
    history = world.folder / "reports" / "history"
    (history / "notes.csv").write_text("kept", encoding="utf-8")
    first, second, _ = sorted(path.name for path in history.iterdir())
    removed = purge(world.config(), 2, world.now)

    assert removed.reports == 1
    assert sorted(path.name for path in history.iterdir()) == [second, "notes.csv"]
    assert first < second


def test_a_row_of_the_roster_that_is_rejected_keeps_its_user(world: World) -> None:
    world.roster([{**ONE, "email": "no address"}, *OTHERS])

    assert purge_after(world, 40).users == 0


def test_without_a_roster_nobody_is_purged(world: World) -> None:
    (world.folder / "roster.csv").unlink()
    before = tables(world)
    with pytest.raises(RosterError):
        purge_after(world, 400)

    assert tables(world) == before


def test_to_purge_twice_is_to_purge_once(world: World) -> None:
    world.roster(OTHERS)
    purge_after(world, 40)
    before = tables(world)

    assert purge(world.config(), 30, world.now) == Purged(0, 0, 0)
    assert tables(world) == before


# --- the commands, and death in the middle of them


@in_a_file
def test_both_commands_say_what_they_did(world: World) -> None:
    config = world.config().folder / "campaign.toml"
    forgot = command("forget", email(1), "--config", config)
    purged = command("purge", "--older-than", "0", "--config", config)
    unknown = command("forget", "nobody@example.com", "--config", config)

    assert (forgot.exit_code, purged.exit_code, unknown.exit_code) == (0, 0, 2)
    assert forgot.stdout.startswith(f"{email(1)} is forgotten: ")
    assert "still named in 3 reports" in forgot.stdout
    assert purged.stdout.startswith("removed: ")


def with_fault(world: World, fault: str) -> int:
    """The exit code of `forget` when a system call meets this fault."""
    name = fault.partition(":")[0]
    tool = (strace(), "-f", "-qq", "-o", os.devnull, "-e", f"trace={name}", "-e", f"inject={fault}")
    words = [*tool, sys.executable, "-m", "campaign", "forget", user_id(1), "--config", "campaign.toml"]
    around = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=world.folder, env=around, capture_output=True, timeout=60, check=False).returncode


def survives(world: World, fault: str) -> int:
    """Assert that this fault leaves the old state or the new one, and that the same command finishes the work."""
    before = tables(world)
    code = with_fault(world, fault)
    with closing(sqlite3.connect(world.folder / "ledger.sqlite3")) as database:  # takes back what a journal holds
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    after = tables(world)
    assert examine(world.config(), world.now) == ""
    forget(world.config(), user_id(1), world.now)
    assert traces(world) == set()
    assert after in (before, tables(world))
    return code


@in_a_file
@pytest.mark.parametrize(
    "call", ["pwrite64:{}:when=3", "unlink:{}:when=1", "unlink:{}:when=2", "unlink:{}:when=3", "rename:{}:when=1"]
)
def test_a_kill_in_the_middle_leaves_the_old_state_or_the_new(call: str, world: World) -> None:
    assert survives(world, call.format("signal=SIGKILL")) == -signal.SIGKILL


@in_a_file
@pytest.mark.parametrize("write", [3, 20])
def test_a_full_disk_leaves_the_old_state_or_the_new(write: int, world: World) -> None:
    assert survives(world, f"pwrite64:error=ENOSPC:when={write}+") == 6


@in_a_file
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["pwrite64", "unlink", "rename"])
def test_a_kill_at_each_write_leaves_the_old_state_or_the_new(name: str, world: World) -> None:
    kept = {path: path.read_bytes() for path in world.folder.glob("ledger*")}
    kills = 0
    while survives(world, f"{name}:signal=SIGKILL:when={kills + 1}") == -signal.SIGKILL:
        kills += 1
        for path, content in kept.items():
            path.write_bytes(content)

    print(name, kills)  # noqa: T201  # shown by -rP
    assert kills
