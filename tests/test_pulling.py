"""The roster from Docusign's own list of users, over real sockets: whole or not at all, within the limits, and no token left."""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from campaign import roster
from campaign.config import Docusign
from campaign.docusign import Signer
from campaign.docusign.acting import Acting
from campaign.docusign.people import _pinned
from campaign.errors import (
    CampaignError,
    DocusignRefused,
    DocusignUnreachable,
    ExitCode,
    GuardTripped,
    Interrupted,
    LedgerError,
    UsageError,
)
from campaign.pulling import Pulled, pull
from campaign.sandbox import DROPPED, CannedAnswer, Organization, Person, json_answer
from campaign.sandbox.directory import account_id
from tests.commands import command
from tests.world import CANARY, NO_WAITS, World, email, private_key, user_id

BURST = 0.3  # seconds
# After a lost answer, which cannot say that the burst is used up, the next request waits until it is over.
WAITS = replace(NO_WAITS, probe=(BURST, BURST), burst=BURST)
ADMIN_SCOPES = ("user_read", "impersonation")
BUSY = CannedAnswer(429, b"", {"Retry-After": "0"})


@pytest.fixture
def world(quick_path: Path) -> Iterator[World]:
    with World(quick_path, waits=WAITS) as world:
        world.accounts.directory.burst_seconds = BURST
        yield world


def people(world: World, numbers: range, **changes: object) -> None:
    for n in numbers:
        world.accounts.add_person(Person(user_id(n), email(n), f"Person Nr {n}", **changes))  # type: ignore[arg-type]


def pulled(world: World, who: str = CANARY, **options: str) -> Pulled:
    return pull(world.config(), world.means(), who, **options)  # type: ignore[arg-type]


