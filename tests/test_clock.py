"""Nights on which the clock, the machine or the lock is not what it was."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from time import sleep as time_passes
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from campaign import ledger
from campaign.errors import ExitCode, GuardTripped, LedgerError
from campaign.given import Means
from campaign.night import Night
from campaign.nightly import run
from campaign.sandbox import json_answer
from tests.fakes import Relay
from tests.postgres_server import Keys, in_a_file
from tests.world import World, email, user_id


@pytest.fixture
def world(tmp_path: Path, ledger_keys: Keys) -> Iterator[World]:
    with World(tmp_path, ledger=ledger_keys) as world:
        world.roster(range(4))
        yield world


def night_with(world: World, after_the_first: Callable[[], None]) -> Night:
    """An approved night in which something happens after its first message."""

    def progress(stage: str, done: int, _: int) -> None:
        if (stage, done) == ("mailing", 1):
            after_the_first()

    return run(world.config(), Means(world.clock, world.stop, {}, progress=progress), 4)


@pytest.mark.promise(10)
@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(days=-400), timedelta(days=91), timedelta(days=4000)], ids=str)
def test_a_clock_that_jumped_stops_the_night_before_anybody_is_asked(world: World, jump: timedelta) -> None:
    world.night(approve=4)
    asked = len(world.accounts.requests)
    world.now += jump
    for _ in range(2):
        with pytest.raises(GuardTripped, match="guard clock") as stopped:
            world.night(approve=4)

        assert "campaign adopt" in stopped.value.advice
        assert len(world.accounts.requests) == asked
        assert len(world.mailed()) == 4


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(days=91)], ids=str)
def test_a_clock_that_was_corrected_can_be_adopted(world: World, jump: timedelta) -> None:
    world.night(approve=4)
    world.now += jump
    found = ledger.examine(world.config(), world.now)
    ledger.adopt(world.config(), world.now)
    world.days_pass(3)
    night = world.night(approve=4)

    assert "the clock shows" in found
    assert ledger.examine(world.config(), world.now) == ""
    assert night.exit_code == ExitCode.DONE
    assert len(world.mailed()) == 8


@pytest.mark.parametrize("passed", [timedelta(minutes=-5), timedelta(days=89)], ids=str)
def test_a_small_correction_and_a_long_holiday_stop_nothing(world: World, passed: timedelta) -> None:
    world.night(approve=4)
    world.now += passed

    assert world.night().exit_code == ExitCode.DONE


@pytest.mark.promise(10)
@pytest.mark.parametrize("asleep", [timedelta(hours=7), timedelta(hours=-1)], ids=str)
def test_after_a_sleep_nobody_is_mailed_by_old_findings(world: World, asleep: timedelta) -> None:
    def sleep() -> None:
        world.now += asleep

    night = night_with(world, sleep)
    mailed = list(world.mailed())
    world.now += timedelta(days=1)
    world.night()

    assert night.exit_code == ExitCode.STOPPED
    assert "guard clock" in str(night.problems[0])
    assert mailed == [email(0)]
    assert sorted(world.mailed()) == [email(n) for n in range(4)]


def all_lack_consent(world: World) -> None:
    """Let Docusign say so, whatever the time in the assertion."""
    lacking = json_answer(400, error="consent_required")
    world.accounts.faults.answers = {user_id(number): lacking for number in range(30)}


@pytest.mark.promise(10)
@pytest.mark.parametrize("asleep", [timedelta(hours=3), timedelta(hours=-1)], ids=str)
def test_after_a_sleep_between_two_answers_nobody_is_mailed_or_asked_any_more(world: World, asleep: timedelta) -> None:
    world.keys = {"docusign": {"concurrency": 1}}
    world.accounts.faults.latency = 0.05
    all_lack_consent(world)

    def progress(stage: str, done: int, _: int) -> None:
        if (stage, done) == ("probing", 2):
            world.now += asleep

    world.roster(range(30))
    night = run(world.config(), replace(world.means(), progress=progress), 30)
    asked, reasons = len(world.accounts.requests), {row["reason"] for row in world.report().values()}
    time_passes(0.2)

    assert night.exit_code == ExitCode.STOPPED
    assert "guard clock: Docusign's last answer came at" in str(night.problems[0])
    assert (world.mailed(), reasons) == ([], {"stopped"})
    assert len(world.accounts.requests) == asked < 30
    assert [row["status"] for row in world.report().values()][:3] == ["consent_required", "consent_required", "not_probed"]


@pytest.mark.promise(10)
def test_an_hour_between_two_answers_is_a_pace_and_no_sleep(world: World) -> None:
    all_lack_consent(world)

    def progress(stage: str, *_: int) -> None:
        if stage == "probing":
            world.now += timedelta(hours=1)

    night = run(world.config(), replace(world.means(), progress=progress), 4)

    assert (night.exit_code, len(world.mailed())) == (ExitCode.DONE, 4)


class LateRelay(Relay):
    """Greets after something else has happened."""

    meanwhile: Callable[[], object]

    def action(self, phase: str, talk: Any) -> str:
        if phase == "connect":
            self.meanwhile()
        return super().action(phase, talk)


@pytest.mark.promise(10, 19)
@pytest.mark.parametrize(
    ("happens", "code", "reason"),
    [
        ("a sleep", ExitCode.STOPPED, "stopped"),
        ("closing time", ExitCode.DONE, "outside_hours"),
        ("STOP", ExitCode.STOPPED, "stopped"),
        ("a signal", ExitCode.SIGTERM, "stopped"),
    ],
)
def test_after_a_connection_that_took_long_everything_is_looked_at_again(
    tmp_path: Path, happens: str, code: ExitCode, reason: str
) -> None:
    relay = LateRelay()
    with World(tmp_path, keys={"policy": {"hours": "00:00-06:00"}}, relay=relay) as late:
        relay.meanwhile = {
            "a sleep": lambda: late.days_pass(7 / 24),
            "closing time": lambda: late.days_pass(5 / 24),
            "STOP": (tmp_path / "STOP").touch,
            "a signal": lambda: late.stop.ask(ExitCode.SIGTERM),
        }[happens]
        late.roster(range(3))
        night = late.night(approve=3)

        assert (night.exit_code, late.mailed()) == (code, [])
        assert {row["reason"] for row in late.report().values()} == {reason}


def test_no_message_goes_out_after_closing_time(tmp_path: Path) -> None:
    with World(tmp_path, keys={"policy": {"hours": "01:00-03:00"}}) as world:
        world.roster(range(4))

        def wait() -> None:
            world.now += timedelta(hours=2)

        night = night_with(world, wait)

        assert night.exit_code == ExitCode.DONE
        assert world.mailed() == [email(0)]
        assert [world.report()[user_id(n)]["reason"] for n in range(4)] == ["sent", *["outside_hours"] * 3]


@pytest.mark.promise(10)
def test_the_hours_are_asked_before_each_message_and_each_by_the_users_own_clock(tmp_path: Path) -> None:
    zones = ["", "Asia/Tokyo", "", "Asia/Tokyo", "nowhere"]
    with World(tmp_path, keys={"policy": {"hours": "01:00-12:00"}}) as world:
        world.roster({"user_id": user_id(n), "email": email(n), "timezone": zone} for n, zone in enumerate(zones))

        def wait() -> None:
            world.now += timedelta(hours=2)  # 04:00, and in Tokyo 13:00

        night = run(world.config(), replace(world.means(), progress=lambda *at: wait() if at[:2] == ("mailing", 1) else None), 5)

        assert night.exit_code == ExitCode.DONE
        assert world.mailed() == [email(0), email(2), email(4)]
        assert [world.report()[user_id(n)]["reason"] for n in (1, 3)] == ["outside_hours"] * 2


@pytest.mark.promise(10)
def test_several_runs_a_day_reach_everybody_in_their_own_morning_once(tmp_path: Path) -> None:
    zones = ["Europe/Berlin", "America/New_York", "Asia/Tokyo", "Pacific/Auckland", ""]
    with World(tmp_path, keys={"policy": {"hours": "08:00-12:00", "timezone": "Europe/Berlin"}}) as world:
        world.roster({"user_id": user_id(n), "email": email(n), "timezone": zone} for n, zone in enumerate(zones))
        told = []
        for _ in range(8):
            before = len(world.mailed())
            world.night(approve=5)
            told += [(recipient, world.now.hour) for recipient in world.mailed()[before:]]
            world.now += timedelta(hours=3)

    assert sorted(told) == [(email(0), 8), (email(1), 14), (email(2), 2), (email(3), 20), (email(4), 8)]


BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")


@pytest.mark.promise(10)
@pytest.mark.case(22)
@pytest.mark.parametrize(
    ("zone", "change", "at"),
    [
        (BERLIN, date(2027, 3, 28), time(2, 30)),
        (BERLIN, date(2027, 10, 31), time(2, 30)),
        (NEW_YORK, date(2027, 3, 14), time(2, 30)),
        (NEW_YORK, date(2027, 11, 7), time(1, 30)),
    ],
    ids=str,
)
def test_a_change_of_the_clocks_neither_doubles_a_reminder_nor_skips_a_week(
    quick_path: Path, zone: ZoneInfo, change: date, at: time
) -> None:
    """Cron at the same local time, which comes twice on the day of the change, or an hour late."""
    policy = {"timezone": zone.key, "remind_after_days": [7, 7], "hours": "01:00-04:00"}
    days = [change + timedelta(days=n) for n in (-7, -1, 0, 1, 6, 7, 8)]
    instants = {datetime.combine(day, at, zone).replace(fold=fold).astimezone(UTC) for day in days for fold in (0, 1)}
    with World(quick_path, keys={"policy": policy}, now=min(instants)) as world:
        world.roster([1])
        mailed_on = []
        for world.now in sorted(instants):
            before = len(world.mailed())
            world.night(approve=1)
            mailed_on += [world.now.astimezone(zone).date()] * (len(world.mailed()) - before)

    assert len(instants) == 8
    assert mailed_on == [change - timedelta(days=7), change, change + timedelta(days=7)]


@pytest.mark.promise(10)
@pytest.mark.case(22)
@pytest.mark.parametrize(
    ("zone", "change"), [(BERLIN, date(2027, 3, 28)), (NEW_YORK, date(2027, 3, 14))], ids=["Berlin", "New York"]
)
def test_who_is_due_in_an_hour_that_is_left_out_is_mailed_on_the_next_day(tmp_path: Path, zone: ZoneInfo, change: date) -> None:
    with World(tmp_path, keys={"policy": {"timezone": zone.key, "hours": "02:00-03:00"}}) as world:
        world.now = datetime.combine(change, time(2, 30), zone).astimezone(UTC)
        world.roster([1])
        world.night(approve=1)
        skipped = list(world.mailed())
        reason = world.report()[user_id(1)]["reason"]
        world.now = datetime.combine(change + timedelta(days=1), time(2, 30), zone).astimezone(UTC)
        world.night(approve=1)

        assert (skipped, reason) == ([], "outside_hours")
        assert world.mailed() == [email(1)]


@in_a_file
@pytest.mark.promise(7, 9)
@pytest.mark.parametrize("name", ["ledger.sqlite3", "ledger.sqlite3.lock"])
@pytest.mark.parametrize("replaced", [False, True])
def test_no_message_goes_out_once_ledger_or_lock_may_be_another(world: World, replaced: bool, name: str) -> None:
    def lose() -> None:
        old = (world.folder / name).rename(world.folder / "old")
        if replaced:
            shutil.copy(old, world.folder / name)

    with pytest.raises(LedgerError, match="was removed or replaced"):
        night_with(world, lose)

    assert world.mailed() == [email(0)]
