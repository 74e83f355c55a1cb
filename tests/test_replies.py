"""What a relay's answer means: whether the recipient is blamed, a domain, our haste, our account, or nobody."""

import pytest

from campaign.errors import DomainRefused, RelayBusy, RelayRefused, RelayUnreachable
from campaign.mailer.replies import Reply
from campaign.model import Outcome
from tests.fakes import Relay
from tests.mailing import LOGIN, MESSAGE, TO, mailer_to, send_one, verbs

AFTER_THE_SENDER = ["RCPT", "DATA", "dot"]

BLAMES_RECIPIENT = [
    "550 5.1.1 no such user",
    "550 5.1.2 no such domain",
    "550 5.1.10 RESOLVER.ADR.RecipientNotFound",
    "556 5.1.10 null MX",
    "550 5.2.1 mailbox disabled",
    "550 5.1.1 <throttle@example.com>: Recipient address rejected: User unknown in local recipient table",
    "550 5.1.1 ratelimit@server-busy.example: no such user",
    "550-5.1.1 The account does not exist.\n550 5.1.1 Learn more",
    "553 5.1.3: bad address",
    "550 5.1.0 Address rejected.",
]
DEFERS = [
    "450 4.2.0 <ann@example.com>: Recipient address rejected: Greylisted",
    "451 4.7.1 Greylisting in action, please come back later",
    "452 4.2.2 <ann@example.com> Quota exceeded (mailbox for user is full)",
    "452-4.2.2 The email account that you tried to reach is over quota. Please direct\n452 4.2.2 the recipient to",
    "450 4.2.1 The user you are trying to contact is receiving mail too quickly",
    "550-5.2.1 The user you are trying to contact is receiving mail at a rate that\n550 5.2.1 prevents additional messages",
    "550-5.2.1 The user you are trying to contact is receiving\n550 5.2.1 email too quickly",
    "432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded",
    "451 4.3.0 Temporary lookup failure",
    "421 4.3.2 Service not available",
    "421 4.7.0 Temporary System Problem.  Try again later.",
    "421 4.7.0 TLS required for RCPT domain, closing connection.",
    "452 4.5.3 Domain policy size per transaction exceeded, please try this recipient in a separate transaction",
    "450 4.1.8 <contracts@example.com>: Sender address rejected: Domain not found",
    "451 local error",
]
TOO_FAST = [
    "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information.",
    "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded",
    "421 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded",
    "450 4.2.1 Peak SMTP relay limit exceeded for customer. This is a temporary error.",
    "450-4.2.1 Peak SMTP\n450 4.2.1 relay limit exceeded",
    "421 4.7.0 Try again later, closing connection. (EHLO) x - gsmtp",
    "421-4.7.0 Try again later, closing connection.\n421 4.7.0 (HELO) x - gsmtp",
    "421 4.4.5 Server busy, try again later.",
    "452 4.4.5 Messages per second limit exceeded",
    "452 4.5.3 Your message has too many recipients.",
    "454 Throttling failure: Maximum sending rate exceeded.",
    "450 4.5.127 Message rejected. Excessive message rate from sender.",
    "421 Too many concurrent SMTP connections",
    "421 4.7.0 relay.example Error: too many connections from 192.0.2.1",
    "450 4.7.1 Error: too much mail from 192.0.2.1",
    "450 4.7.1 Error: too many recipients from 192.0.2.1",
    "451 4.7.500 Server busy. Please try again later from [192.0.2.1].",
    "550 5.7.1 Rate limit exceeded",
]
USED_UP = [
    "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message",
    "550 5.4.5 Daily user sending limit exceeded. For more information",
    "550 5.4.5 Daily SMTP relay limit exceeded for customer",
    "550-5.4.5 Daily user\n550 5.4.5 sending limit exceeded.",
    "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients",
    "550 5.7.232 Your message can't be sent because your trial tenant has exceeded its daily limit",
    "550 5.7.233 ... (tenant external recipient rate limit)",
    "454 Throttling failure: Daily message quota exceeded.",
    "452 4.5.3 Daily message limit exceeded",
    "421-4.7.28 Our system has detected an unusual rate of\n421 4.7.28 unsolicited mail, temporarily rate limited",
]
REFUSES_THE_DOMAIN = [
    "550 5.7.515 Access denied, sending domain EXAMPLE.COM does not meet the required authentication level",
    "550-5.7.26 This mail has been blocked because the\n550 5.7.26 sender is unauthenticated.",
    "550-5.7.30 This mail has been blocked because the sender is unauthenticated.\n550 5.7.30 DKIM = did not pass",
]
BLAMES_US = [
    "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded",
    "552 5.2.2 <ann@example.com> Quota exceeded (mailbox for user is full)",
    "550 5.7.30 Basic authentication is not supported for Client Submission",
    "550 5.7.68 TenantInboundAttribution; Direct Send not allowed for this organization",
    "554 5.7.60 SMTP; Client does not have permissions to send as this sender; SendAsDenied",
    "530 5.7.57 Client not authenticated to send mail",
    "535 5.7.3 Authentication unsuccessful",
    "550 5.1.7 bad sender's address syntax",
    "550 5.1.8 sender's domain does not exist",
    "550 5.1.8 Access denied, bad outbound sender AS(42004)",
    "550 5.1.0 <contracts@example.com>: Sender address rejected: User unknown in virtual mailbox table",
    "550 5.1.20 Multiple From addresses are not allowed without Sender address",
    "550 5.1.1.2 no code at all",
    "550 5.10.1 no such class",
    "550 5.2.10 not that one",
    "550 4.1.1 classes that contradict each other",
    "550 no such user 5.1.1",
    "550 no code",
    "550",
    "550-5.1.1 who?\n550 5.7.1 blocked",
    "552 5.3.4 too big",
    "554 5.7.1 Relay access denied",
    "554 5.7.1 Rejected by policy",
    "550 5.7.1 <daily@example.com>: not within your limit of trust",
    "554 Message rejected: Sending paused for this account. For more information, please check the inbox",
    "550 5.7.705 Access denied, tenant has exceeded threshold",
    "550 5.7.708 Access denied, traffic not accepted from this IP",
    "550-5.7.1 Invalid credentials for relay [192.0.2.1]. The IP address you've registered\n550 5.7.1 in your Workspace",
    "554 Message rejected: Email address is not verified. The following identities failed the check in region EU-WEST-1",
]


