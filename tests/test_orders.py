"""What an operator orders for one user or one message."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from campaign import orders
from campaign.errors import Busy, RosterError, UsageError
from campaign.explaining import explain
from campaign.forgetting import forget
from campaign.ledger import hold
from tests.commands import command
from tests.postgres_server import Keys, in_a_file
from tests.world import FIRST_NIGHT, World, email, user_id


@pytest.fixture
def world(tmp_path: Path, ledger_keys: Keys) -> Iterator[World]:
    """A campaign whose first message to person 1 is of unknown fate, and whose second went well."""
    with World(tmp_path, ledger=ledger_keys) as world:
        world.relay.at("dot", "drop", message=1)
        world.roster([1, 2])
        world.night(approve=2)
        yield world


def message_id(world: World) -> str:
    story = explain(world.config(), user_id(1), world.now)
    return next(event.detail.split(", ")[1].split(":")[0] for event in story.events if event.what == "unknown")


def test_whoever_is_suppressed_is_not_mailed_until_that_is_lifted(world: World) -> None:
    orders.suppress(world.config(), email(2), "asked by phone", None, world.now)
    world.days_pass(3)
    world.night()
    assert world.report()[user_id(2)]["reason"] == "suppressed"
    orders.unsuppress(world.config(), user_id(2), world.now)
    world.night()

    assert world.mailed() == [email(2), email(1), email(2)]


@pytest.mark.case(2)
def test_whose_address_was_refused_is_mailed_again_by_order(world: World) -> None:
    world.relay.at("RCPT", "550 5.1.1 no such user", recipient=email(2))
    world.days_pass(3)
    world.night()
    world.relay.heal()
    assert world.report()[user_id(2)]["reason"] == "undeliverable"
    orders.unsuppress(world.config(), user_id(2), world.now)
    world.days_pass(7)
    world.night()

    assert world.report()[user_id(2)]["reason"] == "sent"


def test_a_suppression_may_end_by_itself(world: World) -> None:
    orders.suppress(world.config(), email(2), "on leave", FIRST_NIGHT + timedelta(days=5), world.now)
    world.days_pass(4)
    world.night()
    before = len(world.mailed())
    world.days_pass(1)
    world.night()

    assert world.mailed()[before:] == [email(2)]


def test_orders_stand_in_the_users_story_with_reason_and_time(world: World) -> None:
    orders.suppress(world.config(), email(2), "asked by phone", None, world.now)
    world.days_pass(1)
    orders.suppress(world.config(), email(2), "on leave", FIRST_NIGHT + timedelta(days=30), world.now)
    world.days_pass(1)
    orders.unsuppress(world.config(), email(2), world.now, "back at work")
    world.days_pass(1)
    orders.resolve(world.config(), message_id(world), arrived=True, now=world.now, reason="seen in the log")

    assert events(world, 2)[-3:] == [
        ("23 02:00", "suppressed", "asked by phone"),
        ("24 02:00", "suppressed", "on leave, until 2026-12-23"),
        ("25 02:00", "unsuppressed", "back at work"),
    ]
    day, what, detail = events(world, 1)[-1]
    assert (day, what) == ("26 02:00", "arrived")
    assert detail.endswith("@example.com>: seen in the log")


def events(world: World, person: int) -> list[tuple[str, str, str]]:
    story = explain(world.config(), user_id(person), world.now)
    return [(f"{event.at:%d %H:%M}", event.what, event.detail) for event in story.events]


def row(person: int, address: str = "") -> dict[str, str]:
    return {"user_id": user_id(person), "email": address or email(person)}


def test_of_two_orders_the_last_one_counts(world: World) -> None:
    orders.suppress(world.config(), email(2), "asked by phone", None, world.now)
    orders.suppress(world.config(), email(2), "on leave", FIRST_NIGHT + timedelta(days=4), world.now)
    world.days_pass(4)
    world.night()

    assert world.mailed().count(email(2)) == 2


def test_an_order_that_ends_in_the_past_is_refused(world: World) -> None:
    for until in (world.now, world.now - timedelta(days=1)):
        with pytest.raises(UsageError, match="is past"):
            orders.suppress(world.config(), email(2), "why", until, world.now)

    assert explain(world.config(), email(2), world.now).standing.suppressed == ""


def test_the_board_can_be_left_out_before_the_first_night(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.roster([1, 2, 3])
        orders.suppress(world.config(), email(1), "the board", None, world.now)
        orders.suppress(world.config(), user_id(2).upper(), "the board, too", None, world.now)
        night = world.night(approve=1)

        assert (night.exit_code, world.mailed()) == (0, [email(3)])
        assert [event.what for event in explain(world.config(), user_id(3), world.now).events][:1] == ["joined"]
        assert [what for _, what, _ in events(world, 1)] == ["joined", "suppressed", "consent_required"]


def test_a_new_user_behind_a_known_address_makes_it_ambiguous(world: World) -> None:
    world.roster([row(1), row(2), row(3, email(2))])

    with pytest.raises(UsageError, match=f"{user_id(2)}, {user_id(3)}"):
        orders.suppress(world.config(), email(2), "why", None, world.now)


def test_an_order_follows_an_address_that_is_new_in_the_roster(world: World) -> None:
    world.roster([row(1), row(2, "new@example.com")])
    ordered = orders.suppress(world.config(), "new@example.com", "why", None, world.now)

    assert ordered == user_id(2)
    assert [what for _, what, _ in events(world, 2)][-2:] == ["address changed", "suppressed"]
    assert [what for _, what, _ in events(world, 1)].count("left") == 0


def test_an_order_about_a_known_user_needs_no_roster(world: World) -> None:
    (world.folder / "roster.csv").unlink()

    assert orders.suppress(world.config(), email(2), "why", None, world.now) == user_id(2)
    with pytest.raises(RosterError):
        orders.suppress(world.config(), email(9), "why", None, world.now)


def test_who_was_forgotten_is_called_what_the_operator_typed(world: World) -> None:
    forget(world.config(), email(2), world.now)

    assert orders.suppress(world.config(), email(2), "why", None, world.now) == email(2)
    assert orders.unsuppress(world.config(), email(2).upper(), world.now) == email(2).upper()


@in_a_file
def test_an_order_about_a_forgotten_user_writes_the_user_id_nowhere(world: World) -> None:
    forget(world.config(), email(2), world.now)
    world.roster([row(1), row(2, "new@example.com")])
    for user in (user_id(2), "new@example.com"):
        assert orders.suppress(world.config(), user, "why", None, world.now) == user

    assert user_id(2).encode() not in (world.folder / "ledger.sqlite3").read_bytes()


@pytest.mark.parametrize("flags", [[], ["--arrived", "--lost"]])
def test_what_became_of_a_message_is_one_of_two_things(world: World, flags: list[str]) -> None:
    config = world.folder / "campaign.toml"
    refused = command("resolve", message_id(world), *flags, "--config", config)

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "give one of --arrived and --lost" in refused.stderr
    assert explain(world.config(), user_id(1), world.now).standing.last_outcome == "unknown"


def test_orders_are_confirmed_to_scripts(world: World) -> None:
    def said(*arguments: str) -> dict[str, object]:
        done = command(*arguments, "--json", "--config", world.folder / "campaign.toml")
        assert (done.exit_code, done.stderr) == (0, "")
        content: dict[str, object] = json.loads(done.stdout)
        return content

    unsettled = message_id(world)
    told = {"user_id": user_id(2), "suppressed": "on leave", "until": "2100-01-01T00:00:00Z"}
    assert said("suppress", email(2), "--reason", "on leave", "--until", "2100-01-01") == told
    assert said("unsuppress", email(2), "--reason", "back") == {"user_id": user_id(2), "reason": "back"}
    assert said("resolve", unsettled, "--lost") == {"message_id": unsettled, "arrived": False, "reason": ""}
    assert said("adopt")["adopted"] is False


def test_the_last_day_of_an_order_is_one_at_the_campaigns_place(world: World) -> None:
    world.keys = {"policy": {"timezone": "America/New_York"}}
    world.config()
    done = command(
        *("suppress", email(2), "--reason", "x", "--until", "2100-07-01", "--json", "--config", world.folder / "campaign.toml")
    )

    assert json.loads(done.stdout)["until"] == "2100-07-01T04:00:00Z"
    assert events(world, 2)[-1][2] == "x, until 2100-07-01"


def test_a_message_that_was_lost_is_tried_again_in_its_slot(world: World) -> None:
    lost = message_id(world)
    orders.resolve(world.config(), lost.strip("<>"), arrived=False, now=world.now)
    world.days_pass()
    world.night()

    assert world.mailed() == [email(2), email(1)]
    assert lost in world.relay.accepted[-1].data


def test_a_message_that_arrived_counts_as_sent(world: World) -> None:
    orders.resolve(world.config(), message_id(world), arrived=True, now=world.now)
    world.days_pass()
    world.night()

    assert world.mailed() == [email(2)]
    assert world.report()[user_id(1)]["last_outcome"] == "accepted"


def test_what_is_settled_is_not_settled_again(world: World) -> None:
    orders.resolve(world.config(), message_id(world), arrived=True, now=world.now)

    with pytest.raises(UsageError, match="of unknown fate"):
        orders.resolve(world.config(), message_id(world), arrived=False, now=world.now)


def test_orders_need_a_known_user_a_reason_and_no_run_in_between(world: World) -> None:
    config = world.config()
    with pytest.raises(UsageError, match="no user"):
        orders.suppress(config, "nobody@example.com", "why", None, world.now)
    with pytest.raises(UsageError, match="reason"):
        orders.suppress(config, email(1), " ", None, world.now)
    with hold(config), pytest.raises(Busy):
        orders.unsuppress(config, email(1), world.now)
