"""What is previewed is what would be sent, for each template and each relay."""

import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests import world as worlds
from tests.commands import command
from tests.fakes import Relay
from tests.world import World, user_id

ZOE = "zoë@example.com"


def people() -> list[dict[str, str]]:
    grace = {"user_id": user_id(1), "email": worlds.email(1), "name": "Grace Hopper", "manager_email": "boss@example.com"}
    return [grace, {"user_id": user_id(2), "email": ZOE, "name": "Zoë Müller"}]


@pytest.fixture(params=["8BITMIME SMTPUTF8", "SIZE"])
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[World]:
    """A campaign whose relay takes everything, and one whose relay takes nothing but ASCII."""
    with World(tmp_path / "work", live=True, relay=Relay(offers=tuple(request.param.split()))) as world:
        world.roster(people())
        world.config()
        monkeypatch.chdir(world.folder)
        yield world


def parsed(data: bytes) -> EmailMessage:
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def quietly(*arguments: object) -> str:
    done = command(*arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


def link() -> str:
    return quietly("link").strip()


def test_an_escalation_is_previewed_as_the_manager_would_get_it(world: World) -> None:
    told = quietly("preview", worlds.email(1), "--template", "escalation")

    assert "To: boss@example.com\n" in told
    assert "  Grace Hopper\n" in told
    assert "://" not in told
    assert world.relay.connections == 0


def test_an_escalation_without_a_manager_is_refused_in_one_sentence(world: World) -> None:
    done = command("preview", ZOE, "--template", "escalation")

    assert (done.exit_code, done.stdout) == (2, "")
    assert f"the roster names no manager of {ZOE}" in done.stderr
    assert world.relay.connections == 0


@pytest.mark.parametrize("template", ["invite", "reminder", "escalation"])
def test_a_test_mail_is_written_as_its_relay_takes_it(world: World, template: str) -> None:
    quietly("preview", user_id(1), "--template", template, "--to", "me@example.com")
    [taken] = world.relay.accepted

    assert parsed(taken.data.encode("latin-1"))["To"] == "me@example.com"
    assert taken.data.isascii()


def test_a_test_mail_beyond_ascii_keeps_its_link_whole_where_the_relay_allows_it(world: World) -> None:
    quietly("preview", ZOE, "--to", "me@example.com")
    [taken] = world.relay.accepted
    headers, _, body = taken.data.encode("latin-1").partition(b"\r\n\r\n")
    eight_bit = "8BITMIME" in world.relay.offers

    assert headers.isascii()
    assert body.isascii() != eight_bit
    assert (f"\r\n{link()}\r\n".encode() in body) == eight_bit
    assert parsed(taken.data.encode("latin-1"))["Subject"].startswith("[Test] ")


def test_a_saved_preview_is_what_most_relays_would_get(world: World) -> None:
    quietly("preview", ZOE, "--out", "preview.eml")
    frozen = (world.folder / "preview.eml").read_bytes()

    assert f"\r\n{link()}\r\n".encode() in frozen
    assert f"<{ZOE}>\r\n".encode() in frozen
    assert parsed(frozen)["Content-Transfer-Encoding"] == "8bit"


@pytest.mark.parametrize("locale", ["de", "fr_FR.UTF-8", "es-MX", "pt-BR", "ja"])
def test_a_message_is_previewed_in_the_language_that_is_asked_for(world: World, locale: str) -> None:
    quietly("preview", user_id(1), "--locale", locale, "--template", "later-reminder", "--out", "preview.html")

    assert f'<html lang="{locale[:2]}"' in (world.folder / "preview.html").read_text("utf-8")


def test_a_language_that_there_is_no_mail_in_is_refused_with_those_that_there_are(world: World) -> None:
    done = command("preview", user_id(1), "--locale", "xx")

    assert done.exit_code == 2
    assert "there is no such mail in 'xx'" in done.stderr
    assert "de, en, es, fr, ja, pt" in done.stderr
    assert world.relay.connections == 0


def test_a_template_that_is_wrong_is_told_before_the_relay_is_asked(world: World) -> None:
    (world.folder / "templates" / "invite").mkdir(parents=True)
    (world.folder / "templates" / "invite" / "body.txt").write_text("Hello\n", encoding="utf-8")
    world.keys = {"templates": {"directory": "templates"}}
    world.config()
    done = command("preview", user_id(1), "--to", "me@example.com")

    assert done.exit_code == 2
    assert "the consent URL must stand in full" in done.stderr
    assert world.relay.connections == 0


def test_the_folder_that_is_laid_out_holds_the_managers_mail_too(tmp_path: Path) -> None:
    command("init", tmp_path / "work")

    assert {path.name for path in (tmp_path / "work" / "templates" / "escalation").iterdir()} == {
        "subject.txt",
        "body.txt",
        "body.html",
        *("de", "en", "es", "fr", "ja", "pt"),
    }
