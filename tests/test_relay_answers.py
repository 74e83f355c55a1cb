"""What a night makes of everything that a relay can answer: the outcome, the exit code, who is blamed, and the next night."""

import socket
import sqlite3
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from email import message_from_string
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from campaign.errors import ExitCode
from campaign.mailer import Route
from tests.fakes import Relay
from tests.patience import PATIENCE
from tests.world import World, email, user_id

THE_ONE = user_id(2)  # whom the answers below are about; 1 is mailed before, 3 after


@dataclass(frozen=True, slots=True)
class End:
    """How a night ends for one user, and what the next one does."""

    exit_code: ExitCode
    reason: str
    outcome: str
    others: bool  # whether the next user is mailed in the same night
    next_night: str  # "same": the same message again; "new": one as if nothing had been; "none"


SENT = End(ExitCode.DONE, "sent", "accepted", others=True, next_night="none")
LATER = End(ExitCode.DONE, "waiting", "deferred", others=True, next_night="same")
NOT_KNOWN = End(ExitCode.ATTENTION, "unresolved", "unknown", others=True, next_night="none")
RECIPIENT = End(ExitCode.ATTENTION, "undeliverable", "rejected", others=True, next_night="none")
US = End(ExitCode.REFUSED, "relay_refused", "", others=False, next_night="new")
DOMAIN = End(ExitCode.REFUSED, "relay_refused", "", others=True, next_night="new")

BY_PHASE = [
    # before the dot: definitely not sent
    ("RCPT", "450 4.2.0 mailbox unavailable", LATER),
    ("RCPT", "451 4.7.1 greylisted", LATER),
    ("RCPT", "452 4.2.2 mailbox full", LATER),
    ("RCPT", "421 4.3.2 shutting down", LATER),
    ("RCPT", "drop", LATER),
    ("RCPT", "hang", LATER),
    ("RCPT", "garbage", LATER),
    ("RCPT", "endless", LATER),
    ("RCPT", "251 2.1.5 will forward", SENT),
    ("DATA", "451 4.3.0 local error", LATER),
    ("DATA", "drop", LATER),
    ("DATA", "hang", LATER),
    ("DATA", "250 2.0.0 what", LATER),
    ("DATA", "554 5.5.1 no valid recipients", US),
    ("DATA", "354 go ahead\n451 4.3.0 going down", LATER),  # while the message is on its way, before its dot
    # the dot: only a clean answer tells
    ("dot", "250 2.0.0 queued as 4711", SENT),
    ("dot", "252 2.0.0 will try", SENT),
    ("dot", "split", SENT),
    ("dot", "451 4.3.0 out of disk", LATER),
    ("dot", "421 4.3.2 shutting down", LATER),
    ("dot", "550 5.1.1 no such user", RECIPIENT),
    ("dot", "554 5.6.0 content", US),
    ("dot", "hang", NOT_KNOWN),
    ("dot", "drop", NOT_KNOWN),
    ("dot", "store drop", NOT_KNOWN),
    ("dot", "garbage", NOT_KNOWN),
    ("dot", "354 go ahead", NOT_KNOWN),
    ("dot", "199 what", NOT_KNOWN),
]

