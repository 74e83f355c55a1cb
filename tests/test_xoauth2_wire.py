"""Signing in with an OAuth token: what goes over the wire, what a refusal says, and that the token is never told."""

import base64
import json
import traceback
from dataclasses import dataclass, field
from typing import Any

import pytest

from campaign.errors import ConfigError, RelayBusy, RelayRefused, RelayUnreachable
from campaign.mailer import Mailer
from campaign.mailer.replies import Reply
from campaign.model import Outcome
from tests.fakes import Relay
from tests.mailing import mailer_to, send_one, verbs

MAILBOX = "contracts@example.com"
TOKEN = "eyJ0eXAi.a/b+c_D-1~.c2ln=="
STALE = "eyJ0eXAi.stale/0.c2ln"


@dataclass
class Tokens:
    """Gives the first token until a fresh one is asked for, then the next."""

    ahead: list[str]
    asked: list[bool] = field(default_factory=list)

    def __call__(self, *, fresh: bool = False) -> str:
        self.asked.append(fresh)
        if fresh and len(self.ahead) > 1:
            del self.ahead[0]
        return self.ahead[0]


def relay_for(token: str = TOKEN, mechanisms: str = "PLAIN LOGIN XOAUTH2", **keys: Any) -> Relay:
    return Relay(login=(MAILBOX, token), mechanisms=mechanisms, **keys)


def mailer_with(relay: Relay, *tokens: str, **changes: Any) -> tuple[Mailer, Tokens]:
    source = Tokens([*tokens])
    return mailer_to(relay, username=MAILBOX, tokens=source, timeout=0.3, **changes), source


def told_by(error: BaseException, mailer: Mailer) -> str:
    advice = getattr(error, "advice", "")
    return "".join(traceback.format_exception(error)) + repr(error) + advice + repr(mailer) + repr(mailer._route)


def attempt(mailer: Mailer) -> str:
    try:
        return repr(send_one(mailer))
    except (RelayRefused, RelayUnreachable) as error:
        return told_by(error, mailer)


# --- A token that is taken --------------------------------------------------------------------------------------------


def test_a_good_token_signs_in_with_one_command() -> None:
    with relay_for() as relay:
        mailer, tokens = mailer_with(relay, TOKEN)
        with mailer:
            outcome = send_one(mailer).outcome

    initial = base64.b64encode(f"user={MAILBOX}\x01auth=Bearer {TOKEN}\x01\x01".encode()).decode()
    assert outcome is Outcome.ACCEPTED
    assert [line for _, line in relay.commands if line.startswith("AUTH")] == [f"AUTH XOAUTH2 {initial}"]
    assert tokens.asked == [False]


def test_each_connection_asks_for_a_token_of_its_own() -> None:
    with relay_for() as relay:
        mailer, tokens = mailer_with(relay, TOKEN, recycle_after=1)
        with mailer:
            outcomes = [send_one(mailer).outcome for _ in range(3)]

    assert outcomes == [Outcome.ACCEPTED] * 3
    assert tokens.asked == [False] * 3


@pytest.mark.parametrize("challenge", ["", "535 5.7.3 Authentication unsuccessful"])
def test_a_token_that_is_not_taken_is_exchanged_once_for_a_fresh_one(challenge: str) -> None:
    with relay_for() as relay:
        if challenge:
            relay.at("challenge", challenge)
        mailer, tokens = mailer_with(relay, STALE, TOKEN)
        with mailer:
            outcome = send_one(mailer).outcome

    assert outcome is Outcome.ACCEPTED
    assert tokens.asked == [False, True]
    assert (relay.connections, relay.auth_attempts) == (2, 2)


@pytest.mark.case(10)
def test_a_token_that_runs_out_during_the_night_costs_nobody_a_message() -> None:
    with relay_for(STALE) as relay:
        mailer, tokens = mailer_with(relay, STALE, TOKEN, recycle_after=1)
        with mailer:
            first = send_one(mailer).outcome
            relay.login = (MAILBOX, TOKEN)
            second = send_one(mailer).outcome

    assert [first, second] == [Outcome.ACCEPTED] * 2
    assert tokens.asked == [False, False, True]


