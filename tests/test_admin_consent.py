"""The two ways by which an administrator consents for many, from the plan to the last night: two organizations, 300 users."""

import email
import email.policy
import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from campaign import advice
from campaign.advice import Effect
from campaign.model import Reason
from campaign.night import Night
from campaign.sandbox import Organization, Person
from tests.commands import command
from tests.test_consent_pages import browser, heading, log_in, page  # noqa: F401  # fixtures
from tests.world import CANARY, CLIENT_ID, World, user_id

pytestmark = pytest.mark.long

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def people(world: World, **domains: int) -> dict[str, list[str]]:
    """Write a roster of so many people for each domain (dots as underscores); give their addresses."""
    addresses = {
        name.replace("_", "."): [f"p{n}@{name.replace('_', '.')}" for n in range(count)] for name, count in domains.items()
    }
    everybody = [address for group in addresses.values() for address in group]
    world.roster([{"user_id": user_id(n), "email": address} for n, address in enumerate(everybody, 1)])
    return addresses


def figures(name: str, night: Night, world: World) -> dict[str, Any]:
    """What a night came to; shown by -rP."""
    report = Counter(row["reason"] for row in world.report().values())
    told = {"reasons": dict(report), "sent": len(night.deliveries), "exit": int(night.exit_code)}
    customers = {c.customer: (c.users, c.granted, c.lacking, c.reason, c.messages) for c in night.customer_figures}
    print(f"{name}: {told} {customers or ''}")  # noqa: T201
    return told


def mailed_since(world: World, before: int) -> Counter[str]:
    """How many messages went to each domain."""
    return Counter(address.rpartition("@")[2] for address in world.mailed()[before:])


# --- one's own application


def organizations(world: World) -> None:
    """Two organizations: one's own, which has claimed example.com, and another."""
    world.accounts.add_person(Person("a0000000-0000-4000-8000-00000000000a", "boss@example.com", "Boss"))
    own = Organization("Example", ("example.com",), ("a0000000-0000-4000-8000-00000000000a",), (CLIENT_ID,))
    world.accounts.add_organization(own)
    world.accounts.add_organization(Organization("Other", ("other.example",), (CANARY,)))


@pytest.mark.browser
def test_one_administrators_consent_in_the_browser_clears_a_domain_and_the_next_night_mails_only_the_rest(
    world: World,
    page: "Page",  # noqa: F811
) -> None:
    groups = people(world, example_com=200, other_example=60, gmail_com=40)
    organizations(world)
    stopped = world.night()
    figures("night 1, not approved", stopped, world)
    found = advice.advise(world.config())
    before = advice.verify(world.config(), world.means(), "example.com").effect

    assert found.advice.sentence == "One consent for example.com would clear 200 of the 300 who lack it, 100 remain."
    assert (stopped.planned, world.mailed(), before) == (300, [], Effect.NO)

    told = command("advise", "--config", world.folder / "campaign.toml").stdout
    scopes = next(line.strip() for line in told.splitlines() if line.strip().startswith("signature"))
    page.goto(f"{world.accounts.url}/admin/connected-apps")
    log_in(page, "boss@example.com")
    page.get_by_label("Application").select_option(re.findall(r"[0-9a-f-]{36}", told)[0])
    page.get_by_label("Scopes, in space delimited format").fill(scopes)
    page.get_by_role("button", name="Authorize Application").click()

    assert "signature" in page.inner_text("main")
    assert advice.verify(world.config(), world.means(), "example.com").effect is Effect.YES
    assert advice.verify(world.config(), world.means(), "other.example").effect is Effect.NO

    world.days_pass()
    plan = world.plan()
    night = world.night(approve=100)
    figures("night 2", night, world)

    assert plan.planned == 100
    assert sorted(world.mailed()) == sorted([*groups["other.example"], *groups["gmail.com"]])
    reasons = Counter(row["reason"] for row in world.report().values())
    assert reasons == {Reason.GRANTED: 200, Reason.SENT: 100}

    world.days_pass()
    figures("night 3", world.night(), world)
    assert len(world.mailed()) == 100


