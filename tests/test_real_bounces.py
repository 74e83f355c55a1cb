"""Bounces as Postfix writes them when the next server refuses a message of ours, read back from Dovecot and from its maildir."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from campaign.ledger import read_ledger
from campaign.returning import Returned, take_back
from tests.mail_stack import DEAD, LATER, SENDER, MailStack, SmtpSink, needs_mail_stack, token
from tests.token_server import TokenServer
from tests.world import World, email, user_id

pytestmark = [pytest.mark.postfix, needs_mail_stack]

ADA, EVE = f"ada@{DEAD}", f"eve@{LATER}"
BY_IMAP, BY_MAILDIR = "imap", "maildir"


@pytest.fixture
def returning(mail_stack: MailStack) -> Iterator[MailStack]:
    """The stack, and behind it a server that knows nobody and one that never has time."""
    with ExitStack() as stack:
        stack.enter_context(SmtpSink("-f", "RCPT", "-B", "550 5.1.1 no such user here", port=mail_stack.onward[0]))
        stack.enter_context(SmtpSink("-r", "RCPT", "-b", "450 4.7.1 try again later", port=mail_stack.onward[1]))
        yield mail_stack


def world_of(stack: MailStack, folder: Path) -> World:
    """A world that goes by the stack's clock."""
    return World(folder, keys=stack.keys(folder), now=datetime.now(UTC))


def roster(world: World, *addresses: str) -> None:
    """Write the roster: people by their addresses, numbered from 0."""
    world.roster({"user_id": user_id(number), "email": address} for number, address in enumerate(addresses))


def read(world: World, stack: MailStack, way: str) -> Returned:
    """Read SENDER's mailbox in one of both ways."""
    url = f"imap://127.0.0.1:{stack.imap_port}/INBOX"
    maildir, imap = (stack.returned, None) if way == BY_MAILDIR else (None, url)
    return take_back(world.config(), {}, maildir=maildir, imap=imap, approved=None, now=world.now)


def events(world: World, number: int) -> list[str]:
    """What the ledger says has happened to somebody."""
    with read_ledger(world.config()) as ledger:
        assert ledger
        return [event.what for event in ledger.events(user_id(number))]


@pytest.mark.parametrize("way", [BY_MAILDIR, BY_IMAP])
def test_a_real_bounce_keeps_its_address_from_being_mailed_until_the_roster_has_another(
    returning: MailStack, tmp_path: Path, way: str
) -> None:
    with world_of(returning, tmp_path) as world:
        roster(world, ADA, email(1))
        world.night(approve=2)
        returning.bounces(1)
        files = sorted(path.relative_to(returning.returned) for path in returning.returned.glob("*/*"))
        first, second = read(world, returning, way), read(world, returning, way)
        untouched = files == sorted(path.relative_to(returning.returned) for path in returning.returned.glob("*/*"))
        world.days_pass(3)
        world.night(approve=2)
        rows, mailed_again = world.report(), [message.recipient for message in returning.arrived()]
        roster(world, "ada@example.com", email(1))
        world.days_pass(1)
        world.night(approve=2)

    assert [(bounce.letter.address, bounce.code, bounce.blames_user) for bounce in first.new] == [(ADA, "5.1.1", True)]
    assert "no such user here" in first.new[0].detail
    assert (second.new, second.known) == ((), 1)
    assert untouched
    assert (rows[user_id(0)]["reason"], rows[user_id(1)]["reason"]) == ("undeliverable", "sent")
    assert mailed_again == [email(1)] * 2
    assert sorted(message.recipient for message in returning.arrived()) == ["ada@example.com", email(1), email(1)]
    assert returning.logged(f"to=<{ADA}>") == 1


@pytest.mark.parametrize("way", [BY_MAILDIR, BY_IMAP])
def test_a_message_that_was_too_long_on_its_way_is_only_noted(returning: MailStack, tmp_path: Path, way: str) -> None:
    with world_of(returning, tmp_path) as world:
        roster(world, EVE)
        world.night(approve=1)
        returning.bounces(1)
        first, second = read(world, returning, way), read(world, returning, way)
        happened = events(world, 0)
        world.days_pass(3)
        world.night(approve=1)
        rows = world.report()

    assert [(bounce.letter.address, bounce.code, bounce.blames_user) for bounce in first.new] == [(EVE, "4.7.1", False)]
    assert (second.new, second.known) == ((), 1)
    assert happened[-1] == "bounced"
    assert (rows[user_id(0)]["action"], rows[user_id(0)]["messages"]) == ("reminded", "2")


def test_a_bounce_names_the_message_and_returns_no_more_than_its_headers(returning: MailStack, tmp_path: Path) -> None:
    with world_of(returning, tmp_path) as world:
        roster(world, ADA)
        world.night(approve=1)
        with read_ledger(world.config()) as ledger:
            slot = ledger and ledger.slot(user_id(0), 1)
    (bounce,) = returning.bounces(1)

    assert slot
    assert f"\nOriginal-Envelope-Id: {slot.message_id.strip('<>')}\n".encode() in bounce
    assert f"\nMessage-ID: {slot.message_id}\n".encode() in bounce
    assert f"\nTo: {SENDER}\n".encode() in bounce
    assert b"\nContent-Type: text/rfc822-headers" in bounce
    assert b"/oauth/auth?" not in bounce


def test_the_bounces_of_another_campaign_change_nothing(returning: MailStack, tmp_path: Path) -> None:
    for name, addresses in {"theirs": [ADA], "ours": [email(1), email(2)]}.items():
        (tmp_path / name).mkdir()
        with world_of(returning, tmp_path / name) as world:
            roster(world, *addresses)
            world.night(approve=2)
            returning.bounces(1)
            returned = read(world, returning, BY_MAILDIR)

    assert (returned.read, returned.ours, returned.new) == (1, 0, ())


def test_the_token_that_opens_the_relay_opens_the_mailbox(returning: MailStack, tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        keys = returning.keys_by_token(tmp_path, server, token(), token())
        with World(tmp_path, keys=keys, now=datetime.now(UTC)) as world:
            roster(world, ADA)
            world.night(approve=1)
            returning.bounces(1)
            returned = read(world, returning, BY_IMAP)

    assert [bounce.letter.address for bounce in returned.new] == [ADA]
    assert returning.logged(rf"imap-login: Info: Login: user=<{SENDER}>, method=XOAUTH2") == 1
