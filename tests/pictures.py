"""The README's pictures, as a browser shows what the program writes: `python -m tests.pictures` makes them anew."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from campaign.report import write
from tests.browser import chromium
from tests.made_up import FIRST, MadeUp
from tests.test_message import body, composer, parsed, user, wire

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FOLDER = Path(__file__).with_name("pictures")


def make(folder: Path) -> list[Path]:
    """Write the invitation and the head of a report after twenty nights as pictures."""
    with TemporaryDirectory() as scratch, chromium() as browser:
        mail, report = _mail(Path(scratch)), _report(Path(scratch))
        return [
            _shot(browser, mail, folder / "mail.png", width=620, height=700),
            _shot(browser, report, folder / "report.png", width=860, height=600),
        ]


def _mail(folder: Path) -> Path:
    path = folder / "mail.html"
    path.write_text(body(parsed(wire(composer(), user())), "html"), encoding="utf-8")
    return path


def _report(folder: Path) -> Path:
    story = MadeUp(users=940, per_night=120).play(12)
    made = write(story.rows(), folder, formats=["html"], mode=0o600, at=FIRST, background=story.background())
    return made[0]


def _shot(browser: "Browser", page: Path, picture: Path, *, width: int, height: int) -> Path:
    picture.parent.mkdir(exist_ok=True)
    tab = browser.new_page(viewport={"width": width, "height": height})
    tab.goto(page.as_uri())
    tab.screenshot(path=picture)
    tab.close()
    return picture


if __name__ == "__main__":
    make(FOLDER)