# --- a third party's application


def link_of(world: World, recipient: str) -> str:
    """The consent URL of the last mail to somebody."""
    data = next(message.data for message in reversed(world.relay.accepted) if message.recipient == recipient)
    mail = email.message_from_string(data, policy=email.policy.default)
    text = mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    return str(next(line for line in text.splitlines() if line.startswith(world.accounts.url) and "/oauth/auth" in line))


def open_and_accept(world: World, recipient: str) -> str:
    """Follow the link of a mail as its reader does, log in, accept if asked; give what the last page says."""
    with requests.Session() as session:
        url = link_of(world, recipient)
        session.get(url, timeout=60)
        onward = url.removeprefix(world.accounts.url)
        shown = session.post(f"{world.accounts.url}/login", data={"login": recipient, "continue": onward}, timeout=60)
        if 'value="accept"' in shown.text:
            shown = session.post(url, data={"decision": "accept"}, timeout=60)
    return str(re.findall(r"<h1>(.*?)</h1>", shown.text)[0])


def test_administrators_are_mailed_and_what_they_do_not_do_their_users_are_asked_for(world: World) -> None:
    groups = people(world, acme_example=100, old_acme_example=20, beta_example=80, gamma_example=70, nobodys_example=30)
    addresses = {"Acme": "boss@acme.example", "Beta": "secretary@beta.example", "Gamma": "it@gamma.example"}
    for number, address in enumerate(addresses.values()):
        world.accounts.add_person(Person(f"b000000{number}-0000-4000-8000-00000000000b", address))
    world.accounts.add_organization(Organization("Acme", ("acme.example",), ("b0000000-0000-4000-8000-00000000000b",)))
    world.accounts.add_organization(Organization("Beta", ("beta.example",), (CANARY,)))
    domains = {"Acme": "acme.example old.acme.example", "Beta": "beta.example", "Gamma": "gamma.example"}
    lines = [f"{name},{addresses[name]},{domains[name]}" for name in addresses]
    (world.folder / "customers.csv").write_text("\n".join(["customer,admin_email,domains", *lines, ""]))
    world.keys = {"customers": {"file": "customers.csv"}, "policy": {"max_per_run": 1000}, "mail": {"per_day": 0}}

    assert world.plan().planned == 33
    first = world.night(approve=33)
    figures("day 0", first, world)
    assert mailed_since(world, 0) == {"acme.example": 1, "beta.example": 1, "gamma.example": 1, "nobodys.example": 30}

    assert open_and_accept(world, addresses["Acme"]) == "Thank you"
    assert open_and_accept(world, addresses["Beta"]) == "You are not an organization admin"

    sent = len(world.mailed())
    by_day: dict[int, Counter[str]] = {}
    start = world.now
    for day in (1, 3, 6, 7, 8, 10):
        world.now = start + timedelta(days=day)
        figures(f"day {day}", world.night(), world)
        by_day[day], sent = mailed_since(world, sent), len(world.mailed())

    assert {day: dict(mailed) for day, mailed in by_day.items() if mailed} == {
        3: {"beta.example": 1, "gamma.example": 1, "nobodys.example": 30},  # reminders; Acme's administrator is done
        7: {"old.acme.example": 20, "beta.example": 80, "gamma.example": 70},  # whose administrator's consent did not help
        # the users' first reminder, the administrators' second
        10: {"old.acme.example": 20, "beta.example": 80 + 1, "gamma.example": 70 + 1, "nobodys.example": 30},
    }
    acme = {row["email"]: row["reason"] for row in world.report().values() if row["email"] in groups["acme.example"]}
    assert Counter(acme.values()) == {Reason.GRANTED: 100}
    assert not any(address in world.mailed() for address in groups["acme.example"])