def written(world: World) -> list[dict[str, str]]:
    with (world.folder / "roster.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def as_listed(person: Person) -> dict[str, str]:
    first, _, last = person.name.partition(" ")
    names = {"name": person.name, "first_name": first, "last_name": last}
    status = "Active" if person.active else "Closed"
    return {"user_id": person.user_id, "email": person.email, **names, "status": status, "company": "", "job_title": ""}


# --- whole


@pytest.mark.promise(12, 16)
def test_2500_users_over_25_pages_are_the_servers_list_whatever_happens_on_the_way(world: World) -> None:
    people(world, range(2399))
    people(world, range(2399, 2499), active=False)
    directory = world.accounts.directory
    directory.burst = 10
    world.accounts.faults.lists = {7: BUSY, 12: DROPPED, 13: CannedAnswer(503), 20: DROPPED}
    done = pulled(world)
    everybody = [as_listed(person) for person in world.accounts._people.values()]

    assert (done.users, done.closed, done.source) == (2500, 100, "account Sandbox")
    assert written(world) == everybody
    assert directory.requests.count(200) == 25
    assert sorted(set(directory.requests)) == [0, 200, 429, 503]
    assert directory.requests.count(429) == 1  # the one that was planted: the limit was never hit
    assert (world.folder / "roster.csv").stat().st_mode & 0o777 == 0o600
    assert len([user for user in roster.read(world.folder / "roster.csv").users if user.closed]) == 100


def test_pull_and_run_is_a_night(world: World) -> None:
    people(world, range(3))
    world.consent(0)
    pulled(world)
    world.night(approve=2)
    people(world, range(3, 4))
    world.days_pass()
    pulled(world)
    night = world.night()

    assert night.exit_code == ExitCode.DONE
    assert sorted(world.mailed()) == [email(1), email(2), email(3)]
    assert world.report()[CANARY]["status"] == "granted"


@pytest.mark.promise(5)
def test_a_list_that_shrank_is_the_guards_business(world: World) -> None:
    people(world, range(10))
    pulled(world)
    world.night(approve=10)
    for n in range(5):
        world.accounts.add_person(Person(user_id(n), email(n), active=False))
    world.days_pass(3)
    pulled(world)
    night = world.night()

    assert (night.exit_code, {trip.guard for trip in night.trips}) == (ExitCode.STOPPED, {"roster_change"})
    assert world.report()[user_id(0)]["reason"] == "closed"


def test_of_an_organization_everybody_of_its_accounts_is_listed_once(world: World) -> None:
    world.accounts.add_organization(Organization("Contoso", (), (CANARY,), accounts=("One", "Two")))
    world.accounts.add_person(Person(CANARY, "canary@example.com", "Canary", accounts=("One", "Two", "Foreign")))
    world.consent(CANARY, scopes=ADMIN_SCOPES)
    people(world, range(150), accounts=("One",))
    people(world, range(150, 160), accounts=("One", "Two"))
    people(world, range(160, 170), accounts=("Two",), active=False)
    people(world, range(170, 180), accounts=("Foreign",))
    done = pulled(world, organization=Organization("Contoso", (), ()).organization_id)

    assert (done.users, done.closed) == (171, 10)
    assert {row["user_id"] for row in written(world)} == {CANARY, *map(user_id, range(170))}
    assert len(written(world)) == 171


def test_of_several_accounts_one_can_be_named(world: World) -> None:
    world.accounts.add_person(Person(CANARY, "canary@example.com", "Canary", accounts=("One", "Two")))
    people(world, range(3), accounts=("Two",))

    assert (pulled(world).users, pulled(world, account=account_id("Two")).users) == (1, 4)
    with pytest.raises(UsageError, match="has no account 00000000-"):
        pulled(world, account="00000000-0000-0000-0000-000000000000")


def test_an_address_is_looked_up_in_the_roster_that_is_there(world: World) -> None:
    with pytest.raises(UsageError, match="no roster yet"):
        pulled(world, "canary@example.com")
    pulled(world)

    assert pulled(world, "Canary@example.com").users == 1


@pytest.mark.promise(12)
def test_what_a_name_holds_costs_nobody_else_the_roster(world: World) -> None:
    names = ["a\0b", 'say "x", y', "two\nlines", "=1+1", "\ud800", "x" * 5000, "\u202ebidi", "Zoë"]
    for number, name in enumerate(names):
        world.accounts.add_person(Person(user_id(number), email(number), name))
    pulled(world)
    read = roster.read(world.folder / "roster.csv")

    assert {user.name for user in read.users} >= {'say "x", y', "=1+1", "Zoë"}
    assert len(read.users) + len(read.rejects) == len(names) + 1


# --- or not at all


ABORTS: dict[str, tuple[CannedAnswer, type[CampaignError], str]] = {
    "an outage": (CannedAnswer(503), DocusignUnreachable, "no usable answer: HTTP 503"),
    "dropped connections": (DROPPED, DocusignUnreachable, "connection closed without an answer"),
    "a long pause": (CannedAnswer(429, b"", {"Retry-After": "3600"}), DocusignUnreachable, "limit is reached for"),
    "the hourly limit": (
        json_answer(400, errorCode="HOURLY_APIINVOCATION_LIMIT_EXCEEDED", message="x"),
        DocusignUnreachable,
        "HOURLY_APIINVOCATION_LIMIT_EXCEEDED",
    ),
    "a proxy": (CannedAnswer(200, b"<html>"), DocusignRefused, "not as Docusign does"),
    "a redirect": (CannedAnswer(302, b"", {"Location": "https://evil.example/"}), DocusignRefused, "HTTP 302"),
    "an expired token": (json_answer(401, errorCode="AUTHORIZATION_INVALID_TOKEN"), DocusignRefused, "INVALID_TOKEN"),
    "no list": (json_answer(200, users={}), DocusignRefused, "gives no list of users"),
    "a list cut short": (json_answer(200, users=[], totalSetSize="301"), DocusignUnreachable, "counts 301 users and lists"),
}


@pytest.mark.promise(18)
@pytest.mark.parametrize("what", ABORTS)
def test_an_aborted_pull_leaves_yesterdays_file(what: str, world: World) -> None:
    answer, kind, said = ABORTS[what]
    people(world, range(50))
    pulled(world)
    yesterday = (world.folder / "roster.csv").read_bytes()
    people(world, range(50, 300))
    begun = len(world.accounts.directory.requests)
    world.accounts.faults.lists = dict.fromkeys(range(begun + 2, begun + 20), answer)

    with pytest.raises(kind, match=said):
        pulled(world)
    assert (world.folder / "roster.csv").read_bytes() == yesterday
    assert [path.name for path in world.folder.iterdir() if "tmp" in path.name] == []
    assert len(world.accounts.directory.requests) - begun <= 4  # nobody is asked for ever


def test_a_stop_leaves_it_too(world: World) -> None:
    pulled(world)
    yesterday = (world.folder / "roster.csv").read_bytes()
    people(world, range(300))
    world.stop.ask(ExitCode.SIGTERM)
    with pytest.raises(Interrupted):
        pulled(world)
    world.stop.clear()
    (world.folder / "STOP").touch()
    with pytest.raises(GuardTripped):
        pulled(world)

    assert (world.folder / "roster.csv").read_bytes() == yesterday


def test_a_list_without_an_open_user_replaces_nothing(world: World) -> None:
    world.accounts.add_person(Person(CANARY, "canary@example.com", accounts=("Mine", "Empty")))
    people(world, range(3), accounts=("Empty",), active=False)
    pulled(world)
    world.accounts._people[CANARY] = Person(CANARY, "canary@example.com", accounts=("Mine",))
    yesterday = (world.folder / "roster.csv").read_bytes()
    world.accounts.faults.lists = {2: json_answer(200, users=[], totalSetSize="0")}

    with pytest.raises(GuardTripped, match="guard roster_change: account Mine lists no open user"):
        pulled(world)
    assert (world.folder / "roster.csv").read_bytes() == yesterday


def test_a_roster_that_no_pull_wrote_is_not_replaced(world: World) -> None:
    world.roster([{"user_id": user_id(1), "email": email(1), "wave": "2"}])
    before = (world.folder / "roster.csv").read_bytes()

    with pytest.raises(UsageError, match=r"roster\.csv was not written by campaign roster pull"):
        pulled(world)
    assert (world.folder / "roster.csv").read_bytes() == before
    assert pulled(world, out=world.folder / "other.csv").users == 2  # type: ignore[arg-type]


def test_a_place_that_cannot_be_written_is_told(world: World) -> None:
    (world.folder / "file").touch()
    with pytest.raises((LedgerError, UsageError), match="cannot be"):
        pulled(world, out=world.folder / "file" / "roster.csv")  # type: ignore[arg-type]


# --- who may


def test_who_has_not_consented_is_given_the_link(world: World) -> None:
    world.revoke(CANARY)
    with pytest.raises(DocusignRefused, match="has not consented to signature impersonation") as refused:
        pulled(world)

    assert f"{world.accounts.url}/oauth/auth?response_type=code&scope=signature%20impersonation&" in refused.value.advice


def test_the_admin_api_needs_a_consent_of_its_own(world: World) -> None:
    with pytest.raises(DocusignRefused, match="has not consented to user_read impersonation"):
        pulled(world, organization=user_id(1))
    world.consent(CANARY, scopes=ADMIN_SCOPES)
    with pytest.raises(UsageError, match="no account of that user belongs to the organization"):
        pulled(world, organization=user_id(1))
    with pytest.raises(UsageError, match="is not the id of an organization"):
        pulled(world, organization="../../x")


def test_who_is_no_administrator_is_refused(world: World) -> None:
    people(world, range(1))
    world.consent(0)
    with pytest.raises(DocusignRefused, match="HTTP 401 USER_LACKS_PERMISSIONS"):
        pulled(world, user_id(0))
    with pytest.raises(DocusignRefused, match=r"gives no token for .*: user_not_found"):
        pulled(world, user_id(9))


# --- the token


@pytest.mark.promise(15)
@pytest.mark.parametrize(
    ("base_uri", "in_sandbox", "may"),
    [
        ("https://na3.docusign.net", False, True),
        ("https://demo.docusign.net/", False, True),
        ("http://na3.docusign.net", False, False),
        ("https://docusign.net.example.com", False, False),
        ("https://evildocusign.net", False, False),
        ("https://na3.docusign.net@example.com", False, False),
        ("https://x@na3.docusign.net", False, False),
        ("https://na3.docusign.net:8443", False, False),
        ("https://na3.docusign.net/path", False, False),
        ("http://127.0.0.1:8080", False, False),
        ("http://127.0.0.1:8080", True, True),
        ("https://na3.docusign.net", True, False),
        ("", True, False),
    ],
)
def test_a_token_goes_to_docusign_alone(base_uri: str, in_sandbox: bool, may: bool, world: World) -> None:
    docusign = world.config().docusign
    config: Docusign = docusign if in_sandbox else docusign.model_copy(update={"account_server": None})

    if may:
        assert _pinned(base_uri, config) == base_uri.rstrip("/")
    else:
        with pytest.raises(DocusignRefused, match="not Docusign's"):
            _pinned(base_uri, config)


@pytest.mark.promise(14)
def test_the_token_is_in_no_repr_and_gone_at_the_end(world: World) -> None:
    docusign = world.config().docusign
    acting = Acting(docusign, Signer(docusign, private_key()), world.clock, world.stop, back_off=(), burst=0)
    acting.begin(CANARY)
    assert "Bearer ey" in acting._headers["Authorization"]

    assert "ey" not in repr(acting)
    acting.close()
    assert acting._headers == {}


@pytest.mark.promise(14)
def test_no_file_and_no_output_holds_a_token(quick_path: Path) -> None:
    with World(quick_path, live=True) as world:
        world.config()
        here = ("--config", world.folder / "campaign.toml")
        results = [command("roster", "pull", "--as", CANARY, *here, *more) for more in ([], ["-v"], ["--json"])]
        world.accounts.faults.lists = {4: json_answer(401, errorCode="X", token="eyJhbGci")}
        results.append(command("roster", "pull", "--as", CANARY, *here))
        files = [path.read_bytes() for path in world.folder.rglob("*") if path.is_file()]

    assert [result.exit_code for result in results] == [0, 0, 0, 5]
    assert not [result for result in results if "eyJhbGci" in result.stdout + result.stderr]
    assert not [content for content in files if b"eyJhbGci" in content]
    assert (results[0].stdout, results[0].stderr) == ("", "")  # cron mails nobody
    assert results[1].stdout == f"{world.folder / 'roster.csv'}: 1 users of account Sandbox, 0 of them closed\n"
    assert json.loads(results[2].stdout)["users"] == 1
