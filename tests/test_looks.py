"""Mails and pages as people meet them, in Chromium: read by anybody, on any screen, and nothing is fetched from anywhere."""

import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from campaign.model import ESCALATION
from tests.browser import chromium, complaints
from tests.test_message import administrator, body, composer, parsed, user, wire
from tests.world import CLIENT_ID, World, email, user_id

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.long]

LANGUAGES = ["en", "de", "fr", "es", "pt", "ja"]
STEPS = {"invite": 1, "reminder": 2, "later-reminder": 3, "escalation": ESCALATION, "administrator": 1}
OUTCOMES = {
    "?code=secret&state=x": "accepted",
    "?error=access_denied": "declined",
    "?error=server_error": "failed",
    "": "otherwise",
}
PHONE, SCREEN = {"width": 380, "height": 800}, {"width": 1200, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every mail's HTML and every page, as files."""
    folder = tmp_path_factory.mktemp("looks")
    of = composer()
    for name, page in of.pages():
        (folder / name).write_text(page, encoding="utf-8")
    (folder / "information.en.html").symlink_to("information.html")
    for language in LANGUAGES:
        people = user("山田 花子" if language == "ja" else "Ada Lovelace", locale=language, manager_email="boss@example.com")
        for kind, step in STEPS.items():
            reader = administrator(people) if kind == "administrator" else people
            (folder / f"{kind}.{language}.html").write_text(
                body(parsed(wire(of, reader, step, messages=3)), "html"), encoding="utf-8"
            )
    return folder


def opened(browser: "Browser", requests: list[str], **how: object) -> "Page":
    """A page of a visitor of its own; whatever it asks for is noted."""
    visitor = browser.new_context(**how)  # type: ignore[arg-type]  # as Playwright has it
    visitor.set_default_timeout(60_000)
    page = visitor.new_page()
    page.on("request", lambda request: requests.append(request.url))
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_everybody_can_read_it_and_nothing_is_fetched(browser: "Browser", folder: Path, language: str, scheme: str) -> None:
    requests: list[str] = []
    page = opened(browser, requests, color_scheme=scheme, locale=language)
    files = [f"{kind}.{language}.html" for kind in [*STEPS, "information"]]
    urls = [f"file://{folder}/{name}" for name in files] + [f"file://{folder}/thanks.html{query}" for query in OUTCOMES]
    for url in urls:
        page.goto(url)
        assert complaints(page) == [], url
        for size in (PHONE, SCREEN):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], url
        assert page.evaluate("document.documentElement.lang") == language, url
    page.context.close()

    assert requests == urls


def test_a_dark_screen_gets_a_dark_mail(browser: "Browser", folder: Path) -> None:
    page = opened(browser, [], color_scheme="dark")
    page.goto(f"file://{folder}/invite.en.html")

    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 25, 29)"
    page.context.close()


@pytest.mark.parametrize(("query", "outcome"), OUTCOMES.items())
def test_the_thank_you_page_tells_the_outcome_and_forgets_the_code(
    browser: "Browser", folder: Path, query: str, outcome: str
) -> None:
    page = opened(browser, [], locale="de-AT")
    page.goto(f"file://{folder}/thanks.html{query}")
    headings = {"accepted": "Vielen Dank", "declined": "Sie haben abgelehnt", "failed": "Das hat nicht geklappt"}
    expected = headings.get(outcome, "Docusign und Contract Sender")

    assert [page.inner_text("h1:visible"), page.title()] == [expected, expected]
    assert page.url == f"file://{folder}/thanks.html"
    page.context.close()


def test_a_token_behind_the_hash_is_forgotten_too(browser: "Browser", folder: Path) -> None:
    page = opened(browser, [], locale="en-US")
    page.goto(f"file://{folder}/thanks.html#access_token=secret&expires_in=3600")

    assert (page.inner_text("h1:visible"), page.url) == ("Thank you", f"file://{folder}/thanks.html")
    page.context.close()


def test_without_a_script_every_language_says_what_is_true_of_every_outcome(browser: "Browser", folder: Path) -> None:
    page = opened(browser, [], java_script_enabled=False)
    page.goto(f"file://{folder}/thanks.html?error=access_denied")

    assert page.locator("h1:visible").count() == len(LANGUAGES)
    assert "If you declined, Contract Sender was allowed nothing" in page.inner_text("main")
    assert page.title() == "Docusign and Contract Sender"
    page.context.close()


