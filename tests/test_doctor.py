"""What `campaign doctor` finds, in which order, what it never shows, and that it leaves nothing behind."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from campaign import doctor
from campaign.config import Config
from campaign.doctor.papers import configuration
from campaign.doctor.state import disk
from campaign.errors import CampaignError, ExitCode, Interrupted
from campaign.given import Means
from campaign.ledger import hold, open_ledger
from campaign.model import Check, Grade, Reason
from campaign.sandbox import CannedAnswer
from campaign.stopping import Stop
from tests.commands import Result, command
from tests.fakes import Relay
from tests.test_survey import serving
from tests.token_server import APP_ID, TENANT, TokenServer, certificate_file
from tests.world import CANARY, World, email, pem, private_key, user_id

LOGIN = ("contracts@example.com", "PASSWORD-MARKER")
OFFERS = ("SIZE 10485760", "8BITMIME", "SMTPUTF8", "DSN")
RELAY_STEPS = ["name", "connection", "TLS", "capabilities", "sign-in", "sender"]


Examine = Callable[..., list[Check]]


@pytest.fixture
def examine(tmp_path: Path, authority: trustme.CA) -> Examine:
    """Examines a campaign whose relay is given, and whose [mail] signs in with a password unless keys say otherwise."""

    def all_checks(
        relay: Relay, mail_to: str | None = None, password: str = LOGIN[1], tables: dict[str, Any] | None = None, **keys: Any
    ) -> list[Check]:
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        mail = {
            "host": "localhost",
            "security": "starttls",
            "ca_file": str(tmp_path / "ca.pem"),
            "auth": "password",
            "username": LOGIN[0],
            "reply_to": "helpdesk@example.com",
            "timeout": 0.5,
        }
        given = {"mail": {**mail, **keys}, **(tables or {"mail.password": {"env": "SMTP_PASSWORD"}})}
        with World(tmp_path / "work", given, relay, now=datetime.now(UTC)) as world:
            world.roster([1, 2])
            means = Means(world.clock, Stop(), {"SMTP_PASSWORD": password})
            before = left_behind(world.folder)
            checks = list(doctor.examine(world.config(), means, mail_to=mail_to))
            assert left_behind(world.folder) == before | {"campaign.toml"}
        assert "MARKER" not in repr(checks)
        return about_mail(checks)

    return all_checks


def about_mail(checks: list[Check]) -> list[Check]:
    """What is said of the relay: the last part."""
    return list(dropwhile(lambda check: not check.what.startswith("[mail]"), checks))


def left_behind(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def good(authority: trustme.CA) -> Relay:
    return Relay(tls=serving(authority), login=LOGIN, offers=OFFERS)


def ending(checks: list[Check]) -> tuple[str, str, ExitCode]:
    """The one check that is BAD, what was left out after it, and the exit code of all."""
    (bad,) = [check.what for check in checks if check.grade is Grade.BAD]
    assert [check.what for check in checks][-2:] == [bad, "not checked"]
    return bad, checks[-1].found, doctor.exit_code(checks)


def test_a_good_relay_is_good_in_every_line(examine: Examine, authority: trustme.CA) -> None:
    checks = examine(relay := good(authority))

    assert [check.what for check in checks] == ["[mail]", "secret", *RELAY_STEPS]
    assert {check.grade for check in checks} == {Grade.GOOD}
    assert doctor.exit_code(checks) is ExitCode.DONE
    assert (relay.accepted, relay.auth_attempts) == ([], 1)


def test_a_doubt_does_not_keep_a_night_from_running(examine: Examine, authority: trustme.CA) -> None:
    checks = examine(good(authority), reply_to="")

    assert [check.what for check in checks if check.grade is Grade.DOUBT] == ["[mail] reply_to"]
    assert doctor.exit_code(checks) is ExitCode.DONE


def test_a_wrong_password_is_tried_once_and_ends_as_a_night_would(examine: Examine, authority: trustme.CA) -> None:
    relay = Relay(tls=serving(authority), login=(LOGIN[0], "another"))
    checks = examine(relay, mail_to="me@example.com")

    assert ending(checks) == ("sign-in", "sender, test message", ExitCode.REFUSED)
    assert (relay.auth_attempts, relay.accepted) == (1, [])


def test_no_password_is_given_to_a_relay_without_starttls(examine: Examine) -> None:
    checks = examine(relay := Relay(login=LOGIN))

    assert ending(checks) == ("TLS", "capabilities, sign-in, sender", ExitCode.REFUSED)
    assert relay.auth_attempts == 0


@pytest.mark.parametrize(
    ("names", "dates", "said"),
    [
        (("localhost",), {"not_after": datetime.now(UTC) - timedelta(days=1)}, "has expired"),
        (("mail.example.com",), {}, "is for mail.example.com, not for localhost"),
    ],
)
def test_a_bad_certificate_is_the_last_thing_that_is_looked_at(
    examine: Examine, authority: trustme.CA, names: tuple[str, ...], dates: dict[str, datetime], said: str
) -> None:
    checks = examine(Relay(tls=serving(authority, *names, **dates), login=LOGIN))

    assert ending(checks) == ("TLS", "capabilities, sign-in, sender", ExitCode.REFUSED)
    assert said in checks[-2].found


def test_a_stranger_is_not_trusted(examine: Examine) -> None:
    checks = examine(Relay(tls=serving(trustme.CA()), login=LOGIN))

    assert ending(checks)[0] == "TLS"
    assert "not trusted" in checks[-2].found


def test_what_comes_after_a_name_that_does_not_resolve_is_one_line(examine: Examine) -> None:
    checks = examine(relay := Relay(), host="name.invalid")

    assert ending(checks) == ("name", "connection, TLS, capabilities, sign-in, sender", ExitCode.REFUSED)
    assert relay.connections == 0


def test_a_closed_port_is_told_as_such(examine: Examine) -> None:
    checks = examine(Relay(), port=1)

    assert ending(checks)[0] == "connection"
    assert "Connection refused" in checks[-2].found


def test_a_relay_that_hangs_is_not_waited_for(examine: Examine) -> None:
    checks = examine(Relay().at("connect", "hang"))

    assert ending(checks)[0] == "connection"


def test_a_refused_sender_sends_no_test_message(examine: Examine, authority: trustme.CA) -> None:
    checks = examine(relay := good(authority).at("MAIL", "550 5.7.1 no"), mail_to="me@example.com")

    assert ending(checks) == ("sender", "test message", ExitCode.REFUSED)
    assert relay.accepted == []


def test_a_secret_that_cannot_be_read_does_not_keep_the_rest_from_being_looked_at(
    examine: Examine, authority: trustme.CA
) -> None:
    checks = examine(relay := good(authority), password="PASSWORD-MARKER\non two lines")

    assert [(check.what, check.grade) for check in checks if check.grade is not Grade.GOOD] == [
        ("secret", Grade.BAD),
        ("not checked", Grade.DOUBT),
    ]
    assert checks[-1].found == "sign-in, sender"
    assert doctor.exit_code(checks) is ExitCode.USAGE
    assert relay.auth_attempts == 0


# --- tokens in place of a password


@pytest.fixture
def token_server(tmp_path: Path) -> Iterator[TokenServer]:
    with TokenServer(tmp_path) as server:
        yield server


def by_token(server: TokenServer, folder: Path) -> dict[str, Any]:
    """What `examine` needs for an app at Microsoft."""
    app = {"tenant": TENANT, "client_id": APP_ID, "authority": server.url, "ca_file": str(server.ca_file)}
    app["certificate_file"] = str(certificate_file(folder / "app.pem"))
    return {"auth": "microsoft", "tables": {"mail.microsoft": app}}


def test_a_token_is_fetched_and_tried_once_and_never_shown(
    examine: Examine, authority: trustme.CA, token_server: TokenServer, tmp_path: Path
) -> None:
    relay = Relay(tls=serving(authority), login=(LOGIN[0], "token-1"), mechanisms="XOAUTH2", offers=OFFERS)
    checks = examine(relay, **by_token(token_server, tmp_path))

    assert {check.grade for check in checks} == {Grade.GOOD}
    assert (len(token_server.asked), relay.auth_attempts) == (1, 1)
    assert "token-1" not in repr(checks)


def test_a_token_that_the_relay_does_not_take_is_tried_once_and_never_shown(
    examine: Examine, authority: trustme.CA, token_server: TokenServer, tmp_path: Path
) -> None:
    relay = Relay(tls=serving(authority), login=(LOGIN[0], "another"), mechanisms="XOAUTH2", offers=OFFERS)
    checks = examine(relay, **by_token(token_server, tmp_path))

    assert ending(checks) == ("sign-in", "sender", ExitCode.REFUSED)
    assert relay.auth_attempts == 1
    assert "token-1" not in repr(checks)


def test_where_no_token_is_to_be_had_the_relay_is_looked_at_all_the_same(
    examine: Examine, authority: trustme.CA, token_server: TokenServer, tmp_path: Path
) -> None:
    token_server.answers.append((401, {"error": "invalid_client"}))
    checks = examine(good(authority), **by_token(token_server, tmp_path))

    assert [check.what for check in checks if check.grade is Grade.BAD] == ["secret"]
    assert [check.what for check in checks][-2:] == ["capabilities", "not checked"]
    assert doctor.exit_code(checks) is ExitCode.REFUSED


# --- the test message


def test_the_test_message_is_an_invitation_marked_as_a_test(examine: Examine, authority: trustme.CA) -> None:
    checks = examine(relay := good(authority), mail_to="me@example.org")
    (message,) = relay.accepted

    assert (message.envelope_from, message.recipient) == ("contracts@example.com", "me@example.org")
    assert "Subject: [Test]" in message.data
    assert "To: me@example.org" in message.data
    assert (checks[-1].what, checks[-1].grade) == ("test message", Grade.GOOD)


def test_whoever_gets_the_test_message_is_asked_to_look_at_its_authentication(examine: Examine, authority: trustme.CA) -> None:
    advice = examine(good(authority), mail_to="me@example.org")[-1].advice

    assert [word for word in ("Authentication-Results", "spf=pass", "dkim=pass", "dmarc=pass") if word not in advice] == []
    assert "example.com, the domain of From" in advice


@pytest.mark.parametrize(("mail_to", "code"), [("nonsense", ExitCode.USAGE), ("me@example.org", ExitCode.REFUSED)])
def test_a_test_message_that_cannot_be_sent_is_bad(examine: Examine, authority: trustme.CA, mail_to: str, code: ExitCode) -> None:
    checks = examine(good(authority).at("RCPT", "550 5.7.1 no"), mail_to=mail_to)

    assert [check.what for check in checks if check.grade is Grade.BAD] == ["test message"]
    assert doctor.exit_code(checks) is code


# --- without any connection


def test_a_password_at_microsoft_is_recognised_before_anything_is_connected_to(tmp_path: Path) -> None:
    mail = {"host": "smtp.office365.com", "auth": "password", "username": "contracts@example.com", "security": "starttls"}
    with World(tmp_path, {"mail": mail, "mail.password": {"env": "NOT_SET"}}) as world:
        first = next(check for check in doctor.examine(world.config(), world.means()) if check.what.startswith("[mail]"))

    assert (first.what, first.grade) == ("[mail] auth", Grade.DOUBT)
    assert "smtp.office365.com" in first.found
    assert "end of December 2026" in first.found
    assert 'auth = "microsoft"' in first.advice


def test_whoever_asks_for_an_end_waits_for_one_check_at_most(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        checks = doctor.examine(world.config(), world.means())
        next(checks)
        world.stop.ask(ExitCode.SIGINT)

        with pytest.raises(Interrupted) as ended:
            next(checks)

    assert ended.value.exit_code is ExitCode.SIGINT
    assert world.relay.connections == 0


def test_the_gravest_of_what_is_bad_is_the_exit_code() -> None:
    bad = [Check("", Grade.BAD, "", exit_code=code) for code in (ExitCode.USAGE, ExitCode.LEDGER, ExitCode.REFUSED)]

    assert doctor.exit_code(bad) is ExitCode.LEDGER
    assert doctor.exit_code([Check("", Grade.DOUBT, "", exit_code=ExitCode.LEDGER)]) is ExitCode.DONE


# --- all of it: a campaign that had its first night yesterday


ORDER = [
    *("configuration", "environment", "scopes", "redirect URI", "private key", "roster", "templates", "STOP file"),
    *("report folder", "state folder", "disk", "lock", "ledger", "last run"),
    *("account server", "consent page", "clock", "canary", "[mail]", "secret", *RELAY_STEPS),
]


@pytest.fixture
def world(quick_path: Path) -> Iterator[World]:
    """A world in which nothing is wrong."""
    mail = {"mail": {"reply_to": "helpdesk@example.com"}}
    with World(quick_path / "work", mail, Relay(offers=OFFERS)) as world:
        world.roster([1, 2])
        world.night(approve=2)
        world.days_pass()
        yield world


def looked(world: World, config: Config | None = None, **means: Any) -> list[Check]:
    """What the doctor says, and nothing else happens: no file is touched, no mail goes out, no secret is shown."""
    config = config or world.config()
    before, mailed = contents(world.folder), world.mailed()
    checks = list(doctor.examine(config, replace(world.means(), **means)))
    shown = repr(checks)

    assert (contents(world.folder), world.mailed()) == (before, mailed)
    assert not [line for line in pem().decode().split()[4:] if len(line) > 16 and line in shown]
    assert "eyJ" not in shown  # how every assertion and every token begins
    return checks


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")}


def not_good(checks: list[Check]) -> dict[str, Check]:
    """What is bad or in doubt; not the disk, which is the machine's."""
    return {check.what: check for check in checks if check.grade is not Grade.GOOD and check.what != "disk"}