BY_CODE = [
    # quotas that look permanent, and are ours
    ("dot", "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", US),
    ("RCPT", "550 5.4.5 Daily user sending limit exceeded", US),
    ("dot", "454 Throttling failure: Daily message quota exceeded.", US),
    # rates: the same message after a pause
    ("MAIL", "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending", SENT),
    ("RCPT", "432 4.3.2 STOREDRV; sender thread limit exceeded", SENT),
    ("RCPT", "450 4.2.1 Peak SMTP relay limit exceeded for customer", SENT),
    ("dot", "454 Throttling failure: Maximum sending rate exceeded.", SENT),
    ("MAIL", "421 4.7.0 Try again later, closing connection.", SENT),
    ("MAIL", "454 4.7.0 Too many login attempts, please try again later.", SENT),
    # we are not wanted
    ("dot", "554 5.2.2 mailbox full; STOREDRV.Submission.Exception", US),
    ("MAIL", "550 5.7.30 Basic authentication is not supported for Client Submission", US),
    ("MAIL", "550 5.7.68 TenantInboundAttribution; Direct Send not allowed for this organization", US),
    ("dot", "554 5.7.60 SMTP; Client does not have permissions to send as this sender", US),
    ("RCPT", "554 5.7.1 Relay access denied", US),
    ("RCPT", "550 no enhanced code at all", US),
    ("RCPT", "550 5.1.7 sender's address", US),
    ("MAIL", "550 5.1.1 at MAIL FROM this is the sender", US),
    # one provider does not want us
    ("RCPT", "550 5.7.515 Access denied, sending domain does not meet the required authentication level", DOMAIN),
    # the recipient
    ("RCPT", "550 5.1.1 user unknown", RECIPIENT),
    ("RCPT", "550 5.1.2 no such domain", RECIPIENT),
    ("RCPT", "550 5.1.10 RESOLVER.ADR.RecipientNotFound", RECIPIENT),
    ("RCPT", "550 5.2.1 mailbox disabled", RECIPIENT),
    ("RCPT", "556 5.1.10 null MX", RECIPIENT),
]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, keys={"mail": {"timeout": 1, "final_timeout": 1}}) as world:
        world.roster({"user_id": user_id(n), "email": f"person{n}@domain{n}.example"} for n in (1, 2, 3))
        yield world


def message_id_of_the_one(world: World) -> str | None:
    """The Message-ID of the slot in the ledger; None where there is none."""
    with closing(sqlite3.connect(world.folder / "ledger.sqlite3")) as ledger:
        row = ledger.execute("SELECT message_id FROM slots WHERE user_id = ?", [THE_ONE]).fetchone()
    return row and str(row[0])


def to_the_one(relay: Relay) -> list[str]:
    """The Message-IDs of what the relay took for the one."""
    return [str(message_from_string(m.data)["Message-ID"]) for m in relay.accepted if m.recipient.startswith("person2@")]


