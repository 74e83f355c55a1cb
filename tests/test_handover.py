"""The hand-over over one connection and over several: what goes out, what stops it, and what the next night finds."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_string
from email.policy import default
from pathlib import Path

import pytest

from campaign import orders
from campaign.errors import ExitCode
from campaign.forgetting import forget
from campaign.given import Means
from campaign.model import Outcome
from campaign.nightly import run
from tests.fakes import Accepted, Relay
from tests.postgres_server import Keys
from tests.world import World, email, user_id


@pytest.fixture(params=[1, 4], ids=["one connection", "four connections"])
def world(request: pytest.FixtureRequest, tmp_path: Path, ledger_keys: Keys) -> Iterator[World]:
    with World(tmp_path, keys={"mail": {"connections": request.param}}, ledger=ledger_keys) as world:
        yield world


def message_ids(world: World) -> list[str]:
    return [message_from_string(message.data, policy=default)["Message-ID"] for message in world.relay.accepted]


def reasons(world: World) -> dict[str, int]:
    return dict(Counter(row["reason"] for row in world.report().values()))


@pytest.mark.promise(1)
def test_everybody_is_mailed_once(world: World) -> None:
    world.roster(range(40))
    night = world.night(approve=40)

    assert night.exit_code == ExitCode.DONE
    assert sorted(world.mailed()) == sorted(email(n) for n in range(40))
    assert len(set(message_ids(world))) == 40


def test_several_connections_are_used_at_once(tmp_path: Path) -> None:
    with World(tmp_path, keys={"mail": {"connections": 4}}) as world:
        world.relay.at("dot", "delay 0.2")
        world.roster(range(8))
        world.night(approve=8)

    assert world.relay.connections == 4
    assert len(world.relay.accepted) == 8


class Clocking(Relay):
    """Notes when it takes each message."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def take(self, message: Accepted) -> None:
        self.times.append(time.monotonic())
        super().take(message)


@pytest.mark.parametrize("connections", [1, 4])
def test_the_relay_itself_never_sees_more_in_a_second_than_a_sixtieth_of_a_minutes(tmp_path: Path, connections: int) -> None:
    relay = Clocking()
    relay.at("connect", "delay 0.5", connection=1).at("dot", "delay 0.6", message=1).at("dot", "delay 0.3", message=3)
    with World(tmp_path, relay=relay, keys={"mail": {"connections": connections, "per_minute": 120}}) as world:
        world.roster(range(6))
        night = world.night(approve=6)

    assert night.exit_code == ExitCode.DONE
    assert all(later - earlier >= 1 for earlier, later in zip(relay.times, relay.times[2:], strict=False))


def test_what_is_on_its_way_is_settled_when_the_relay_refuses_us(world: World) -> None:
    world.roster(range(12))
    world.relay.at("dot", "delay 0.1")
    world.relay.at("MAIL", "550 5.7.60 SendAsDenied", message=6)
    night = world.night(approve=12)
    accepted = len(world.relay.accepted)

    assert night.exit_code == ExitCode.REFUSED
    assert reasons(world) == {"sent": accepted, "relay_refused": 12 - accepted}
    assert accepted >= 5
    assert {delivery.outcome for delivery in night.deliveries} == {Outcome.ACCEPTED}


def test_a_night_after_a_refusal_takes_up_everybody_who_was_left(world: World) -> None:
    world.roster(range(12))
    world.relay.at("MAIL", "550 5.7.60 SendAsDenied", message=6)
    world.night(approve=12)
    world.days_pass(1)
    night = world.night()

    assert night.exit_code == ExitCode.DONE
    assert Counter(world.mailed()) == Counter(email(n) for n in range(12))


@pytest.mark.parametrize(
    ("phase", "reply"),
    [
        ("MAIL", "432 4.3.2 Concurrent connections limit exceeded"),
        ("RCPT", "450 4.2.1 Peak SMTP relay limit exceeded for customer"),
        ("dot", "454 Throttling failure: Maximum sending rate exceeded."),
    ],
)
def test_a_relay_that_wants_us_slower_gets_its_pause_and_then_the_same_message(world: World, phase: str, reply: str) -> None:
    world.roster(range(6))
    world.relay.at(phase, reply, message=3)
    night = world.night(approve=6)

    assert night.exit_code == ExitCode.DONE
    assert Counter(world.mailed()) == Counter(email(n) for n in range(6))
    assert {row["last_outcome"] for row in world.report().values()} == {"accepted"}