def test_where_nothing_is_wrong_every_line_is_good_and_the_network_comes_last(world: World) -> None:
    checks = looked(world)

    assert [check.what for check in checks] == ORDER
    assert not_good(checks) == {}
    assert doctor.exit_code(checks) is ExitCode.DONE


def test_it_asks_for_the_canaries_and_for_nobody_else(world: World) -> None:
    world.accounts.requests.clear()
    looked(world)

    assert [request.user_id for request in world.accounts.requests] == [CANARY]


def test_the_fingerprint_is_that_of_the_public_key(world: World) -> None:
    (check,) = [check for check in looked(world) if check.what == "private key"]
    public = private_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    assert hashlib.sha256(public).hexdigest() in check.found
    assert "2048 bits" in check.found


# --- each failure alone


def another_key(world: World) -> None:
    (world.folder / "private.pem").write_bytes(pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))


def no_key(world: World) -> None:
    (world.folder / "private.pem").unlink()


def open_key(world: World) -> None:
    (world.folder / "private.pem").chmod(0o640)


def revoked(world: World) -> None:
    world.revoke(CANARY)


def no_canary(world: World) -> None:
    world.keys["docusign"] = {"canary": []}


def unknown_canary(world: World) -> None:
    world.keys["docusign"] = {"canary": [user_id(99)]}


