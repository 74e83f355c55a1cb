"""The report as somebody looks at it, in Chromium: complete without any request, right on a phone, in the dark and on paper."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from campaign.report import Background, write
from tests.browser import chromium, complaints
from tests.made_up import example
from tests.test_report import AT
from tests.test_report_html import hostile

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.long]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of three thousand users, one with hostile text in every place, and one of nobody."""
    made = example()
    given = {"typical": (made.rows(), made.background()), "hostile": hostile(), "empty": ([], Background())}
    folder = tmp_path_factory.mktemp("reports")
    paths = {}
    for name, (rows, about) in given.items():
        paths[name], _ = write(iter(rows), folder / name, formats=["html"], mode=0o600, at=AT, background=about)
    return paths


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1200])
@pytest.mark.parametrize("name", ["typical", "hostile", "empty"])
def test_it_is_complete_by_itself_fits_the_screen_and_axe_finds_nothing(
    browser: "Browser", reports: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    page = opened(browser, reports[name], width, scheme)
    widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    found, requests = complaints(page), page.evaluate("performance.getEntriesByType('resource').length")
    page.context.close()

    assert found == []
    assert widths == [width, width]
    assert requests == 0


def opened(browser: "Browser", path: Path, width: int, scheme: str) -> "Page":
    """The page, in a browser that fails the test for any request but the file itself."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert asked == [path.as_uri()]
    return page


def test_it_needs_no_script_and_holds_none(browser: "Browser", reports: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(reports["typical"].as_uri())
    said = page.inner_text("h1 + p")
    scripts = page.locator("script").count()
    context.close()

    assert "have consented" in said
    assert scripts == 0


def test_on_paper_it_is_a_few_pages_of_a4_in_ink(browser: "Browser", reports: dict[str, Path]) -> None:
    page = opened(browser, reports["typical"], 1200, "dark")
    page.emulate_media(media="print")
    colours = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    printed = page.pdf(format="A4", prefer_css_page_size=True)
    page.context.close()

    assert colours == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert 3 <= printed.count(b"/Type /Page\n") <= 7


def test_each_drawing_has_its_words_for_who_cannot_see_it(browser: "Browser", reports: dict[str, Path]) -> None:
    page = opened(browser, reports["typical"], 1200, "light")
    words = "all => all.map(one => one.getAttribute('aria-label') || one.textContent.trim())"
    named = page.get_by_role("img").evaluate_all(words)
    page.context.close()

    assert "Where the users stand" in named[0]
    assert "Users who have consented, night by night" in named[1]
    assert all(named)
