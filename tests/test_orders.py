"""What an operator orders for one user or one message."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from campaign import orders
from campaign.errors import Busy, UsageError
from campaign.explaining import explain
from campaign.ledger import RunLock
from tests.world import FIRST_NIGHT, World, email, user_id


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A campaign whose first message to person 1 is of unknown fate, and whose second went well."""
    with World(tmp_path) as world:
        world.relay.at("dot", "drop", message=1)
        world.roster([1, 2])
        world.night(approve=2)
        yield world


def message_id(world: World) -> str:
    story = explain(world.config(), user_id(1))
    return next(event.detail.split(", ")[1].split(":")[0] for event in story.events if event.what == "unknown")


def test_whoever_is_suppressed_is_not_mailed_until_that_is_lifted(world: World) -> None:
    orders.suppress(world.config(), email(2), "asked by phone", None, world.now)
    world.days_pass(3)
    world.night()
    assert world.report()[user_id(2)]["reason"] == "suppressed"
    orders.unsuppress(world.config(), user_id(2), world.now)
    world.night()

    assert world.mailed() == [email(2), email(1), email(2)]


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

    assert "2026-11-23 02:00 UTC  ordered: not to be contacted (asked by phone)" in explain(world.config(), email(2)).as_text()


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
    with RunLock(config.lock_file), pytest.raises(Busy):
        orders.unsuppress(config, email(1), world.now)