# --- Once the relay has taken the sender ------------------------------------------------------------------------------


@pytest.mark.promise(13)
@pytest.mark.parametrize("phase", AFTER_THE_SENDER)
@pytest.mark.parametrize(
    ("reply", "outcome"),
    [*((reply, Outcome.REJECTED) for reply in BLAMES_RECIPIENT), *((reply, Outcome.DEFERRED) for reply in DEFERS)],
)
def test_what_is_about_one_recipient_is_that_ones_alone(phase: str, reply: str, outcome: Outcome) -> None:
    with Relay().at(phase, reply, recipient=TO) as relay, mailer_to(relay) as mailer:
        delivery = send_one(mailer)
        next_one = send_one(mailer, "bob@example.com")

    assert (delivery.outcome, next_one.outcome) == (outcome, Outcome.ACCEPTED)
    assert delivery.reply.startswith(f"{reply[:3]} {reply[4:].partition(chr(10))[0]}")
    assert relay.connections == 2  # nothing follows a refusal over the same connection


@pytest.mark.promise(13)
@pytest.mark.parametrize("phase", AFTER_THE_SENDER)
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        *((reply, RelayBusy) for reply in TOO_FAST),
        *((reply, DomainRefused) for reply in REFUSES_THE_DOMAIN),
        *((reply, RelayRefused) for reply in [*USED_UP, *BLAMES_US]),
    ],
)
def test_what_is_about_us_is_charged_to_nobody(phase: str, reply: str, expected: type[RelayRefused]) -> None:
    with Relay().at(phase, reply, message=1) as relay, mailer_to(relay) as mailer:
        mailer.ready()
        with pytest.raises(RelayRefused) as refusal:
            mailer.send(MESSAGE, TO)
        again = send_one(mailer)

    assert type(refusal.value) is expected
    assert reply.partition("\n")[0][4:] in str(refusal.value)
    assert f"127.0.0.1:{relay.port} refused" in str(refusal.value)
    assert refusal.value.advice
    assert (again.outcome, len(relay.accepted), relay.connections) == (Outcome.ACCEPTED, 1, 2)


@pytest.mark.parametrize("reply", ["554 5.7.1 Rejected by policy", "454 Throttling failure: Maximum sending rate exceeded"])
def test_a_refusal_within_the_message_is_told_apart_too(reply: str) -> None:
    with Relay().at("body", reply) as relay, mailer_to(relay, timeout=5) as mailer:
        mailer.ready()
        with pytest.raises(RelayRefused, match="the message"):
            mailer.send(b"line\r\n" * 2_000_000, TO)

    assert relay.accepted == []