def no_answer(world: World) -> None:
    world.accounts.faults.answer_all = CannedAnswer(429, b'{"error":"slow_down"}', {"Retry-After": "0"})


def unregistered(world: World) -> None:
    world.keys["docusign"] = {"redirect_uri": f"{world.accounts.url}/thanks/"}


def no_roster(world: World) -> None:
    (world.folder / "roster.csv").unlink()


def no_usable_row(world: World) -> None:
    world.roster([{"user_id": "nobody", "email": "a@example.com"}, {"user_id": user_id(1), "email": "nonsense"}])


def ledger_gone(world: World) -> None:
    (world.folder / "ledger.sqlite3").unlink()


def ledger_emptied(world: World) -> None:
    (world.folder / "ledger.sqlite3").write_bytes(b"")


def ledger_damaged(world: World) -> None:
    (world.folder / "ledger.sqlite3").write_bytes(b"SQLite format 3\0" + bytes(5000))


def witness_gone(world: World) -> None:
    (world.folder / "ledger.sqlite3.witness").unlink()


def old_copy(world: World) -> None:
    before = (world.folder / "ledger.sqlite3").read_bytes()
    for _ in range(2):
        world.night()
        world.days_pass()
    (world.folder / "ledger.sqlite3").write_bytes(before)


def of_version(world: World, version: int) -> None:
    """Let the ledger be of version 2, but for what it calls itself."""
    with closing(sqlite3.connect(world.folder / "ledger.sqlite3", isolation_level=None)) as ledger:
        ledger.execute("ALTER TABLE campaigns DROP COLUMN mask_key")
        ledger.execute("ALTER TABLE users DROP COLUMN forgotten_at")
        ledger.execute("UPDATE schema SET version = ?", (version,))


