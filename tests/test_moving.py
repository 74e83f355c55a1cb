"""`campaign ledger copy`: the ledger moves, whole, and at no instant can two of them be written to."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from campaign import forgetting, orders
from campaign.config import Config
from campaign.errors import Busy, ExitCode, LedgerError, UsageError
from campaign.ledger import adopt, copying, hold, read_ledger
from campaign.ledger.opening import store_of
from campaign.moving import copy
from tests.commands import command
from tests.postgres_server import Keys, keys_of, ledgers
from tests.world import World, email, sql, user_id

FILE = "sqlite:///other.sqlite3"


@pytest.fixture(params=ledgers())
def there(request: pytest.FixtureRequest) -> Keys:
    """Where the ledger goes: another file, or a database."""
    return keys_of(request) or {"ledger": {"url": FILE}}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A campaign with a past: messages, orders, somebody forgotten, words that are no ASCII, more rows than go at once."""
    with World(tmp_path) as world:
        world.roster([1, 2, 3])
        world.night(approve=3)
        world.days_pass(3)
        orders.suppress(world.config(), user_id(2), "“Ürlaub” – 休暇", world.now + timedelta(days=90), world.now)
        forgetting.forget(world.config(), user_id(3), world.now)
        world.night()
        rows = ", ".join(f"('test', 'x{n}', '2026-11-23T02:00:00.{n:06}Z', 'r', 'joined', 'é{n}')" for n in range(2500))
        sql(world.config(), f"INSERT INTO events (campaign, user_id, at, run_id, what, detail) VALUES {rows}")  # noqa: S608
        yield world


def known(config: Config) -> dict[str, list[dict[str, Any]]]:
    """Everything that a ledger holds, but for what belongs to the place."""
    keys = {
        "campaigns": "campaign",
        "users": "user_id",
        "slots": "user_id, step",
        "runs": "run_id",
        "rejects": "fingerprint",
        "events": "id",
        "adoptions": "id",
    }
    own = {"generation", "moved_to", "arriving_from", "id"}
    found = {table: sql(config, f"SELECT * FROM {table} ORDER BY {key}") for table, key in keys.items()}  # noqa: S608
    return {table: [{k: v for k, v in row.items() if k not in own} for row in rows] for table, rows in found.items()}


def go(world: World, there: Keys) -> tuple[Config, Config]:
    """Move the ledger; the configurations before and after, of which the world has the new one."""
    before = world.config()
    world.keys |= {table: keys for table, keys in there.items() if table != "ledger"}
    copy(world.config(), before.ledger.url, there["ledger"]["url"])
    world.keys |= there
    return before, world.config()


@pytest.mark.promise(9)
def test_a_ledger_that_moved_is_whole_and_the_campaign_goes_on(world: World, there: Keys) -> None:
    before, after = go(world, there)

    assert known(after) == known(before)
    world.days_pass(7)
    assert world.night().exit_code == ExitCode.DONE
    assert world.mailed() == [email(1), email(2), email(3), email(1), email(1)]


@pytest.mark.promise(1, 9)
def test_the_old_ledger_is_refused_and_says_where_it_went(world: World, there: Keys) -> None:
    before, after = go(world, there)
    world.keys["ledger"] = {"url": before.ledger.url}
    for attempt in (world.night, world.plan):
        with pytest.raises(LedgerError, match="moved to ") as refused:
            attempt()
        assert after.ledger_name in str(refused.value)
    with pytest.raises(UsageError, match="moved"):
        copy(world.config(), before.ledger.url, there["ledger"]["url"])

    assert known(after) == known(before)


def test_the_old_ledger_can_be_adopted_again_by_who_means_it(world: World, there: Keys) -> None:
    before, _ = go(world, there)
    world.keys["ledger"] = {"url": before.ledger.url}
    adopt(world.config(), world.now)
    world.days_pass(7)

    assert world.night().exit_code == ExitCode.STOPPED  # for want of an approval
    assert world.night(approve=1).exit_code == ExitCode.DONE


def test_there_and_back_again(world: World, there: Keys) -> None:
    before, after = go(world, there)
    world.night()
    copy(after, after.ledger.url, before.ledger.url)
    world.keys["ledger"] = {"url": before.ledger.url}

    assert known(before) == known(after)
    assert world.night().exit_code == ExitCode.DONE


