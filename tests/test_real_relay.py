"""Nights through a real relay that refuses us, or some recipients, or is stopped and started: what becomes of each message."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from campaign.errors import ExitCode
from campaign.ledger import read_ledger
from tests.mail_stack import SENDER, UNWELCOME, MailStack, needs_mail_stack, token
from tests.token_server import TokenServer
from tests.world import NO_WAITS, World, email, user_id

pytestmark = [pytest.mark.postfix, needs_mail_stack]

Row = dict[str, str]


def untouched(row: Row) -> bool:
    """Whether the ledger knows of no message to this user, and of no fault."""
    return (row["messages"], row["last_outcome"], row["reason"]) == ("0", "", "relay_refused")


def recipients(stack: MailStack) -> list[str]:
    """To whom something has come, in the order of their numbers."""
    return sorted(message.recipient for message in stack.arrived())


def message_id(world: World, number: int) -> str:
    """The Message-ID that the ledger holds for somebody's first message."""
    with read_ledger(world.config()) as ledger:
        slot = ledger and ledger.slot(user_id(number), 1)
        assert slot
        return slot.message_id


# --- what the relay says to us


def test_a_wrong_password_is_tried_once_and_uses_up_nothing(mail_stack: MailStack, tmp_path: Path) -> None:
    with World(tmp_path, keys=mail_stack.keys(tmp_path)) as world:
        (tmp_path / "smtp-password").write_text("wr0ng")
        world.roster(range(3))
        refused, rows = world.night(approve=3), world.report()
        attempts = mail_stack.logged("SASL PLAIN authentication failed"), mail_stack.logged("passwd-file.*Password mismatch")
        before = recipients(mail_stack)
        mail_stack.keys(tmp_path)
        world.days_pass()
        good = world.night(approve=3)

    assert refused.exit_code == ExitCode.REFUSED
    assert "535" in str(refused.problems[0])
    assert "wr0ng" not in f"{refused.problems[0]}{refused.problems[0].advice}"
    assert attempts == (1, 1)
    assert before == []
    assert all(untouched(row) for row in rows.values())
    assert good.exit_code == ExitCode.DONE
    assert recipients(mail_stack) == [email(n) for n in range(3)]


def test_without_a_sign_in_the_relay_takes_nothing_and_nobody_is_blamed(mail_stack: MailStack, tmp_path: Path) -> None:
    with World(tmp_path, keys=mail_stack.keys(tmp_path, auth="none")) as world:
        world.roster(range(3))
        night, rows = world.night(approve=3), world.report()

    assert night.exit_code == ExitCode.REFUSED
    assert mail_stack.logged("reject: RCPT") == 1
    assert all(untouched(row) for row in rows.values())


def test_a_sender_that_is_refused_stops_the_run_after_one_and_nobody_is_blamed(mail_stack: MailStack, tmp_path: Path) -> None:
    keys = mail_stack.keys(tmp_path)
    keys["mail"]["from"] = f"Stranger <{UNWELCOME}>"
    with World(tmp_path, keys=keys) as world:
        world.roster(range(3))
        refused, rows = world.night(approve=3), world.report()
        attempts = mail_stack.logged("reject: RCPT")
        keys["mail"]["from"] = SENDER
        world.days_pass()
        good = world.night(approve=3)

    assert refused.exit_code == ExitCode.REFUSED
    assert "5.7.60" in str(refused.problems[0])
    assert "Send As" in refused.problems[0].advice
    assert attempts == 1
    assert all(untouched(row) for row in rows.values())
    assert good.exit_code == ExitCode.DONE
    assert recipients(mail_stack) == [email(n) for n in range(3)]


def test_a_message_that_is_too_large_stops_the_run_with_the_advice(mail_stack: MailStack, tmp_path: Path) -> None:
    keys = mail_stack.keys(tmp_path, port=mail_stack.small_port)
    with World(tmp_path, keys=keys) as world:
        world.roster(range(3))
        refused, rows = world.night(approve=3), world.report()
        before = recipients(mail_stack)
        keys["mail"]["port"] = mail_stack.port
        world.days_pass()
        good = world.night(approve=3)

    assert refused.exit_code == ExitCode.REFUSED
    assert "552 5.3.4" in str(refused.problems[0])
    assert "templates smaller" in refused.problems[0].advice
    assert before == []
    assert all(untouched(row) for row in rows.values())
    assert good.exit_code == ExitCode.DONE
    assert recipients(mail_stack) == [email(n) for n in range(3)]


