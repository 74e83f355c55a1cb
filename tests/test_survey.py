"""What is learnt of a relay, one step after the other, and how each step fails."""

import socket
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from campaign.errors import CampaignError, ConfigError, RelayRefused, RelayUnreachable
from campaign.mailer import Route
from campaign.mailer.survey import Survey
from campaign.model import Check, Grade
from tests.fakes import Relay
from tests.patience import soon

FROM = "contracts@example.com"
LOGIN = ("contracts", "pa$$wörd-MARKER")
OFFERS = ("SIZE 10485760", "8BITMIME", "SMTPUTF8", "DSN")
STEPS = ["name", "connection", "TLS", "capabilities", "sign-in", "sender"]
NOW = datetime.now(UTC)


def serving(authority: trustme.CA, *names: str, **dates: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("localhost",)), **dates).configure_cert(context)
    return context


def route(relay: Relay, **changes: Any) -> Route:
    plain: dict[str, Any] = {"host": "localhost", "port": relay.port, "security": "none", "timeout": 0.3}
    return Route(**{**plain, **changes})


def signing_in(relay: Relay, ca_file: Path, **changes: Any) -> Route:
    security = "tls" if relay.implicit else "starttls"
    secured = {"security": security, "ca_file": ca_file, "username": LOGIN[0], "password": lambda: LOGIN[1]}
    return route(relay, **{**secured, **changes})


def surveyed(way: Route, now: datetime = NOW) -> tuple[dict[str, Check], CampaignError | None]:
    """The checks up to the first failure, and that failure."""
    done: dict[str, Check] = {}
    with Survey(way, FROM, now) as relay:
        for what, step in relay.steps.items():
            try:
                done[what] = step()
            except CampaignError as error:
                return done, error
    return done, None


def failure(way: Route) -> tuple[str, CampaignError]:
    """Which step failed, and how."""
    done, error = surveyed(way)
    assert error
    return STEPS[len(done)], error


def verbs(relay: Relay) -> list[str]:
    return [command.split()[0].upper() for _, command in relay.commands]


def doubts(done: Mapping[str, Check]) -> list[str]:
    return [what for what, check in done.items() if check.grade is not Grade.GOOD]


# --- what is learnt of a good relay


@pytest.mark.parametrize("implicit", [False, True])
def test_a_good_relay_is_good_in_every_step(authority: trustme.CA, ca_file: Path, implicit: bool) -> None:
    with Relay(tls=serving(authority), implicit=implicit, login=LOGIN, offers=OFFERS) as relay:
        done, error = surveyed(signing_in(relay, ca_file))

    assert error is None
    assert list(done) == STEPS
    assert doubts(done) == []
    assert "127.0.0.1" in done["name"].found
    assert f"127.0.0.1 port {relay.port} answered within " in done["connection"].found
    assert "TLSv1.3, TLS_" in done["TLS"].found
    assert "for localhost, issued by trustme" in done["TLS"].found
    assert done["capabilities"].found == "SIZE 10485760, 8BITMIME, SMTPUTF8, DSN; sign-in by PLAIN LOGIN"
    assert "contracts" in done["sign-in"].found
    assert f"{FROM}: 250 2.1.0 sender ok" in done["sender"].found


def test_no_message_is_sent_and_there_is_one_connection_with_one_sign_in(authority: trustme.CA, ca_file: Path) -> None:
    with Relay(tls=serving(authority), login=LOGIN) as relay:
        surveyed(signing_in(relay, ca_file))

    assert verbs(relay) == ["EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL", "RSET", "QUIT"]
    assert (relay.connections, relay.accepted, relay.auth_in_clear) == (1, [], False)


def test_a_relay_on_this_machine_needs_neither_tls_nor_a_sign_in() -> None:
    with Relay(offers=OFFERS) as relay:
        done, error = surveyed(route(relay))

    assert error is None
    assert doubts(done) == []
    assert "not used" in done["TLS"].found
    assert done["capabilities"].found.endswith("sign-in by nothing")


@pytest.mark.parametrize("missing", OFFERS[1:])
def test_what_a_relay_does_not_offer_is_a_doubt_that_says_what_it_means(missing: str) -> None:
    with Relay(offers=tuple(offer for offer in OFFERS if offer != missing)) as relay:
        done, error = surveyed(route(relay))

    assert error is None
    assert doubts(done) == ["capabilities"]
    assert f"without {missing} " in done["capabilities"].advice


