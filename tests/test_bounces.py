"""What comes back: whose fault it was, what follows from it, and what a mailbox that means harm can do."""

import os
import sqlite3
import ssl
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from campaign import returning
from campaign.bounces import Login, Place, by_imap, from_maildir
from campaign.errors import (
    Busy,
    CampaignError,
    ConfigError,
    ExitCode,
    GuardTripped,
    LedgerError,
    RelayRefused,
    RelayUnreachable,
    UsageError,
)
from campaign.explaining import explain
from campaign.ledger import Bounce, hold, open_ledger, witness_of
from campaign.returning import Returned, take_back
from campaign.tls import verifying_context
from tests.imap_server import ImapServer
from tests.patience import soon
from tests.postgres_server import Keys, in_a_file
from tests.test_dsn import exchange, exim, gmail, postfix
from tests.token_server import TokenServer, service_account_file
from tests.world import FIRST_NIGHT, World, email, user_id

PASSWORD = "pa$$wörd"


@pytest.fixture
def world(tmp_path: Path, ledger_keys: Keys) -> Iterator[World]:
    """A campaign that has written to persons 1, 2 and 3, and a maildir with nothing in it."""
    with World(tmp_path / "world", ledger=ledger_keys) as world:
        world.roster([1, 2, 3])
        world.night(approve=3)
        for folder in ("new", "cur", "tmp"):
            (world.folder / "Maildir" / folder).mkdir(parents=True)
        yield world


def message_id(world: World, person: int, nth: int = 1) -> str:
    """The Message-ID of the n-th message to a person, as the relay saw it."""
    sent = [message.data for message in world.relay.accepted if message.recipient == email(person)]
    return next(line.partition(": ")[2] for line in sent[nth - 1].splitlines() if line.startswith("Message-ID: "))


def arrives(world: World, *reports: bytes, folder: str = "new") -> None:
    """Put messages into the maildir."""
    for report in reports:
        name = f"{time.monotonic_ns()}.relay"
        (world.folder / "Maildir" / folder / name).write_bytes(report)


def came_back(world: World, person: int, status: str = "5.1.1", nth: int = 1) -> bytes:
    """The report that a message to a person failed."""
    return postfix(message_id(world, person, nth), email(person), status)


def moves(world: World) -> None:
    """Let the roster show another address of person 1."""
    addresses = {1: "married@example.com", 2: email(2), 3: email(3)}
    world.roster([{"user_id": user_id(person), "email": address} for person, address in addresses.items()])


def reading(world: World, approved: int | None = None, **changes: Any) -> Returned:
    """One `campaign bounces --maildir`."""
    options: dict[str, Any] = {"maildir": world.folder / "Maildir", "imap": None} | changes
    return take_back(world.config(), {}, **options, approved=approved, now=world.now)


def counts(returned: Returned) -> tuple[int, int, int]:
    """How many are newly undeliverable, came back otherwise, and were known."""
    told = returned.as_json()
    return len(told["undeliverable"]), len(told["bounced"]), told["known"]


def reasons(world: World, *people: int) -> list[str]:
    return [world.report()[user_id(person)]["reason"] for person in people]


def history(world: World, person: int) -> list[str]:
    return [event.what for event in explain(world.config(), user_id(person), world.now).events]


# --- what follows


def test_an_address_whose_message_came_back_is_not_mailed_until_the_roster_shows_another(world: World) -> None:
    arrives(world, came_back(world, 1))
    returned = reading(world)
    assert (returned.exit_code, counts(returned)) == (ExitCode.ATTENTION, (1, 0, 0))
    world.days_pass(3)
    world.night()
    assert reasons(world, 1, 2) == ["undeliverable", "sent"]
    assert world.mailed()[3:] == [email(2), email(3)]
    moves(world)
    world.night(approve=1)

    assert world.mailed()[5:] == ["married@example.com"]


def test_the_report_of_any_great_mail_system_does(world: World) -> None:
    arrives(world, *(write(message_id(world, n), email(n)) for n, write in enumerate([exchange, exim, gmail], start=1)))

    assert counts(reading(world)) == (3, 0, 0)


@in_a_file
def test_reading_the_same_mailbox_twice_changes_nothing(world: World) -> None:
    arrives(world, came_back(world, 1), came_back(world, 2, "4.4.7"))
    first = reading(world)
    before = (world.folder / "ledger.sqlite3").read_bytes()
    world.days_pass()
    second = reading(world)

    assert (counts(first), counts(second)) == ((1, 1, 0), (0, 0, 2))
    assert (second.exit_code, second.lines) == (ExitCode.DONE, [])
    assert (world.folder / "ledger.sqlite3").read_bytes() == before


