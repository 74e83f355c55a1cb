"""What is remembered between nights, and when the memory is refused."""

import json
import resource
import shutil
import signal
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest

from campaign import orders
from campaign.config import Config
from campaign.errors import Busy, LedgerError
from campaign.ledger import Ledger, adopt, examine, hold, open_ledger, read_ledger, witness_of
from campaign.ledger.opening import store_of
from campaign.ledger.schema import users
from campaign.ledger.standing import REMEMBERED
from campaign.model import Action, Decision, Delivery, Finding, Outcome, Reason, Slot, Standing, Status, User
from tests.postgres_server import Keys, in_a_file, keys_of, ledgers
from tests.world import FIRST_NIGHT, World, email, sql, user_id

NOW = FIRST_NIGHT
ONE = User(user_id(1), email(1), email(1), line=2)
SLOT = Slot(ONE.user_id, 1, ONE.recipient, ONE.address, "<1@example.com>", NOW)


@pytest.fixture(params=ledgers())
def ledger_keys(request: pytest.FixtureRequest) -> Keys:
    return keys_of(request)


@pytest.fixture
def config(tmp_path: Path, ledger_keys: Keys) -> Iterator[Config]:
    with World(tmp_path, ledger=ledger_keys) as world:
        yield world.config()


@contextmanager
def run_of(config: Config) -> Iterator[Ledger]:
    """A run that has begun, with one user on the roster."""
    with open_ledger(config) as ledger:
        witness_of(config, ledger)
        ledger.begin(uuid.uuid4().hex, NOW)
        ledger.enrol([ONE], ledger.standings(), NOW)
        yield ledger


def one(ledger: Ledger) -> Standing:
    return ledger.standings()[ONE.user_id]


def find(ledger: Ledger, status: Status, days: float = 0) -> Standing:
    ledger.note([Finding(ONE.user_id, status)], ledger.standings(), NOW + timedelta(days=days))
    return one(ledger)


# --- what is learnt


def test_the_first_answer_says_since_when(config: Config) -> None:
    with run_of(config) as ledger:
        standing = find(ledger, Status.CONSENT_REQUIRED)

        assert (standing.status, standing.lacking_since, standing.last_probed) == ("consent_required", NOW, NOW)


def test_lacking_since_does_not_move_with_later_answers(config: Config) -> None:
    with run_of(config) as ledger:
        find(ledger, Status.CONSENT_REQUIRED)

        assert find(ledger, Status.CONSENT_REQUIRED, days=1).lacking_since == NOW


def test_no_answer_changes_no_knowledge(config: Config) -> None:
    with run_of(config) as ledger:
        find(ledger, Status.GRANTED)
        standing = find(ledger, Status.UNKNOWN, days=1)

        assert (standing.status, standing.found, standing.verified_at) == ("granted", "unknown", NOW)


def test_a_revocation_is_dated_and_told(config: Config) -> None:
    with run_of(config) as ledger:
        find(ledger, Status.GRANTED)
        standing = find(ledger, Status.CONSENT_REQUIRED, days=2)

        assert standing.revoked_at == standing.lacking_since == NOW + timedelta(days=2)
        assert [event.what for event in ledger.events(ONE.user_id)] == ["joined", "granted", "revoked"]


def test_consent_that_comes_back_is_new_consent(config: Config) -> None:
    with run_of(config) as ledger:
        find(ledger, Status.GRANTED)
        find(ledger, Status.CONSENT_REQUIRED, days=1)
        standing = find(ledger, Status.GRANTED, days=2)

        assert (standing.granted_at, standing.revoked_at, standing.lacking_since) == (NOW + timedelta(days=2), None, None)


def test_a_new_run_starts_without_findings(config: Config) -> None:
    with run_of(config) as ledger:
        find(ledger, Status.CONSENT_REQUIRED)
        ledger.begin("another", NOW)

        assert (one(ledger).found, one(ledger).status) == ("", "consent_required")


# --- messages


