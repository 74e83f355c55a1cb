"""What `campaign doctor` finds about the mail, in which order, and what it never shows."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import trustme

from campaign import doctor
from campaign.errors import ExitCode, Interrupted
from campaign.given import Means
from campaign.model import Check, Grade
from campaign.stopping import Stop
from tests.fakes import Relay
from tests.test_survey import serving
from tests.token_server import APP_ID, TENANT, TokenServer, certificate_file
from tests.world import World

LOGIN = ("contracts@example.com", "PASSWORD-MARKER")
OFFERS = ("SIZE 10485760", "8BITMIME", "SMTPUTF8", "DSN")
RELAY_STEPS = ["name", "connection", "TLS", "capabilities", "sign-in", "sender"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


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
            checks = list(doctor.examine(world.config(), means, mail_to=mail_to))
            assert not (world.folder / "ledger.sqlite3").exists()
        assert "MARKER" not in repr(checks)
        return checks

    return all_checks


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
        (first,) = islice(doctor.examine(world.config(), world.means()), 1)

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