def test_the_same_failure_reported_twice_is_noted_once(world: World) -> None:
    arrives(world, came_back(world, 1), came_back(world, 1), exim(message_id(world, 1), email(1)))
    reading(world)

    assert history(world, 1).count("returned") == 1


def test_what_passes_or_is_our_fault_is_noted_and_keeps_nobody_from_being_mailed(world: World) -> None:
    arrives(world, came_back(world, 1, "4.4.7"), came_back(world, 2, "5.2.2"), came_back(world, 3, "5.7.1"))
    returned = reading(world)
    world.days_pass(3)
    world.night()

    assert (returned.exit_code, counts(returned)) == (ExitCode.ATTENTION, (0, 3, 0))
    assert "bounced" in history(world, 1)
    assert reasons(world, 1, 2, 3) == ["sent"] * 3


@pytest.mark.parametrize("at_once", [True, False])
def test_a_permanent_failure_after_a_passing_one_counts_and_a_passing_one_after_it_does_not(world: World, at_once: bool) -> None:
    arrives(world, came_back(world, 1, "4.4.7"))
    if not at_once:
        reading(world)
    arrives(world, came_back(world, 1, "5.1.1"), came_back(world, 1, "4.2.2"))
    returned = reading(world)

    assert counts(returned) == (1, 0, 0)
    assert counts(reading(world)) == (0, 0, 1)


def test_the_gravest_of_several_failures_in_one_report_counts(world: World) -> None:
    report = came_back(world, 1, "5.2.2").replace(
        b"\n\n--4WxYz04Nplz8.1795399207/relay.example.com\nContent-Description: Undelivered",
        f"\n\nFinal-Recipient: rfc822; {email(1)}\nAction: failed\nStatus: 5.1.1\n"
        "\n--4WxYz04Nplz8.1795399207/relay.example.com\nContent-Description: Undelivered".encode(),
    )
    arrives(world, report)

    assert counts(reading(world)) == (1, 0, 0)


def test_a_copy_that_failed_elsewhere_does_not_blame_the_address_that_passed_it_on(world: World) -> None:
    arrives(world, postfix(message_id(world, 1), "old@elsewhere.example"))
    returned = reading(world)
    assert counts(returned) == (0, 1, 0)
    assert "came back (for old@elsewhere.example: 5.1.1 smtp;" in returned.lines[0]
    arrives(world, came_back(world, 1))

    assert counts(reading(world)) == (1, 0, 0)
    assert counts(reading(world)) == (0, 0, 1)


def test_a_late_report_about_an_address_that_the_roster_shows_no_longer_bars_nobody(world: World) -> None:
    moves(world)
    world.days_pass(3)
    world.night(approve=3)
    arrives(world, came_back(world, 1))
    reading(world)
    world.days_pass(7)
    world.night()

    assert reasons(world, 1) == ["sent"]


def test_a_late_report_does_not_lift_what_is_known_of_the_new_address(world: World) -> None:
    report = came_back(world, 1)
    moves(world)
    world.relay.at("RCPT", "550 5.1.1 unknown", recipient="married@example.com")
    world.days_pass(3)
    world.night(approve=3)
    arrives(world, report)
    reading(world)
    world.days_pass(7)
    world.night()

    tried = [command for _, command in world.relay.commands if "RCPT TO:<married@example.com>" in command]
    assert len(tried) == 1
    assert reasons(world, 1) == ["undeliverable"]


def test_the_failure_stands_in_the_users_story(world: World) -> None:
    arrives(world, came_back(world, 1))
    reading(world)
    text = explain(world.config(), email(1), world.now).as_text()

    assert "the invitation (message 1) came back: the address takes no mail, and gets none until the roster shows another" in text
    assert f"Message-ID {message_id(world, 1)}; the notice says: 5.1.1 smtp; 550 5.1.1" in text
    assert "No message until the roster shows another address" in text


def test_what_is_told_is_told_to_people_and_to_scripts(world: World) -> None:
    arrives(world, came_back(world, 1, "5.2.2"), came_back(world, 2), b"Subject: hello\n\nhello\n")
    returned = reading(world)

    assert sorted(line.partition(" (")[0] for line in returned.lines) == [f"a message to {email(n)} came back" for n in (1, 2)]
    assert returned.summary == (
        "messages read: 3, about messages of this campaign: 2; "
        "addresses newly undeliverable: 1, other new failures: 1, known before: 0"
    )
    assert (returned.as_json()["not_ours"], returned.as_json()["undeliverable"][0]["code"]) == (1, "5.1.1")