def ledger_newer(world: World) -> None:
    of_version(world, 99)


def ledger_older(world: World) -> None:
    of_version(world, 2)


def ledger_linked(world: World) -> None:
    file = world.folder / "ledger.sqlite3"
    file.rename(world.folder / "elsewhere.sqlite3").chmod(0o600)
    file.symlink_to("elsewhere.sqlite3")


def ledger_open(world: World) -> None:
    (world.folder / "ledger.sqlite3").chmod(0o644)


def folder_open(world: World) -> None:
    world.folder.chmod(0o777)


def stopped(world: World) -> None:
    (world.folder / "STOP").touch()


def clock_went_back(world: World) -> None:
    world.days_pass(-2)


def reports_nowhere(world: World) -> None:
    world.keys["report"] = {"directory": "/proc/reports"}


def reports_in_a_file(world: World) -> None:
    world.keys["report"] = {"directory": "roster.csv/reports"}


def reports_open(world: World) -> None:
    (world.folder / "reports").chmod(0o777)


LEFT = {  # what builds on what
    "private key": "canary",
    "roster": "templates",
    "state folder": "disk, lock, ledger, last run",
    "ledger": "last run",
}


@pytest.mark.parametrize(
    ("wreck", "what", "words", "code"),
    [
        (another_key, "canary", "no_valid_keys_or_signatures", ExitCode.REFUSED),
        (no_key, "private key", "private.pem cannot be read", ExitCode.USAGE),
        (open_key, "private key", "can be read by others (mode 0640)", ExitCode.USAGE),
        (revoked, "canary", f"{CANARY} answered consent_required", ExitCode.STOPPED),
        (no_canary, "canary", "no canary is configured", ExitCode.STOPPED),
        (unknown_canary, "canary", f"{user_id(99)} answered user_not_found", ExitCode.STOPPED),
        (no_answer, "canary", "no usable answer for any canary", ExitCode.REFUSED),
        (no_roster, "roster", "roster.csv", ExitCode.USAGE),
        (no_usable_row, "roster", "no row can be used: line 2: ", ExitCode.USAGE),
        (ledger_gone, "ledger", "its witness says that it was written here before", ExitCode.LEDGER),
        (ledger_emptied, "ledger", "its witness says that it was written here before", ExitCode.LEDGER),
        (ledger_damaged, "ledger", "cannot be used", ExitCode.LEDGER),
        (witness_gone, "ledger", "is missing", ExitCode.LEDGER),
        (old_copy, "ledger", "is not the last one", ExitCode.LEDGER),
        (ledger_linked, "state folder", "is a symbolic link", ExitCode.LEDGER),
        (ledger_open, "state folder", "can be read by everybody (mode 0644)", ExitCode.LEDGER),
        (folder_open, "state folder", "can be written by everybody", ExitCode.LEDGER),
        (stopped, "STOP file", "STOP exists", ExitCode.STOPPED),
        (clock_went_back, "last run", "but the last run was at 2026-11-23 02:00 UTC", ExitCode.STOPPED),
        (ledger_newer, "ledger", "newer than this program knows", ExitCode.LEDGER),
        (reports_nowhere, "report folder", "/proc cannot be written to", ExitCode.LEDGER),
        (reports_in_a_file, "report folder", "roster.csv cannot be written to", ExitCode.LEDGER),
        (reports_open, "report folder", "/reports can be written by everybody", ExitCode.LEDGER),
    ],
)
def test_each_thing_that_would_end_a_night_is_bad_with_that_nights_code(
    world: World, wreck: Callable[[World], None], what: str, words: str, code: ExitCode
) -> None:
    wreck(world)
    checks = looked(world)
    found = not_good(checks)

    assert words in found[what].found
    assert found[what].advice
    assert [check.found for check in checks if check.what == "not checked"] == ([LEFT[what]] if what in LEFT else [])
    assert set(found) - {"not checked"} == {what}
    assert doctor.exit_code(checks) is code
    assert night(world) is code


