"""One ledger for several hosts: what becomes of it when they start together, when the wire is cut, and when the server dies."""

import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from campaign import forgetting, nightly, orders
from campaign.config import Config
from campaign.doctor.state import state
from campaign.errors import Busy, ConfigError, ExitCode, LedgerError
from campaign.ledger import adopt, examine, hold, open_ledger, read_ledger
from campaign.ledger.opening import store_of
from campaign.model import Check, Grade, Slot
from tests.cutting import CuttingProxy
from tests.fakes import Accepted, Relay
from tests.postgres_server import PASSWORD, PostgresServer
from tests.world import FIRST_NIGHT, World, email, rows, sql, user_id

pytestmark = pytest.mark.postgres

NOW = FIRST_NIGHT
PEOPLE = range(1, 4)
PARTS = 4  # of a sweep, for as many processors


class Interrupting(Relay):
    """Does something else between taking a message and saying so."""

    def __init__(self) -> None:
        super().__init__()
        self.then: Callable[[], object] = int

    def take(self, message: Accepted) -> None:
        super().take(message)
        self.then()


@pytest.fixture
def world(tmp_path: Path, postgres: PostgresServer) -> Iterator[World]:
    with World(tmp_path / "work", postgres.keys(postgres.database()), relay=Interrupting()) as world:
        world.roster(PEOPLE)
        yield world


@pytest.fixture
def config(world: World) -> Config:
    return world.config()


@pytest.fixture(scope="session")
def _mortal() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def mortal(_mortal: PostgresServer) -> PostgresServer:
    """A server that may be killed and started again; it runs when the test begins."""
    _mortal.kill()
    _mortal.start()
    return _mortal


def then(world: World, what: Callable[[], object]) -> None:
    """Let something happen while the relay has the first message and has not said so."""
    relay, done = world.relay, threading.Event()
    assert isinstance(relay, Interrupting)

    def once() -> None:
        if not done.is_set():
            done.set()
            what()

    relay.then = once


def database(config: Config) -> str:
    assert config.ledger.server
    return config.ledger.server.database


def slots(config: Config) -> dict[str, str]:
    """What the ledger knows of everybody's message, by address."""
    return {row["recipient"]: row["outcome"] for row in rows(config, "slots")}


def failing_night(world: World) -> str:
    """What a night says that the ledger stops."""
    with pytest.raises(LedgerError) as stopped:
        world.night(approve=100)
    assert stopped.value.exit_code == ExitCode.LEDGER
    assert "\n" not in str(stopped.value)
    assert PASSWORD not in f"{stopped.value}{stopped.value.advice}{stopped.value.__cause__}"
    return str(stopped.value)


def nobody_was_mailed_twice(world: World) -> None:
    assert max(Counter(world.mailed()).values(), default=0) <= 1


# --- one run at a time


@pytest.mark.promise(7)
def test_a_second_run_is_refused_at_once_and_the_lock_dies_with_its_session(config: Config, postgres: PostgresServer) -> None:
    with hold(config):
        with pytest.raises(Busy, match=r"another run holds the campaign 'test' at postgresql://campaign@127"), hold(config):
            pass
        with pytest.raises(Busy), open_ledger(config):
            pass
        postgres.cut(database(config))
        with hold(config):
            pass


@pytest.mark.promise(7)
def test_who_has_lost_the_session_has_lost_the_lock_and_cannot_write(config: Config, postgres: PostgresServer) -> None:
    with hold(config) as lock, open_ledger(config, lock) as ledger:
        lock.check()
        postgres.cut(database(config))
        with pytest.raises(LedgerError, match="cannot be used"):
            lock.check()
        for _ in range(2):  # no new session takes the place of the one that held the lock
            with pytest.raises(LedgerError, match="the session was lost"):
                ledger.begin("run", NOW)
        with hold(config) as other, open_ledger(config, other) as theirs:
            theirs.begin("theirs", NOW)

    assert [row["run_id"] for row in sql(config, "SELECT run_id FROM runs")] == ["theirs"]


@pytest.mark.promise(7)
def test_a_pooler_that_puts_another_session_in_its_place_is_found_out_before_the_next_mail(world: World) -> None:
    config = world.config()
    with hold(config) as lock:
        assert lock.session
        with lock.session.begin():
            lock.session.exec_driver_sql("SELECT pg_advisory_unlock_all()")
        with pytest.raises(LedgerError, match="no longer holds the campaign"):
            lock.check()