# --- what counts as ours


def test_only_the_message_id_makes_a_failure_ours(world: World) -> None:
    almost = message_id(world, 1).replace("@", "x@")
    arrives(
        world,
        postfix(almost, email(1)),
        postfix("<1@elsewhere.example>", email(1)),
        postfix(message_id(world, 1).upper(), email(1)),
    )
    returned = reading(world)

    assert (returned.read, returned.ours, counts(returned)) == (3, 0, (0, 0, 0))
    assert returned.exit_code is ExitCode.DONE


def test_a_delay_is_no_failure(world: World) -> None:
    arrives(world, postfix(message_id(world, 1), email(1), "4.4.1", action="delayed"))

    assert counts(reading(world)) == (0, 0, 0)


# --- forged floods


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[World]:
    """Thirty people who were mailed, and whose messages all came back."""
    with World(tmp_path / "crowd", keys={"guards": {"max_bounces": 20}}) as world:
        world.roster(range(30))
        world.night(approve=30)
        for folder in ("new", "cur"):
            (world.folder / "Maildir" / folder).mkdir(parents=True)
        arrives(world, *(came_back(world, person) for person in range(30)))
        yield world


def test_a_flood_of_failures_changes_nothing_until_somebody_approves_of_it(crowd: World) -> None:
    for approved in (None, 29):
        with pytest.raises(GuardTripped, match="30 addresses would become undeliverable at once") as stopped:
            reading(crowd, approved)
        assert stopped.value.advice.endswith(f"campaign bounces --maildir {crowd.folder / 'Maildir'} --approve 30")
        assert set(history(crowd, 0)) == {"joined", "consent_required", "accepted"}

    assert counts(reading(crowd, 30)) == (30, 0, 0)


def test_what_was_noted_before_is_no_flood(crowd: World) -> None:
    reading(crowd, 30)

    assert counts(reading(crowd)) == (0, 0, 30)


def test_failures_that_bar_nobody_are_no_flood(crowd: World) -> None:
    for path in (crowd.folder / "Maildir" / "new").iterdir():
        path.write_bytes(path.read_bytes().replace(b"5.1.1", b"4.4.7"))

    assert counts(reading(crowd)) == (0, 30, 0)


def test_a_tenth_of_all_messages_is_no_flood(crowd: World) -> None:
    bounces = [Bounce(letter, "5.1.1", permanent=True, detail="") for letter in _letters(crowd)]
    for marked, trips in ((20, False), (21, True)):
        try:
            returning._refuse_a_flood(crowd.config(), bounces[:marked], 30, None, "")
        except GuardTripped:
            assert trips
        else:
            assert not trips

    returning._refuse_a_flood(crowd.config(), bounces[:21], 210, None, "")


def _letters(world: World) -> list[Any]:
    with open_ledger(world.config()) as ledger:
        return list(ledger.letters(message_id(world, person) for person in range(30)).values())


# --- the ledger


def test_a_message_to_the_manager_blames_no_user(world: World) -> None:
    with open_ledger(world.config()) as ledger:
        letter = replace(ledger.letters([message_id(world, 1)])[message_id(world, 1)], step=0)
        ledger.returned([Bounce(letter, "5.1.1", permanent=True, detail="5.1.1 gone")], world.now)
        witness_of(world.config(), ledger)

        assert ledger.standings()[user_id(1)].undeliverable == ""
        assert [(event.what, event.detail) for event in ledger.events(user_id(1))][-1] == (
            "bounced",
            f"message to the manager, {message_id(world, 1)}: 5.1.1 gone",
        )


def test_the_ledger_notes_a_code_once_for_a_message(world: World) -> None:
    with open_ledger(world.config()) as ledger:
        letter = ledger.letters([message_id(world, 1)])[message_id(world, 1)]
        for code in ("4.4.7", "4.4.7", "5.1.1", "5.1.1"):
            ledger.returned([Bounce(letter, code, permanent=code == "5.1.1", detail=code)], world.now)
        witness_of(world.config(), ledger)

        assert [event.what for event in ledger.events(user_id(1))][-2:] == ["bounced", "returned"]
        assert ledger.letters([message_id(world, 1), "<not@ours>"]) == {message_id(world, 1): replace(letter, bounced="5.1.1")}


