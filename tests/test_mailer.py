"""What became of a message, on which side of the final dot it failed, and whose fault it was."""

import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign.errors import ConfigError, RelayRefused, RelayUnreachable
from campaign.mailer import Mailer, Route
from campaign.model import Delivery, Outcome, printable
from tests.fakes import Relay
from tests.mailing import FROM, LOGIN, MESSAGE, TO, mailer_to, send_one, verbs
from tests.patience import PATIENCE, soon

MakeMailer = Callable[..., Mailer]


@pytest.fixture
def relay() -> Iterator[Relay]:
    with Relay() as running:
        yield running


@pytest.fixture
def make() -> Iterator[MakeMailer]:
    """Makes mailers with short times, which are closed in the end."""
    with ExitStack() as stack:

        def make_mailer(relay: Relay, **changes: Any) -> Mailer:
            return stack.enter_context(mailer_to(relay, **changes))

        yield make_mailer


# --- On which side of the final dot -----------------------------------------------------------------------------------

UNREADABLE = [
    "drop",
    "hang",
    "garbage",
    "drip",
    "endless",
    "flood",
    "199 hm",
    "666 what",
    "2x0 ok",
    "250-one\n251 two",
    "25",
]


def test_a_message_that_is_accepted_keeps_the_relays_words(relay: Relay, make: MakeMailer) -> None:
    relay.at("dot", "250-2.0.0 Ok\n250 2.0.0 queued as 4XYZ")

    assert send_one(make(relay)) == Delivery(Outcome.ACCEPTED, "250 2.0.0 Ok 2.0.0 queued as 4XYZ")
    (message,) = relay.accepted
    assert (message.envelope_from, message.recipient, message.data) == (FROM, TO, MESSAGE.decode())