@pytest.mark.promise(3)
def test_the_intent_is_on_disk_before_the_relay_is_told(config: Config) -> None:
    with run_of(config) as ledger:
        ledger.open(SLOT, "hash", NOW)
        on_disk = sql(config, "SELECT outcome, message_id FROM slots")

        assert on_disk == [{"outcome": "sending", "message_id": "<1@example.com>"}]


@pytest.mark.promise(1)
def test_a_slot_is_opened_once(config: Config) -> None:
    with run_of(config) as ledger:
        ledger.open(SLOT, "hash", NOW)
        ledger.settle(SLOT, Delivery(Outcome.ACCEPTED, "250 ok"), NOW)

        with pytest.raises(LedgerError):
            ledger.open(Slot(ONE.user_id, 1, ONE.recipient, ONE.address, "<2@example.com>", NOW), "hash", NOW)


@pytest.mark.promise(2)
def test_what_a_killed_run_left_in_flight_becomes_unknown(config: Config) -> None:
    with run_of(config) as ledger:
        ledger.open(SLOT, "hash", NOW)
    with open_ledger(config) as ledger:
        ledger.begin("next", NOW)
        standing = one(ledger)

        assert [(news.email, news.what) for news in ledger.news()] == [(ONE.email, "unknown")]
        assert (standing.last_outcome, standing.used, standing.messages) == ("unknown", 1, 1)
        assert ledger.resolve(SLOT.message_id, Outcome.ACCEPTED, "the relay's log", NOW) == ONE.user_id


def test_what_a_killed_run_found_is_news_until_a_run_has_told_it(config: Config) -> None:
    with run_of(config) as ledger:
        find(ledger, Status.GRANTED)
        find(ledger, Status.CONSENT_REQUIRED)
    with open_ledger(config) as ledger:
        ledger.begin("killed too", NOW)
        ledger.begin("next", NOW)
        before = [news.what for news in ledger.news()]
        ledger.finish(NOW, 3)
        ledger.begin("the one after", NOW)

        assert (before, ledger.news()) == (["revoked"], [])


def test_what_is_noted_is_told_as_it_is_remembered(config: Config) -> None:
    with run_of(config) as ledger:
        for day, status in enumerate(status for pair in product(Status, Status) for status in pair):
            told = ledger.note([Finding(ONE.user_id, status, "words", "trace")], ledger.standings(), NOW + timedelta(days=day))

            assert told == {ONE.user_id: one(ledger)}


def test_what_is_decided_is_told_as_it_is_remembered(config: Config) -> None:
    with run_of(config) as ledger:
        for action, reason, detail in product(Action, (Reason.WAITING, Reason.INVALID_ROW), ("", "words")):
            known = ledger.standings()
            told = ledger.note_decisions([Decision(ONE, reason, action, detail=detail)], known)

            assert known | told == ledger.standings()
            assert ledger.note_decisions([Decision(ONE, reason, action, detail=detail)], ledger.standings()) == {}


def test_of_a_forgotten_user_no_decision_is_noted_or_told(config: Config) -> None:
    with run_of(config) as ledger:
        ledger.forget(ONE.user_id, NOW)
        known = ledger.enrol([ONE], ledger.standings(), NOW)

        assert known == ledger.standings()
        assert known[ONE.user_id].forgotten_at == NOW
        assert ledger.note_decisions([Decision(ONE, Reason.WAITING)], known) == {}
        assert ledger.standings() == known


def test_every_field_of_a_standing_comes_from_the_column_of_its_name() -> None:
    assert [column.name for column in REMEMBERED] == [*Standing._fields[: len(REMEMBERED)]]
    assert not {field for field in Standing._fields[len(REMEMBERED) :] if field in users.c}


