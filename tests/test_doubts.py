"""What looks like spam is told, with its line, and refuses nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from campaign.message.doubts import doubts
from campaign.model import ESCALATION
from tests.commands import command
from tests.test_message import composer, user, with_templates
from tests.world import World, email

URL = "https://account.docusign.com/oauth/auth?client_id=1"
TEXT = f"Hello,\n\nContract Sender is to work with Docusign in your name.\n\n{URL}\n"
HTML = f"<html><head><title>x</title></head><body><p>{TEXT}</p></body></html>"


def told(subject: str = "Docusign: your consent", text: str = TEXT, html: str = "") -> list[tuple[str, str]]:
    page = html or f"<html><head><title>x</title><style>p {{ margin: 0 }}</style></head><body><p>{text}</p></body></html>"
    return [(part, doubt.what) for part, doubt in doubts(subject, text, page)]


def test_a_plain_mail_gives_no_doubt() -> None:
    assert told() == []


@pytest.mark.parametrize("locale", ["en", "de", "fr", "es", "pt", "ja"])
@pytest.mark.parametrize("step", [1, 2, 3, ESCALATION])
def test_the_shipped_mails_give_no_doubt(locale: str, step: int) -> None:
    reader = user(locale=locale, manager_email="boss@example.com")
    first = datetime(2026, 11, 4, tzinfo=UTC)

    assert composer().doubts(reader, step, first_sent=first, messages=3) == []
    assert composer().language(reader, step) == locale


@pytest.mark.parametrize(
    "pressing",
    [
        *("Act now", "it is URGENT", "click here", "within 24 hours", "your account is suspended"),
        *("dringend", "Handeln Sie sofort", "klicken Sie hier", "letzte Mahnung", "innerhalb von 24 Stunden"),
        *("c'est urgent", "immédiatement", "cliquez ici", "dernier rappel", "sous 24 h"),
        *("es urgente", "inmediatamente", "haga clic aquí", "último aviso", "en 24 horas"),
        *("é urgente", "imediatamente", "clique aqui", "último lembrete", "em 24 horas"),
        *("至急ご対応ください", "今すぐ同意", "こちらをクリックしてください", "24時間以内に", "アカウントは停止されます"),
    ],
)
def test_pressing_words_are_told_in_six_languages(pressing: str) -> None:
    assert [part for part, what in told(f"Docusign: {pressing}") if "presses the reader" in what] == ["subject.txt"]
    assert [part for part, what in told(text=f"{TEXT}\n{pressing}\n") if "presses the reader" in what] == ["body.txt"]


@pytest.mark.parametrize("quiet", ["insurgently", "reclick herein", "Versofortung", "asapa"])
def test_a_word_within_another_presses_nobody(quiet: str) -> None:
    assert told(f"Docusign: {quiet}") == []


@pytest.mark.parametrize(
    ("subject", "what"),
    [
        ("DOCUSIGN CONSENT NEEDED", "the subject is in capitals"),
        ("Docusign: your consent!", "the subject has an exclamation mark"),
        ("Docusign への同意をお願いします！", "the subject has an exclamation mark"),
    ],
)
def test_a_subject_that_shouts_is_told(subject: str, what: str) -> None:
    assert told(subject) == [("subject.txt", what)]


def test_a_short_name_in_capitals_is_no_shouting() -> None:
    assert told("ACME: consent for HR CRM") == []
    assert told(text=f"{TEXT}\nThe ACME HR CRM asks.\n") == []


def test_shouting_and_many_links_in_the_text_are_told() -> None:
    assert told(text=f"{TEXT}\nPLEASE DO THIS AT ONCE TODAY.\n") == [
        ("body.txt", "a passage in capitals: PLEASE DO THIS AT ONCE TODAY")
    ]
    assert told(text=f"{TEXT}\nThank you!!\n") == [("body.txt", "exclamation marks in a row")]
    assert told(text=TEXT + f"{URL}\n" * 6) == [("body.txt", "7 links; a filter counts more than 6 against a mail")]


@pytest.mark.parametrize("css", ["display:none", "font-size: 1px;", "visibility: hidden", "opacity:0"])
def test_what_hides_from_the_reader_is_told(css: str) -> None:
    (only,) = told(html=HTML.replace("<p>", f'<p style="{css}">'))

    assert only[0] == "body.html"
    assert "hides something from the reader" in only[1]


def test_parts_that_say_different_things_are_told() -> None:
    (only,) = told(html="<p>Hello</p>")

    assert only == ("body.html", "it does not say what the text part says: 5 letters, there 90")


def test_a_doubt_names_file_and_line_and_refuses_nothing(tmp_path: Path) -> None:
    of = with_templates(tmp_path, subject="{# ours #}\nAct now, {{ user.name }}")
    of.check(user(), 1)

    assert of.doubts(user(), 1) == [f"{tmp_path}/invite/subject.txt:2: “Act now” presses the reader, as phishing does"]


# --- where it is told


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A campaign with one pressing subject, in German, and one reader of German."""
    words = tmp_path / "work" / "words" / "invite" / "de"
    words.mkdir(parents=True)
    (words / "subject.txt").write_text("Dringend: {{ application }}", encoding="utf-8")
    with World(tmp_path / "work", {"templates": {"directory": "words"}}, live=True) as world:
        world.roster(
            [{"user_id": f"0000000{n}-0000-4000-8000-000000000000", "email": email(n), "locale": "de" * (n == 2)} for n in (1, 2)]
        )
        world.config()
        monkeypatch.chdir(world.folder)
        yield world


def test_doctor_plan_and_night_tell_it_and_go_on(world: World) -> None:
    doubt = f"{world.folder}/words/invite/de/subject.txt:1: “Dringend” presses the reader, as phishing does"
    doctor, plan, night = command("doctor"), command("plan"), command("run", "--approve", "2", "-v")

    assert f"look  templates: 6 messages to 2 users could be composed with {world.folder}/words; {doubt}\n" in doctor.stdout
    assert f"looks like spam: {doubt}\n" in plan.stdout
    assert f"looks like spam: {doubt}\n" in night.stdout
    assert (doctor.exit_code, plan.exit_code, night.exit_code) == (0, 0, 0)
    assert len(world.mailed()) == 2


def test_a_template_that_is_refused_in_one_language_stops_the_night_before_anybody_is_asked(world: World) -> None:
    (world.folder / "words" / "invite" / "de" / "subject.txt").write_text("See https://evil.example/", encoding="utf-8")
    night = command("run", "--approve", "2")

    assert night.exit_code == 2
    assert "invite/de/subject.txt:1: the link https://evil.example/ is not the consent URL" in night.stderr
    assert world.accounts.requests == []