def test_a_relay_that_wants_fewer_connections_has_one_from_then_on(tmp_path: Path) -> None:
    relay = Clocking()
    relay.at("dot", "delay 0.3").at("MAIL", "432 4.3.2 Concurrent connections limit exceeded", message=4)
    with World(tmp_path, relay=relay, keys={"mail": {"connections": 4}}) as world:
        world.roster(range(9))
        night = world.night(approve=9)

    assert night.exit_code == ExitCode.DONE
    assert Counter(world.mailed()) == Counter(email(n) for n in range(9))
    # Three were on their way already. Each of the others waits for the answer to the one before.
    assert all(later - earlier >= 0.3 for earlier, later in zip(relay.times[3:], relay.times[4:], strict=False))


def test_a_relay_that_is_never_slow_enough_stops_the_run_and_blames_nobody(world: World) -> None:
    world.roster(range(6))
    world.relay.at("dot", "454 Throttling failure: Maximum sending rate exceeded.")
    night = world.night(approve=6)
    rows = world.report().values()

    assert night.exit_code == ExitCode.REFUSED
    assert {(row["reason"], row["messages"], row["last_outcome"]) for row in rows} == {("relay_refused", "0", "")}
    assert len(night.problems) == 1
    assert world.relay.messages <= 10  # no hot loop


def test_a_provider_that_refuses_us_costs_its_domain_alone(world: World) -> None:
    world.roster({"user_id": user_id(n), "email": f"person{n}@{'outlook.example' if n % 2 else 'example.com'}"} for n in range(8))
    for n in range(1, 8, 2):
        world.relay.at(
            "RCPT", "550 5.7.515 Access denied, no required authentication level", recipient=f"person{n}@outlook.example"
        )
    night = world.night(approve=8)
    rows = world.report()

    assert night.exit_code == ExitCode.REFUSED
    assert sorted(world.mailed()) == [f"person{n}@example.com" for n in range(0, 8, 2)]
    assert {rows[user_id(n)]["reason"] for n in range(1, 8, 2)} == {"relay_refused"}
    assert {rows[user_id(n)]["messages"] for n in range(1, 8, 2)} == {"0"}


def test_three_providers_that_refuse_us_stop_the_run(world: World) -> None:
    world.roster({"user_id": user_id(n), "email": f"person@domain{n}.example"} for n in range(8))
    world.relay.at("RCPT", "550 5.7.515 Access denied, no required authentication level")
    night = world.night(approve=8)

    assert night.exit_code == ExitCode.REFUSED
    assert world.relay.messages <= 3 + 3  # what was on its way already
    assert reasons(world) == {"relay_refused": 8}


def test_a_stop_settles_what_is_on_its_way_and_starts_nothing_more(world: World) -> None:
    world.roster(range(12))
    world.relay.at("dot", "delay 0.1")

    def stop(stage: str, done: int, _: int) -> None:
        if stage == "mailing" and done == 2:
            world.stop.ask(ExitCode.SIGTERM)

    night = run(world.config(), Means(world.clock, world.stop, {}, progress=stop), 12)
    sent = len(world.relay.accepted)

    assert night.exit_code == ExitCode.SIGTERM
    assert 2 <= sent <= 2 + 4
    assert reasons(world) == {"sent": sent, "stopped": 12 - sent}


@pytest.mark.parametrize(("phase", "answer"), [("RCPT", "450 4.2.0 later"), ("dot", "drop")])
def test_a_relay_that_takes_nothing_for_certain_is_left_alone_after_three(world: World, phase: str, answer: str) -> None:
    world.roster(range(12))
    world.relay.at(phase, answer)
    night = world.night(approve=12)

    assert night.exit_code == ExitCode.REFUSED
    assert 3 <= world.relay.messages <= 3 + 3  # what was on its way already


@pytest.mark.parametrize(("people", "code"), [(2, ExitCode.DONE), (3, ExitCode.REFUSED)])
def test_three_deferred_in_a_row_are_the_relays_doing_also_at_the_end(tmp_path: Path, people: int, code: ExitCode) -> None:
    with World(tmp_path) as world:
        world.relay.at("RCPT", "451 4.7.1 try again later")
        world.roster(range(people))
        night = world.night(approve=people)

    assert night.exit_code == code
    assert [delivery.outcome for delivery in night.deliveries] == [Outcome.DEFERRED] * people