def test_thousands_of_message_ids_are_looked_up_at_once(world: World) -> None:
    with open_ledger(world.config()) as ledger:
        found = ledger.letters([*(f"<{n}@x>" for n in range(40_000)), message_id(world, 3)])

        assert [letter.user_id for letter in found.values()] == [user_id(3)]


@in_a_file
def test_a_ledger_from_before_is_brought_up_to_date_and_keeps_its_rows(world: World) -> None:
    with sqlite3.connect(world.folder / "ledger.sqlite3") as database:
        database.execute("ALTER TABLE slots DROP COLUMN bounced")
        database.execute("UPDATE schema SET version = 1")
    arrives(world, came_back(world, 1))

    assert counts(reading(world)) == (1, 0, 0)
    assert [len(history(world, person)) for person in (1, 2)] == [4, 3]
    with sqlite3.connect(world.folder / "ledger.sqlite3") as database:
        assert sorted(database.execute("SELECT bounced FROM slots").fetchall()) == [("",), ("",), ("5.1.1",)]


@in_a_file
def test_an_old_copy_of_the_ledger_that_does_not_know_what_came_back_is_refused(world: World) -> None:
    ledger = world.folder / "ledger.sqlite3"
    before = ledger.read_bytes()
    for person in (1, 2):
        arrives(world, came_back(world, person))
        reading(world)
    ledger.write_bytes(before)

    with pytest.raises(LedgerError, match="is not the last one"):
        world.plan()


def test_nothing_is_read_while_a_run_is_under_way(world: World) -> None:
    with hold(world.config()), pytest.raises(Busy):
        reading(world)


# --- maildirs


def listing(folder: Path) -> dict[str, tuple[int, float, bytes]]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path): (path.stat().st_mode, path.stat().st_mtime, path.read_bytes()) for path in files}


def test_a_maildir_is_left_as_it_is(world: World) -> None:
    arrives(world, came_back(world, 1))
    arrives(world, came_back(world, 2), folder="cur")
    arrives(world, came_back(world, 3), folder="tmp")
    before = listing(world.folder / "Maildir")
    returned = reading(world)

    assert counts(returned) == (2, 0, 0)
    assert listing(world.folder / "Maildir") == before


def test_what_is_no_plain_file_is_passed_over(world: World, tmp_path: Path) -> None:
    new = world.folder / "Maildir" / "new"
    (tmp_path / "elsewhere").write_bytes(came_back(world, 1))
    (new / "link").symlink_to(tmp_path / "elsewhere")
    (new / "dangling").symlink_to(tmp_path / "nowhere")
    (new / "folder").mkdir()
    os.mkfifo(new / "fifo")

    assert reading(world).read == 0


def test_a_file_that_vanishes_meanwhile_is_passed_over(world: World) -> None:
    arrives(world, came_back(world, 1), came_back(world, 2))
    with closing(from_maildir(world.folder / "Maildir")) as messages:
        next(messages)
        for path in (world.folder / "Maildir" / "new").iterdir():
            path.unlink()

        assert list(messages) == []


def test_a_huge_message_is_read_in_part(world: World) -> None:
    arrives(world, came_back(world, 1).rstrip(b"-\n") + b"x" * (10 << 20))
    with closing(from_maildir(world.folder / "Maildir")) as messages:
        assert [len(message) for message in messages] == [1 << 18]

    assert counts(reading(world)) == (1, 0, 0)


def test_a_folder_that_is_no_maildir_is_named(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no maildir: it has neither new/ nor cur/"):
        reading(world, maildir=tmp_path)


@pytest.mark.parametrize("both", [True, False])
def test_one_mailbox_is_needed(world: World, both: bool) -> None:
    with pytest.raises(UsageError, match="one mailbox is needed"):
        reading(world, maildir=Path() if both else None, imap="imaps://h/" if both else None)


# --- the address of a mailbox


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("imaps://mail.example.com", Place("mail.example.com", 993, True, "me", "INBOX")),
        ("imaps://mail.example.com/", Place("mail.example.com", 993, True, "me", "INBOX")),
        ("imap://Mail.example.com:1143/Bounces", Place("mail.example.com", 1143, False, "me", "Bounces")),
        (
            "imaps://a%40b.example@[::1]/In%20box/R%C3%BCckl%C3%A4ufer",
            Place("::1", 993, True, "a@b.example", "In box/Rückläufer"),
        ),
    ],
)
def test_a_mailbox_is_named_by_its_url(url: str, place: Place) -> None:
    assert Place.of(url, "me") == place


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "mail.example.com",
            "imaps://",
            "imaps:///INBOX",
            "http://mail.example.com:80/",
            "imaps://h:port/",
            "imaps://h:99999/",
        ),
        *("imaps://[h/", "imaps://h/INBOX?x", "imaps://h/INBOX#x", "imaps://h/a%0d%0ab", "imaps://u%01@h/", "imaps://h/\udcff"),
    ],
)
def test_what_names_no_mailbox_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="the IMAP URL"):
        Place.of(url, "me")