@pytest.mark.promise(7)
def test_a_lock_that_is_lost_while_a_message_is_under_way_stops_the_sending(world: World, postgres: PostgresServer) -> None:
    then(world, lambda: postgres.cut(database(world.config())))
    failing_night(world)

    assert world.mailed() == [email(1)]
    assert slots(world.config()) == {email(1): "sending"}


@pytest.mark.promise(7)
def test_campaigns_that_share_a_database_do_not_hold_one_another(tmp_path: Path, postgres: PostgresServer) -> None:
    keys = postgres.keys(postgres.database())
    with World(tmp_path / "one", keys, name="one") as one, World(tmp_path / "two", keys, name="two") as two:
        one.roster([1, 2])
        two.roster([2, 3])
        with hold(one.config()):
            assert two.night(approve=2).exit_code == ExitCode.DONE
        assert one.night(approve=2).exit_code == ExitCode.DONE
        one.days_pass(3)
        orders.suppress(one.config(), user_id(2), "left", None, one.now)
        assert one.night().exit_code == ExitCode.DONE
        assert two.night().exit_code == ExitCode.DONE
        forgetting.forget(one.config(), user_id(1), one.now)

        assert one.mailed() == [email(1), email(2), email(1)]
        assert two.mailed() == [email(2), email(3)]
        assert [*two.report()] == [user_id(2), user_id(3)]
        with read_ledger(two.config()) as ledger:
            assert ledger
            assert {user: (s.messages, s.suppressed) for user, s in ledger.standings().items()} == {
                user_id(2): (1, ""),
                user_id(3): (1, ""),
            }