@pytest.mark.parametrize(
    "reply",
    [
        "450 4.2.0 <ann@example.com>: Recipient address rejected: Greylisted, see http://postgrey.example/help",
        "451 4.7.1 Greylisting in action, please come back later",
        "451 Temporarily gray-listed",
    ],
)
def test_a_relay_that_greylists_everybody_has_everybody_the_next_night(world: World, reply: str) -> None:
    world.relay.at("RCPT", reply)
    world.roster(range(12))
    first = world.night(approve=12)
    world.relay.heal()
    world.days_pass(1)
    second = world.night()

    assert (first.exit_code, second.exit_code) == (ExitCode.DONE, ExitCode.DONE)
    assert [delivery.outcome for delivery in first.deliveries] == [Outcome.DEFERRED] * 12
    assert sorted(world.mailed()) == sorted(email(n) for n in range(12))


# --- the message to the manager


@dataclass(frozen=True, slots=True)
class Mail:
    recipient: str
    subject: str

    @classmethod
    def of(cls, world: World) -> list["Mail"]:
        found = [(m.recipient, message_from_string(m.data, policy=default)["Subject"]) for m in world.relay.accepted]
        return [cls(*one) for one in found]


@pytest.fixture
def led(tmp_path: Path) -> Iterator[World]:
    """Two people whose managers are told after two messages."""
    with World(tmp_path, keys={"policy": {"escalate_after": 2, "remind_after_days": [3, 3, 3]}}) as world:
        world.roster({"user_id": user_id(n), "email": email(n), "manager_email": f"boss{n}@example.com"} for n in (1, 2))
        world.night(approve=2)
        world.days_pass(3)
        world.night()
        world.relay.accepted.clear()
        yield world


@pytest.mark.parametrize("order", ["suppressed", "forgotten"])
def test_a_manager_who_is_not_to_be_contacted_is_not(led: World, order: str) -> None:
    led.roster(
        [
            {"user_id": user_id(1), "email": email(1), "manager_email": "Boss9@example.com"},
            {"user_id": user_id(9), "email": "boss9@example.com", "manager_email": ""},
        ]
    )
    led.night(approve=9)
    if order == "forgotten":
        forget(led.config(), user_id(9), led.now)
    else:
        orders.suppress(led.config(), user_id(9), "asked not to be", None, led.now)
    led.relay.accepted.clear()
    for _ in range(3):
        led.days_pass(3)
        led.night(approve=9)

    assert email(1) in led.mailed()
    assert not {"boss9@example.com", "Boss9@example.com"} & set(led.mailed())


def test_a_manager_is_told_of_two_unanswered_messages_once(led: World) -> None:
    led.consent(2)
    led.days_pass(3)
    night = led.night()
    first = Mail.of(led)
    for _ in range(3):
        led.days_pass(3)
        led.night()

    assert night.exit_code == ExitCode.DONE
    assert night.counts()["action"] == {"reminded": 1, "escalated": 1}
    assert [mail.recipient for mail in first] == [email(1), "boss1@example.com"]
    assert [mail.recipient for mail in Mail.of(led)] == [email(1), "boss1@example.com", email(1)]


def test_a_message_to_the_manager_is_none_to_the_user(led: World) -> None:
    led.days_pass(3)
    led.night()
    row = led.report()[user_id(1)]

    assert (row["messages"], row["action"], row["reason"]) == ("3", "reminded", "sent")


def test_a_manager_whose_address_is_refused_does_not_spoil_the_users(led: World) -> None:
    led.relay.at("RCPT", "550 5.1.1 no such user", recipient="boss1@example.com")
    led.days_pass(3)
    night = led.night()
    led.days_pass(3)
    led.night()

    assert night.exit_code == ExitCode.ATTENTION
    assert Counter(led.mailed()) == Counter({email(1): 2, email(2): 2, "boss2@example.com": 1})
    assert led.report()[user_id(1)]["reason"] == "sent"


def test_a_deferred_message_to_the_manager_is_the_same_on_the_next_night(led: World) -> None:
    led.relay.at("RCPT", "450 4.2.0 later", message=7)
    led.days_pass(3)
    led.night()
    led.days_pass(1)
    night = led.night()

    assert night.counts()["action"] == {"escalated": 1}
    assert {row["action"] for row in led.report().values()} == {"", "escalated"}
    assert sorted(led.mailed()) == sorted([email(1), email(2), "boss1@example.com", "boss2@example.com"])


def test_the_plan_names_the_manager_and_asks_approval_for_all(led: World) -> None:
    led.days_pass(3)
    plan = led.plan()

    assert plan.planned == 4
    assert [decision.recipient for decision in plan.escalations] == ["boss1@example.com", "boss2@example.com"]