@pytest.mark.parametrize("name", ["information.html", "thanks.html"])
def test_a_page_lets_nothing_be_loaded_whatever_is_put_into_it(browser: "Browser", folder: Path, name: str) -> None:
    page = opened(browser, [])
    page.goto(f"file://{folder}/{name}")
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        fetched = page.evaluate(
            """url => {
                document.body.insertAdjacentHTML("beforeend", `<img src="${url}"><iframe src="${url}"></iframe>`);
                const script = document.createElement("script"); script.src = url; document.body.append(script);
                const patience = AbortSignal.timeout(2000);
                return fetch(url, {mode: "no-cors", signal: patience}).then(() => "fetched", error => error.name);
            }""",
            f"http://127.0.0.1:{elsewhere.getsockname()[1]}/",
        )
        page.context.close()
        asked = heard(elsewhere)

    assert (fetched, asked) == ("TypeError", b"")


def heard(server: socket.socket) -> bytes:
    """Whatever was asked of a server that nobody answers for; a browser may connect in advance, and then say nothing."""
    said = b""
    while select.select([server], [], [], 0.5)[0]:
        with server.accept()[0] as connection:
            connection.settimeout(5)
            said += connection.recv(1000)
    return said


def test_the_language_switch_needs_no_script(browser: "Browser", folder: Path) -> None:
    page = opened(browser, [], java_script_enabled=False)
    page.goto(f"file://{folder}/information.html")
    page.get_by_role("link", name="Français").click()

    assert page.inner_text("h1") == "Votre consentement pour Contract Sender dans Docusign"
    assert page.get_by_role("link", name="Français").get_attribute("aria-current") == "page"
    page.context.close()


# --- from the mail to the consent, against the sandbox


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path / "work") as world:
        world.roster([1])
        yield world


def newest_mail(world: World) -> Path:
    """The HTML part of the last mail, as a file to open."""
    path = world.folder / "mail.html"
    path.write_text(body(parsed(world.relay.accepted[-1].data.encode("latin-1")), "html"), encoding="utf-8")
    return path


def follow(page: "Page", mail: Path) -> None:
    page.goto(f"file://{mail}")
    page.locator(".url a").click()


def log_in(page: "Page") -> None:
    page.get_by_label("E-mail address or user id").fill(email(1))
    page.get_by_role("button", name="Log in").click()


def test_from_the_mail_to_the_consent_and_the_next_night_mails_nobody(browser: "Browser", world: World) -> None:
    world.night(approve=1)
    page = opened(browser, [], locale="en-GB")
    thanks = f"{world.accounts.url}/thanks"
    follow(page, newest_mail(world))
    log_in(page)
    page.get_by_role("button", name="Decline").click()
    declined = (page.inner_text("h1:visible"), page.url)
    still_lacking = world.accounts.consented(user_id(1), CLIENT_ID)
    follow(page, newest_mail(world))
    page.get_by_role("button", name="Accept").click()
    accepted = (page.inner_text("h1:visible"), page.url)
    follow(page, newest_mail(world))  # no screen any more
    again = (page.inner_text("h1:visible"), page.url)
    page.context.close()
    world.days_pass(3)
    night = world.night()

    assert (declined, still_lacking) == (("You declined", thanks), frozenset())
    assert (accepted, again) == (("Thank you", thanks), ("Thank you", thanks))
    assert world.report()[user_id(1)]["status"] == "granted"
    assert (int(night.exit_code), world.mailed()) == (0, [email(1)])


def test_who_consented_on_another_way_sees_no_screen(browser: "Browser", world: World) -> None:
    world.night(approve=1)
    world.consent(1)
    page = opened(browser, [], locale="ja")
    follow(page, newest_mail(world))
    log_in(page)

    assert (page.inner_text("h1:visible"), page.url) == ("ありがとうございました", f"{world.accounts.url}/thanks")
    page.context.close()


def test_a_redirect_uri_that_is_not_registered_ends_on_docusigns_own_words(browser: "Browser", world: World) -> None:
    world.keys["docusign"] = {"redirect_uri": f"{world.accounts.url}/thanks/"}
    world.night(approve=1)
    page = opened(browser, [])
    follow(page, newest_mail(world))

    assert page.inner_text("h1") == "The redirect URI is not registered properly with Docusign"
    page.context.close()