# --- At MAIL FROM -----------------------------------------------------------------------------------------------------


@pytest.mark.promise(13)
@pytest.mark.case(3)
@pytest.mark.parametrize("reply", [*BLAMES_RECIPIENT, *REFUSES_THE_DOMAIN, *USED_UP, *BLAMES_US])
def test_a_refusal_of_the_sender_never_blames_a_recipient_or_a_domain(reply: str) -> None:
    with Relay().at("MAIL", reply) as relay, mailer_to(relay) as mailer:
        mailer.ready()
        with pytest.raises(RelayRefused) as refusal:
            mailer.send(MESSAGE, TO)

    assert type(refusal.value) is RelayRefused
    assert TO not in refusal.value.advice
    assert verbs(relay).count("MAIL") == 1


@pytest.mark.parametrize("reply", TOO_FAST)
def test_a_relay_that_is_too_busy_for_the_next_message_is_not_asked_again_at_once(reply: str) -> None:
    with Relay().at("MAIL", reply, nth=2) as relay, mailer_to(relay) as mailer:
        send_one(mailer)
        mailer.ready()
        with pytest.raises(RelayBusy):
            mailer.send(MESSAGE, TO)

    assert relay.connections == 1


# --- Before any message -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["connect", "EHLO", "AUTH"])
@pytest.mark.parametrize(
    ("reply", "expected", "connections"),
    [
        *((reply, RelayBusy, 1) for reply in TOO_FAST),
        ("454 4.7.0 Too many login attempts, please try again later. - gsmtp", RelayBusy, 1),
        ("454 4.7.0 Temporary authentication failure", RelayUnreachable, 3),
        ("451 4.3.0 Temporary lookup failure", RelayUnreachable, 3),
        *((reply, RelayRefused, 1) for reply in USED_UP),
        ("554 5.7.1 go away", RelayRefused, 1),
        ("550 5.7.515 Access denied", RelayRefused, 1),
        ("550 5.1.1 who?", RelayRefused, 1),
    ],
)
def test_nothing_is_sent_where_the_relay_does_not_let_us_in(
    phase: str, reply: str, expected: type[Exception], connections: int
) -> None:
    with (
        Relay(login=LOGIN).at(phase, reply).at("HELO", reply) as relay,
        mailer_to(relay, username=LOGIN[0], password=lambda: LOGIN[1]) as mailer,
        pytest.raises(RelayRefused if expected is not RelayUnreachable else RelayUnreachable) as error,
    ):
        mailer.ready()

    assert type(error.value) is expected
    assert relay.connections == connections
    assert "MAIL" not in verbs(relay)


def test_a_relay_that_is_busy_when_it_is_reached_anew_has_not_had_the_message() -> None:
    with Relay() as relay, mailer_to(relay) as mailer:
        relay.at("MAIL", "421 4.7.0 Maximum message count per session reached", nth=2)
        relay.at("connect", "421 4.3.2 Concurrent connections limit exceeded", connection=2)
        send_one(mailer)
        mailer.ready()
        with pytest.raises(RelayBusy):
            mailer.send(MESSAGE, "bob@example.com")
        again = send_one(mailer, "bob@example.com")

    assert again.outcome is Outcome.ACCEPTED
    assert [message.recipient for message in relay.accepted] == [TO, "bob@example.com"]


# --- What a person is told --------------------------------------------------------------------------------------------

MICROSOFT = ["end of December 2026", "second half of 2027", 'auth = "microsoft"', "High Volume Email", "relay of your own"]
LOCKED = "user is locked by your organization's security defaults policy. Contact your administrator."
UNFIT = "the request did not meet the criteria to be authenticated successfully."
GOOGLE = ['auth = "google"', "app password", "smtp-relay.gmail.com"]