@pytest.mark.parametrize(("days", "grade"), [(13, Grade.DOUBT), (15, Grade.GOOD)])
def test_a_certificate_that_soon_expires_is_a_doubt(authority: trustme.CA, ca_file: Path, days: int, grade: Grade) -> None:
    ends = NOW + timedelta(days=days, hours=1)
    with Relay(tls=serving(authority, not_after=ends)) as relay:
        done, _ = surveyed(route(relay, security="starttls", ca_file=ca_file))

    assert done["TLS"].grade is grade
    assert done["TLS"].found.endswith(f"valid until {ends:%Y-%m-%d}: {days} days")


def test_leave_is_taken_even_of_a_relay_that_takes_none() -> None:
    with Relay(offers=OFFERS).at("RSET", "garbage") as relay:
        done, error = surveyed(route(relay))

    assert (len(done), error) == (len(STEPS), None)


# --- how each step fails


def test_a_name_that_does_not_resolve_is_not_connected_to() -> None:
    with Relay() as relay:
        step, error = failure(route(relay, host="name.invalid"))

    assert (step, type(error)) == ("name", RelayUnreachable)
    assert "name.invalid cannot be resolved" in str(error)
    assert "[mail] host" in error.advice
    assert relay.connections == 0


def test_a_name_that_is_none_does_not_resolve_either() -> None:
    with Relay() as relay:
        step, error = failure(route(relay, host="a" * 70 + ".invalid"))

    assert (step, type(error)) == ("name", RelayUnreachable)


def test_a_closed_port_is_told_with_what_to_look_at() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    step, error = failure(Route(host="127.0.0.1", port=port, security="none"))

    assert (step, type(error)) == ("connection", RelayUnreachable)
    assert f"127.0.0.1:{port}: Connection refused" in str(error)
    assert "firewall" in error.advice