def night(world: World) -> ExitCode:
    """How a night ends in this world, with whatever approval it may need."""
    try:
        return world.night(approve=99).exit_code
    except CampaignError as error:
        return error.exit_code


def test_a_link_that_leads_nowhere_is_bad_although_a_night_would_mail_it(world: World) -> None:
    unregistered(world)
    checks = looked(world)

    assert "/thanks/ is not registered" in not_good(checks)["consent page"].found
    assert set(not_good(checks)) == {"consent page"}
    assert (doctor.exit_code(checks), night(world)) == (ExitCode.USAGE, ExitCode.DONE)


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_clock_that_is_ten_minutes_off_is_bad_and_the_canary_is_not_asked_with_it(world: World, minutes: int) -> None:
    world.accounts.requests.clear()
    checks = looked(world, clock=lambda: world.now + timedelta(minutes=minutes))

    assert set(not_good(checks)) == {"clock", "not checked"}
    assert not_good(checks)["not checked"].found == "canary"
    assert world.accounts.requests == []
    assert doctor.exit_code(checks) is ExitCode.REFUSED


def test_a_server_that_is_not_there_is_asked_once(world: World) -> None:
    world.keys["docusign"] = {"account_server": "http://127.0.0.1:1"}
    checks = looked(world)

    assert not_good(checks)["account server"].found.endswith("connection refused")
    assert not_good(checks)["not checked"].found == "consent page, clock, canary"
    assert doctor.exit_code(checks) is ExitCode.REFUSED


def test_a_folder_that_takes_no_file_is_bad(world: World) -> None:
    world.keys["ledger"] = {"url": "sqlite:////proc/ledger.sqlite3"}
    checks = looked(world)

    assert not_good(checks)["state folder"].grade is Grade.BAD
    assert not_good(checks)["not checked"].found == "disk, lock, ledger, last run"
    assert doctor.exit_code(checks) is ExitCode.LEDGER


def test_a_ledger_of_another_campaign_is_bad(world: World) -> None:
    checks = looked(world, world.config().model_copy(update={"name": "another"}))

    assert "belongs to the campaign 'test'" in not_good(checks)["ledger"].found
    assert doctor.exit_code(checks) is ExitCode.LEDGER


def test_a_night_that_is_under_way_would_end_another_at_once(world: World) -> None:
    with hold(world.config()):
        checks = looked(world)

    assert not_good(checks)["lock"].grade is Grade.BAD
    assert not_good(checks)["not checked"].found == "ledger, last run"
    assert doctor.exit_code(checks) is ExitCode.BUSY


@pytest.mark.parametrize(("template", "policy"), [("invite", {}), ("reminder", {}), ("escalation", {"escalate_after": 1})])
def test_a_row_for_which_no_message_can_be_written_is_named_and_would_be_left_out(
    world: World, template: str, policy: dict[str, Any]
) -> None:
    people = [{"user_id": user_id(n), "email": email(n), "manager_email": "boss@example.com", "share": n - 2} for n in (1, 2, 3)]
    world.roster(people)
    (world.folder / "words" / template).mkdir(parents=True)
    (world.folder / "words" / template / "subject.txt").write_text("A {{ 10 // (row['share'] | int) }}th")
    world.keys |= {"templates": {"directory": "words"}, "policy": policy}
    checks = looked(world)

    assert set(not_good(checks)) == {"templates"}
    assert not_good(checks)["templates"].grade is Grade.DOUBT
    assert f"{template}/subject.txt:1: " in not_good(checks)["templates"].found
    assert f"for {email(2)}, line 3 of the roster" in not_good(checks)["templates"].found
    assert doctor.exit_code(checks) is ExitCode.DONE