@pytest.mark.promise(1)
@pytest.mark.case(4)
@pytest.mark.parametrize("phase", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("action", [*UNREADABLE, "450 4.2.0 later", "421 4.3.2 bye", "331 go on", "432 4.3.2 too many"])
def test_what_fails_before_the_dot_was_definitely_not_sent(relay: Relay, make: MakeMailer, phase: str, action: str) -> None:
    relay.at(phase, action)
    with soon():
        delivery = send_one(make(relay, timeout=0.2))

    assert delivery.outcome is Outcome.DEFERRED
    assert (relay.accepted, relay.connections) == ([], 1)


def test_a_yes_to_data_instead_of_go_ahead_sends_nothing(relay: Relay, make: MakeMailer) -> None:
    relay.at("DATA", "250 2.0.0 fine")

    assert send_one(make(relay)).outcome is Outcome.DEFERRED
    assert relay.accepted == []


@pytest.mark.parametrize("action", ["drop", "hang", "421 4.3.2 bye", "garbage", "endless"])
def test_what_fails_within_the_message_was_definitely_not_sent(relay: Relay, make: MakeMailer, action: str) -> None:
    relay.at("body", action)
    with soon():
        delivery = send_one(make(relay), data=LARGE)

    assert delivery.outcome is Outcome.DEFERRED


@pytest.mark.parametrize("early", ["250 2.0.0 queued", "354 go ahead"])
def test_a_relay_that_answers_before_the_dot_never_gets_the_dot(relay: Relay, make: MakeMailer, early: str) -> None:
    relay.at("DATA", f"354 go ahead\n{early}")

    assert send_one(make(relay)).outcome is Outcome.DEFERRED
    assert relay.accepted == []


LARGE = b"line\r\n" * 2_000_000  # more than the sockets hold: the answer is there long before the dot


@pytest.mark.parametrize(
    ("early", "outcome"),
    [
        ("250 2.0.0 queued", Outcome.DEFERRED),
        ("451 4.3.0 later", Outcome.DEFERRED),
        ("550 5.1.1 unknown", Outcome.REJECTED),
    ],
)
def test_a_relay_that_answers_within_the_message_never_gets_the_dot(
    relay: Relay, make: MakeMailer, early: str, outcome: Outcome
) -> None:
    relay.at("body", early)

    assert send_one(make(relay, timeout=5), data=LARGE) == Delivery(outcome, early)
    assert relay.accepted == []


@pytest.mark.promise(2)
@pytest.mark.parametrize("before", ["", "store "])
@pytest.mark.parametrize("action", [*UNREADABLE, "354 go on"])
def test_no_readable_answer_to_the_dot_is_unknown(relay: Relay, make: MakeMailer, before: str, action: str) -> None:
    relay.at("dot", before + action)
    with soon():
        delivery = send_one(make(relay, final_timeout=0.2))

    assert delivery.outcome is Outcome.UNKNOWN


@pytest.mark.promise(2)
def test_a_dot_that_cannot_be_written_is_unknown(relay: Relay, make: MakeMailer) -> None:
    class Breaks:
        def __init__(self, inner: socket.socket) -> None:
            self.inner = inner

        def send(self, data: bytes) -> int:
            if bytes(data) == b".\r\n":
                raise ConnectionResetError(104, "Connection reset by peer")
            return self.inner.send(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    mailer = make(relay)
    mailer.ready()
    connection = mailer._open_connection()
    inner = connection.sock.inner
    connection.sock.inner = Breaks(inner)
    delivery = mailer.send(MESSAGE, TO)
    inner.close()

    assert delivery == Delivery(Outcome.UNKNOWN, "no readable answer to the final dot: Connection reset by peer")


@pytest.mark.parametrize("reply", ["250 ok", "251 2.1.5 forwarded", "252 will try", "299 odd", "250"])
def test_any_2yz_to_the_dot_is_accepted(relay: Relay, make: MakeMailer, reply: str) -> None:
    relay.at("dot", reply)

    assert send_one(make(relay)) == Delivery(Outcome.ACCEPTED, reply)


@pytest.mark.parametrize("action", ["split", "delay 0.2"])
def test_a_slow_but_timely_answer_to_the_dot_counts(relay: Relay, make: MakeMailer, action: str) -> None:
    relay.at("dot", action)

    assert send_one(make(relay)).outcome is Outcome.ACCEPTED


def test_the_answer_to_the_dot_has_a_time_of_its_own(relay: Relay, make: MakeMailer) -> None:
    relay.at("dot", "delay 0.4")

    assert send_one(make(relay, timeout=0.2, final_timeout=5)).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("reply", ["451 4.3.0 try again", "421 4.3.2 bye"])
def test_a_4yz_to_the_dot_was_definitely_not_sent(relay: Relay, make: MakeMailer, reply: str) -> None:
    relay.at("dot", reply)

    assert send_one(make(relay)) == Delivery(Outcome.DEFERRED, reply)


def test_the_dot_goes_out_in_a_write_of_its_own(make: MakeMailer, authority: trustme.CA, ca_file: Path) -> None:
    with Relay(tls=server_context(authority)) as relay:
        send_one(make(relay, security="starttls", ca_file=ca_file))

    assert relay.accepted[0].last_piece == ".\r\n"


@pytest.mark.parametrize("trailing", ["421 4.3.2 bye", "250 2.0.0 and again"])
def test_what_follows_the_answer_changes_nothing_and_ends_the_connection(relay: Relay, make: MakeMailer, trailing: str) -> None:
    relay.at("dot", f"250 2.0.0 queued\n{trailing}", message=1)
    mailer = make(relay)

    assert [send_one(mailer).outcome, send_one(mailer).outcome] == [Outcome.ACCEPTED] * 2
    assert (len(relay.accepted), relay.connections) == (2, 2)


# --- Whose fault ------------------------------------------------------------------------------------------------------


def test_one_users_trouble_leaves_the_others_theirs(relay: Relay, make: MakeMailer) -> None:
    relay.at("RCPT", "450 4.2.0 greylisted", recipient="b@example.com")
    relay.at("RCPT", "550 5.1.1 unknown", recipient="c@example.com")
    mailer = make(relay)
    outcomes = [send_one(mailer, f"{name}@example.com").outcome for name in "abcd"]

    assert outcomes == [Outcome.ACCEPTED, Outcome.DEFERRED, Outcome.REJECTED, Outcome.ACCEPTED]
    assert [message.recipient for message in relay.accepted] == ["a@example.com", "d@example.com"]


def test_foreign_text_is_kept_printable_and_short(relay: Relay, make: MakeMailer) -> None:
    relay.at("dot", "250 \x1b[31m\x00\r x\x85 " + "y" * 900)
    delivery = send_one(make(relay))

    assert delivery.reply.startswith(r"250 \x1b[31m\x00\r x")
    assert delivery.reply.isprintable()
    assert len(delivery.reply) == 300


def test_bidi_and_zero_width_characters_are_escaped() -> None:
    assert printable("a\u202eb\u200bc\ud800") == r"a\u202eb\u200bc\ud800"


# --- What goes over the wire ------------------------------------------------------------------------------------------

LINES = st.lists(st.sampled_from([b"", b".", b"..", b". x", b"a.", b".\x00", b"From here", b"x" * 2000, "ü😀".encode()]))


@pytest.mark.case(11)
@given(lines=LINES, ended=st.booleans())
@settings(deadline=None, max_examples=60)
def test_every_message_arrives_as_it_was(running: tuple[Relay, Mailer], lines: list[bytes], *, ended: bool) -> None:
    relay, mailer = running
    data = b"\r\n".join(lines) + (b"\r\n" if ended else b"")
    outcome = send_one(mailer, data=data).outcome

    assert outcome is Outcome.ACCEPTED
    arrived = relay.accepted[-1].data.encode("latin-1")
    assert arrived == (data if data.endswith(b"\r\n") else data + b"\r\n")


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Relay, Mailer]]:
    with (
        Relay() as relay,
        Mailer(Route(host="127.0.0.1", port=relay.port, security="none", timeout=5, final_timeout=5), FROM) as mailer,
    ):
        yield relay, mailer