@pytest.mark.parametrize("url", ["imaps://me:hunter2@mail.example.com/", "imap://me:hunter2@h:x/", "imaps://:hunter2@h"])
def test_a_password_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        Place.of(url, "me")

    assert "hunter2" not in str(refused.value) + refused.value.advice
    assert refused.value.__cause__ is None


# --- IMAP


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


Fetch = Callable[..., list[bytes]]


@pytest.fixture
def fetch(ca_file: Path) -> Fetch:
    """Everything that a server's mailbox brings."""

    def read(
        server: ImapServer, mailbox: str = "INBOX", login: Login | None = None, since: datetime | None = None, timeout: float = 1
    ) -> list[bytes]:
        place = Place("127.0.0.1", server.port, server.implicit, "me", mailbox)
        context = verifying_context("mail", ca_file)
        with closing(by_imap(place, login or Login(PASSWORD), context, timeout, since)) as messages:
            return list(messages)

    return read


@pytest.mark.parametrize("implicit", [True, False])
def test_the_reports_of_a_mailbox_are_read_and_nothing_else_in_it(context: ssl.SSLContext, fetch: Fetch, implicit: bool) -> None:
    messages = {3: postfix(), 4: b"Subject: hello\n\nhello\n", 7: exchange(), 8: gmail(), 9: b"\n", 4294967295: exim()}
    with ImapServer(context, messages, implicit=implicit) as server:
        assert fetch(server) == [postfix(), exchange(), gmail(), exim()]

    assert all(under_tls or command == "STARTTLS" for command, under_tls in zip(server.commands, server.under_tls, strict=True))


def test_a_mailbox_is_never_changed(context: ssl.SSLContext, fetch: Fetch) -> None:
    with ImapServer(context, {1: postfix()}) as server:
        fetch(server)
    verbs = [command.split()[0] for command in server.commands]

    assert verbs == ["CAPABILITY", "AUTHENTICATE", "EXAMINE", "UID", "UID", "UID", "LOGOUT"]
    assert all("BODY.PEEK[" in command for command in server.commands if command.startswith("UID FETCH"))


def test_a_large_mailbox_is_read_in_portions(context: ssl.SSLContext, fetch: Fetch) -> None:
    with ImapServer(context, {uid: b"\n" if uid % 26 else postfix() for uid in range(1, 521)}) as server:
        assert len(fetch(server, timeout=10)) == 20

    asked = [command.split() for command in server.commands if command.startswith("UID FETCH")]
    assert [len(words[2].split(",")) for words in asked] == [500, 16, 3, 20, 1]


def test_each_step_has_its_own_time_and_share(context: ssl.SSLContext, fetch: Fetch) -> None:
    huge = postfix() + b"x" * (1 << 18)
    with ImapServer(context, dict.fromkeys(range(1, 65), huge)).at("UID FETCH", "slow") as server:
        assert len(fetch(server, timeout=0.4)) == 64


def test_only_what_came_since_the_campaign_began_is_asked_for(context: ssl.SSLContext, fetch: Fetch) -> None:
    with ImapServer(context) as server:
        fetch(server, since=datetime(2026, 12, 1, 3, tzinfo=UTC))
        fetch(server)

    assert [command for command in server.commands if "SEARCH" in command] == ["UID SEARCH SINCE 30-Nov-2026", "UID SEARCH ALL"]


def test_a_mailbox_may_have_any_name(context: ssl.SSLContext, fetch: Fetch) -> None:
    with ImapServer(context) as server:
        fetch(server, mailbox='Rückläufer & "mehr"\\🎉')

    assert 'EXAMINE "R&APw-ckl&AOQ-ufer &- \\"mehr\\"\\\\&2DzfiQ-"' in server.commands