@pytest.mark.parametrize(("people", "bad"), [(1, 1), (3, 3), (9, 4)])
def test_a_template_that_fails_for_everybody_or_for_many_is_bad(world: World, people: int, bad: int) -> None:
    world.roster({"user_id": user_id(n), "email": email(n), "share": int(n > bad)} for n in range(1, people + 1))
    (world.folder / "words" / "invite").mkdir(parents=True)
    (world.folder / "words" / "invite" / "subject.txt").write_text("A {{ 10 // (row['share'] | int) }}th")
    world.keys |= {"templates": {"directory": "words"}}
    checks = looked(world)

    assert set(not_good(checks)) == {"templates"}
    assert not_good(checks)["templates"].grade is Grade.BAD
    assert doctor.exit_code(checks) is ExitCode.USAGE


def test_whom_no_message_can_reach_none_is_composed_for(world: World) -> None:
    closed = {"user_id": user_id(2), "email": email(2), "status": "Closed"}
    world.roster([{"user_id": user_id(1), "email": email(1)}, closed])
    world.keys["policy"] = {"remind_after_days": [3, 7], "escalate_after": 1}
    found = {check.what: check.found for check in looked(world)}

    assert "2 users, 1 of them closed" in found["roster"]
    assert found["templates"].startswith("4 messages to ")  # invitation, two reminders, escalation


# --- what a night would survive


def test_rows_that_cannot_be_used_are_named_with_their_lines(world: World) -> None:
    bad = [{"user_id": f"nobody {n}", "email": email(n)} for n in range(3, 9)]
    world.roster([{"user_id": user_id(1), "email": email(1)}, *bad])
    check = not_good(checks := looked(world))["roster"]

    assert [number for number in range(1, 10) if f"line {number}: " in check.found] == [3, 4, 5, 6]
    assert check.found.endswith("; and 2 more")
    assert (check.grade, doctor.exit_code(checks)) == (Grade.DOUBT, ExitCode.DONE)


def test_one_canary_of_two_is_enough(world: World) -> None:
    world.keys["docusign"] = {"canary": [user_id(99), CANARY]}
    check = not_good(checks := looked(world))["canary"]

    assert check.found == f"1 granted, but {user_id(99)} answered user_not_found"
    assert (check.grade, doctor.exit_code(checks)) == (Grade.DOUBT, ExitCode.DONE)


@pytest.mark.parametrize(("days", "grade"), [(0.4, Grade.GOOD), (0.6, Grade.DOUBT)])
def test_a_night_that_was_left_out_is_noticed(world: World, days: float, grade: Grade) -> None:
    world.days_pass(days)
    (check,) = [check for check in looked(world) if check.what == "last run"]

    assert (check.grade, check.found) == (grade, f"2026-11-23 02:00 UTC, {24 * (1 + days):.0f} hours ago")


def test_before_the_first_night_there_is_no_ledger_and_none_is_made(tmp_path: Path) -> None:
    with World(tmp_path / "work", {"mail": {"reply_to": "helpdesk@example.com"}}, Relay(offers=OFFERS)) as world:
        world.roster([1])
        world.keys |= {"ledger": {"url": "sqlite:///state/ledger.sqlite3"}}
        checks = looked(world)

    assert {what: check.found for what, check in not_good(checks).items()} == {"last run": "there was none yet"}
    assert doctor.exit_code(checks) is ExitCode.DONE


def test_what_others_on_this_machine_may_touch_is_in_doubt(world: World) -> None:
    (world.folder / "reports").chmod(0o1777)
    (world.folder / "ledger.sqlite3").chmod(0o640)
    found = not_good(checks := looked(world))

    assert [*found] == ["report folder", "ledger"]
    assert found["ledger"].advice == f"chmod 600 {world.folder}/ledger.sqlite3"
    assert doctor.exit_code(checks) is ExitCode.DONE


def test_a_ledger_of_an_earlier_version_is_looked_at_and_left_as_it_is(world: World) -> None:
    ledger_older(world)
    checks = looked(world)
    planned = world.plan()

    assert {what: check.grade for what, check in not_good(checks).items()} == {"ledger": Grade.DOUBT}
    assert "the next night brings it up to date" in not_good(checks)["ledger"].advice
    assert [check.found for check in checks if check.what == "last run"] == ["2026-11-23 02:00 UTC, 24 hours ago"]
    assert [decision.reason for decision in planned.decisions] == [Reason.WAITING] * 2
    assert (night(world), not_good(looked(world))) == (ExitCode.DONE, {})


def test_an_earlier_version_does_not_hide_that_it_is_an_old_copy(world: World) -> None:
    old_copy(world)
    ledger_older(world)
    checks = looked(world)

    assert "is not the last one" in not_good(checks)["ledger"].found
    assert doctor.exit_code(checks) is night(world) is ExitCode.LEDGER


# --- the doctor and the night agree


def a_newcomer(world: World) -> None:
    world.roster([1, 2, 3])


def first_night(world: World) -> None:
    for file in world.folder.glob("ledger*"):
        file.unlink()


