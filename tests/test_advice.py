import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from campaign import advice
from campaign.advice import Advice, Effect, Verdict, count
from campaign.errors import DocusignUnreachable, GuardTripped, UsageError
from campaign.model import Finding, Standing, Status, User
from campaign.sandbox import Organization, Person
from campaign.sandbox.accounts import json_answer
from campaign.showing import advised, nights
from campaign.showing.page import as_text
from tests.commands import command
from tests.world import CANARY, CLIENT_ID, SCOPES, World, user_id

LACKS, GRANTED, SILENT = Status.CONSENT_REQUIRED, Status.GRANTED, ""


def of(*people: tuple[str, str], wanted: tuple[str, ...] = ()) -> Advice:
    """Count people, given as (domain, status)."""
    users = [User(user_id(n), f"p{n}@{domain}", f"p{n}@{domain}", n) for n, (domain, _) in enumerate(people)]
    return count(users, {u.user_id: Standing(u.user_id, status=s) for u, (_, s) in zip(users, people, strict=True)}, wanted)


def test_the_gist_is_one_sentence() -> None:
    people = [*[("example.com", LACKS)] * 812, *[("example.com", GRANTED)] * 60, *[("example.org", LACKS)] * 128]

    assert of(*people).sentence == "One consent for example.com would clear 812 of the 940 who lack it, 128 remain."


def test_one_consent_counts_for_all_domains_that_one_organization_has_claimed() -> None:
    found = of(("a.example", LACKS), ("b.example", LACKS), ("c.example", LACKS), wanted=("a.example", "c.example"))

    assert (found.clears, found.lacking, found.remain) == (2, 3, 1)
    assert found.sentence.startswith("One consent for a.example and c.example would clear 2 of the 3")


def test_a_mail_providers_domain_is_never_proposed() -> None:
    found = of(*[("gmail.com", LACKS)] * 50, *[("example.com", LACKS)] * 2)

    assert found.chosen == ("example.com",)
    assert [(domain.name, domain.public) for domain in found.domains] == [("gmail.com", True), ("example.com", False)]
    assert not found.is_worth_a_word


def test_what_is_not_known_is_neither_granted_nor_lacking() -> None:
    (domain,) = of(("example.com", SILENT), ("example.com", GRANTED), ("example.com", Status.USER_NOT_FOUND)).domains

    assert (domain.users, domain.granted, domain.lacking, domain.unknown) == (3, 1, 0, 2)


def test_closed_and_forgotten_users_are_not_counted(tmp_path: Path) -> None:
    closed, gone = (User(user_id(n), f"p{n}@example.com", f"p{n}@example.com", n, closed=n == 1) for n in (1, 2))
    when = World(tmp_path).now
    standings = {user_id(n): Standing(user_id(n), status=LACKS, forgotten_at=when if n == 2 else None) for n in (1, 2)}

    assert count([closed, gone], standings).domains == ()


@pytest.mark.parametrize(("own", "others", "said"), [(11, 10, True), (10, 10, False), (9, 0, False)])
def test_it_is_mentioned_unasked_where_it_would_clear_more_than_half(own: int, others: int, said: bool) -> None:
    people = [*[("example.com", LACKS)] * own, *[(f"d{n}.example", LACKS) for n in range(others)]]

    assert of(*people).is_worth_a_word is said


