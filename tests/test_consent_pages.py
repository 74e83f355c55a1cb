"""The sandbox's pages as a person meets them, in Chromium."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from campaign.sandbox import Organization, Person, Sandbox
from tests.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

CLIENT = "7c2b8d7e-7a6a-4a4f-9d13-2b1f1a1f0c11"
JANE = "0f8fad5b-d9cb-469f-a165-70867728950e"
JOE = "1f8fad5b-d9cb-469f-a165-70867728950e"
BOTH = frozenset({"signature", "impersonation"})


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    """A page of a visitor whom the sandbox has never seen, and who reads English."""
    visitor = browser.new_context(locale="en-GB")
    visitor.set_default_timeout(60_000)
    yield visitor.new_page()
    visitor.close()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    people = [(JANE, "jane@example.com", "Jane van Dyke"), (JOE, "joe@example.com", "Joe Bloggs")]
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    with Sandbox(
        people, client_id=CLIENT, application_name="Contract Sender", public_keys=[key], redirect_uris=[], folder=tmp_path
    ) as sandbox:
        yield sandbox


def link(sandbox: Sandbox, **changes: str) -> str:
    parameters = {"response_type": "code", "scope": "signature impersonation", "client_id": CLIENT} | changes
    return f"{sandbox.accounts.url}/oauth/auth?{urlencode({'redirect_uri': sandbox.thanks_uri, 'state': 's1'} | parameters)}"


def log_in(page: "Page", login: str) -> None:
    page.get_by_label("E-mail address or user id").fill(login)
    page.get_by_role("button", name="Log in").click()


def heading(page: "Page") -> str:
    return page.get_by_role("heading").inner_text()


def test_a_person_logs_in_accepts_and_is_thanked(sandbox: Sandbox, page: "Page") -> None:
    page.goto(link(sandbox))
    log_in(page, "jane@example.com")
    seen = page.inner_text("main")
    page.get_by_role("button", name="Accept").click()

    assert ["Contract Sender" in seen, "jane@example.com" in seen, "impersonation" in seen] == [True] * 3
    assert (heading(page), page.url) == ("Thank you", sandbox.thanks_uri)
    assert sandbox.accounts.consented(JANE, CLIENT) == BOTH


def test_a_person_declines_and_reads_so(sandbox: Sandbox, page: "Page") -> None:
    page.goto(link(sandbox))
    log_in(page, "jane@example.com")
    page.get_by_role("button", name="Decline").click()

    assert (heading(page), page.url) == ("You declined", sandbox.thanks_uri)
    assert sandbox.accounts.consented(JANE, CLIENT) == frozenset()


def test_who_consented_before_goes_straight_through(sandbox: Sandbox, page: "Page") -> None:
    sandbox.accounts.consent(JANE, CLIENT, BOTH)
    page.goto(link(sandbox))
    log_in(page, JANE)
    first = heading(page)
    page.goto(link(sandbox))

    assert (first, heading(page)) == ("Thank you", "Thank you")


def test_a_redirect_uri_that_is_not_registered_ends_on_docusigns_words(sandbox: Sandbox, page: "Page") -> None:
    answer = page.goto(link(sandbox, redirect_uri=f"{sandbox.thanks_uri}/"))

    assert answer
    assert (answer.status, heading(page)) == (400, "The redirect URI is not registered properly with Docusign")


def test_a_person_revokes_and_is_asked_again(sandbox: Sandbox, page: "Page") -> None:
    sandbox.accounts.consent(JANE, CLIENT, BOTH)
    page.goto(sandbox.accounts.url)
    log_in(page, "jane@example.com")
    listed = page.inner_text("main")
    page.get_by_role("button", name="Revoke").click()
    after = page.inner_text("main")
    page.goto(link(sandbox))

    assert ("Contract Sender" in listed, "Contract Sender" in after) == (True, False)
    assert sandbox.accounts.consented(JANE, CLIENT) == frozenset()
    assert heading(page) == "Allow Contract Sender?"


def test_who_is_logged_in_as_somebody_else_can_change_that(sandbox: Sandbox, page: "Page") -> None:
    page.goto(link(sandbox))
    page.get_by_role("button", name="joe@example.com").click()
    page.get_by_role("link", name="Use another account").click()
    log_in(page, "jane@example.com")
    page.get_by_role("button", name="Accept").click()

    assert (sandbox.accounts.consented(JANE, CLIENT), sandbox.accounts.consented(JOE, CLIENT)) == (BOTH, frozenset())


def test_a_mistyped_address_is_told_and_can_be_put_right(sandbox: Sandbox, page: "Page") -> None:
    page.goto(link(sandbox, prompt="login"))
    log_in(page, "jane@example.org")
    told = page.get_by_role("alert").inner_text()
    log_in(page, "jane@example.com")

    assert (told, heading(page)) == ("There is no such user.", "Allow Contract Sender?")


def admin_link(sandbox: Sandbox, **changes: str) -> str:
    return link(sandbox, scope="openid", admin_consent_scope="signature impersonation", **changes)


def test_an_organizations_administrator_consents_for_everybody_of_its_domains_and_nobody_else(
    sandbox: Sandbox, page: "Page"
) -> None:
    sandbox.accounts.add_organization(Organization("Example Ltd", ("EXAMPLE.com",), (JANE,)))
    sandbox.accounts.add_person(Person("2f8fad5b-d9cb-469f-a165-70867728950e", "ann@example.org"))
    page.goto(admin_link(sandbox))
    log_in(page, "jane@example.com")
    seen = page.inner_text("main")
    page.get_by_role("button", name="Accept").click()

    assert ["for all users" in seen, "Example Ltd" in seen, "EXAMPLE.com" in seen] == [True] * 3
    assert (heading(page), page.url) == ("Thank you", sandbox.thanks_uri)
    assert [sandbox.accounts.consented(one, CLIENT) for one in (JANE, JOE)] == [BOTH, BOTH]
    assert sandbox.accounts.consented("2f8fad5b-d9cb-469f-a165-70867728950e", CLIENT) == frozenset()


def test_who_administers_no_organization_is_told_so_in_docusigns_words(sandbox: Sandbox, page: "Page") -> None:
    sandbox.accounts.add_organization(Organization("Example Ltd", ("example.com",), (JANE,), (CLIENT,)))
    page.goto(admin_link(sandbox))
    log_in(page, "joe@example.com")
    for_all = heading(page)
    page.goto(f"{sandbox.accounts.url}/admin/connected-apps")

    assert (for_all, heading(page)) == ("You are not an organization admin", "You are not an organization admin")
    assert sandbox.accounts.consented(JOE, CLIENT) == frozenset()


def test_an_administrator_declines_and_the_link_without_openid_is_wrong(sandbox: Sandbox, page: "Page") -> None:
    sandbox.accounts.add_organization(Organization("Example Ltd", ("example.com",), (JANE,)))
    page.goto(admin_link(sandbox))
    log_in(page, "jane@example.com")
    page.get_by_role("button", name="Decline").click()
    declined = heading(page)
    page.goto(link(sandbox, admin_consent_scope="signature impersonation"))

    assert (declined, heading(page)) == ("You declined", "Something is wrong with this link")
    assert sandbox.accounts.consented(JANE, CLIENT) == frozenset()


def test_connected_apps_of_docusign_admin_authorizes_and_revokes_for_all(sandbox: Sandbox, page: "Page") -> None:
    sandbox.accounts.add_organization(Organization("Example Ltd", ("example.com",), (JANE,), (CLIENT,)))
    page.goto(f"{sandbox.accounts.url}/admin/connected-apps")
    log_in(page, "jane@example.com")
    page.get_by_label("Scopes, in space delimited format").fill("signature impersonation")
    page.get_by_role("button", name="Authorize Application").click()
    authorized = sandbox.accounts.consented(JOE, CLIENT)
    page.get_by_role("button", name="Revoke").click()

    assert (authorized, sandbox.accounts.consented(JOE, CLIENT)) == (BOTH, frozenset())
    assert "No application is authorized" in page.inner_text("main")


def test_a_domain_belongs_to_one_organization(sandbox: Sandbox) -> None:
    sandbox.accounts.add_organization(Organization("Example Ltd", ("example.com",), (JANE,)))

    with pytest.raises(ValueError, match="Example Ltd"):
        sandbox.accounts.add_organization(Organization("Other", ("Example.com",), (JOE,)))


def test_every_page_of_its_docusign_says_that_it_is_a_sandbox(sandbox: Sandbox, page: "Page") -> None:
    banners = []
    for url in (link(sandbox), link(sandbox, redirect_uri=""), f"{sandbox.accounts.url}/nowhere"):
        page.goto(url)
        banners.append(page.get_by_role("banner").inner_text())

    assert banners == ["Sandbox: a simulation on this computer, not Docusign"] * 3