@pytest.mark.parametrize(
    ("outcome", "used", "messages"),
    [(Outcome.ACCEPTED, 1, 1), (Outcome.UNKNOWN, 1, 1), (Outcome.REJECTED, 1, 0), (Outcome.DEFERRED, 0, 0)],
)
def test_only_a_deferred_message_leaves_its_slot_open(config: Config, outcome: Outcome, used: int, messages: int) -> None:
    with run_of(config) as ledger:
        ledger.open(SLOT, "hash", NOW)
        ledger.settle(SLOT, Delivery(outcome, "words"), NOW)
        standing = one(ledger)

        assert (standing.used, standing.messages, standing.last_outcome) == (used, messages, outcome)


def test_a_deferred_slot_keeps_its_message_id_and_is_used_up_by_the_third_attempt(config: Config) -> None:
    with run_of(config) as ledger:
        for attempt in range(3):
            slot = ledger.slot(ONE.user_id, 1) or SLOT
            ledger.open(slot, "hash", NOW)
            ledger.settle(slot, Delivery(Outcome.DEFERRED, "450 later"), NOW)

            assert (slot.message_id, slot.attempts) == (SLOT.message_id, attempt)
        assert (one(ledger).used, one(ledger).attempts, one(ledger).messages) == (1, 0, 0)


def test_a_message_that_the_relay_refused_uses_up_nothing(config: Config) -> None:
    with run_of(config) as ledger:
        ledger.open(SLOT, "hash", NOW)
        ledger.release(SLOT, "550 5.7.60", NOW)

        assert (one(ledger).used, one(ledger).attempts, one(ledger).last_outcome) == (0, 0, "")
        assert ledger.slot(ONE.user_id, 1) is None


def test_a_retry_that_the_relay_refused_is_deferred_as_before(config: Config) -> None:
    with run_of(config) as ledger:
        ledger.open(SLOT, "hash", NOW)
        ledger.settle(SLOT, Delivery(Outcome.DEFERRED, "450 later"), NOW)
        again = ledger.slot(ONE.user_id, 1)
        assert again
        ledger.open(again, "hash", NOW)
        ledger.release(again, "550 5.7.60", NOW)

        assert (one(ledger).attempts, one(ledger).last_outcome) == (1, "deferred")


def test_a_refused_address_is_undeliverable_and_another_one_is_not(config: Config) -> None:
    with run_of(config) as ledger:
        ledger.open(SLOT, "hash", NOW)
        ledger.settle(SLOT, Delivery(Outcome.REJECTED, "550 5.1.1"), NOW)

        assert one(ledger).undeliverable == ONE.address


@in_a_file
def test_the_rolling_day_counts_what_went_out_or_may_have(config: Config) -> None:
    with run_of(config) as ledger:
        ledger.open(SLOT, "hash", NOW)
        ledger.settle(SLOT, Delivery(Outcome.UNKNOWN, ""), NOW)

        assert ledger.mailed_since(NOW - timedelta(seconds=1)) == [NOW]
        assert ledger.mailed_since(NOW) == []
        assert ledger.last_mailed() == {ONE.address: (NOW, ONE.user_id)}


# --- is it the ledger that this campaign last wrote?


def used(config: Config) -> None:
    with run_of(config) as ledger:
        ledger.finish(NOW, 0)
        witness_of(config, ledger)


def refusal(config: Config) -> str:
    with pytest.raises(LedgerError) as caught, open_ledger(config):
        pass
    return str(caught.value)


def witness_file(config: Config) -> Path:
    return store_of(config).witness


@pytest.mark.promise(9)
@in_a_file
def test_a_first_run_creates_ledger_and_witness(config: Config) -> None:
    used(config)

    assert witness_file(config).exists()
    assert examine(config, NOW) == ""


@in_a_file
def test_a_first_run_cut_short_needs_no_repair(config: Config) -> None:
    config.ledger_file.touch()
    used(config)
    witness_file(config).unlink()
    with sqlite3.connect(config.ledger_file) as database:
        database.execute("UPDATE campaigns SET generation = 0")

    with open_ledger(config):
        assert witness_file(config).exists()