# --- with a ledger, and Docusign


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Thirty people of example.com and three others; the first night has asked everybody, and mailed nobody."""
    with World(tmp_path) as world:
        others = [{"user_id": user_id(n), "email": f"p{n}@other.example"} for n in (31, 32, 33)]
        world.roster([*({"user_id": user_id(n), "email": f"p{n}@Example.com"} for n in range(1, 31)), *others])
        world.consent(1)
        organization = Organization("Example", ("example.com",), (user_id(2),), (CLIENT_ID,))
        world.accounts.add_organization(organization)
        world.night()
        yield world


def consent_for_all(world: World) -> None:
    world.accounts._organizations.consent("Example", CLIENT_ID, SCOPES)


def test_it_says_how_many_and_how_with_everything_ready_to_paste(world: World) -> None:
    said = as_text(advised.page(advice.advise(world.config())))

    assert "One consent for example.com would clear 29 of the 32 who lack it, 3 remain." in said
    for line in (CLIENT_ID, "signature impersonation", "campaign advise --verify example.com"):
        assert f"     {line}\n" in f"{said}\n"
    assert ["Connected Apps" in said, "claimed" in said, "nobody can see from outside" in said] == [True] * 3


def test_before_the_first_run_it_does_not_pretend_to_know(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.roster([1, 2])
        found = advice.advise(world.config())

    said = as_text(advised.page(found))
    assert "mails nobody before it is approved: campaign run" in said
    assert "would clear" not in said
    assert (found.as_json()["as_of"], found.as_json()["lacking"]) == (None, 0)


def test_plan_mentions_it_and_changes_nothing(world: World) -> None:
    said = as_text(nights.plan(world.plan()))

    assert "One consent for example.com would clear 29 of the 32 who lack it, 3 remain. How: campaign advise" in said


def test_the_command_prints_one_json_object(world: World) -> None:
    world.config()
    done = command("advise", "--config", world.folder / "campaign.toml", "--domain", "OTHER.example", "--json")
    found = json.loads(done.stdout)

    assert (found["consent_for"], found["clears"], found["remain"]) == (["other.example"], 3, 29)
    assert (found["client_id"], found["scope"]) == (CLIENT_ID, "signature impersonation")


@pytest.mark.parametrize("typed", ["nowhere.example", "gmail.com"])
def test_a_domain_that_cannot_be_meant_is_refused(world: World, typed: str) -> None:
    with pytest.raises(UsageError):
        advice.advise(world.config(), [typed])
    with pytest.raises(UsageError):
        advice.verify(world.config(), world.means(), typed)


@pytest.mark.parametrize("consents", [False, True])
def test_a_handful_of_those_who_lacked_it_shows_whether_it_has_taken_effect(world: World, consents: bool) -> None:
    asked_before = len(world.accounts.requests)
    if consents:
        consent_for_all(world)
    found = advice.verify(world.config(), world.means(), "example.com")
    asked = [request.user_id for request in world.accounts.requests[asked_before:]]

    assert found.effect is (Effect.YES if consents else Effect.NO)
    assert (found.lacking_before, len(found.findings)) == (29, 5)
    assert asked[0] == CANARY
    assert len(asked) == len(set(asked)) == 6


def test_verifying_notes_nothing_and_mails_nobody(world: World) -> None:
    consent_for_all(world)
    before = {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()}
    advice.verify(world.config(), world.means(), "example.com")

    assert {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()} == before
    assert world.mailed() == []


def test_where_no_canary_is_granted_nobody_is_asked(world: World) -> None:
    world.revoke(CANARY)
    before = len(world.accounts.requests)

    with pytest.raises(GuardTripped, match="canary"):
        advice.verify(world.config(), world.means(), "example.com")
    assert [request.user_id for request in world.accounts.requests[before:]] == [CANARY]


def test_no_answer_is_no_verdict(world: World) -> None:
    for number in (31, 32, 33):
        world.accounts.faults.answers[user_id(number)] = json_answer(503)
    found = advice.verify(world.config(), world.means(), "other.example")

    assert found.effect is Effect.UNKNOWN
    assert "It is not known" in found.as_text()


def test_an_outage_is_said_to_be_one(world: World) -> None:
    world.accounts.faults.answer_all = json_answer(503)

    with pytest.raises(DocusignUnreachable):
        advice.verify(world.config(), world.means(), "example.com")


def test_where_nobody_lacks_it_there_is_nothing_to_see(world: World) -> None:
    consent_for_all(world)
    world.days_pass()
    world.night()

    with pytest.raises(UsageError, match="nobody in example"):
        advice.verify(world.config(), world.means(), "example.com")


@pytest.mark.parametrize(
    ("statuses", "effect"),
    [
        ((GRANTED, GRANTED, Status.UNKNOWN), Effect.YES),
        ((LACKS, Status.USER_NOT_FOUND), Effect.NO),
        ((GRANTED, LACKS), Effect.PARTLY),
        ((Status.UNKNOWN,), Effect.UNKNOWN),
        ((), Effect.UNKNOWN),
    ],
)
def test_the_verdict_says_no_more_than_the_answers(statuses: tuple[Status, ...], effect: Effect) -> None:
    verdict = Verdict("example.com", 9, [Finding(user_id(n), status) for n, status in enumerate(statuses)])

    assert verdict.effect is effect
    assert verdict.as_json()["effect"] == effect
    assert "None" not in verdict.as_text()


def test_who_joins_a_domain_with_an_administrators_consent_is_granted_at_once(world: World) -> None:
    consent_for_all(world)
    world.accounts.add_person(Person(user_id(40), "new@example.com"))

    assert world.accounts.consented(user_id(40), CLIENT_ID) == frozenset(SCOPES)
    assert world.accounts.consented(user_id(31), CLIENT_ID) == frozenset()