@pytest.mark.promise(13)
@pytest.mark.parametrize(
    ("phase", "answer", "end"), [*BY_PHASE, *BY_CODE], ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_answer_has_its_end(world: World, phase: str, answer: str, end: End) -> None:
    world.relay.at(phase, answer, message=2)
    night = world.night(approve=3)
    row, message_id = world.report()[THE_ONE], message_id_of_the_one(world)

    assert (night.exit_code, row["reason"], row["last_outcome"]) == (end.exit_code, end.reason, end.outcome)
    assert world.report()[user_id(3)]["reason"] == ("sent" if end.others else "relay_refused")
    assert all(world.report()[user_id(n)]["last_outcome"] in {"accepted", ""} for n in (1, 3))  # nobody else is blamed

    taken = to_the_one(world.relay)
    world.relay.heal()
    world.days_pass(1)
    later = world.night()
    again = to_the_one(world.relay)[len(taken) :]

    assert later.exit_code == ExitCode.DONE
    assert len(again) == (end.next_night != "none")
    assert end.next_night != "same" or again == [message_id]


@pytest.mark.parametrize(
    ("phase", "answer"),
    [
        ("connect", "drop"),
        ("connect", "554 5.7.1 go away"),
        ("connect", "421 4.3.2 busy"),
        ("connect", "garbage"),
        ("connect", "hang"),
        ("EHLO", "drop"),
        ("EHLO", "421 4.3.2 busy"),
        ("EHLO", "endless"),
    ],
)
def test_before_a_message_everything_stops_the_run_and_uses_up_nothing(world: World, phase: str, answer: str) -> None:
    world.relay.at(phase, answer)
    night = world.night(approve=3)
    rows = world.report().values()

    assert night.exit_code == ExitCode.REFUSED
    assert {(row["reason"], row["messages"], row["last_outcome"]) for row in rows} == {("relay_refused", "0", "")}
    assert len(night.problems) == 1
    assert world.relay.connections <= 3

    world.relay.heal()
    world.days_pass(1)
    world.night()

    assert sorted(world.mailed()) == sorted(f"person{n}@domain{n}.example" for n in (1, 2, 3))


@pytest.mark.parametrize(
    "answer", ["450 4.3.2 busy", "421 4.3.2 bye", "451 4.7.1 greylisted", "drop", "hang", "garbage", "endless"]
)
def test_what_fails_at_mail_from_is_tried_over_a_new_connection_and_then_on_another_night(world: World, answer: str) -> None:
    world.relay.at("MAIL", answer, message=2).at("MAIL", answer, message=3)
    night = world.night(approve=3)
    row, message_id = world.report()[THE_ONE], message_id_of_the_one(world)
    world.days_pass(1)
    later = world.night()

    assert (night.exit_code, later.exit_code) == (ExitCode.DONE, ExitCode.DONE)
    assert (row["reason"], row["last_outcome"]) == ("waiting", "deferred")
    assert to_the_one(world.relay) == [message_id]
    assert sorted(world.mailed()) == sorted(f"person{n}@domain{n}.example" for n in (1, 2, 3))


@pytest.mark.parametrize("answer", ["450 4.3.2 busy", "421 4.3.2 bye", "drop", "hang", "garbage"])
def test_once_at_mail_from_costs_nobody_a_night(world: World, answer: str) -> None:
    world.relay.at("MAIL", answer, message=2)
    night = world.night(approve=3)

    assert night.exit_code == ExitCode.DONE
    assert sorted(world.mailed()) == sorted(f"person{n}@domain{n}.example" for n in (1, 2, 3))


BEFORE_A_MESSAGE = [
    *(("STARTTLS", answer) for answer in ("454 4.7.0 TLS not available", "554 5.7.3 no", "220 go\n250 injected", "drop", "hang")),
    *(("TLS", answer) for answer in ("drop", "hang", "garbage", "220 what")),
    *(("AUTH", answer) for answer in ("454 4.7.0 Temporary authentication failure", "421 4.3.2 bye", "drop", "hang", "garbage")),
]


@pytest.mark.parametrize(("phase", "answer"), BEFORE_A_MESSAGE)
def test_what_fails_on_the_way_to_a_message_stops_the_run_and_uses_up_nothing(tmp_path: Path, phase: str, answer: str) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    secret = tmp_path / "password"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    mail = {"security": "starttls", "ca_file": "ca.pem", "auth": "password", "username": "u", "timeout": 1, "final_timeout": 1}
    relay = Relay(tls=context, login=("u", "s3cret")).at(phase, answer)
    with World(tmp_path, relay=relay, keys={"mail": mail, "mail.password": {"file": "password"}}) as world:
        world.roster([1, 2])
        night, rows = world.night(approve=2), world.report().values()
        sign_ins = relay.auth_attempts
        relay.heal()
        world.days_pass(1)
        later = world.night()

    assert (night.exit_code, len(night.problems)) == (ExitCode.REFUSED, 1)
    assert {(row["reason"], row["messages"], row["last_outcome"]) for row in rows} == {("relay_refused", "0", "")}
    assert sign_ins <= 3
    assert not relay.auth_in_clear
    assert later.exit_code == ExitCode.DONE
    assert sorted(world.mailed()) == [email(1), email(2)]


@pytest.mark.promise(16)
def test_a_name_server_that_says_nothing_stops_the_run_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, over = socket.getaddrinfo, threading.Event()
    monkeypatch.setattr("campaign.given.Route", partial(Route, connect_timeout=0.2))

    def silent(host: str, *args: Any, **options: Any) -> Any:
        return over.wait(2 * PATIENCE) and [] if host == "relay.test" else ask(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    with World(tmp_path, keys={"mail": {"host": "relay.test", "security": "starttls"}}) as world:
        world.roster([1])
        night = world.night(approve=1)
        rows = world.report()
    over.set()

    assert night.exit_code == ExitCode.REFUSED
    assert "relay.test" in str(night.problems[0])
    assert "no name server answered" in str(night.problems[0])
    assert (rows[user_id(1)]["reason"], rows[user_id(1)]["messages"]) == ("relay_refused", "0")


def test_a_relay_that_cannot_be_found_stops_the_run(tmp_path: Path) -> None:
    with World(tmp_path, keys={"mail": {"host": "relay.invalid", "security": "starttls"}}) as world:
        world.roster([1])
        night = world.night(approve=1)

        assert night.exit_code == ExitCode.REFUSED
        assert "relay.invalid" in str(night.problems[0])
        assert world.report()[user_id(1)]["reason"] == "relay_refused"


@pytest.mark.promise(13)
@pytest.mark.case(9)
@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        ("535 5.7.8 wrong", "tried once only"),
        ("535 5.7.3 Authentication unsuccessful", "end of December 2026"),
        ("535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled", "end of December 2026"),
        ("534 5.7.9 Application-specific password required", "app password"),
        ("550 5.7.30 Basic authentication is not supported for Client Submission.", "three ways out"),
    ],
)
def test_a_refused_sign_in_is_tried_once_and_says_what_to_do(tmp_path: Path, reply: str, advice: str) -> None:
    relay = Relay(login=("u", "s3cret")).at("AUTH", reply)
    mail = {"auth": "password", "username": "u"}
    with World(tmp_path, relay=relay, keys={"mail": mail, "mail.password": {"file": "password"}}) as world:
        secret = world.folder / "password"
        secret.write_text("s3cret")
        secret.chmod(0o600)
        world.roster([1, 2])
        night = world.night(approve=2)

        assert night.exit_code == ExitCode.REFUSED
        assert advice in night.problems[0].advice
        assert relay.auth_attempts == 1
        assert world.mailed() == []
        assert {row["messages"] for row in world.report().values()} == {"0"}