# --- A token that is not ----------------------------------------------------------------------------------------------


def test_a_token_that_is_refused_twice_stops_with_what_the_relay_said() -> None:
    with relay_for() as relay:
        mailer, tokens = mailer_with(relay, STALE)
        with mailer, pytest.raises(RelayRefused) as refusal:
            mailer.ready()

    assert "refused AUTH: 535 5.7.3 Authentication unsuccessful; {" in str(refusal.value)
    assert '"status":"400"' in str(refusal.value)
    assert "Enterprise application" in refusal.value.advice
    assert tokens.asked == [False, True]
    assert verbs(relay) == ["EHLO", "AUTH", "(AN"] * 2  # the empty line


@pytest.mark.parametrize("action", ["drop", "hang", "garbage", "421 4.7.0 too many errors", "334 ", "454 4.7.0 later"])
def test_a_relay_that_ends_the_conversation_after_its_explanation_does_not_take_that_along(action: str) -> None:
    with relay_for().at("refusal", action) as relay:
        mailer, _ = mailer_with(relay, STALE)
        with mailer, pytest.raises(RelayRefused) as refusal:
            mailer.ready()

    assert '"status":"400"' in str(refusal.value)
    assert refusal.value.advice
    assert (relay.connections, relay.auth_attempts) == (2, 2)


@pytest.mark.parametrize("action", ["drop", "hang", "421 4.3.2 busy"])
def test_a_relay_that_is_gone_before_the_fresh_token_has_explained_itself_already(action: str) -> None:
    with relay_for().at("connect", action, connection=2) as relay:
        mailer, tokens = mailer_with(relay, STALE, TOKEN)
        with mailer, pytest.raises(RelayRefused, match='"status":"400"'):
            mailer.ready()

    assert (relay.connections, tokens.asked) == (2, [False])


@pytest.mark.parametrize(
    ("challenge", "shown"),
    [
        (base64.b64encode(b"not\x1b[31m allowed \xff").decode(), r"; not\x1b[31m allowed \xff ("),
        ("plain words, no base64", "; plain words, no base64 ("),
        ("", "unsuccessful ("),
        (base64.b64encode(b"[" * 20_000).decode()[:20_000], "[[["),
    ],
)
def test_whatever_the_explanation_is_it_is_shown_printable_and_short(challenge: str, shown: str) -> None:
    with relay_for().at("challenge", f"334 {challenge}") as relay:
        mailer, _ = mailer_with(relay, STALE)
        with mailer, pytest.raises(RelayRefused) as refusal:
            mailer.ready()

    assert shown in str(refusal.value)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN OAUTHBEARER"])
def test_a_relay_without_xoauth2_gets_no_token(mechanisms: str) -> None:
    with relay_for(mechanisms=mechanisms) as relay:
        mailer, tokens = mailer_with(relay, TOKEN)
        with mailer, pytest.raises(RelayRefused, match=f"no AUTH XOAUTH2; what it offers: {mechanisms}"):
            mailer.ready()

    assert (relay.auth_attempts, tokens.asked, relay.connections) == (0, [], 1)


@pytest.mark.parametrize(
    ("reply", "expected"), [("501 5.5.124 Invalid XOAUTH2 auth data", RelayRefused), ("504 5.7.4 no", RelayRefused)]
)
def test_a_refusal_of_the_command_is_not_the_tokens_fault(reply: str, expected: type[Exception]) -> None:
    with relay_for().at("AUTH", reply) as relay:
        mailer, tokens = mailer_with(relay, TOKEN)
        with mailer, pytest.raises(expected, match=reply):
            mailer.ready()

    assert (relay.connections, tokens.asked) == (1, [False])


@pytest.mark.parametrize("action", ["drop", "hang", "garbage", "454 4.7.0 Temporary authentication failure", "421 4.3.2 bye"])
def test_a_relay_in_trouble_is_asked_three_times_with_the_same_token(action: str) -> None:
    with relay_for().at("AUTH", action) as relay:
        mailer, tokens = mailer_with(relay, TOKEN)
        with mailer, pytest.raises(RelayUnreachable):
            mailer.ready()

    assert (relay.connections, tokens.asked) == (3, [False] * 3)