def outside_hours(world: World) -> None:
    world.keys["policy"] = {"hours": "08:00-18:00"}


def day_used_up(world: World) -> None:
    world.keys["mail"] |= {"per_day": 1}


def one_bad_row(world: World) -> None:
    world.roster([{"user_id": user_id(1), "email": email(1)}, {"user_id": "nobody", "email": email(2)}])


def all_closed(world: World) -> None:
    world.roster([{"user_id": user_id(n), "email": email(n), "status": "Closed"} for n in (1, 2)])


def suppressed_until_yesterday(world: World) -> None:
    with open_ledger(world.config()) as ledger:
        ledger.suppress(user_id(1), "on leave", world.now - timedelta(hours=1), world.now - timedelta(hours=2))


def asleep_for_a_season(world: World) -> None:
    world.days_pass(100)


def header_only(world: World) -> None:
    (world.folder / "roster.csv").write_text("user_id,email\n", encoding="utf-8")


def no_bytes(world: World) -> None:
    (world.folder / "roster.csv").write_bytes(b"")


def a_field_too_many(world: World) -> None:
    (world.folder / "roster.csv").write_text(f"user_id,email\n{user_id(1)},{email(1)},more\n", encoding="utf-8")


def wrong_password(world: World) -> None:
    world.relay.at("AUTH", "535 5.7.8 no")
    (world.folder / "pw").write_text("PASSWORD", encoding="utf-8")
    (world.folder / "pw").chmod(0o600)
    world.keys |= {"mail": world.keys["mail"] | {"auth": "password", "username": "me"}, "mail.password": {"file": "pw"}}


def no_password_file(world: World) -> None:
    wrong_password(world)
    (world.folder / "pw").unlink()


def no_relay(world: World) -> None:
    world.keys["mail"] |= {"port": 1}


def refused_sender(world: World) -> None:
    world.relay.at("MAIL", "550 5.7.60 not you")


def no_templates(world: World) -> None:
    world.keys["templates"] = {"directory": "nowhere"}


def broken_template(world: World) -> None:
    (world.folder / "words" / "invite").mkdir(parents=True)
    (world.folder / "words" / "invite" / "subject.txt").write_text("{{ nmae }}", encoding="utf-8")
    world.keys["templates"] = {"directory": "words"}


def nobody_can_watch(world: World) -> None:
    world.keys["monitoring"] = {"log_file": "roster.csv/log", "metrics_file": "roster.csv/figures"}


def history_is_a_file(world: World) -> None:
    history = world.folder / "reports" / "history"
    history.rename(world.folder / "kept")
    history.touch()


def lock_is_a_link(world: World) -> None:
    (world.folder / "ledger.sqlite3.lock").unlink()
    (world.folder / "ledger.sqlite3.lock").symlink_to("private.pem")


def witness_is_nonsense(world: World) -> None:
    (world.folder / "ledger.sqlite3.witness").write_bytes(b"\x00{")


def another_host(world: World) -> None:
    witness = world.folder / "ledger.sqlite3.witness"
    told = json.loads(witness.read_text(encoding="utf-8"))
    witness.write_text(json.dumps(told | {"host": "another"}), encoding="utf-8")


@pytest.mark.parametrize(
    "arrange",
    [
        a_newcomer, first_night, outside_hours, day_used_up, one_bad_row, all_closed, suppressed_until_yesterday,
        asleep_for_a_season, header_only, no_bytes, a_field_too_many, wrong_password, no_password_file, no_relay, refused_sender,
        no_templates, broken_template, nobody_can_watch, history_is_a_file, lock_is_a_link, witness_is_nonsense, another_host,
    ],
)  # fmt: skip
def test_the_doctor_says_0_where_a_night_would_run_and_else_what_the_night_would_say(
    world: World, arrange: Callable[[World], None]
) -> None:
    """With somebody to be mailed, and an approval where the night needs one."""
    a_newcomer(world)
    arrange(world)
    said, ended = doctor.exit_code(looked(world)), night(world)

    assert said is (ExitCode.DONE if ended is ExitCode.ATTENTION else ended)


def test_what_the_environment_sets_is_named_for_cron_has_another(world: World) -> None:
    environ = {"CAMPAIGN_MAIL_PORT": "MARKER", "CAMPAIGN_CONFIG": "MARKER", "HOME": "MARKER"}
    check = not_good(looked(world, environ=environ))["configuration"]

    assert check.found.endswith("with CAMPAIGN_CONFIG, CAMPAIGN_MAIL_PORT of this environment")


