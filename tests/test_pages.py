"""The static pages: what is written, what is left alone, and that nothing in them leads or loads anywhere else."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import command
from tests.test_message import URL, composer
from tests.world import World

LANGUAGES = ["de", "es", "fr", "ja", "pt"]
NAMES = {"information.html", "thanks.html", *(f"information.{language}.html" for language in LANGUAGES)}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with World(tmp_path / "work") as world:
        world.roster(range(1))
        world.config()
        monkeypatch.chdir(world.folder)
        yield world


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return dict(composer().pages())


def test_there_is_an_information_page_in_each_language_and_one_thank_you_page(pages: dict[str, str]) -> None:
    assert set(pages) == NAMES
    for language in LANGUAGES:
        assert f'<html lang="{language}"' in pages[f"information.{language}.html"]


def test_each_information_page_holds_the_link_in_full_and_leads_to_the_others(pages: dict[str, str]) -> None:
    shown = URL.replace("&", "&amp;")
    for name in NAMES - {"thanks.html"}:
        assert f'<a href="{shown}">{shown}</a>' in pages[name]
        assert set(re.findall(r'href="(information[^"]*)"', pages[name])) == NAMES - {"thanks.html"}
        assert pages[name].count('aria-current="page"') == 1


def test_the_words_are_those_of_the_mail(pages: dict[str, str]) -> None:
    for said in (
        "prepare documents, send them for signature, and follow what becomes of them",
        "act in your name, also while you are not logged in",
        'if that does not start with\n<span class="address">https://account-d.docusign.com/</span>',
        "https://account-d.docusign.com/me/appconsent",
        "helpdesk@example.com",
    ):
        assert said in pages["information.html"]


def test_a_policy_lets_nothing_run_or_load_but_what_stands_in_the_page(pages: dict[str, str]) -> None:
    for page in pages.values():
        (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
        inline = re.findall(r"<(style|script)>(.*?)</\1>", page, re.DOTALL)
        hashes = [(kind, base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()) for kind, text in inline]
        allowed = "".join(f"; {kind}-src 'sha256-{digest}'" for kind, digest in hashes)

        assert policy == f"default-src 'none'{allowed}; base-uri 'none'; form-action 'none'"
        assert page.index("Content-Security-Policy") < page.index("<style>")
        assert '<meta name="referrer" content="no-referrer">' in page
        assert not re.search(r"\s(?:src|srcset|action|ping|style|on\w+)=|@import|url\(", page)


def test_a_name_is_text_not_markup() -> None:
    for page in dict(composer(application='<script>alert("x")</script>').pages()).values():
        assert "<script>alert" not in page


def test_an_operators_words_stand_in_the_pages_too(tmp_path: Path) -> None:
    (tmp_path / "pages" / "de").mkdir(parents=True)
    (tmp_path / "pages" / "de" / "information.html").write_text(
        '<a href="{{ consent_url }}">Zur Zustimmung</a>', encoding="utf-8"
    )
    pages = dict(composer(directory=tmp_path).pages())

    assert "Zur Zustimmung" in pages["information.de.html"]
    assert pages["information.html"] == dict(composer().pages())["information.html"]


def test_a_page_without_the_link_is_refused(world: World) -> None:
    own = world.folder / "words" / "pages" / "information.html"
    own.parent.mkdir(parents=True)
    own.write_text("<p>Hello</p>", encoding="utf-8")
    world.keys["templates"] = {"directory": "words"}
    world.config()
    done = command("pages", "site")

    assert (done.exit_code, f"{own}: there must be a link to the consent URL" in done.stderr) == (2, True)
    assert not (world.folder / "site").exists()


def test_the_default_language_has_the_name_without_a_language() -> None:
    pages = dict(composer(language="fr").pages())

    assert '<html lang="fr"' in pages["information.html"]
    assert '<html lang="en"' in pages["information.en.html"]
    assert "information.fr.html" not in pages


# --- the files


def test_they_are_written_for_a_web_server_and_told_with_what_to_do(world: World) -> None:
    done = command("pages", "site")

    assert done.exit_code == 0
    assert {path.name for path in (world.folder / "site").iterdir()} == NAMES
    assert {path.stat().st_mode & 0o777 for path in (world.folder / "site").iterdir()} == {0o644}
    assert (world.folder / "site").stat().st_mode & 0o777 == 0o755
    assert done.stdout.count("wrote ") == 7
    assert f"thanks.html be what {world.accounts.url}/thanks shows" in done.stderr
    assert json.loads(command("pages", "site", "--json").stdout)["removed"] == []


def test_a_second_call_brings_its_own_files_up_to_date_and_removes_those_that_are_no_more(world: World) -> None:
    command("pages", "site")
    (world.folder / "site" / "index.html").write_text("ours", encoding="utf-8")
    (world.folder / "site" / "information.it.html").write_text("ours too", encoding="utf-8")
    world.keys = {"templates": {"language": "fr"}, "mail": {"from": "Another Sender <contracts@example.com>"}}
    world.config()
    done = command("pages", "site")

    assert done.exit_code == 0
    assert "removed site/information.fr.html" in done.stdout
    assert "Another Sender" in (world.folder / "site" / "information.html").read_text("utf-8")
    assert {path.name for path in (world.folder / "site").iterdir()} == (NAMES - {"information.fr.html"}) | {
        *("index.html", "information.it.html", "information.en.html")
    }


@pytest.mark.parametrize("how", ["another's", "changed", "a link", "a folder"])
def test_what_is_not_its_own_is_left_alone_and_then_nothing_is_written(world: World, how: str) -> None:
    command("pages", "site")
    thanks = world.folder / "site" / "thanks.html"
    before = {path.name: path.read_bytes() for path in (world.folder / "site").iterdir()}
    match how:
        case "another's":
            thanks.write_text("Thank you", encoding="utf-8")
        case "changed":
            thanks.write_text(thanks.read_text("utf-8").replace("Thank you", "Thanks"), encoding="utf-8")
        case "a link":
            thanks.rename(world.folder / "thanks.html")
            thanks.symlink_to(world.folder / "thanks.html")
        case "a folder":
            thanks.unlink()
            thanks.mkdir()
    world.keys["mail"] = {"from": "Another Sender <contracts@example.com>"}
    world.config()
    done = command("pages", "site")

    assert (done.exit_code, "site/thanks.html: not written by this program" in done.stderr) == (2, True)
    for name in NAMES - {"thanks.html"}:
        assert (world.folder / "site" / name).read_bytes() == before[name]


def test_a_bad_place_is_told_in_one_sentence(world: World) -> None:
    (world.folder / "file").write_text("x", encoding="utf-8")
    done = command("pages", "file/site")

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("campaign: file/site cannot be written: ")
