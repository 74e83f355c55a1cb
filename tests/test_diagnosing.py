"""Why somebody who says "I already consented" lacks it: each cause is found by its own name, over real sockets."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from campaign.diagnosing import PAUSE, Cause, Diagnosis, diagnose
from campaign.diagnosing.causes import Evidence
from campaign.diagnosing.sentences import SAID
from campaign.docusign import consent_url
from campaign.errors import CampaignError, ExitCode, GuardTripped, UsageError
from campaign.explaining import explain
from campaign.forgetting import forget
from campaign.model import Finding, Standing, Status
from campaign.sandbox import DROPPED, AccountServer, Application, CannedAnswer, Person, json_answer
from campaign.showing.page import as_text
from tests.commands import command
from tests.world import CANARY, CLIENT_ID, SCOPES, World, email, pem, user_id

MORE = (*SCOPES, "click.manage")
TWIN = user_id(71)  # has the address of person 1
THERE = user_id(91)  # what person 1 is in the other environment
PRODUCTION = "account.docusign.com"
DEMO_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)  # key pairs are not copied from one to the other


@pytest.fixture
def world(quick_path: Path) -> Iterator[World]:
    """Persons 1 and 2, invited yesterday; asked about by scopes that the canary has consented to."""
    with World(quick_path) as world:
        world.roster([1, 2])
        world.night(approve=2)
        world.days_pass()
        yield world


@pytest.fixture
def demo(world: World, tmp_path: Path) -> Iterator[AccountServer]:
    """The world moved to production, and the same application in demo, where person 1 has another user id."""
    with AccountServer(clock=lambda: world.clock().timestamp()) as demo:
        world.accounts._grants = replace(world.accounts._grants, audience=PRODUCTION)
        world.folder = tmp_path / "production"
        world.folder.mkdir()
        demo.add_application(Application(CLIENT_ID, "Test", (DEMO_KEY.public_key(),), (f"{demo.url}/thanks",)))
        demo.add_person(Person(THERE, email(1)))
        world.keys = {"docusign": {"environment": "production", "counterpart": "../demo/campaign.toml"}}
        private_file(world.folder / "private.pem", pem())
        world.roster([1, 2])
        world.config()
        lay_out_demo(tmp_path / "demo", world, demo)
        world.night(approve=2)
        world.days_pass()
        yield demo


def private_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


def lay_out_demo(folder: Path, world: World, demo: AccountServer) -> None:
    folder.mkdir()
    private_file(folder / "private.pem", pem(DEMO_KEY))
    (folder / "roster.csv").write_text(f"user_id,email\n{THERE},{email(1).upper()}\n", encoding="utf-8")
    text = (world.folder / "campaign.toml").read_text(encoding="utf-8")
    text = text.replace(world.accounts.url, demo.url).replace('environment = "production"', 'environment = "demo"')
    (folder / "campaign.toml").write_text(re.sub(r"counterpart = .*\n", "", text), encoding="utf-8")


def found(world: World, who: str = email(1), *, listed: bool | None = None) -> Diagnosis:
    return diagnose(world.config(), world.means(), who, listed=listed)


def asked(world: World, begun: int) -> list[str]:
    """Who was asked since then, the canaries left out."""
    return [request.user_id for request in world.accounts.requests[begun:] if request.user_id != CANARY]


def ask_for_more(world: World) -> None:
    world.keys = {"docusign": {"scopes": MORE}}
    world.consent(CANARY, scopes=MORE)


# --- each cause


def test_who_never_consented(world: World) -> None:
    diagnosis = found(world)

    assert (diagnosis.cause, diagnosis.evidence.is_certain) == (Cause.NEVER_CONSENTED, False)
    assert "/me/appconsent lists the application" in diagnosis.why
    assert found_again(world, listed=False) == (Cause.NEVER_CONSENTED, True)


def test_whose_consent_lacks_impersonation(world: World) -> None:
    world.consent(1, scopes=["signature"])
    diagnosis = found(world)

    assert diagnosis.cause is Cause.NEVER_CONSENTED  # from outside the two look the same, and it says so
    assert "a link that did not ask for impersonation" in diagnosis.why
    assert found_again(world, listed=True) == (Cause.IMPERSONATION_MISSING, True)


def found_again(world: World, *, listed: bool) -> tuple[Cause, bool]:
    world.now += PAUSE
    diagnosis = found(world, listed=listed)
    return diagnosis.cause, diagnosis.evidence.is_certain


def test_who_consented_before_a_scope_was_added(world: World) -> None:
    world.consent(1)
    ask_for_more(world)
    begun = len(world.accounts.requests)
    diagnosis = found(world)

    assert (diagnosis.cause, diagnosis.evidence.missing) == (Cause.SCOPE_ADDED, ["click.manage"])
    assert asked(world, begun) == [user_id(1)] * (len(MORE) + 1)
    assert "Docusign grants impersonation, signature to this user, but not click.manage" in diagnosis.why
    assert (
        "The link of the last message (2026-11-23) asked for signature impersonation; "
        "today's asks for signature impersonation click.manage."
    ) in as_text(diagnosis.as_page())


def test_who_accepted_at_another_link(world: World) -> None:
    ask_for_more(world)
    world.roster([1, 2, 3])
    world.consent(3)

    assert found(world, email(3)).cause is Cause.SCOPE_MISSING


def test_who_consented_under_the_other_user_id(world: World) -> None:
    world.roster([{"user_id": user_id(1), "email": email(1)}, {"user_id": TWIN, "email": email(1).upper()}])
    world.consent(TWIN)
    diagnosis = found(world, user_id(1))

    assert (diagnosis.cause, diagnosis.evidence.granted_as) == (Cause.OTHER_USER_ID, TWIN)
    assert f"put {TWIN} into the roster in the place of {user_id(1)}" in diagnosis.remedy


def test_a_user_id_that_has_left_the_roster_may_be_the_one_that_consented(world: World) -> None:
    world.roster([{"user_id": TWIN, "email": email(1)}, {"user_id": user_id(2), "email": email(2)}])
    world.night()
    world.consent(1)

    assert found(world, TWIN).evidence.granted_as == user_id(1)


def test_who_consented_in_demo_while_production_is_asked(world: World, demo: AccountServer) -> None:
    demo.consent(THERE, CLIENT_ID, SCOPES)
    diagnosis = found(world)

    assert (diagnosis.cause, diagnosis.evidence.granted_there) == (Cause.OTHER_ENVIRONMENT, THERE)
    assert f"The consent is in demo, for the user id {THERE}; the application asks in production." in diagnosis.why


def test_a_user_id_of_demo_is_told_from_one_that_nobody_knows(world: World, demo: AccountServer) -> None:
    demo.add_person(Person(user_id(5), email(5)))
    with (world.folder / "roster.csv").open("a", encoding="utf-8") as roster:
        roster.writelines(f"{user_id(n)},{email(n)}\n" for n in (5, 6))

    assert found(world, email(5)).cause is Cause.OTHER_ENVIRONMENT
    world.now += PAUSE
    assert "belongs to demo; production does not know it" in found(world, email(5)).why
    assert found(world, email(6)).cause is Cause.USER_NOT_FOUND


def test_what_cannot_be_seen_in_the_other_environment_is_a_doubt(world: World, demo: AccountServer) -> None:
    demo.faults.answer_all = json_answer(400, error="invalid_grant", error_description="no_valid_keys_or_signatures")
    diagnosis = found(world)

    assert diagnosis.cause is Cause.NEVER_CONSENTED
    assert "The other environment could not be asked: " in as_text(diagnosis.as_page())


@pytest.mark.parametrize("counterpart", ["campaign.toml", "nowhere.toml"])
def test_a_counterpart_of_no_use_is_a_doubt(world: World, counterpart: str) -> None:
    world.keys = {"docusign": {"counterpart": counterpart}}

    assert "The other environment could not be asked: " in found(world).evidence.doubt


@pytest.mark.parametrize("noticed", [True, False])
def test_who_took_it_back(world: World, noticed: bool) -> None:
    world.consent(1)
    world.night()
    world.revoke(1)
    world.keys = {"docusign": {"verify_granted_days": 0 if noticed else 30}}
    world.days_pass()
    world.night()
    diagnosis = found(world)

    assert diagnosis.cause is Cause.REVOKED
    assert ("(found on 2026-11-25)" in diagnosis.why) is noticed


def test_who_has_consent_after_all(world: World) -> None:
    world.consent(1)

    assert found(world).cause is Cause.GRANTED


def test_whom_docusign_does_not_know(world: World) -> None:
    world.accounts.add_person(Person(user_id(1), email(1), active=False))

    assert found(world).cause is Cause.USER_NOT_FOUND


# --- unknown is not no


@pytest.mark.promise(4)
@pytest.mark.parametrize("silence", [CannedAnswer(503), DROPPED])
def test_no_answer_is_no_cause(world: World, silence: CannedAnswer) -> None:
    world.accounts.faults.answers[user_id(1)] = silence
    diagnosis = found(world)

    assert (diagnosis.cause, diagnosis.exit_code) == (Cause.UNKNOWN, ExitCode.REFUSED)


def test_without_a_canary_that_is_granted_nothing_is_said_and_nobody_asked(world: World) -> None:
    world.revoke(CANARY)
    begun = len(world.accounts.requests)

    with pytest.raises(GuardTripped, match="of 1 canary users none is granted"):
        found(world)
    assert asked(world, begun) == []
    world.consent(CANARY)
    assert found(world).cause is Cause.NEVER_CONSENTED  # nobody was asked, so nobody has to wait


def answer(status: Status, who: str = user_id(1)) -> Finding:
    return Finding(who, status, "" if status is not Status.UNKNOWN else "HTTP 503")


@pytest.mark.parametrize(
    ("impersonation", "signature", "cause"),
    [
        (Status.UNKNOWN, None, Cause.UNKNOWN),
        (Status.GRANTED, Status.UNKNOWN, Cause.UNKNOWN),
        (Status.GRANTED, Status.GRANTED, Cause.SCOPE_MISSING),
        (Status.CONSENT_REQUIRED, None, Cause.NEVER_CONSENTED),
    ],
)
def test_single_scopes_without_an_answer_prove_nothing(impersonation: Status, signature: Status | None, cause: Cause) -> None:
    alone = {"impersonation": impersonation, "signature": signature, "click.manage": signature}
    alone["click.manage"] = Status.CONSENT_REQUIRED if signature is Status.GRANTED else signature
    evidence = Evidence(
        Standing(user_id(1)),
        " ".join(MORE),
        others=(),
        link=None,
        listed=None,
        answer=answer(Status.CONSENT_REQUIRED),
        alone=tuple((scope, answer(status)) for scope, status in alone.items() if status),
    )

    assert evidence.cause is cause


# --- how often, and what is remembered


@pytest.mark.promise(16)
def test_one_user_is_asked_about_once_in_fifteen_minutes(world: World) -> None:
    found(world)
    begun = len(world.accounts.requests)
    world.now += PAUSE - timedelta(seconds=1)
    with pytest.raises(GuardTripped, match=r"person1@example\.com was asked about at 02:00") as refused:
        found(world)

    assert refused.value.advice == "ask again from 02:15 on (UTC)"
    assert asked(world, begun) == []
    assert found(world, email(2)).cause is Cause.NEVER_CONSENTED
    world.now += timedelta(seconds=1)
    assert found(world).cause is Cause.NEVER_CONSENTED


def test_it_is_remembered_before_anybody_is_asked(world: World) -> None:
    world.accounts.faults.answers[user_id(1)] = json_answer(400, error="invalid_grant", error_description="expired_grant")
    with pytest.raises(CampaignError, match="refuses the app"):
        found(world)
    with pytest.raises(GuardTripped, match="was asked about"):
        found(world)


def test_other_ids_of_the_address_count_as_asked_too(world: World) -> None:
    world.roster([{"user_id": user_id(n), "email": email(1)} for n in (1, 2)])
    world.night()
    found(world, user_id(1))

    with pytest.raises(GuardTripped):
        found(world, user_id(2))


def test_the_next_night_looks_itself_at_a_consent_that_seemed_fresh(world: World) -> None:
    world.consent(1)
    world.night()
    world.revoke(1)
    found(world)
    world.days_pass()
    night = world.night()

    assert (night.exit_code, len(night.attention)) == (ExitCode.ATTENTION, 1)
    assert "somebody let Docusign be asked about this user" in as_text(explain(world.config(), email(1), world.now).as_page())


def test_somebody_new_in_the_roster_can_be_asked_about(world: World) -> None:
    world.roster([1, 2, 3])

    assert found(world, email(3)).cause is Cause.NEVER_CONSENTED


def test_who_was_forgotten_is_not_asked_about(world: World) -> None:
    forget(world.config(), user_id(1), world.now)
    begun = len(world.accounts.requests)

    with pytest.raises(UsageError, match="was forgotten"):
        found(world)
    assert asked(world, begun) == []


def test_no_token_is_kept(world: World) -> None:
    world.consent(1)
    ask_for_more(world)
    found(world)
    with closing(sqlite3.connect(world.folder / "ledger.sqlite3")) as ledger:
        everything = "\n".join(ledger.iterdump())

    assert "eyJhbGci" not in everything  # how every JWT begins


# --- what is said


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_its_words_and_they_name_nothing_unknown(cause: Cause, world: World) -> None:
    words = found(world)._words

    assert set(SAID) == set(Cause)
    for text in (SAID[cause].why, SAID[cause].remedy, SAID[cause].text):
        assert text.format(**words)
    if "{link}" in SAID[cause].text:
        assert f"{consent_url(world.config().docusign)}&prompt=login" in SAID[cause].text.format(**words)


def test_the_command_says_cause_remedy_and_text(quick_path: Path) -> None:
    with World(quick_path, live=True) as world:
        world.roster([1])
        world.config()
        result = command("diagnose", email(1), "--config", world.folder / "campaign.toml")
        again = command("diagnose", email(1), "--config", world.folder / "campaign.toml", "--json")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{email(1)} ({user_id(1)})\n")
    assert "text for the user:" in result.stdout
    assert (again.exit_code, again.stdout) == (4, "")
    assert "ask again from" in again.stderr