def test_a_message_is_deferred_three_times_and_then_given_up(world: World) -> None:
    world.relay.at("RCPT", "450 4.2.0 later", recipient="person2@domain2.example")
    world.night(approve=3)
    for _ in range(4):
        world.days_pass(1)
        world.night()
    tried = [command for _, command in world.relay.commands if command.startswith("RCPT TO:<person2@")]

    assert len(tried) == 3
    assert world.report()[THE_ONE]["last_outcome"] == "deferred"
    assert (world.report()[THE_ONE]["next_action"], world.report()[THE_ONE]["next_due"]) == ("remind", "2026-11-28T02:00:00Z")


def test_who_alone_is_refused_is_named_with_the_way_to_go_on(world: World) -> None:
    world.relay.at("RCPT", "554 5.7.1 policy", recipient="person2@domain2.example")
    night = world.night(approve=3)

    assert "person2@domain2.example" in str(night.problems[0])
    assert "campaign suppress person2@domain2.example --reason TEXT" in night.problems[0].advice


@pytest.mark.promise(13)
@pytest.mark.parametrize("reply", ["554 5.7.1 policy", "552 5.2.2 mailbox is full", "550 no such user"])
def test_who_alone_is_refused_holds_up_nobody_for_longer_than_a_night(world: World, reply: str) -> None:
    world.relay.at("RCPT", reply, recipient=email_of(2))
    nights = [world.night(approve=3)]
    before = world.mailed()
    for _ in range(2):
        world.days_pass(0.5)
        nights.append(world.night())
    rows = world.report()
    world.relay.heal()
    world.days_pass(0.5)
    nights.append(world.night())

    assert [night.exit_code for night in nights] == [ExitCode.REFUSED] * 3 + [ExitCode.DONE]
    assert before == [email_of(1)]
    assert world.mailed() == [email_of(1), email_of(3), email_of(2)]
    assert (rows[THE_ONE]["reason"], rows[THE_ONE]["messages"]) == ("relay_refused", "0")


def email_of(number: int) -> str:
    return f"person{number}@domain{number}.example"