@pytest.mark.promise(11)
@pytest.mark.parametrize(
    "recipient", ["", "ann", "a b@example.com", "a@b\r\nRCPT TO:<c@d>", "<a@b>", "a@b>", "a@b c@d", "a@b\x00", "a@b\n", "a@"]
)
def test_a_recipient_that_could_add_another_is_refused_before_anything_is_sent(
    relay: Relay, make: MakeMailer, recipient: str
) -> None:
    mailer = make(relay)
    mailer.ready()
    with pytest.raises(ValueError, match="address"):
        mailer.send(MESSAGE, recipient)

    assert "MAIL" not in verbs(relay)


@pytest.mark.case(11)
@pytest.mark.parametrize("data", [b"a\nb\r\n", b"a\rb\r\n", b"a\n\rb\r\n", b"a\r\r\n", b"\n.\n", b"a\r\n\r", b"\n\r\r\n"])
def test_bare_line_ends_are_refused_before_anything_is_sent(relay: Relay, make: MakeMailer, data: bytes) -> None:
    mailer = make(relay)
    mailer.ready()
    with pytest.raises(ValueError, match="bare"):
        mailer.send(data, TO)

    assert "MAIL" not in verbs(relay)


@pytest.mark.promise(11)
def test_one_transaction_has_one_recipient_to_the_letter(relay: Relay, make: MakeMailer) -> None:
    send_one(make(relay), '"o,dd"+Tag@Example.COM')

    assert [line for _, line in relay.commands if line.startswith("RCPT")] == ['RCPT TO:<"o,dd"+Tag@Example.COM>']


def test_the_relay_learns_what_it_must_know_of_the_message(relay: Relay, make: MakeMailer) -> None:
    send_one(make(relay), "zoë@example.com", "Subject: ü\r\n\r\nü\r\n".encode())

    assert (False, f"MAIL FROM:<{FROM}> SIZE=19 BODY=8BITMIME SMTPUTF8") in relay.commands


def test_a_relay_that_can_is_asked_to_report_a_failure(make: MakeMailer) -> None:
    with Relay(offers=("SIZE", "DSN")) as relay:
        mailer = make(relay)
        mailer.ready()
        mailer.send(MESSAGE, TO, envelope_id="acme.1.0f@example.com")
        mailer.send(MESSAGE, TO)

    assert relay.accepted[0].parameters == "SIZE=29 RET=HDRS ENVID=acme.1.0f@example.com NOTIFY=FAILURE"
    assert relay.accepted[1].parameters == "SIZE=29 RET=HDRS NOTIFY=FAILURE"


def test_a_relay_that_cannot_report_is_not_asked_to(relay: Relay, make: MakeMailer) -> None:
    mailer = make(relay)
    mailer.ready()
    mailer.send(MESSAGE, TO, envelope_id="acme.1.0f@example.com")

    assert relay.accepted[0].parameters == "SIZE=29"