# --- signing in with a token: from msal's request to the signature that Dovecot checks


@pytest.mark.parametrize(("given", "refused"), [([token()], 0), ([token(-60), token()], 1)], ids=["good", "expired, then good"])
def test_a_good_token_opens_the_relay_if_need_be_a_fresh_one(
    mail_stack: MailStack, tmp_path: Path, given: list[str], refused: int
) -> None:
    with TokenServer(tmp_path) as server, World(tmp_path, keys=mail_stack.keys_by_token(tmp_path, server, *given)) as world:
        world.roster(range(3))
        night = world.night(approve=3)

    assert night.exit_code == ExitCode.DONE
    assert recipients(mail_stack) == [email(n) for n in range(3)]
    assert mail_stack.logged(f"sasl_method=XOAUTH2, sasl_username={SENDER}") == 3
    assert mail_stack.logged("SASL XOAUTH2 authentication failed") == refused
    assert len(server.asked) == len(given)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (token(-60), "Token has expired"),
        (token(user="payroll@example.com"), f"'{SENDER}' did not match 'payroll@example.com'"),
        ("nonsense", "Not a JWT token"),
        (f"{token()[:-20]}{'A' * 20}", "signature"),
    ],
    ids=["expired", "another user's", "nonsense", "forged"],
)
def test_a_bad_token_is_refused_twice_and_uses_up_nothing(mail_stack: MailStack, tmp_path: Path, bad: str, why: str) -> None:
    with TokenServer(tmp_path) as server, World(tmp_path, keys=mail_stack.keys_by_token(tmp_path, server, bad, bad)) as world:
        world.roster(range(3))
        night, rows = world.night(approve=3), world.report()

    assert night.exit_code == ExitCode.REFUSED
    assert '{"status":"401","schemes":"bearer","scope":"mail"}' in str(night.problems[0])  # what Dovecot says in base64
    assert bad not in f"{night.problems[0]}{night.problems[0].advice}"
    assert mail_stack.logged(why) == mail_stack.logged("SASL XOAUTH2 authentication failed") == len(server.asked) == 2
    assert recipients(mail_stack) == []
    assert all(untouched(row) for row in rows.values())


# --- what the relay says of a recipient


@pytest.mark.parametrize("reply", ["450 4.2.0 greylisted, try again later", "452 4.2.2 mailbox full"])
def test_not_now_means_the_same_message_on_another_night(mail_stack: MailStack, tmp_path: Path, reply: str) -> None:
    mail_stack.refuse({email(1): reply})
    with World(tmp_path, keys=mail_stack.keys(tmp_path)) as world:
        world.roster(range(3))
        first, rows = world.night(approve=3), world.report()
        before, intended = recipients(mail_stack), message_id(world, 1)
        world.days_pass()
        second = world.night(approve=3)
        mail_stack.refuse({})
        world.days_pass()
        third, rows_at_last = world.night(approve=3), world.report()
    arrived = {message.recipient: message.message_id for message in mail_stack.arrived()}

    assert [first.exit_code, second.exit_code, third.exit_code] == [ExitCode.DONE] * 3
    assert (rows[user_id(1)]["last_outcome"], rows[user_id(1)]["reason"]) == ("deferred", "waiting")
    assert before == [email(0), email(2)]
    assert rows_at_last[user_id(1)]["last_outcome"] == "accepted"
    assert len(mail_stack.arrived()) == len(arrived) == 3
    assert arrived[email(1)] == intended


def test_an_unknown_recipient_is_never_mailed_again_until_the_roster_has_another_address(
    mail_stack: MailStack, tmp_path: Path
) -> None:
    mail_stack.refuse({email(1): "550 5.1.1 user unknown"})
    with World(tmp_path, keys=mail_stack.keys(tmp_path)) as world:
        world.roster(range(3))
        first = world.night(approve=3)
        mail_stack.refuse({})
        world.days_pass(3)
        second, rows = world.night(approve=3), world.report()
        before = Counter(recipients(mail_stack))
        world.roster({"user_id": user_id(n), "email": "new@example.com" if n == 1 else email(n)} for n in range(3))
        world.days_pass()
        third = world.night(approve=3)

    assert [first.exit_code, second.exit_code, third.exit_code] == [ExitCode.ATTENTION, ExitCode.DONE, ExitCode.DONE]
    assert (rows[user_id(1)]["last_outcome"], rows[user_id(1)]["reason"]) == ("rejected", "undeliverable")
    assert before == {email(0): 2, email(2): 2}
    assert Counter(recipients(mail_stack)) == {email(0): 2, email(2): 2, "new@example.com": 1}