@pytest.mark.promise(9)
@pytest.mark.parametrize("size", [None, 0, 5000])
@in_a_file
def test_a_missing_empty_or_truncated_ledger_is_refused(config: Config, size: int | None) -> None:
    used(config)
    if size is None:
        config.ledger_file.unlink()
    else:
        with config.ledger_file.open("r+b") as file:
            file.truncate(size)

    assert str(config.ledger_file) in refusal(config)


@pytest.mark.promise(9)
@in_a_file
def test_a_garbled_page_is_noticed(config: Config) -> None:
    used(config)
    with config.ledger_file.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xa5" * 4096)

    assert "damaged" in refusal(config) or "malformed" in refusal(config)


@pytest.mark.promise(9)
@in_a_file
def test_an_old_copy_is_refused(config: Config) -> None:
    used(config)
    shutil.copy(config.ledger_file, config.folder / "backup")
    used(config)
    shutil.copy(config.folder / "backup", config.ledger_file)

    assert "is not the last one" in refusal(config)


@pytest.mark.promise(9)
@in_a_file
def test_a_copy_that_knows_as_much_is_refused_until_it_is_adopted(config: Config) -> None:
    """Of a whole folder, say, in which somebody wants to try something; the campaign itself goes on elsewhere."""
    used(config)
    shutil.copy(config.ledger_file, config.folder / "copy")
    (config.folder / "copy").replace(config.ledger_file)
    refused = refusal(config)
    adopt(config, NOW)
    used(config)

    assert "is a copy, not the file that was last written" in refused


@in_a_file
def test_a_witness_from_before_files_were_told_apart_learns_it_with_the_next_run(config: Config) -> None:
    used(config)
    known = json.loads(witness_file(config).read_text())
    witness_file(config).write_text(json.dumps({key: value for key, value in known.items() if key != "file"}))
    used(config)

    assert json.loads(witness_file(config).read_text())["file"] == config.ledger_file.stat().st_ino


@pytest.mark.promise(9)
@in_a_file
def test_a_ledger_without_its_witness_is_refused(config: Config) -> None:
    used(config)
    witness_file(config).unlink()

    assert "its witness ledger.sqlite3.witness is missing" in refusal(config)


@pytest.mark.promise(9)
@in_a_file
def test_a_ledger_from_another_machine_is_refused(config: Config) -> None:
    used(config)
    text = witness_file(config).read_text()
    witness_file(config).write_text(text.replace('"host": "', '"host": "x'))

    assert "another machine" in refusal(config)


@in_a_file
@pytest.mark.promise(9)
def test_a_ledger_of_another_campaign_is_refused(config: Config) -> None:
    used(config)

    assert "belongs to the campaign 'test'" in refusal(config.model_copy(update={"name": "other"}))


@pytest.mark.promise(9)
def test_a_ledger_of_another_app_is_refused(config: Config) -> None:
    used(config)

    app = config.docusign.model_copy(update={"environment": "production"})
    assert "was written for client_id" in refusal(config.model_copy(update={"docusign": app}))


@pytest.mark.promise(9)
@in_a_file
def test_a_database_of_something_else_is_no_ledger_and_is_left_alone(config: Config) -> None:
    with closing(sqlite3.connect(config.ledger_file)) as database:
        database.execute("CREATE TABLE orders (id INTEGER)")
    config.ledger_file.chmod(0o600)
    before = config.ledger_file.read_bytes()
    with pytest.raises(LedgerError, match="something else"), open_ledger(config):
        pass

    assert config.ledger_file.read_bytes() == before
    with pytest.raises(LedgerError, match="something else"), read_ledger(config):
        pass


def test_a_newer_ledger_is_refused(config: Config) -> None:
    used(config)
    sql(config, "UPDATE schema SET version = version + 1")

    assert "newer" in refusal(config)