@pytest.mark.parametrize(
    ("keys", "what", "words"),
    [
        ({"docusign": {"environment": "production"}}, "environment", "production, which is account.docusign.com; http://127."),
        ({"mail": {"host": "relay.example.net", "security": "tls"}}, "environment", "is asked in its place"),
        ({"docusign": {"scopes": ["signatur", "impersonation"]}}, "scopes", "did you mean signature?"),
        ({"docusign": {"redirect_uri": "https://intranet.example.com/"}}, "redirect URI", "stands for a real one"),
        ({"docusign": {"redirect_uri": "https://intranet/{team}"}}, "redirect URI", "holds a placeholder"),
        ({"docusign": {"redirect_uri": "https://intranet/?a=1"}}, "redirect URI", "holds a query"),
    ],
)
def test_what_does_not_go_together_is_in_doubt(tmp_path: Path, keys: dict[str, dict[str, Any]], what: str, words: str) -> None:
    with World(tmp_path / "work", keys) as world:
        found = not_good(list(configuration(world.config(), {})))

    assert [check.grade for check in found.values()] == [Grade.DOUBT]
    assert words in found[what].found
    assert found[what].advice


def test_with_docusign_itself_a_redirect_uri_on_loopback_leads_nobody_anywhere(world: World) -> None:
    given = world.config()
    docusign = given.docusign.model_copy(update={"account_server": None})
    found = not_good(list(configuration(given.model_copy(update={"docusign": docusign}), {})))

    assert "the reader's own machine" in found["redirect URI"].found


MOUNTS = """\
22 27 0:21 / / rw,relatime - ext4 /dev/vda rw
23 22 0:40 / {folder} rw,relatime shared:3 - {kind} server:/export rw
24 22 0:41 / {folder}/elsewhere rw,relatime - ext4 /dev/vdb rw
"""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.rclone", "tmpfs"])
def test_a_disk_that_others_share_or_that_forgets_is_in_doubt(tmp_path: Path, kind: str) -> None:
    check = disk(tmp_path / "state", MOUNTS.format(folder=tmp_path, kind=kind))

    assert check.grade is Grade.DOUBT
    assert f"{tmp_path}/state is on {kind}, with " in check.found


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "overlay", "fuseblk"])
def test_a_disk_of_this_machine_is_good(tmp_path: Path, kind: str) -> None:
    assert disk(tmp_path, MOUNTS.format(folder=tmp_path, kind=kind)).found.startswith(f"{tmp_path} is on {kind}, with ")
    assert disk(tmp_path, MOUNTS.format(folder=tmp_path, kind=kind)).grade is Grade.GOOD


def test_the_nearest_and_the_last_of_the_mounts_counts(tmp_path: Path) -> None:
    folder = tmp_path / "a b" / "elsewhere"
    folder.mkdir(parents=True)
    mounts = MOUNTS.format(folder=f"{tmp_path}/a\\040b", kind="nfs")
    over = f"25 24 0:42 / {tmp_path}/a\\040b/elsewhere rw - tmpfs tmpfs rw\n26 24 0:43 / {tmp_path}/a rw - cifs x rw\n"

    assert f"{folder} is on ext4, " in disk(folder, mounts).found
    assert f"{folder} is on tmpfs, " in disk(folder, mounts + over).found
    assert f"{folder.parent} is on nfs, " in disk(folder.parent, mounts).found
    assert "cannot be told here" in disk(folder, "").found


def test_a_signal_while_messages_are_composed_ends_it_there_and_is_no_finding(world: World) -> None:
    composed: list[datetime] = []

    def interrupted() -> datetime:
        composed.append(world.now)
        world.stop.ask(ExitCode.SIGTERM)
        return world.now

    told: list[Check] = []
    with pytest.raises(Interrupted):
        told.extend(doctor.examine(world.config(), replace(world.means(), clock=interrupted)))

    assert [check.what for check in told] == ORDER[: ORDER.index("templates")]
    assert len(composed) == 1


# --- the command


def doctored(world: World, *options: str) -> Result:
    world.config()
    return command("doctor", "--config", world.folder / "campaign.toml", *options)


@pytest.fixture
def live(quick_path: Path) -> Iterator[World]:
    """A world by the real clock, before its first night."""
    with World(quick_path / "work", relay=Relay(offers=OFFERS), live=True) as world:
        world.roster([1])
        yield world


def test_the_command_prints_one_line_for_each_check_and_the_remedy_below(live: World) -> None:
    done = doctored(live)
    lines = done.stdout.splitlines()

    assert (done.exit_code, done.stderr) == (0, "")
    assert [line[6:].split(": ")[0] for line in lines if line[0] != " "] == [*ORDER[:-8], "[mail] reply_to", *ORDER[-7:]]
    assert "look  last run: there was none yet" in lines
    assert lines[lines.index("look  last run: there was none yet") + 1].endswith("campaign run --approve N")


def test_the_command_ends_as_the_night_would_and_says_so_in_json(live: World) -> None:
    live.revoke(CANARY)
    done = doctored(live, "--json")
    told = json.loads(done.stdout)

    assert done.exit_code == told["exit_code"] == ExitCode.STOPPED
    assert [check["what"] for check in told["checks"] if check["grade"] == "bad"] == ["canary"]
    assert {*told["checks"][0]} == {"what", "grade", "found", "advice", "exit_code"}