@pytest.mark.parametrize(
    ("envelope_id", "said"),
    [
        ("a+b=c", "ENVID=a+2Bb+3Dc"),
        ("two words", "ENVID=two+20words"),
        ("<m@x>", "ENVID=<m@x>"),
        ("x" * 100, f"ENVID={'x' * 100}"),
        ("x" * 101, ""),
        ("+" * 34, ""),  # it is the encoded form that relays measure
        ("zoë", ""),
        ("a\r\nRCPT TO:<x@y>", ""),
        ("a\x00", ""),
        ("", ""),
    ],
)
def test_an_envelope_id_is_said_as_xtext_or_not_at_all(make: MakeMailer, envelope_id: str, said: str) -> None:
    with Relay(offers=("DSN",)) as relay:
        mailer = make(relay)
        mailer.ready()
        mailer.send(MESSAGE, TO, envelope_id=envelope_id)

    assert relay.accepted[0].parameters.split() == ["RET=HDRS", *filter(None, [said]), "NOTIFY=FAILURE"]


def test_an_envelope_id_is_said_again_over_the_next_connection(make: MakeMailer) -> None:
    with Relay(offers=("DSN",)).at("MAIL", "421 4.7.0 Maximum message count per session reached", nth=2) as relay:
        mailer = make(relay)
        for envelope_id in ["one", "two"]:
            mailer.ready()
            mailer.send(MESSAGE, TO, envelope_id=envelope_id)

    assert [message.parameters.split()[1] for message in relay.accepted] == ["ENVID=one", "ENVID=two"]


@pytest.mark.parametrize(("offers", "eight_bit"), [(("8BITMIME",), True), (("SIZE",), False)])
def test_whether_the_relay_takes_eight_bits_is_known_once_it_was_reached(
    make: MakeMailer, offers: tuple[str, ...], *, eight_bit: bool
) -> None:
    with Relay(offers=offers) as relay:
        mailer = make(relay)
        before = mailer.eight_bit
        mailer.ready()

        assert (before, mailer.eight_bit) == (False, eight_bit)


@pytest.mark.case(14)
def test_a_relay_from_before_esmtp_gets_plain_ascii(make: MakeMailer) -> None:
    with Relay().at("EHLO", "502 5.5.1 what?") as relay:
        outcome = send_one(make(relay)).outcome

    assert outcome is Outcome.ACCEPTED
    assert (False, f"MAIL FROM:<{FROM}>") in relay.commands


@pytest.mark.case(14)
def test_eight_bit_text_is_not_given_to_a_relay_that_does_not_take_it(make: MakeMailer) -> None:
    with Relay(offers=("SIZE",)) as relay:
        mailer = make(relay)
        mailer.ready()
        with pytest.raises(RelayRefused, match="8BITMIME"):
            mailer.send("ü\r\n".encode(), TO)

    assert "MAIL" not in verbs(relay)


@pytest.mark.case(13)
def test_an_address_that_the_relay_cannot_take_is_that_users_trouble(make: MakeMailer) -> None:
    with Relay(offers=("8BITMIME",)) as relay:
        mailer = make(relay)
        outcomes = [send_one(mailer, "zoë@example.com").outcome, send_one(mailer).outcome]

    assert outcomes == [Outcome.REJECTED, Outcome.ACCEPTED]
    assert relay.connections == 1


def test_the_relay_is_greeted_without_asking_for_names(relay: Relay, make: MakeMailer, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_lookup(*_: object) -> str:
        raise AssertionError("asked for a name")

    monkeypatch.setattr(socket, "getfqdn", no_lookup)
    monkeypatch.setattr(socket, "gethostbyname", no_lookup)
    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    make(relay).ready()
    monkeypatch.setattr(socket, "gethostname", lambda: "box.example.com")
    make(relay).ready()

    assert [line.split()[1] for _, line in relay.commands if line.upper().startswith("EHLO")] == [
        "[127.0.0.1]",
        "box.example.com",
    ]


def test_a_relay_that_wants_another_name_is_greeted_by_it(relay: Relay, make: MakeMailer) -> None:
    make(relay, helo_name="server.example.com").ready()

    assert [line.upper() for _, line in relay.commands] == ["EHLO SERVER.EXAMPLE.COM"]


def test_the_words_before_any_conversation_are_checked() -> None:
    route = Route(host="127.0.0.1", port=1, security="none")
    for bad in ["", "a b@c", "a@b>", "ü@example.com"]:
        with pytest.raises(ValueError, match="envelope_from"):
            Mailer(route, bad)
    with pytest.raises(ValueError, match="ready"):
        Mailer(route, FROM).send(MESSAGE, TO)


# --- Transport --------------------------------------------------------------------------------------------------------


def server_context(authority: trustme.CA, *names: str, not_after: datetime | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("127.0.0.1", "localhost")), not_after=not_after).configure_cert(context)
    return context