@in_a_file
def test_adopting_accepts_an_old_copy_and_asks_for_an_approval_again(config: Config) -> None:
    with run_of(config) as ledger:
        ledger.let_through(NOW, 1)
        witness_of(config, ledger)
    shutil.copy(config.ledger_file, config.folder / "backup")
    used(config)
    shutil.copy(config.folder / "backup", config.ledger_file)
    assert "is not the last one" in examine(config, NOW)
    adopt(config, NOW)

    with open_ledger(config) as ledger:
        assert ledger.last_passed().at is None


@in_a_file
def test_a_spoilt_witness_can_be_adopted_away(config: Config) -> None:
    used(config)
    witness_file(config).write_text("nonsense")
    assert "cannot be read" in examine(config, NOW)
    adopt(config, NOW)

    with open_ledger(config) as ledger:
        assert ledger.last_passed().at is None


@in_a_file
def test_a_plan_reads_no_ledger_that_a_run_would_refuse(config: Config) -> None:
    used(config)
    config.ledger_file.unlink()

    with pytest.raises(LedgerError, match="missing or empty"), read_ledger(config):
        pass


@in_a_file
def test_adopting_a_lost_ledger_begins_anew(config: Config) -> None:
    used(config)
    config.ledger_file.unlink()
    assert "missing" in examine(config, NOW)
    adopt(config, NOW)

    with open_ledger(config) as ledger:
        assert ledger.standings() == {}


@in_a_file
def test_what_was_adopted_is_on_record_with_its_time(config: Config) -> None:
    used(config)
    witness_file(config).unlink()
    adopt(config, NOW)
    config.ledger_file.unlink()
    found = examine(config, NOW)
    adopt(config, NOW + timedelta(days=1))

    with open_ledger(config) as ledger:
        [begun_anew] = ledger.adoptions()

        assert (begun_anew.at, begun_anew.what, begun_anew.detail) == (NOW + timedelta(days=1), "adopted", found)
        assert ledger.last_night() is None