def test_a_huge_message_is_fetched_in_part(context: ssl.SSLContext, fetch: Fetch) -> None:
    with ImapServer(context, {1: postfix() + b"x" * (2 << 20), 2: b"Content-Type: " + b"x" * (2 << 20) + b"\n\n"}) as server:
        assert [len(message) for message in fetch(server, timeout=5)] == [1 << 18]


@pytest.mark.parametrize(
    ("offered", "answers"),
    [
        ("IMAP4rev1 AUTH=PLAIN AUTH=LOGIN", [f"\0me\0{PASSWORD}".encode()]),
        ("IMAP4rev1 AUTH=LOGIN", [b"me", PASSWORD.encode()]),
    ],
)
def test_a_password_signs_in_by_whatever_is_offered(
    context: ssl.SSLContext, fetch: Fetch, offered: str, answers: list[bytes]
) -> None:
    with ImapServer(context, capabilities=offered) as server:
        fetch(server)

    assert server.answers == answers


def test_a_token_signs_in_by_xoauth2(context: ssl.SSLContext, fetch: Fetch) -> None:
    with ImapServer(context, {1: postfix()}, login=b"user=me\1auth=Bearer t0ken\1\1") as server:
        assert fetch(server, login=Login(token="t0ken")) == [postfix()]


@pytest.mark.parametrize("login", [Login(PASSWORD), Login(token="t0ken")])
def test_a_refused_sign_in_is_tried_once_and_says_nothing_secret(context: ssl.SSLContext, fetch: Fetch, login: Login) -> None:
    with ImapServer(context, login=b"something else") as server, pytest.raises(RelayRefused) as refused:
        fetch(server, login=login)
    told = str(refused.value)

    assert told.startswith(f"127.0.0.1:{server.port} refused AUTHENTICATE: NO [AUTHENTICATIONFAILED] no: ***")
    assert ('{"status":"400"' in told) == bool(login.token)
    assert len([command for command in server.commands if command.startswith("AUTH")]) == 1
    assert PASSWORD not in f"{told}{login!r}"
    assert "t0ken" not in f"{told}{login!r}"


@pytest.mark.parametrize("login", [Login(PASSWORD), Login(token="t0ken")])
@pytest.mark.parametrize("repeating", ["TAG NO {}", "TAG BAD {}", "* BYE {}", "{}"])
def test_a_secret_that_the_server_repeats_is_in_no_traceback(
    context: ssl.SSLContext, fetch: Fetch, login: Login, repeating: str
) -> None:
    secret = login.token or PASSWORD
    with ImapServer(context).at("EXAMINE", repeating.format(secret)) as server, pytest.raises(CampaignError) as stopped:
        fetch(server, login=login)

    assert secret not in "".join(traceback.format_exception(stopped.value))
    assert "***" in str(stopped.value)


def test_a_server_without_our_way_to_sign_in_is_refused(context: ssl.SSLContext, fetch: Fetch) -> None:
    with ImapServer(context, capabilities="IMAP4rev1 AUTH=GSSAPI") as server:
        with pytest.raises(RelayRefused, match=r"offers no AUTH=PLAIN or LOGIN; what it offers: AUTH=GSSAPI IMAP4REV1"):
            fetch(server)
        with pytest.raises(RelayRefused, match=r"offers no AUTH=XOAUTH2"):
            fetch(server, login=Login(token="t0ken"))

    assert server.answers == []


@pytest.mark.parametrize("answer", ["TAG NO not today", "TAG BAD what?", "TAG OK go\n* CAPABILITY AUTH=PLAIN"])
def test_nothing_secret_is_said_where_tls_does_not_come_first(context: ssl.SSLContext, fetch: Fetch, answer: str) -> None:
    with ImapServer(context, implicit=False).at("STARTTLS", answer) as server, pytest.raises(CampaignError) as stopped:
        fetch(server)

    assert stopped.value.exit_code is ExitCode.REFUSED
    assert server.commands == ["STARTTLS"]


def test_what_is_said_in_the_clear_after_starttls_is_not_heard(context: ssl.SSLContext, fetch: Fetch) -> None:
    early = "TAG OK go\n* CAPABILITY IMAP4rev1 AUTH=PLAIN"
    with (
        ImapServer(context, implicit=False).at("STARTTLS", early) as server,
        pytest.raises(RelayUnreachable, match="in the clear"),
    ):
        fetch(server)