def self_signed() -> ssl.SSLContext:
    stranger = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with stranger.private_key_pem.tempfile() as key, stranger.cert_pem.tempfile() as certificate:
        context.load_cert_chain(certificate, key)
    return context


FLAWED: dict[str, Callable[[trustme.CA], ssl.SSLContext]] = {
    "expired": lambda authority: server_context(authority, not_after=datetime.now(UTC) - timedelta(days=1)),
    "other name": lambda authority: server_context(authority, "relay.example.com"),
    "other authority": lambda _: server_context(trustme.CA()),
    "self-signed": lambda _: self_signed(),
}


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN", "LOGIN PLAIN CRAM-MD5 XOAUTH2"])
def test_signing_in_happens_under_tls(
    make: MakeMailer, authority: trustme.CA, ca_file: Path, security: str, mechanisms: str
) -> None:
    context = server_context(authority)
    with Relay(tls=context, implicit=security == "tls", login=LOGIN, mechanisms=mechanisms) as relay:
        mailer = make(relay, host="localhost", security=security, ca_file=ca_file, username=LOGIN[0], password=lambda: LOGIN[1])
        outcome = send_one(mailer).outcome

    assert outcome is Outcome.ACCEPTED
    assert (relay.auth_attempts, relay.auth_in_clear) == (1, False)


@pytest.mark.promise(15)
@pytest.mark.case(8)
@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("flaw", FLAWED)
def test_a_certificate_with_a_flaw_ends_it_before_anything_is_said(
    make: MakeMailer, authority: trustme.CA, ca_file: Path, security: str, flaw: str
) -> None:
    context = FLAWED[flaw](authority)
    with Relay(tls=context, implicit=security == "tls", login=LOGIN) as relay:
        mailer = make(relay, security=security, ca_file=ca_file, username=LOGIN[0], password=lambda: LOGIN[1])
        with pytest.raises(RelayUnreachable, match="certificate"):
            mailer.ready()

    assert not {"MAIL", "AUTH"} & set(verbs(relay))
    assert relay.connections == 1


@pytest.mark.promise(15)
def test_the_systems_authorities_do_not_vouch_for_a_private_one(make: MakeMailer, authority: trustme.CA) -> None:
    with Relay(tls=server_context(authority)) as relay, pytest.raises(RelayUnreachable, match="certificate"):
        make(relay, security="starttls").ready()


@pytest.mark.promise(15)
@pytest.mark.case(7)
@pytest.mark.parametrize("action", ["454 4.7.0 TLS not available", "554 5.7.3 no", "250 fine", "220 go\n250 injected", "drop"])
def test_without_tls_nothing_is_said_in_the_clear(make: MakeMailer, authority: trustme.CA, ca_file: Path, action: str) -> None:
    with Relay(tls=server_context(authority), login=LOGIN).at("STARTTLS", action) as relay:
        mailer = make(relay, security="starttls", ca_file=ca_file, username=LOGIN[0], password=lambda: LOGIN[1])
        with pytest.raises(RelayUnreachable):
            mailer.ready()

    assert not {"MAIL", "AUTH"} & set(verbs(relay))


def test_words_slipped_in_before_tls_are_taken_for_an_attack(make: MakeMailer, authority: trustme.CA, ca_file: Path) -> None:
    relay = Relay(tls=server_context(authority)).at("STARTTLS", "220 go\n250 injected")
    with relay, pytest.raises(RelayUnreachable, match="in the clear"):
        make(relay, security="starttls", ca_file=ca_file).ready()

    assert relay.connections == 1


@pytest.mark.promise(15)
@pytest.mark.case(7)
def test_a_relay_that_offers_no_starttls_is_not_used(make: MakeMailer) -> None:
    with Relay(login=LOGIN) as relay:
        mailer = make(relay, security="starttls", username=LOGIN[0], password=lambda: LOGIN[1])
        with pytest.raises(RelayUnreachable, match="STARTTLS"):
            mailer.ready()

    assert (relay.connections, set(verbs(relay))) == (1, {"EHLO"})