@pytest.mark.parametrize(
    ("code", "text", "told"),
    [
        (535, "5.7.139 Authentication unsuccessful, basic authentication is disabled.", MICROSOFT),
        (535, "5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.", MICROSOFT),
        (535, "5.7.139 Authentication unsuccessful, the user credentials were incorrect.", ["[mail.password]", *MICROSOFT]),
        (535, f"5.7.139 Authentication unsuccessful, {LOCKED}", ["security defaults", "Sign-in logs", *MICROSOFT]),
        (535, f"5.7.139 Authentication unsuccessful, {UNFIT}", ["Conditional Access", "Set-CASMailbox", *MICROSOFT]),
        (550, "5.7.30 Basic authentication is not supported for Client Submission", MICROSOFT),
        (535, "5.7.3 Authentication unsuccessful [XX]", ["[mail.password]", *MICROSOFT]),
        (534, "5.7.9 Application-specific password required", GOOGLE),
        (534, "5.7.14 Please log in via your web browser", GOOGLE),
        (535, "5.7.8 Username and Password not accepted. - gsmtp", ["[mail] username", *GOOGLE]),
        (535, "5.7.8 Error: authentication failed", ["[mail] username", "once only"]),
        (554, "5.2.252 SendAsDenied; contracts@example.com not allowed to send as x", ["Send As"]),
        (550, "5.7.60 SMTP; Client does not have permissions", ["Send As"]),
        (550, "5.7.68 TenantInboundAttribution; Direct Send not allowed", ["username"]),
        (550, "5.7.515 Access denied", ["SPF", "allowed_domains"]),
        (550, "5.4.5 Daily user sending limit exceeded", ["per_day"]),
        (554, "5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", ["per_day"]),
        (432, "4.3.2 Concurrent connections limit exceeded", ["per_minute", "connections"]),
        (554, "5.2.2 mailbox full", ["room", "Sent Items"]),
        (530, "5.7.0 Must issue a STARTTLS command first", ["security"]),
        (554, "5.7.1 <ann@example.com>: Relay access denied", ["allowed"]),
        (552, "5.3.4 Message size exceeds fixed limit", ["smaller"]),
        (550, "5.1.8 <contracts@example.com>: Sender address rejected: Domain not found", ["[mail] from"]),
        (554, "Message rejected: Email address is not verified.", ["verified in SES", "production access"]),
        (554, "Message rejected: Sending suspended for this account.", ["stopped", "Reputation metrics"]),
        (
            554,
            "Access denied: User `arn:aws:iam::1:user/x' is not authorized to perform `ses:SendRawEmail'",
            ["ses:SendRawEmail"],
        ),
        (550, "5.7.501 Access denied, spam abuse detected", ["Restricted entities"]),
        (550, "5.7.1 Invalid credentials for relay [192.0.2.1].", ["SMTP relay service", "helo_name"]),
        (421, "4.7.0 Try again later, closing connection. (EHLO) x - gsmtp", ["helo_name"]),
        (554, "5.7.1 Rejected by policy 15.4.5.2", ["whoever runs the relay"]),
    ],
)
def test_the_known_refusals_come_with_their_meaning_and_the_next_step(code: int, text: str, told: list[str]) -> None:
    meaning = Reply(code, text).meaning()

    assert [word for word in told if word not in f"{meaning.why}: {meaning.then}"] == []


@pytest.mark.parametrize("phase", AFTER_THE_SENDER)
@pytest.mark.parametrize("reply", ["554 5.7.1 Rejected by policy", "550 no such user here", "552 5.2.2 mailbox is full"])
def test_a_refusal_that_may_be_about_one_recipient_says_how_the_others_go_on(phase: str, reply: str) -> None:
    with Relay().at(phase, reply) as relay, mailer_to(relay) as mailer:
        mailer.ready()
        with pytest.raises(RelayRefused) as refusal:
            mailer.send(MESSAGE, "o'neil@example.com")

    assert " for o'neil@example.com: 55" in str(refusal.value)
    assert refusal.value.advice.endswith("""campaign suppress 'o'"'"'neil@example.com' --reason TEXT""")


@pytest.mark.parametrize(
    "reply",
    [
        "550 5.4.5 Daily sending quota exceeded",
        "550 5.7.60 SendAsDenied",
        "550 5.1.8 bad sender",
        "550 5.7.705 Access denied, tenant has exceeded threshold",
        "554 Message rejected: Sending paused for this account.",
    ],
)
def test_a_refusal_that_is_surely_about_us_names_no_recipient(reply: str) -> None:
    with Relay().at("RCPT", reply) as relay, mailer_to(relay) as mailer:
        mailer.ready()
        with pytest.raises(RelayRefused) as refusal:
            mailer.send(MESSAGE, TO)

    assert TO not in str(refusal.value) + refusal.value.advice


def test_a_refusal_of_a_domain_names_the_recipient_but_advises_no_suppression() -> None:
    with Relay().at("RCPT", "550 5.7.515 Access denied") as relay, mailer_to(relay) as mailer:
        mailer.ready()
        with pytest.raises(DomainRefused, match="RCPT TO for ann@example") as refusal:
            mailer.send(MESSAGE, TO)

    assert "suppress" not in refusal.value.advice