@pytest.mark.promise(8)
@pytest.mark.parametrize("commits", [0, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 3, 5, 7)), 2, 4, 6, 8])
def test_killed_at_any_commit_it_goes_on_and_two_can_never_be_written_to(commits: int, world: World, there: Keys) -> None:
    class Killed(BaseException):
        pass

    done = 0

    def die(_: object) -> None:
        nonlocal done
        done += 1
        if done > commits:
            raise Killed

    before = world.config()
    event.listen(Engine, "commit", die)
    try:
        with pytest.raises(Killed):
            go(world, there)
    except BaseException:
        if commits < 8:  # it takes fewer
            raise
    finally:
        event.remove(Engine, "commit", die)
    can_be_written = 0
    for keys in ({"ledger": {"url": before.ledger.url}}, there):
        world.keys |= keys
        with hold(world.config()):
            pass
        can_be_written += _usable(world.config())
    world.keys["ledger"] = {"url": before.ledger.url}

    assert can_be_written <= 1
    if _usable(before):
        _, after = go(world, there)
        assert known(after) == known(before)
        assert world.night().exit_code == ExitCode.DONE


def _usable(config: Config) -> bool:
    """Whether a run would take up this campaign's past here."""
    try:
        with read_ledger(config) as ledger:
            return ledger is not None
    except LedgerError:
        return False


def test_a_row_that_differs_is_found_and_the_old_ledger_stays(world: World, there: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    really = copying.copy_rows

    def careless(table: Any, campaign: str, source: Any, target: Any) -> None:
        really(table, campaign, source, target)
        if table.name == "slots":
            target.execute(table.update().values(attempts=table.c.attempts + 1))

    monkeypatch.setattr(copying, "copy_rows", careless)
    before = world.config()
    with pytest.raises(LedgerError, match="row 1 of the table slots is not the same in both places"):
        go(world, there)
    monkeypatch.undo()
    world.keys["ledger"] = {"url": before.ledger.url}

    assert world.night().exit_code == ExitCode.DONE
    assert known(go(world, there)[1]) == known(before)


def test_what_holds_the_campaign_already_is_not_written_over(world: World, there: Keys) -> None:
    before = world.config()
    world.keys |= there
    world.night()
    occupied = known(world.config())
    with pytest.raises(LedgerError, match="holds a ledger of this campaign already"):
        copy(world.config(), before.ledger.url, there["ledger"]["url"])

    assert known(world.config()) == occupied


def test_neither_is_touched_while_a_run_holds_it(world: World, there: Keys) -> None:
    before = world.config()
    world.keys |= there
    for config in (before, world.config()):
        with hold(config), pytest.raises(Busy):
            copy(world.config(), before.ledger.url, there["ledger"]["url"])


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("sqlite:///ledger.sqlite3", "sqlite:///ledger.sqlite3", "the same place twice"),
        ("sqlite:///nothing.sqlite3", FILE, "does not exist"),
        ("sqlite:///ledger.sqlite3", "mysql://db/x", "must be sqlite:///"),
        ("sqlite:///ledger.sqlite3", "postgresql+psycopg://u:hunter2@127.0.0.1/x", "must not hold a password"),
        ("sqlite:///ledger.sqlite3", "postgresql+psycopg://u@db.example.com/x", "needs ca_file"),
    ],
)
def test_what_cannot_be_copied_is_said_in_one_sentence(world: World, source: str, target: str, said: str) -> None:
    world.config()
    done = command("ledger", "copy", source, target, "--config", world.folder / "campaign.toml")

    assert done.exit_code == 2
    assert said in done.stderr
    assert "hunter2" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_the_command_says_what_it_did_and_what_comes_next(world: World, there: Keys) -> None:
    before = world.config()
    world.keys |= {table: keys for table, keys in there.items() if table != "ledger"}
    config = world.config()
    done = command("ledger", "copy", before.ledger.url, there["ledger"]["url"], "--config", config.folder / "campaign.toml")

    assert done.exit_code == 0, done.stderr
    assert "3 users, 4 messages" in done.stdout
    assert f'url = "{there["ledger"]["url"]}"' in done.stdout
    assert store_of(config).name in done.stdout