def test_a_policy_of_the_relay_stops_the_run_and_blames_nobody(mail_stack: MailStack, tmp_path: Path) -> None:
    mail_stack.refuse({email(1): "554 5.7.1 not by our policy"})
    with World(tmp_path, keys=mail_stack.keys(tmp_path)) as world:
        world.roster(range(4))
        refused, rows = world.night(approve=4), world.report()
        before = recipients(mail_stack)
        mail_stack.refuse({})
        world.days_pass()
        good = world.night(approve=4)

    assert refused.exit_code == ExitCode.REFUSED
    assert "554 5.7.1" in str(refused.problems[0])
    assert f"for {email(1)}" in str(refused.problems[0])
    assert before == [email(0)]
    assert all(untouched(rows[user_id(n)]) for n in (1, 2, 3))
    assert good.exit_code == ExitCode.DONE
    assert recipients(mail_stack) == [email(n) for n in range(4)]


# --- a relay that is stopped and started

BRIEFLY = (0.16, 0.31, 0.47)  # shares of all messages after which the relay is stopped, and started again at once
FOR_LONG = 0.63  # and after which it is stopped until the run has given up
STOPS = len((*BRIEFLY, FOR_LONG))


@contextmanager
def disturbed(stack: MailStack, users: int) -> Iterator[None]:
    """Stop and start the relay within; at the end it runs."""
    over = threading.Event()
    thread = threading.Thread(target=_disturb, args=(stack, users, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _disturb(stack: MailStack, users: int, over: threading.Event) -> None:
    for share in (*BRIEFLY, FOR_LONG):
        while stack.kept < share * users and not over.wait(0.005):
            pass
        stack.stop()
        over.wait(0.1 if share in BRIEFLY else None)
        stack.start()


def judged(world: World, stack: MailStack) -> Counter[str]:
    """Assert that what the ledger calls accepted has arrived once, and nothing else but what it calls unknown; the counts."""
    # What the relay was just delivering when it was stopped, it delivers again; that is one message handed over, not two.
    taken = Counter(recipient for recipient, _ in {(message.recipient, message.queue_id) for message in stack.arrived()})
    told = {row["email"]: row["last_outcome"] for row in world.report().values()}
    accepted = {address for address, outcome in told.items() if outcome == "accepted"}
    unknown = {address for address, outcome in told.items() if outcome == "unknown"}
    assert max(taken.values()) == 1
    assert accepted <= {*taken} <= accepted | unknown
    return Counter(told.values()) + Counter({"unknown but arrived": len({*taken} & unknown)})


MANY = [(120, 4), *(pytest.param(2000, connections, marks=pytest.mark.long) for connections in (1, 4))]


@pytest.mark.parametrize(("users", "connections"), MANY, ids=str)
def test_nobody_is_lost_or_mailed_twice_while_the_relay_is_stopped_and_started(
    mail_stack: MailStack, quick_path: Path, users: int, connections: int
) -> None:
    keys = mail_stack.keys(quick_path, per_day=0, connections=connections)
    waits = replace(NO_WAITS, connect=(1, 5))  # a brief stop is waited for
    with World(quick_path, keys=keys | {"policy": {"max_per_run": users}}, waits=waits) as world:
        world.roster(range(users))
        with disturbed(mail_stack, users):
            nights = [world.night(approve=users)]
        counts = [judged(world, mail_stack)]
        while counts[-1]["accepted"] + counts[-1]["unknown"] < users and len(nights) < 4:
            world.days_pass()
            nights.append(world.night(approve=users))
            counts.append(judged(world, mail_stack))
    told = [f"{dict(count)} {night.problems}" for count, night in zip(counts, nights, strict=True)]
    print(f"\n{users} users, {connections} connections, {STOPS} stops; each night:", *told, sep="\n  ")  # noqa: T201  # for -s

    assert nights[0].exit_code == ExitCode.REFUSED
    assert nights[-1].exit_code in {ExitCode.DONE, ExitCode.ATTENTION}
    assert counts[-1]["accepted"] + counts[-1]["unknown"] == users
    assert counts[-1]["unknown"] <= connections * STOPS