@pytest.mark.promise(8)
def test_several_first_runs_at_once_make_the_tables_once(tmp_path: Path, postgres: PostgresServer) -> None:
    keys, problems = postgres.keys(postgres.database()), list[Exception]()
    with World(tmp_path, keys) as world:
        config = world.config()
    start = threading.Barrier(6)

    def first_run(name: str) -> None:
        try:
            start.wait(30)
            with open_ledger(config.model_copy(update={"name": name, "report": of_its_own(name)})) as ledger:
                ledger.begin(name, NOW)
        except Exception as error:  # noqa: BLE001  # is told below
            problems.append(error)

    def of_its_own(name: str) -> Any:
        return config.report.model_copy(update={"directory": tmp_path / name})

    threads = [threading.Thread(target=first_run, args=(f"campaign-{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []
    assert len(sql(config, "SELECT * FROM campaigns")) == len(sql(config, "SELECT * FROM runs")) == 6
    assert len(sql(config, "SELECT * FROM schema")) == 1


# --- the server dies, or the wire is cut


@pytest.mark.promise(2, 3, 8)
@pytest.mark.parametrize("death", ["kill", "stop"])
def test_a_server_that_dies_between_intent_and_outcome_doubles_nothing(
    death: str, tmp_path: Path, mortal: PostgresServer
) -> None:
    with World(tmp_path, mortal.keys(mortal.database()), relay=Interrupting()) as world:
        world.roster(PEOPLE)
        then(world, getattr(mortal, death))
        failing_night(world)
        assert world.mailed() == [email(1)]
        assert "cannot be used" in failing_night(world)  # nor anybody while it is away
        mortal.start()
        night = world.night(approve=3)

        assert night.exit_code == ExitCode.ATTENTION
        assert [line for line in night.attention if email(1) in line]
        assert slots(world.config()) == {email(1): "unknown", email(2): "accepted", email(3): "accepted"}
        assert world.mailed() == [email(1), email(2), email(3)]
        assert world.report()[user_id(1)]["reason"] == "unresolved"


@pytest.mark.promise(2, 3, 8)
def test_a_server_that_is_restarted_between_intent_and_outcome_stops_the_sending(tmp_path: Path, mortal: PostgresServer) -> None:
    with World(tmp_path, mortal.keys(mortal.database()), relay=Interrupting()) as world:
        world.roster(PEOPLE)

        runs_again = threading.Event()

        def restart() -> None:
            mortal.kill()
            mortal.start()
            runs_again.set()

        then(world, restart)
        failing_night(world)
        assert runs_again.wait(60)

        assert world.mailed() == [email(1)]
        assert slots(world.config()) == {email(1): "sending"}


def night_by_wire(world: World, postgres: PostgresServer, name: str, cut_at: int | None) -> tuple[int, CuttingProxy]:
    """A first night in an empty database, over a wire that is cut; how it ended, and what the wire knows."""
    world.relay.accepted.clear()
    world.ledger = postgres.keys(name)
    direct = world.ledger["ledger"]["url"]
    with CuttingProxy(postgres.port, cut_at) as proxy:
        world.keys = {"ledger": {"url": direct.replace(f":{postgres.port}/", f":{proxy.port}/")}}
        try:
            ended = world.night(approve=100).exit_code
        except LedgerError as error:
            ended = error.exit_code
        world.keys = {}
        return int(ended), proxy


def was_whole(world: World) -> bool:
    """Whether the ledger has a night to its end: after that, no more than a goodbye is said."""
    return [run["exit_code"] for run in rows(world.config(), "runs")] == [0] and {*slots(world.config()).values()} == {"accepted"}


def survive_a_cut(world: World, postgres: PostgresServer, number: int) -> Counter[str]:
    """Let the wire be cut after so many pieces, then have another night by a whole one; count how it went."""
    (world.folder / "reports" / "ledger.witness").unlink(missing_ok=True)
    ended, wire = night_by_wire(world, postgres, postgres.database(), number)
    before, arrived = slots(world.config()), world.mailed()
    assert [*before.values()].count("sending") <= 1, "it went on after a message whose outcome could not be noted"
    assert {*arrived} <= before.keys(), "a message went out of which the ledger knows nothing"
    assert ended == ExitCode.LEDGER or was_whole(world), "it ended well, and something is missing"
    night = world.night(approve=100)
    nobody_was_mailed_twice(world)
    kept = slots(world.config())
    assert night.exit_code in {ExitCode.DONE, ExitCode.ATTENTION}, f"{number}: {night.problems}"
    assert kept.keys() == {email(person) for person in PEOPLE}
    assert {*kept.values()} <= {"accepted", "unknown"}
    assert {recipient for recipient, outcome in kept.items() if outcome == "accepted"} <= {*world.mailed()}
    assert {row["email"]: row["last_outcome"] for row in world.report().values()} == kept
    unknown = [*kept.values()].count("unknown")
    return Counter({f"exit {ended}": 1, "unknown": unknown, "delivered": len(world.mailed()), "cuts": int(wire.was_cut)})


@pytest.mark.promise(2, 3, 8)
def test_a_wire_that_is_cut_doubles_and_loses_no_message(world: World, postgres: PostgresServer) -> None:
    whole = night_by_wire(world, postgres, postgres.database(), None)[1].count
    for share in (0.1, 0.5, 0.8, 0.85, 0.9):
        assert survive_a_cut(world, postgres, int(share * whole))["exit 6"]


@pytest.mark.promise(2, 3, 8)
@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_wire_that_is_cut_at_any_piece_doubles_and_loses_no_message(part: int, world: World, postgres: PostgresServer) -> None:
    counts: Counter[str] = Counter()
    whole = night_by_wire(world, postgres, postgres.database(), None)[1].count  # the next may have a few more or fewer
    for number in range(part, whole, PARTS):
        counts += survive_a_cut(world, postgres, number)

    print("swept:", whole, "pieces,", dict(counts))  # noqa: T201  # shown by -rP
    assert counts["exit 6"] + counts["exit 0"] == len(range(part, whole, PARTS))
    assert counts["exit 0"] < 0.2 * counts["exit 6"]


# --- two hosts


class Patient(Interrupting):
    """Takes a message and does not say so before it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.then = lambda: self.go_on.wait(60)


def hosts(world: World) -> list[Path]:
    """Two folders as two hosts have them: each with the same configuration, roster and key, and nothing else in common."""
    world.config()
    folders = [world.folder.with_name("host-a"), world.folder.with_name("host-b")]
    for folder in folders:
        shutil.copytree(world.folder, folder)
    return folders


def started(folder: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "campaign", "run", "--approve", "100", "--config", "campaign.toml"]
    if os.geteuid() == 0:  # a host name of its own
        command = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', folder.name, *command]
    around = {**os.environ, "PYTHONPATH": str(Path(nightly.__file__).parent.parent), "CAMPAIGN_NAME": name}
    return subprocess.Popen(command, cwd=folder, env=around, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def race(world: World, folders: list[Path], name: str) -> None:
    """Start a run of one campaign on both hosts in the same second."""
    relay = world.relay
    assert isinstance(relay, Patient)
    relay.go_on.clear()
    for folder in folders:  # what a host knows of another campaign
        (folder / "reports" / "ledger.witness").unlink(missing_ok=True)
    with ExitStack() as stack:
        runs = [stack.enter_context(started(folder, name)) for folder in folders]
        ended = threading.Event()
        codes: list[tuple[int, str]] = []

        def see_off(run: subprocess.Popen[str]) -> None:
            _, said = run.communicate(timeout=100)
            codes.append((run.returncode, said))
            ended.set()

        watchers = [threading.Thread(target=see_off, args=(run,)) for run in runs]
        for watcher in watchers:
            watcher.start()
        assert ended.wait(100)  # whoever ends while the other one waits for the relay
        relay.go_on.set()
        for watcher in watchers:
            watcher.join()

    assert [code for code, _ in codes] == [75, 0], codes
    assert "another run holds the campaign" in codes[0][1]


def race_again_and_again(folder: Path, postgres: PostgresServer, times: int) -> Counter[str]:
    with World(folder / "work", postgres.keys(postgres.database()), relay=Patient(), live=True) as world:
        world.roster([1, 2])
        folders = hosts(world)
        for number in range(times):
            race(world, folders, f"race-{number}")

            assert world.mailed() == [email(1), email(2)] * (number + 1)
        return Counter(races=times, mails=len(world.mailed()))


@pytest.mark.promise(1, 7)
def test_of_two_hosts_that_start_in_the_same_second_one_works(tmp_path: Path, postgres: PostgresServer) -> None:
    race_again_and_again(tmp_path, postgres, 2)


@pytest.mark.promise(1, 7)
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_of_two_hosts_that_start_in_the_same_second_one_works_again_and_again(tmp_path: Path, postgres: PostgresServer) -> None:
    print(dict(race_again_and_again(tmp_path, postgres, 100)))  # noqa: T201  # shown by -rP


def test_another_host_goes_on_where_the_first_one_stood(world: World) -> None:
    world.night(approve=3)
    standby = replace(world, folder=world.folder.with_name("standby"), keys={**world.keys})
    standby.folder.mkdir()
    for name in ("campaign.toml", "roster.csv", "private.pem"):
        shutil.copy(world.folder / name, standby.folder)
    (standby.folder / "private.pem").chmod(0o600)
    again = nightly.run(standby_config(world, standby), world.means())
    world.days_pass(3)
    reminders = nightly.run(standby_config(world, standby), world.means())

    assert (again.exit_code, reminders.exit_code) == (ExitCode.DONE, ExitCode.DONE)
    assert world.mailed() == [email(1), email(2), email(3)] * 2
    assert world.night().exit_code == ExitCode.DONE  # and the first one after it


def standby_config(world: World, standby: World) -> Config:
    """The same configuration, in another folder."""
    standby.accounts = world.accounts
    return standby.config()


# --- is it the ledger that was last written?


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("UPDATE campaigns SET generation = generation - 1", "is not the last one: it is at generation 1, "),
        ("UPDATE campaigns SET ledger_id = 'another'", "is another ledger than the one that "),
        ("DELETE FROM campaigns", "holds nothing of this campaign, but its witness says that it was written here before"),
        ("DROP TABLE schema, campaigns, users, slots, events, runs, adoptions, rejects", "holds nothing of this campaign"),
    ],
)
def test_a_database_that_was_restored_or_emptied_is_refused_until_it_is_adopted(world: World, loss: str, said: str) -> None:
    world.night(approve=3)
    sql(world.config(), loss)
    with pytest.raises(LedgerError, match=said):
        world.night()
    with pytest.raises(LedgerError, match=said):
        world.plan()
    assert said in examine(world.config(), world.now)
    adopt(world.config(), world.now)

    assert examine(world.config(), world.now) == ""
    assert world.mailed() == [email(1), email(2), email(3)]


def test_a_host_that_keeps_nothing_takes_the_database_as_it_is(world: World) -> None:
    world.night(approve=3)
    store_of(world.config()).witness.unlink()
    world.days_pass(3)

    assert world.night().exit_code == ExitCode.DONE
    assert len(world.mailed()) == 6


# --- what the server must be


def test_a_session_waits_until_what_it_wrote_is_on_the_disk(config: Config, postgres: PostgresServer) -> None:
    postgres.execute(f"ALTER DATABASE {database(config)} SET synchronous_commit = off")
    with hold(config) as lock:
        assert lock.session
        with lock.session.begin():
            assert lock.session.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"


def test_a_server_that_does_not_sync_is_refused(tmp_path: Path) -> None:
    with PostgresServer(fsync="off") as server, World(tmp_path, server.keys(server.database())) as world:
        world.roster(PEOPLE)

        assert "has fsync = off" in failing_night(world)


def test_a_database_that_cannot_hold_every_text_is_refused(tmp_path: Path, postgres: PostgresServer) -> None:
    with World(tmp_path, postgres.keys(postgres.database("ENCODING LATIN1 LOCALE 'C'"))) as world:
        world.roster(PEOPLE)

        assert "has the encoding LATIN1, not UTF8" in failing_night(world)


def test_what_is_ordered_does_not_depend_on_the_locale(tmp_path: Path, postgres: PostgresServer) -> None:
    with World(tmp_path, postgres.keys(postgres.database("LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"))) as world:
        world.roster([*PEOPLE, {"user_id": user_id(10), "email": "ß.Ünïcode@example.com"}])
        assert world.night(approve=4).exit_code == ExitCode.DONE
        world.days_pass(3)

        assert world.night().exit_code == ExitCode.DONE
        assert sql(world.config(), "SELECT 1 AS ok WHERE '2026-11-23T02:00:00.000000Z' < '2026-11-23T02:00:00.000001Z'")


@pytest.mark.promise(14)
@pytest.mark.parametrize("secret", ["wrong", ""])
def test_a_wrong_password_is_told_without_it(world: World, secret: str) -> None:
    world.keys["ledger.password"] = {"env": "SECRET"}
    with pytest.raises(LedgerError if secret else ConfigError) as refused, hold(world.config(SECRET=secret)):
        pass

    assert PASSWORD not in str(refused.value)
    assert "password" in str(refused.value) or "SECRET" in str(refused.value)


@pytest.mark.promise(15)
def test_nothing_in_the_environment_leads_to_another_server(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGHOST": "db.invalid",
        "PGHOSTADDR": "192.0.2.1",
        "PGPORT": "1",
        "PGUSER": "nobody",
        "PGDATABASE": "nothing",
        "PGPASSWORD": "wrong",
        "PGOPTIONS": "-c synchronous_commit=off",
        "PGCLIENTENCODING": "LATIN1",
        "PGSSLMODE": "disable",
        "PGREQUIREAUTH": "password",
        "PGTARGETSESSIONATTRS": "standby",
    }.items():
        monkeypatch.setenv(name, value)

    assert world.night(approve=3).exit_code == ExitCode.DONE


def test_reading_changes_nothing_and_cannot(world: World) -> None:
    world.night(approve=3)
    before = sql(world.config(), "SELECT * FROM campaigns")
    world.plan()
    nightly.rewrite_report(world.config(), world.means())
    with read_ledger(world.config()) as ledger:
        assert ledger
        with pytest.raises(LedgerError, match="read-only"):
            ledger.begin("run", NOW)

    assert sql(world.config(), "SELECT * FROM campaigns") == before


def test_the_slot_is_unique_in_the_database_itself(config: Config) -> None:
    slot = Slot(user_id(1), 1, email(1), email(1), "<1@example.com>", NOW)
    with open_ledger(config) as ledger:
        ledger.begin("run", NOW)
        ledger.open(slot, "hash", NOW)
        with pytest.raises(LedgerError, match="duplicate key"):
            ledger.open(replace(slot, message_id="<2@example.com>"), "hash", NOW + timedelta(days=1))


# --- TLS


@pytest.fixture(scope="session")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgresServer, Path]]:
    authority = trustme.CA()
    ca_file = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    with PostgresServer(authority.issue_cert("localhost")) as server:
        yield server, ca_file


def to(server: PostgresServer, host: str, ca_file: Path) -> dict[str, dict[str, Any]]:
    keys = server.keys(server.database())
    keys["ledger"] = {"url": keys["ledger"]["url"].replace("127.0.0.1", host), "ca_file": str(ca_file)}
    return keys


@pytest.mark.promise(15)
def test_the_server_is_verified_by_its_certificate(tmp_path: Path, verified: tuple[PostgresServer, Path]) -> None:
    with World(tmp_path, to(verified[0], "localhost", verified[1])) as world:
        world.roster(PEOPLE)

        assert world.night(approve=3).exit_code == ExitCode.DONE
        assert "over TLSv1.3" in checks(world)["database"].found


@pytest.mark.promise(15)
@pytest.mark.parametrize(("host", "stranger"), [("127.0.0.1", False), ("localhost", True)])
def test_another_server_gets_no_password(
    host: str, stranger: bool, tmp_path: Path, verified: tuple[PostgresServer, Path]
) -> None:
    server, ca_file = verified
    if stranger:
        ca_file = tmp_path / "another.pem"
        trustme.CA().cert_pem.write_to_path(ca_file)
    with World(tmp_path / "work", to(server, host, ca_file)) as world:
        world.roster(PEOPLE)

        assert "certificate" in failing_night(world)


def test_a_ca_file_that_is_missing_is_named(world: World, tmp_path: Path) -> None:
    world.keys["ledger"]["ca_file"] = str(tmp_path / "nothing.pem")
    with pytest.raises(ConfigError, match=r"nothing\.pem is no file"):
        world.night()


# --- doctor


def checks(world: World) -> dict[str, Check]:
    """What doctor says of the ledger, line by line; the relay is left out."""
    return {check.what: check for check in state(world.config(), replace(world.means(), clock=lambda: datetime.now(UTC)))}


def test_doctor_looks_at_the_database_and_changes_nothing(world: World) -> None:
    before, tables = checks(world), "SELECT count(*) AS n FROM pg_tables WHERE schemaname = 'public'"
    assert sql(world.config(), tables) == [{"n": 0}]
    world.live = True
    world.night(approve=3)
    after = checks(world)

    names = ["STOP file", "report folder", "database", "durable commits", "database clock", "lock", "ledger", "last run"]
    assert [*before] == [*after] == names
    assert {check.grade for check in after.values()} == {Grade.GOOD}
    assert "holds nothing of this campaign yet; the first night makes it" in before["ledger"].found
    assert "is PostgreSQL 1" in after["database"].found
    assert "not behind the one that this host last saw" in after["ledger"].found


def test_doctor_tells_of_a_clock_that_differs(world: World) -> None:
    found = {check.what: check for check in state(world.config(), world.means())}["database clock"]

    assert (found.grade, "seconds apart" in found.found) == (Grade.DOUBT, True)


def test_doctor_says_when_a_run_holds_it_and_when_the_server_is_away(world: World) -> None:
    with hold(world.config()):
        held = checks(world)["lock"]
    world.keys["ledger"] = {"url": "postgresql+psycopg://campaign@127.0.0.1:9/x"}
    away = checks(world)

    assert (held.grade, held.exit_code) == (Grade.BAD, ExitCode.BUSY)
    assert (away["database"].grade, away["database"].exit_code) == (Grade.BAD, ExitCode.LEDGER)
    assert away["not checked"].found == "durable commits, database clock, lock, ledger, last run"


def test_doctor_finds_a_user_who_may_not_make_tables(world: World, postgres: PostgresServer) -> None:
    name = database(world.config())
    postgres.execute(f"CREATE ROLE stranger_of_{name} LOGIN PASSWORD '{PASSWORD}'")
    world.keys["ledger"] = {"url": postgres.url(name).replace("campaign@", f"stranger_of_{name}@")}

    assert "does not let this user make tables" in checks(world)["database"].found
    assert "permission denied" in failing_night(world)


# --- personal data


def test_nothing_of_who_was_forgotten_is_left_in_the_tables(tmp_path: Path, mortal: PostgresServer) -> None:
    with World(tmp_path, mortal.keys(mortal.database())) as world:
        world.roster(PEOPLE)
        world.night(approve=3)
        mortal.execute("ANALYZE", database(world.config()))
        forgetting.forget(world.config(), user_id(2), world.now)
        mortal.execute("CHECKPOINT")
        about = "SELECT pg_relation_filenode('pg_statistic')::text, oid::text FROM pg_database WHERE datname = current_database()"
        [(statistics, oid)] = mortal.execute(about, database(world.config()))

        def found(text: str) -> set[str]:
            base = mortal.data / "base" / oid
            return {path.name for path in base.rglob("*") if path.is_file() and text.encode() in path.read_bytes()}

        assert found(email(1))
        assert found(email(2)) | found(user_id(2)) <= {statistics}  # what is void there is the server's to overwrite
        told = " ".join(
            map(str, mortal.execute("SELECT most_common_vals, histogram_bounds FROM pg_stats", database(world.config())))
        )
        assert email(1) in told
        assert email(2) not in told