def test_a_ca_file_that_is_none_is_a_matter_of_configuration(authority: trustme.CA, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with Relay(tls=serving(authority)) as relay:
        step, error = failure(route(relay, security="starttls", ca_file=tmp_path / "ca.pem"))

    assert (step, type(error)) == ("TLS", ConfigError)


def test_a_relay_without_starttls_is_not_signed_in_to(ca_file: Path) -> None:
    with Relay(login=LOGIN) as relay:
        step, error = failure(signing_in(relay, ca_file))

    assert (step, type(error)) == ("TLS", RelayUnreachable)
    assert "it offers no STARTTLS" in str(error)
    assert 'security = "tls"' in error.advice
    assert relay.auth_attempts == 0


Flaw = tuple[Callable[[trustme.CA], ssl.SSLContext], list[str], str]
YESTERDAY = NOW - timedelta(days=1)
FLAWS: dict[str, Flaw] = {
    "expired": (
        lambda authority: serving(authority, not_after=YESTERDAY),
        ["a certificate has expired", "for localhost, issued by trustme", f"valid until {YESTERDAY:%Y-%m-%d}"],
        "renewed",
    ),
    "not yet valid": (
        lambda authority: serving(authority, not_before=NOW + timedelta(days=1)),
        ["a certificate is not valid yet", "for localhost"],
        "clock",
    ),
    "other name": (
        lambda authority: serving(authority, "mail.example.com", "smtp.example.com"),
        ["for mail.example.com, smtp.example.com, not for localhost"],
        "set [mail] host to a name that the certificate bears",
    ),
    "other name and expired": (
        lambda authority: serving(authority, "mail.example.com", not_after=YESTERDAY),
        ["certificate"],
        "have ",
    ),
    "other authority": (lambda _: serving(trustme.CA()), ["not trusted", "issuer"], "alone is trusted"),
}


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("flaw", FLAWS)
def test_what_is_wrong_with_a_certificate_is_told_apart(authority: trustme.CA, ca_file: Path, flaw: str, implicit: bool) -> None:
    context, said, advice = FLAWS[flaw]
    with Relay(tls=context(authority), implicit=implicit, login=LOGIN) as relay:
        step, error = failure(signing_in(relay, ca_file))

    assert (step, type(error)) == ("TLS", RelayUnreachable)
    assert [part for part in said if part not in str(error)] == []
    assert advice in error.advice
    assert not {"AUTH", "MAIL"} & set(verbs(relay))


def test_an_authority_that_the_system_does_not_know_can_be_named(authority: trustme.CA) -> None:
    with Relay(tls=serving(authority)) as relay:
        _, error = failure(route(relay, security="starttls"))

    assert "set [mail] ca_file" in error.advice


@pytest.mark.parametrize(("implicit", "security"), [(False, "tls"), (True, "starttls")])
def test_a_port_that_speaks_the_other_kind_of_tls_is_guessed(
    authority: trustme.CA, ca_file: Path, implicit: bool, security: str
) -> None:
    with Relay(tls=serving(authority), implicit=implicit) as relay:
        _, error = failure(route(relay, security=security, ca_file=ca_file))

    assert '587 with "starttls", 465 with "tls"' in error.advice


def test_a_wrong_password_is_tried_once_and_shown_never(authority: trustme.CA, ca_file: Path) -> None:
    with Relay(tls=serving(authority), login=("contracts", "another")) as relay:
        step, error = failure(signing_in(relay, ca_file))

    assert (step, type(error)) == ("sign-in", RelayRefused)
    assert "535 5.7.8" in str(error)
    assert relay.auth_attempts == 1
    assert "MARKER" not in f"{error}{error.advice}"


class Tokens:
    """A source of tokens that counts."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, *, fresh: bool = False) -> str:
        assert not fresh
        self.asked += 1
        return "TOKEN-MARKER"


@pytest.mark.parametrize(("answer", "failed"), [("235 2.7.0 welcome", None), ("535 5.7.3 TOKEN-MARKER", "sign-in")])
def test_a_token_is_tried_once_and_shown_never(authority: trustme.CA, ca_file: Path, answer: str, failed: str | None) -> None:
    tokens = Tokens()
    with Relay(tls=serving(authority), login=LOGIN, mechanisms="XOAUTH2").at("AUTH", answer) as relay:
        done, error = surveyed(signing_in(relay, ca_file, tokens=tokens))

    assert (STEPS[len(done)] if error else None) == failed
    assert (tokens.asked, relay.auth_attempts, relay.connections) == (1, 1, 1)
    assert "MARKER" not in f"{done} {error}"


def test_a_sender_that_is_refused_is_told_with_what_the_relay_says() -> None:
    with Relay().at("MAIL", "550 5.7.60 SendAsDenied") as relay:
        step, error = failure(route(relay))

    assert (step, type(error)) == ("sender", RelayRefused)
    assert "550 5.7.60 SendAsDenied" in str(error)
    assert error.advice


def test_a_sender_that_is_put_off_is_not_taken_for_accepted() -> None:
    with Relay().at("MAIL", "451 4.3.0 later") as relay:
        step, error = failure(route(relay))

    assert (step, type(error)) == ("sender", RelayUnreachable)
    assert "451 4.3.0 later" in str(error)


FAULTS = ["drop", "hang", "garbage", "drip", "endless", "flood", "199 hm", "421 4.3.2 bye"]
FAILING = {"connect": "connection", "EHLO": "TLS", "STARTTLS": "TLS", "TLS": "TLS", "AUTH": "sign-in", "MAIL": "sender"}


@pytest.mark.parametrize(
    ("phase", "fault"), [(phase, fault) for phase in FAILING for fault in FAULTS if (phase, fault) != ("TLS", "drip")]
)
def test_whatever_the_relay_does_the_step_ends_soon_and_in_a_sentence(
    authority: trustme.CA, ca_file: Path, phase: str, fault: str
) -> None:
    with soon(), Relay(tls=serving(authority), login=LOGIN).at(phase, fault) as relay:
        step, error = failure(signing_in(relay, ca_file))

    assert (step, error.exit_code) == (FAILING[phase], 5)
    assert str(error).isprintable()
    assert error.advice
    assert len(str(error)) < 500
    assert relay.auth_attempts <= 1


@pytest.mark.parametrize("fault", ["drop", "hang", "garbage", "endless", "500 5.5.1 no\x1b[2J"])
def test_a_relay_that_fails_once_tls_is_on_is_told_from_one_that_never_spoke(
    authority: trustme.CA, ca_file: Path, fault: str
) -> None:
    with Relay(tls=serving(authority), implicit=True).at("EHLO", fault).at("HELO", fault) as relay:
        step, error = failure(route(relay, security="tls", ca_file=ca_file))

    assert (step, error.exit_code) == ("capabilities", 5)
    assert str(error).isprintable()