def test_what_was_offered_before_tls_is_forgotten(make: MakeMailer, authority: trustme.CA, ca_file: Path) -> None:
    context = server_context(authority)
    with Relay(tls=context, offers=("SIZE 1000",)) as relay:
        context.sni_callback = lambda *_: setattr(relay, "offers", ())  # from the handshake on
        send_one(make(relay, host="localhost", security="starttls", ca_file=ca_file))

    assert (True, f"MAIL FROM:<{FROM}>") in relay.commands


def test_a_handshake_that_hangs_ends_in_time(make: MakeMailer, authority: trustme.CA, ca_file: Path) -> None:
    with Relay(tls=server_context(authority), implicit=True).at("TLS", "hang") as relay:
        mailer = make(relay, security="tls", ca_file=ca_file, timeout=0.2)
        with soon(), pytest.raises(RelayUnreachable, match="timed out"):
            mailer.ready()


@pytest.mark.promise(15)
def test_without_tls_only_loopback_is_talked_to() -> None:
    with pytest.raises(ConfigError, match="loopback"):
        Mailer(Route(host="smtp.example.com", port=25, security="none"), FROM)


def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    for name in ["ca.pem", "absent.pem"]:
        with pytest.raises(ConfigError, match=name):
            Mailer(Route(host="localhost", port=25, security="tls", ca_file=tmp_path / name), FROM)


# --- Signing in -------------------------------------------------------------------------------------------------------


@pytest.mark.case(9)
@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN"])
def test_a_refused_password_is_tried_once_only(make: MakeMailer, mechanisms: str) -> None:
    with Relay(login=LOGIN, mechanisms=mechanisms) as relay:
        mailer = make(relay, username=LOGIN[0], password=lambda: "wrong")
        with pytest.raises(RelayRefused, match=r"535 5\.7\.8"):
            mailer.ready()

    assert (relay.connections, relay.auth_attempts) == (1, 1)


@pytest.mark.parametrize("action", ["535 5.7.3 no", "421 4.7.0 bye", "drop", "hang", "garbage", "334 VXNlcm5hbWU6", "endless"])
def test_a_password_that_may_have_been_judged_is_not_tried_again(make: MakeMailer, action: str) -> None:
    with Relay(login=LOGIN).at("AUTH", action) as relay:
        mailer = make(relay, username=LOGIN[0], password=lambda: LOGIN[1], timeout=0.2)
        with pytest.raises((RelayRefused, RelayUnreachable)):
            mailer.ready()

    assert (relay.connections, relay.auth_attempts) == (1, 1)


def test_a_relay_without_a_known_mechanism_is_told_apart(make: MakeMailer) -> None:
    with Relay(login=LOGIN, mechanisms="CRAM-MD5 XOAUTH2") as relay, pytest.raises(RelayRefused, match="CRAM-MD5 XOAUTH2"):
        make(relay, username=LOGIN[0], password=lambda: LOGIN[1]).ready()

    assert relay.auth_attempts == 0


SECRETS = ["pa$$wörd", "cGEkJHfDtnJk", "AGNvbnRyYWN0cwBwYSQkd8O2cmQ="]


@pytest.mark.promise(14)
@pytest.mark.parametrize("echo", ["535 5.7.8 no: {}", "235 {} fine", "2{}", "334 {}", "454-{}\n535 x"])
@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN"])
def test_a_relay_that_repeats_the_password_does_not_spread_it(make: MakeMailer, echo: str, mechanisms: str) -> None:
    repeated = " ".join(SECRETS).encode().decode("latin-1")
    with Relay(login=LOGIN, mechanisms=mechanisms).at("AUTH", echo.format(repeated)) as relay:
        relay.at("MAIL", f"550 5.7.60 {repeated}")
        mailer = make(relay, username=LOGIN[0], password=lambda: LOGIN[1], timeout=0.2)
        with pytest.raises((RelayRefused, RelayUnreachable)) as error:
            send_one(mailer)

    told = "".join(traceback.format_exception(error.value)) + repr(error.value) + repr(mailer) + repr(mailer._route)
    assert not [secret for secret in SECRETS if secret in told]