@pytest.mark.parametrize("phase", ["AUTH", "refusal"])
def test_too_many_sign_ins_are_no_refusal_of_the_token(phase: str) -> None:
    with relay_for().at(phase, "454 4.7.0 Too many login attempts, please try again later.") as relay:
        mailer, tokens = mailer_with(relay, STALE)
        with mailer, pytest.raises(RelayBusy):
            mailer.ready()

    assert (relay.connections, tokens.asked) == (1, [False])


@pytest.mark.parametrize("error", [ConfigError("no key", "a"), RelayRefused("no app", "b"), RelayUnreachable("no server", "c")])
def test_where_there_is_no_token_to_be_had_its_source_says_why(error: Exception) -> None:
    def no_token(*, fresh: bool = False) -> str:
        raise type(error)(f"{error} {fresh}")

    with (
        relay_for() as relay,
        mailer_to(relay, username=MAILBOX, tokens=no_token) as mailer,
        pytest.raises(type(error), match=f"{error} False"),
    ):
        mailer.ready()

    assert (relay.connections, relay.auth_attempts) == (1, 0)


@pytest.mark.parametrize(
    ("code", "text", "told"),
    [
        (535, "5.7.3 Authentication unsuccessful", ["Enterprise application", "FullAccess", "SMTP AUTH"]),
        (535, "5.7.139 SmtpClientAuthentication is disabled for the Mailbox", ["Set-CASMailbox"]),
        (535, "5.7.139 Authentication unsuccessful, the user credentials were incorrect.", ["Enterprise application"]),
        (535, "5.7.139 Authentication unsuccessful, user is locked by … security defaults policy", ["Sign-in logs"]),
        (535, "5.7.8 Username and Password not accepted. - gsmtp", ["https://mail.google.com/", "username"]),
        (334, '{"status":"401"}', ["username"]),
    ],
)
def test_a_refused_token_is_explained_otherwise_than_a_password(code: int, text: str, told: list[str]) -> None:
    meaning = Reply(code, text).meaning(token=True)

    assert [word for word in told if word not in meaning.then] == []
    assert "password" not in meaning.why + meaning.then


# --- The token is told to nobody --------------------------------------------------------------------------------------

INITIAL = base64.b64encode(f"user={MAILBOX}\x01auth=Bearer {TOKEN}\x01\x01".encode()).decode()
SECRETS = [TOKEN, INITIAL, base64.b64encode(TOKEN.encode()).decode()]
ECHOES = [*SECRETS, json.dumps({"token": TOKEN}).replace("/", "\\/")]


@pytest.mark.promise(14)
@pytest.mark.parametrize("phase", ["AUTH", "challenge", "refusal", "MAIL", "dot"])
@pytest.mark.parametrize("echo", ["535 5.7.3 no: {}", "235 {} fine", "2{}", "334 {}", "454-{}\n535 x", "501 5.5.2 what is {}?"])
@pytest.mark.parametrize("secret", SECRETS)
def test_a_relay_that_repeats_the_token_does_not_spread_it(phase: str, echo: str, secret: str) -> None:
    with relay_for(TOKEN if phase in {"MAIL", "dot"} else "another").at(phase, echo.format(secret)) as relay:
        mailer, _ = mailer_with(relay, TOKEN, final_timeout=0.2)
        with mailer:
            told = attempt(mailer)

    assert [each for each in SECRETS if each in told] == []


@pytest.mark.parametrize("echo", ECHOES)
def test_an_explanation_that_repeats_the_token_does_not_spread_it(echo: str) -> None:
    challenge = base64.b64encode(f"bad: {echo}".encode()).decode()
    with relay_for("another").at("challenge", f"334 {challenge}") as relay:
        mailer, _ = mailer_with(relay, TOKEN)
        with mailer, pytest.raises(RelayRefused, match=r"\*\*\*") as error:
            mailer.ready()

    told = told_by(error.value, mailer)
    assert [each for each in [*SECRETS, challenge] if each in told] == []