def test_adopt_shows_how_far_ledger_witness_and_report_have_got(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        file = world.folder / "ledger.sqlite3"
        world.roster([1, 2])
        world.night(approve=2)
        backup = file.read_bytes()
        world.days_pass(3)
        world.night()
        file.write_bytes(backup)
        told = orders.found(world.config(), world.now)

    assert told.as_text().splitlines() == [
        f"found: {file}: generation 2, the last run on 2026-11-23 02:00 UTC, 2 users, 2 messages",
        "       its witness: generation 4 (it counts up with every run and every order)",
        f"       {world.folder}/reports/report.csv: counts 4 messages to the users in it",
        f"       {file} is not the last one: it is at generation 2, its witness at 4",
    ]
    assert told.as_json() == {
        "found": f"{file} is not the last one: it is at generation 2, its witness at 4",
        "ledger": {"generation": 2, "last_run": "2026-11-23T02:00:00Z", "users": 2, "messages": 2},
        "witness": {"generation": 4},
        "reported_messages": 4,
    }


@in_a_file
def test_adopt_says_what_it_means_that_there_is_nothing(config: Config) -> None:
    used(config)
    config.ledger_file.write_bytes(b"")
    witness_file(config).write_text("nonsense")
    text = orders.found(config, NOW).as_text()

    assert "there is nothing; adopting it begins anew, and everybody who lacks consent would be invited again" in text
    assert "its witness: none" in text


def test_a_ledger_from_before_adoptions_and_leaving_were_noted_is_brought_up_to_date(config: Config) -> None:
    used(config)
    for statement in ("DROP TABLE adoptions", "ALTER TABLE users DROP COLUMN left_at", "UPDATE schema SET version = 3"):
        sql(config, statement)
    with read_ledger(config) as ledger:
        assert ledger
        assert (ledger.adoptions(), ledger.left_at(ONE.user_id), [*ledger.standings()]) == ([], None, [ONE.user_id])
    assert sql(config, "SELECT version FROM schema") == [{"version": 3}]

    with open_ledger(config) as ledger:
        assert (ledger.adoptions(), ledger.left_at(ONE.user_id)) == ([], None)


# --- who is in the roster


def test_leaving_and_returning_are_noted_once_each(config: Config) -> None:
    two = User(user_id(2), email(2), email(2), line=3)
    with run_of(config) as ledger:
        for day, roster in enumerate([[ONE, two], [two], [two], [ONE, two], [ONE, two]]):
            ledger.enrol(roster, ledger.standings(), NOW + timedelta(days=day))
        told = [(event.what, event.at - NOW) for event in ledger.events(ONE.user_id)]

        assert told == [("joined", timedelta(0)), ("left", timedelta(days=1)), ("back", timedelta(days=3))]
        assert [event.what for event in ledger.events(two.user_id)] == ["joined"]
        assert ledger.left_at(ONE.user_id) is None


def test_who_is_there_is_told_as_it_is_remembered(config: Config) -> None:
    moved = ONE._replace(email="elsewhere@example.com", recipient="elsewhere@example.com")
    with run_of(config) as ledger:
        for day, roster in enumerate([[ONE], [ONE, moved._replace(user_id=user_id(2))], [moved], [moved], [], [ONE], [ONE]]):
            told = ledger.enrol(roster, ledger.standings(), NOW + timedelta(days=day))

            assert told == ledger.standings()
        ledger.purge([], NOW + timedelta(days=100), NOW + timedelta(days=200))
        purged = ledger.standings()

        assert ledger.enrol([ONE], purged, NOW + timedelta(days=201)) == ledger.standings() != purged


# --- reading, and one run at a time


def test_reading_leaves_no_trace(config: Config) -> None:
    before = sorted(config.folder.iterdir())
    with read_ledger(config) as ledger:
        assert ledger is None
    assert sorted(config.folder.iterdir()) == before

    used(config)
    with read_ledger(config) as ledger:
        assert ledger
        with pytest.raises(LedgerError):
            ledger.let_through(NOW, 1)


@pytest.mark.promise(7)
def test_a_second_run_is_refused_at_once(config: Config) -> None:
    with hold(config), pytest.raises(Busy), hold(config):
        pass


@pytest.mark.promise(7)
@pytest.mark.case(19)
@in_a_file
def test_the_lock_of_a_dead_run_is_no_lock(config: Config) -> None:
    config.lock_file.touch()

    with hold(config):
        pass


# --- where it lies


@in_a_file
def test_the_ledger_is_read_by_nobody_else(config: Config) -> None:
    with open_ledger(config):
        pass

    assert config.ledger_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.case(42)
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666])
@in_a_file
def test_a_ledger_that_everybody_can_read_is_refused(config: Config, mode: int) -> None:
    with open_ledger(config):
        pass
    config.ledger_file.chmod(mode)

    with pytest.raises(LedgerError, match=rf"can be read by everybody \(mode {mode:04o}\)") as refused, open_ledger(config):
        pass

    assert refused.value.advice == f"chmod 600 {config.ledger_file}"


@pytest.mark.case(42)
@pytest.mark.parametrize(("mode", "refused"), [(0o777, True), (0o702, True), (0o1777, True), (0o770, False)])
@in_a_file
def test_a_folder_that_everybody_can_write_is_refused_even_if_it_is_like_tmp(config: Config, mode: int, refused: bool) -> None:
    config.folder.chmod(mode)
    with pytest.raises(LedgerError, match="can be written by everybody") if refused else nullcontext(), open_ledger(config):
        pass

    assert config.ledger_file.exists() is not refused


@in_a_file
def test_a_symbolic_link_is_no_ledger(config: Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "ledger"
    config.ledger_file.symlink_to(elsewhere)

    with pytest.raises(LedgerError, match="is a symbolic link"), open_ledger(config):
        pass

    assert not elsewhere.exists()


@pytest.mark.case(43)
@in_a_file
def test_a_full_disk_is_found_out_before_anything(config: Config) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(LedgerError, match="has no room for a night"), open_ledger(config):
            pass
    finally:
        signal.signal(signal.SIGXFSZ, handler)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert not config.ledger_file.exists()