@pytest.mark.parametrize("implicit", [True, False])
def test_a_stranger_with_a_certificate_is_not_trusted(fetch: Fetch, implicit: bool) -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(stranger)
    with (
        ImapServer(stranger, implicit=implicit) as server,
        pytest.raises(RelayUnreachable, match="the certificate is not trusted"),
    ):
        fetch(server)

    assert "CAPABILITY" not in server.commands


STEPS = ["greeting", "CAPABILITY", "AUTHENTICATE", "EXAMINE", "UID SEARCH", "UID FETCH"]
FAULTS = [
    "drop",
    "hang",
    "* BYE enough",
    "nonsense",
    "TAG",
    "+ go on",
    "literal 9000000",
    "literal 999999999",
    "flood",
    "chatter",
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", STEPS)
def test_whatever_goes_wrong_ends_soon_and_in_one_clear_sentence(
    context: ssl.SSLContext, fetch: Fetch, step: str, fault: str
) -> None:
    with (
        soon(),
        ImapServer(context, {1: postfix()}).at(step, fault) as server,
        pytest.raises(RelayUnreachable) as stopped,
    ):
        fetch(server, timeout=0.2)

    assert str(stopped.value).startswith(f"127.0.0.1:{server.port} cannot be read: ")
    assert str(stopped.value).isprintable()


def test_for_an_absurd_literal_no_memory_is_asked_for(context: ssl.SSLContext, fetch: Fetch) -> None:
    with (
        ImapServer(context).at("EXAMINE", "literal 999999999") as server,
        pytest.raises(RelayUnreachable, match="announces more"),
    ):
        fetch(server)


# What is written as IMAP and is none; some of it trips imaplib up.
WRONG = [
    ("greeting", "* PREAUTH welcome back"),
    ("greeting", "* NO we are closed"),
    ("CAPABILITY", "* CAPABILITY Rückläufer\nTAG OK done"),
    ("CAPABILITY", "* CAPABILITY {3}\nabc\nTAG OK done"),
    ("CAPABILITY", "* CAPABILITY AUTH=PLAIN\nTAG OK done"),
    ("CAPABILITY", "TAG OK done"),
    ("AUTHENTICATE", "+ a"),
    ("AUTHENTICATE", "+ \n+ \n+ "),
    ("EXAMINE", f"* OK {{{'9' * 5000}}}"),
    ("EXAMINE", "OTHER1 OK done"),
    ("EXAMINE", "TAG FOO done"),
    ("UID SEARCH", "* SEARCH 1 {9}\n1\nTAG OK"),
]


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize(("step", "answer"), WRONG)
def test_a_wrong_answer_ends_in_a_clear_sentence(
    context: ssl.SSLContext, fetch: Fetch, step: str, answer: str, implicit: bool
) -> None:
    with (
        ImapServer(context, {1: postfix()}, implicit=implicit).at(step, answer) as server,
        pytest.raises(RelayUnreachable, match=f"^127.0.0.1:{server.port} cannot be read: ") as stopped,
    ):
        fetch(server, timeout=0.2)

    assert str(stopped.value).isprintable()


@pytest.mark.parametrize("answer", ["* SEARCH {3}\n1 2\nTAG OK done", "* SEARCH x -1 99999999999\nTAG OK done", "TAG OK done"])
def test_what_is_no_list_of_uids_names_no_message(context: ssl.SSLContext, fetch: Fetch, answer: str) -> None:
    with ImapServer(context, {1: postfix()}).at("UID SEARCH", answer) as server:
        assert fetch(server) == []


@pytest.mark.parametrize(
    "answer", ["* 1 FETCH (UID 1)", "* 1 FETCH (BODY[] {1}\nx {1}\nx)", "* 1 FETCH (UID 1 BODY[] NIL)", "* 1 EXPUNGE"]
)
def test_a_message_without_its_uid_or_its_text_is_passed_over(context: ssl.SSLContext, fetch: Fetch, answer: str) -> None:
    with ImapServer(context, {1: postfix()}).at("UID FETCH", f"{answer}\nTAG OK done") as server:
        assert fetch(server) == []


@pytest.mark.parametrize("fault", ["flood", "chatter", "literal 999999999"])
def test_no_more_is_read_than_a_step_may_bring(context: ssl.SSLContext, fetch: Fetch, fault: str) -> None:
    with ImapServer(context).at("EXAMINE", fault) as server, pytest.raises(RelayUnreachable, match="more than 8388608 bytes"):
        fetch(server, timeout=30)


@pytest.mark.parametrize("step", ["CAPABILITY", "EXAMINE", "UID SEARCH", "UID FETCH"])
@pytest.mark.parametrize("answer", ["TAG NO I will not", "TAG BAD I cannot"])
def test_a_refusal_is_told_with_the_servers_words(context: ssl.SSLContext, fetch: Fetch, step: str, answer: str) -> None:
    with ImapServer(context, {1: postfix()}).at(step, answer) as server, pytest.raises(RelayRefused) as refused:
        fetch(server)

    assert f"refused {step}: {answer[4:]}" in str(refused.value)


def test_a_server_that_is_not_there_is_named(fetch: Fetch, context: ssl.SSLContext) -> None:
    with ImapServer(context) as server:
        pass

    with pytest.raises(RelayUnreachable, match=f"127.0.0.1:{server.port} cannot be read: Connection refused"):
        fetch(server)


def test_too_many_messages_are_not_waded_through(context: ssl.SSLContext, fetch: Fetch) -> None:
    found = f"* SEARCH {' '.join(map(str, range(1, 200_002)))}\nTAG OK done"
    with ImapServer(context).at("UID SEARCH", found) as server, pytest.raises(UsageError, match="200001 messages"):
        fetch(server, timeout=5)


# --- IMAP and the campaign


def by_url(world: World, server: ImapServer, ca_file: Path, **mail: Any) -> Returned:
    (world.folder / "password").write_text(PASSWORD, encoding="utf-8")
    (world.folder / "password").chmod(0o600)
    world.keys["mail"] = {"ca_file": str(ca_file), **mail}
    if mail.get("auth") == "password":
        world.keys["mail.password"] = {"file": "password"}
    return reading(world, maildir=None, imap=f"imaps://127.0.0.1:{server.port}")


def test_a_mailbox_is_read_with_the_account_of_the_relay(world: World, context: ssl.SSLContext, ca_file: Path) -> None:
    login = f"\0contracts@example.com\0{PASSWORD}".encode()
    with ImapServer(context, {1: came_back(world, 1), 2: postfix()}, login=login) as server:
        returned = by_url(world, server, ca_file, auth="password", username="contracts@example.com")

    assert (counts(returned), returned.ours) == ((1, 0, 0), 1)
    assert f"UID SEARCH SINCE {FIRST_NIGHT - timedelta(days=1):%d-%b-%Y}" in server.commands


def test_a_mailbox_is_read_with_the_relays_kind_of_token(
    world: World, context: ssl.SSLContext, ca_file: Path, tmp_path: Path
) -> None:
    login = b"user=contracts@example.com\1auth=Bearer token-1\1\1"
    with TokenServer(tmp_path) as provider, ImapServer(context, {1: came_back(world, 1)}, login=login) as server:
        account = service_account_file(tmp_path / "google.json", provider.token_uri)
        world.keys["mail.google"] = {"service_account_file": str(account), "ca_file": str(provider.ca_file)}
        returned = by_url(world, server, ca_file, auth="google", username="contracts@example.com")

    assert counts(returned) == (1, 0, 0)


def test_a_mailbox_that_breaks_off_leaves_nothing_noted(world: World, context: ssl.SSLContext, ca_file: Path) -> None:
    reports = {uid: came_back(world, 1 + uid % 3) for uid in range(1, 40)}
    reports[39] = postfix() + b"\0" * 10
    with ImapServer(context, reports).at("UID FETCH", "drop") as server, pytest.raises(RelayUnreachable):
        by_url(world, server, ca_file, auth="password", username="me")

    assert history(world, 1) == ["joined", "consent_required", "accepted"]


def test_a_mailbox_needs_a_sign_in(world: World, context: ssl.SSLContext, ca_file: Path) -> None:
    with ImapServer(context) as server, pytest.raises(UsageError, match=r'\[mail\] auth is "none"'):
        by_url(world, server, ca_file)

    assert server.commands == []


def test_a_password_that_cannot_be_read_stops_before_the_connection(world: World, context: ssl.SSLContext, ca_file: Path) -> None:
    world.keys = {"mail.password": {"env": "NOT_SET"}, "mail": {"ca_file": str(ca_file), "auth": "password", "username": "me"}}
    with ImapServer(context) as server, pytest.raises(ConfigError, match="NOT_SET"):
        reading(world, maildir=None, imap=f"imaps://127.0.0.1:{server.port}")

    assert server.commands == []