def test_a_relay_that_cannot_judge_a_password_just_now_is_asked_again(make: MakeMailer) -> None:
    with Relay(login=LOGIN).at("AUTH", "454 4.7.0 Temporary authentication failure", connection=1) as relay:
        outcome = send_one(make(relay, username=LOGIN[0], password=lambda: LOGIN[1])).outcome

    assert outcome is Outcome.ACCEPTED
    assert (relay.connections, relay.auth_attempts) == (2, 2)


def test_a_password_that_is_no_text_is_merely_wrong(make: MakeMailer) -> None:
    with Relay(login=LOGIN) as relay, pytest.raises(RelayRefused, match="535"):
        make(relay, username=LOGIN[0], password=lambda: "x\ud800\r\nRSET").ready()


# --- Getting and keeping a connection ---------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["connect", "EHLO"])
@pytest.mark.parametrize(
    "action", ["421 4.3.2 busy", "drop", "hang", "garbage", "endless", "flood", "drip", "331 x", "450-a\n451 b"]
)
def test_a_relay_in_trouble_is_tried_three_times_and_no_more(make: MakeMailer, phase: str, action: str) -> None:
    with Relay().at(phase, action) as relay, soon(), pytest.raises(RelayUnreachable, match=r"127\.0\.0\.1:") as error:
        make(relay, timeout=0.2).ready()

    assert relay.connections == 3
    assert f"127.0.0.1:{relay.port}" in str(error.value)
    assert error.value.advice


def test_a_relay_that_recovers_is_used(make: MakeMailer) -> None:
    with Relay().at("connect", "drop", connection=1).at("EHLO", "421 4.3.2 busy", connection=2) as relay:
        outcome = send_one(make(relay)).outcome

    assert outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("reply", ["554 5.3.2 no service", "521 never"])
def test_a_relay_that_refuses_the_connection_is_not_asked_again(make: MakeMailer, reply: str) -> None:
    with Relay().at("connect", reply) as relay, pytest.raises(RelayRefused, match=reply):
        make(relay).ready()

    assert relay.connections == 1


def test_nobody_there_and_no_such_host_are_said_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for host, security in [("127.0.0.1", "none"), ("relay.invalid", "tls"), ("a..b", "tls")]:
        route = Route(host=host, port=port, security="tls" if security == "tls" else "none")
        with pytest.raises(RelayUnreachable, match=f"{host}:{port} cannot be reached"):
            Mailer(route, FROM, back_off=(0, 0)).ready()


def test_being_stopped_cuts_the_pauses_short(make: MakeMailer) -> None:
    stop = threading.Event()
    timer = threading.Timer(0.1, stop.set)
    with Relay().at("connect", "421 4.3.2 busy") as relay:
        timer.start()
        with soon(), pytest.raises(RelayUnreachable):
            make(relay, back_off=(2 * PATIENCE,) * 2, stop=stop).ready()
    timer.join()

    assert relay.connections == 1


def test_a_clean_connection_carries_many_messages_and_is_then_renewed(relay: Relay, make: MakeMailer) -> None:
    mailer = make(relay, recycle_after=3)
    outcomes = {send_one(mailer).outcome for _ in range(7)}
    mailer.close()

    assert outcomes == {Outcome.ACCEPTED}
    assert (relay.connections, verbs(relay).count("QUIT"), verbs(relay).count("NOOP")) == (3, 3, 0)


def test_a_connection_that_was_idle_is_renewed(relay: Relay, make: MakeMailer) -> None:
    mailer = make(relay, idle=0.05)
    send_one(mailer)
    time.sleep(0.1)
    send_one(mailer)

    assert (relay.connections, verbs(relay).count("QUIT")) == (2, 1)


