"""Nights on which the clock, the machine or the lock is not what it was."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from campaign import ledger
from campaign.errors import ExitCode, GuardTripped, LedgerError
from campaign.given import Means
from campaign.night import Night
from campaign.nightly import run
from tests.world import World, email, user_id


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        world.roster(range(4))
        yield world


def night_with(world: World, after_the_first: Callable[[], None]) -> Night:
    """An approved night in which something happens after its first message."""

    def progress(stage: str, done: int, _: int) -> None:
        if (stage, done) == ("mailing", 1):
            after_the_first()

    return run(world.config(), Means(world.clock, world.stop, {}, progress=progress), 4)


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


def test_no_message_goes_out_after_closing_time(tmp_path: Path) -> None:
    with World(tmp_path, keys={"policy": {"hours": "01:00-03:00"}}) as world:
        world.roster(range(4))

        def wait() -> None:
            world.now += timedelta(hours=2)

        night = night_with(world, wait)

        assert night.exit_code == ExitCode.DONE
        assert world.mailed() == [email(0)]
        assert [world.report()[user_id(n)]["reason"] for n in range(4)] == ["sent", *["outside_hours"] * 3]


@pytest.mark.parametrize("replaced", [False, True])
def test_no_message_goes_out_once_the_lock_may_be_somebody_elses(world: World, replaced: bool) -> None:
    lock = world.folder / "ledger.sqlite3.lock"

    def lose() -> None:
        lock.unlink()
        if replaced:
            lock.touch()

    with pytest.raises(LedgerError, match="was removed or replaced"):
        night_with(world, lose)

    assert world.mailed() == [email(0)]