@pytest.mark.parametrize("action", ["drop", "421 4.4.2 timeout", "hang"])
def test_a_connection_that_died_in_silence_costs_nobody_a_night(
    relay: Relay, make: MakeMailer, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setattr("campaign.mailer._FRESH", 0)
    relay.at("NOOP", action, connection=1)
    mailer = make(relay, timeout=0.2)

    assert [send_one(mailer).outcome, send_one(mailer).outcome] == [Outcome.ACCEPTED] * 2
    assert relay.connections == 2


def test_a_connection_that_ended_before_its_first_message_is_noticed(relay: Relay, make: MakeMailer) -> None:
    relay.at("EHLO", "250 relay.test\n421 4.3.2 bye", connection=1)
    mailer = make(relay)
    mailer.ready()

    assert send_one(mailer).outcome is Outcome.ACCEPTED
    assert (relay.connections, verbs(relay).count("MAIL")) == (2, 1)


def test_a_mailer_may_change_hands_between_threads(relay: Relay, make: MakeMailer) -> None:
    mailer = make(relay)
    outcomes: list[Outcome] = []
    for n in range(3):
        worker = threading.Thread(target=lambda to: outcomes.append(send_one(mailer, to).outcome), args=[f"u{n}@example.com"])
        worker.start()
        worker.join()

    assert outcomes == [Outcome.ACCEPTED] * 3
    assert relay.connections == 1


def test_a_relay_that_hangs_up_after_each_message_costs_nobody_a_night(relay: Relay, make: MakeMailer) -> None:
    relay.at("dot", "store 250 2.0.0 queued\n421 4.7.0 bye")
    mailer = make(relay)
    outcomes = {send_one(mailer).outcome for _ in range(5)}

    assert outcomes == {Outcome.ACCEPTED}
    assert (len(relay.accepted), relay.connections) == (5, 5)


@pytest.mark.case(5)
@pytest.mark.parametrize("action", ["421 4.7.0 Maximum message count per session reached", "drop"])
def test_a_relay_that_ends_a_connection_after_five_messages_gets_all_of_them_once(
    relay: Relay, make: MakeMailer, action: str
) -> None:
    relay.at("MAIL", action, nth=6)
    mailer = make(relay)
    outcomes = {send_one(mailer, f"u{n}@example.com").outcome for n in range(12)}

    assert outcomes == {Outcome.ACCEPTED}
    assert [message.recipient for message in relay.accepted] == [f"u{n}@example.com" for n in range(12)]
    assert relay.connections == 3


def test_a_relay_that_is_gone_at_the_next_message_defers_it(make: MakeMailer) -> None:
    with Relay() as relay:
        relay.at("MAIL", "421 4.3.2 bye", nth=2).at("connect", "421 4.3.2 busy", connection=2)
        relay.at("connect", "421 4.3.2 busy", connection=3).at("connect", "421 4.3.2 busy", connection=4)
        mailer = make(relay)
        outcomes = [send_one(mailer).outcome, send_one(mailer).outcome]

    assert outcomes == [Outcome.ACCEPTED, Outcome.DEFERRED]
    assert relay.connections == 4


@pytest.mark.case(6)
def test_a_relay_that_defers_everybody_is_not_hammered(relay: Relay, make: MakeMailer) -> None:
    relay.at("RCPT", "452 4.3.1 out of space")
    mailer = make(relay)
    outcomes = [send_one(mailer).outcome for _ in range(3)]

    assert outcomes == [Outcome.DEFERRED] * 3
    assert relay.connections == 3


@pytest.mark.parametrize("action", ["hang", "garbage", "endless", "drop"])
def test_taking_leave_does_not_hold_up_the_end(relay: Relay, make: MakeMailer, action: str) -> None:
    relay.at("QUIT", action)
    mailer = make(relay, timeout=2 * PATIENCE, final_timeout=2 * PATIENCE)
    send_one(mailer)
    connection, mailer._connection = mailer._open_connection(), None
    with soon():
        connection.leave(seconds=0.2)


def test_an_interruption_from_outside_leaves_no_half_used_connection(relay: Relay, make: MakeMailer) -> None:
    class Interruption(Exception):
        pass

    mailer = make(relay)
    mailer.ready()
    connection = mailer._open_connection()

    def interrupt(*_: object) -> None:
        raise Interruption

    connection.sock.sendall = interrupt
    with pytest.raises(Interruption):
        mailer.send(MESSAGE, TO)

    assert connection.sock is None
    assert send_one(mailer).outcome is Outcome.ACCEPTED


def test_what_the_relay_takes_is_on_its_disk_before_it_answers(make: MakeMailer, tmp_path: Path) -> None:
    with Relay(log=tmp_path / "log").at("dot", "store drop") as relay:
        outcome = send_one(make(relay)).outcome

    assert outcome is Outcome.UNKNOWN
    assert Relay.logged(tmp_path / "log") == relay.accepted != []
