import email
import email.policy
import html
import re
import resource
import signal
import threading
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import getaddresses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from campaign.customers import HEADER, Administrator
from campaign.errors import ConfigError, ExitCode, Interrupted, TemplateError
from campaign.files import shipped
from campaign.message import Composer, freeze, mark_as_test, new_message_id
from campaign.model import ESCALATION, User

URL = (
    "https://account-d.docusign.com/oauth/auth?response_type=code&scope=signature%20impersonation"
    "&client_id=7c2b8d7e-0000-4a61-9d6c-3f6f1f0f5a11&redirect_uri=https%3A%2F%2Fintranet.example.com%2Fthanks.html"
)
MEMORY = resource.getrlimit(resource.RLIMIT_AS)
MESSAGE_ID = "<contract-sender.1.0123456789abcdef0123456789abcdef@example.com>"
DATE = datetime(2026, 11, 23, 20, 15, tzinfo=UTC)
FIRST = datetime(2026, 11, 4, 20, 15, tzinfo=UTC)
FACTS: dict[str, Any] = {
    "directory": None,
    "application": "Contract Sender",
    "sender": "Contract Team <contracts@example.com>",
    "reply_to": "helpdesk@example.com",
    "consent_url": URL,
    "admin_consent_url": f"{URL}&admin_consent_scope=signature",
    "scopes": ["signature", "impersonation"],
    "account_host": "account-d.docusign.com",
}
HTML = """<!DOCTYPE html>
<html lang="en"><head></head><body>
{}
<a href="{{{{ consent_url }}}}">{{{{ consent_url }}}}</a></body></html>
"""
TEXT = "{}\n\n{{{{ consent_url }}}}\n"


def user(name: str = "Ada Lovelace", **fields: Any) -> User:
    given = {"user_id": "00000000-0000-0000-0000-000000000007", "email": "ada@example.com", "recipient": "ada@example.com"}
    return User(**{**given, "line": 2, "name": name, **fields})


def composer(**facts: Any) -> Composer:
    return Composer(**{**FACTS, **facts})


def with_templates(folder: Path, kind: str = "invite", **files: str) -> Composer:
    """A campaign whose operator has written some templates: `text`, `html` or `subject`, of the invitation or another `kind`."""
    names = {"text": "body.txt", "html": "body.html", "subject": "subject.txt"}
    (folder / kind).mkdir(parents=True, exist_ok=True)
    for part, source in files.items():
        (folder / kind / names[part]).write_text(source, encoding="utf-8")
    return composer(directory=folder)


def wire(of: Composer, to: User, step: int = 1, *, messages: int = 0, eight_bit: bool = False) -> bytes:
    message = of.compose(to, step, message_id=MESSAGE_ID, date=DATE, first_sent=FIRST, messages=messages, eight_bit=eight_bit)
    return freeze(message)


def parsed(frozen: bytes) -> EmailMessage:
    message = email.message_from_bytes(frozen, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def recipients(frozen: bytes) -> list[tuple[str, str]]:
    """Names and addresses, by the older decoder: the newer keeps blanks between encoded words before Python 3.12.9."""
    found = getaddresses([str(email.message_from_bytes(frozen)["To"])])
    return [(str(make_header(decode_header(name))), address) for name, address in found]


def refusal(of: Composer, to: User | None = None, step: int = 1) -> str:
    with pytest.raises(TemplateError) as raised:
        of.check(to or user(), step)
    return str(raised.value)


def assert_safe_on_the_wire(frozen: bytes, *, eight_bit: bool = False) -> None:
    lines = frozen.split(b"\r\n")

    assert frozen.isascii() or eight_bit
    assert frozen.endswith(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line for line in lines)
    assert max(map(len, lines)) <= 998


# --- the shipped templates


@pytest.mark.parametrize("step", [1, 2, 5])
def test_the_shipped_mails_say_what_the_reader_needs(step: int) -> None:
    message = parsed(wire(composer(), user(), step))

    for part in (body(message, "plain"), body(message, "html")):
        assert "Hello Ada Lovelace," in part
        for fact in ("Contract Sender", "ada@example.com", "Accept", "helpdesk@example.com"):
            assert fact in part
        assert "https://account-d.docusign.com/me/appconsent" in part


def test_the_invitation_lists_the_permissions_in_plain_words() -> None:
    text = body(parsed(wire(composer(scopes=["signature", "made_up"]), user())), "plain")

    assert "  - prepare documents, send them for signature, and follow what becomes\n    of them\n" in text
    assert '  - use what Docusign calls "made_up"\n' in text


def test_the_reminder_says_when_the_first_mail_came() -> None:
    assert "On 4 November 2026 we asked" in body(parsed(wire(composer(), user(), 2)), "plain")


def test_the_reminder_does_without_the_date_of_the_first_mail() -> None:
    composer().check(user(), 2)


@pytest.mark.parametrize("name", ["", "  ", "www.evil.example", "ada@example.com", "Visit evil.com", "http://evil", "N" * 5000])
def test_a_name_that_is_none_is_not_greeted(name: str) -> None:
    assert body(parsed(wire(composer(), user(name))), "plain").startswith("Hello,\n")


def test_first_and_last_name_stand_in_for_the_name() -> None:
    message = parsed(wire(composer(), user("", first_name="Ada", last_name="King")))

    assert body(message, "plain").startswith("Hello Ada King,\n")
    assert message["To"].addresses[0].display_name == "Ada King"


def test_the_url_stands_whole_in_the_source_of_an_ascii_mail() -> None:
    assert f"\r\n{URL}\r\n".encode() in wire(composer(), user())


def test_without_a_reply_address_answers_go_to_the_sender() -> None:
    message = parsed(wire(composer(reply_to=""), user()))

    assert message["Reply-To"] is None
    assert "contracts@example.com" in body(message, "plain")


def test_the_css_is_inlined_and_dark_mode_stays() -> None:
    page = body(parsed(wire(composer(), user())), "html")

    assert '<main style="max-width: 580px' in page
    assert "@media (prefers-color-scheme: dark)" in page
    assert '<html lang="en" dir="ltr">' in page


def test_the_sandbox_on_this_machine_may_be_linked_without_tls() -> None:
    text = body(parsed(wire(composer(consent_url="http://127.0.0.1:8080/oauth/auth?client_id=1"), user())), "plain")

    assert "\nhttp://127.0.0.1:8080/oauth/auth?client_id=1\n" in text
    assert "http://127.0.0.1:8080/\n" in text


@pytest.mark.parametrize(
    "url",
    [
        "http://account-d.docusign.com/oauth/auth",
        "https://account.docusign.com/oauth/auth",
        "https://account-d.docusign.com@evil.example/",
        "https://account-d.docusign.com/\nhttps://evil.example",
        'https://account-d.docusign.com/"',
        "javascript://127.0.0.1/",
        "http://account-d.docusign.com@127.0.0.1/",
    ],
)
def test_a_consent_url_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        composer(consent_url=url)


# --- headers


def test_the_headers_are_those_of_an_automatic_mail_to_one_person() -> None:
    message = parsed(wire(composer(), user()))

    assert message.keys() == [
        "From", "To", "Reply-To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress", "MIME-Version",
        "Content-Type",
    ]  # fmt: skip
    assert message["From"] == '"Contract Team" <contracts@example.com>'.replace('"', "")
    assert message["Reply-To"] == "helpdesk@example.com"
    assert message["Date"] == "Mon, 23 Nov 2026 20:15:00 +0000"
    assert message["Message-ID"] == MESSAGE_ID
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "OOF, AutoReply"
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


NASTY_NAMES = [
    'Zoë "Q" O\'Neil, Jr. <x>',
    'Ada "the Countess" Lovelace, Esq.',
    "a@b.example, Boss <boss@example.com>",
    "Ada\\",
    '"',
    "=?utf-8?q?=2C_Boss_=3Cboss=40evil=2Eexample=3E?=",
    "Группа рассылки (comment); undisclosed:",
    "👩‍👩‍👧‍👦" * 9,
    "é" * 100,
    "From now on",
    ".",
]


@pytest.mark.promise(11)
@pytest.mark.case(12)
@pytest.mark.parametrize("name", NASTY_NAMES)
def test_a_display_name_comes_back_to_the_letter_and_adds_no_recipient(name: str) -> None:
    frozen = wire(composer(), user(name))

    assert_safe_on_the_wire(frozen)
    assert recipients(frozen) == [(name, "ada@example.com")]
    assert [address.addr_spec for address in parsed(frozen)["To"].addresses] == ["ada@example.com"]


COMPOSER = composer()


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Zs"], include_characters=" "), max_size=100))
@example("0" * 100)
@example("\ud7ff" * 100)
def test_any_name_comes_back_to_the_letter(name: str) -> None:
    frozen = wire(COMPOSER, user(name))
    message = parsed(frozen)

    assert_safe_on_the_wire(frozen)
    assert recipients(frozen) == [(" ".join(name.split()), "ada@example.com")]
    assert [address.addr_spec for address in message["To"].addresses] == ["ada@example.com"]
    assert URL in body(message, "plain").split("\n")


@pytest.fixture(scope="module")
def quoting(tmp_path_factory: pytest.TempPathFactory) -> Composer:
    """A campaign whose mails show a column of the roster as it is."""
    return with_templates(tmp_path_factory.mktemp("quoting"), text=TEXT.format("|{{ user.department }}|"))


@given(cell=st.text(max_size=300), eight_bit=st.booleans())
def test_no_column_whatever_is_changed_on_the_way(quoting: Composer, cell: str, eight_bit: bool) -> None:
    try:
        frozen = wire(quoting, user(department=cell), eight_bit=eight_bit)
    except TemplateError:
        return

    assert_safe_on_the_wire(frozen, eight_bit=eight_bit)
    assert body(parsed(frozen), "plain") == f"|{cell}|\n\n{URL}\n".replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.promise(11)
@given(st.text(max_size=300))
def test_no_name_whatever_adds_a_header_or_a_recipient(name: str) -> None:
    try:
        message = parsed(wire(COMPOSER, user(name)))
    except TemplateError:
        return

    assert len(message.keys()) == 10
    assert [address.addr_spec for address in message["To"].addresses] == ["ada@example.com"]
    assert not message.defects


def test_line_breaks_in_a_name_become_blanks() -> None:
    message = parsed(wire(composer(), user("Ada\r\nBcc: boss@example.com\x0b\u2028\x85\x00\x1b\u202ex")))

    assert message["Bcc"] is None
    assert message["To"].addresses[0].display_name == "Ada Bcc: boss@example.com x"


def test_a_huge_name_is_left_out() -> None:
    assert parsed(wire(composer(), user("N" * 100_000)))["To"] == "ada@example.com"


def test_a_mailbox_beyond_ascii_is_written_as_it_is_and_nothing_else() -> None:
    frozen = wire(composer(), user("Zoë", email="zoë@example.com", recipient="zoë@example.com"))

    assert b"\r\nTo: =?utf-8?B?Wm/Dqw==?= <zo\xc3\xab@example.com>\r\n" in frozen
    assert frozen.replace("<zoë@example.com>".encode(), b"").isascii()
    assert_safe_on_the_wire(frozen, eight_bit=True)
    assert email.message_from_string(frozen.decode(), policy=email.policy.default)["To"] == "Zoë <zoë@example.com>"


def test_a_header_line_is_counted_in_octets() -> None:
    far = f"{'é' * 600}@example.com"

    with pytest.raises(ValueError, match="To cannot be"):
        wire(composer(), user(recipient=far))


@pytest.mark.parametrize("recipient", ["ada", "a@b, c@d", "Ada <a@b>", "a@b\r\nBcc: c@d", "", "a@b@c", "a\0@b", "a\x1bé@b"])
def test_what_is_no_recipient_is_not_written(recipient: str) -> None:
    with pytest.raises(ValueError):
        wire(composer(), user(recipient=recipient))


@pytest.mark.parametrize("message_id", ["", "x@y", "<a b@c>", "<a@b>\r\nBcc: c@d", "<é@b>"])
def test_what_is_no_message_id_is_not_written(message_id: str) -> None:
    with pytest.raises(ValueError):
        composer().compose(user(), 1, message_id=message_id, date=DATE)


@pytest.mark.parametrize("sender", ["", "nobody", "a@b.com, c@d.com", "Doe, Jane <j@b.com>", "A <a@b>\r\nBcc: <c@d>", "a@é.com"])
def test_a_sender_that_is_not_one_address_is_refused(sender: str) -> None:
    with pytest.raises(ConfigError, match=r"mail\.from"):
        composer(sender=sender)


def test_a_sender_with_a_difficult_name_comes_back_to_the_letter() -> None:
    (address,) = parsed(wire(composer(sender='"Müller, Jane" <jane@example.com>'), user()))["From"].addresses

    assert (address.display_name, address.addr_spec) == ("Müller, Jane", "jane@example.com")


@pytest.mark.parametrize(
    "subject",
    ["Plain", "é 🎉  blanks", "a" * 150, "ж" * 150, "=?utf-8?q?x?=", "Bcc: boss@x", "“" + "word " * 20 + "”", "x" * 70 + " é"],
)
def test_a_subject_comes_back_to_the_letter(tmp_path: Path, subject: str) -> None:
    frozen = wire(with_templates(tmp_path, subject=subject + "\n"), user())

    assert_safe_on_the_wire(frozen)
    assert parsed(frozen)["Subject"] == subject.strip()


def test_headers_go_out_as_they_were_set(tmp_path: Path) -> None:
    message_id = f"<{'x' * 200}@example.com>"
    of = with_templates(tmp_path, subject="long " * 29)
    frozen = freeze(of.compose(user("Doe, " * 15), 1, message_id=message_id, date=DATE))

    assert f"\r\nMessage-ID: {message_id}\r\n".encode() in frozen
    assert f"\r\nSubject: {('long ' * 29).strip()}\r\n".encode() in frozen
    assert f'\r\nTo: "{("Doe, " * 15).strip()}"\r\n <ada@example.com>\r\n'.encode() in frozen


@pytest.mark.parametrize("subject", ["", "\n\n", "two\nlines", "x" * 151, "a\u2028b", "a\u202eb", "a\x00b", "{{ row['x'] }}"])
def test_a_subject_that_is_not_one_line_is_refused(tmp_path: Path, subject: str) -> None:
    injected = user(header=("x",), cells=("a\r\nBcc: boss@example.com",))
    said = refusal(with_templates(tmp_path, subject=subject), injected)

    assert said.startswith(f"{tmp_path}/invite/subject.txt: the subject must be one line")
    assert said.endswith("(for ada@example.com, line 2 of the roster)")


@pytest.mark.promise(17)
def test_a_link_in_the_subject_is_refused(tmp_path: Path) -> None:
    assert "subject.txt:1: the link www.evil.example" in refusal(with_templates(tmp_path, subject="see www.evil.example"))


# --- the bytes


NASTY_TEXT = (
    "é ü 👩‍👩‍👧‍👦\n.\n..\n.\n\nFrom here on\n>From\n" + "long " * 400 + "\n" + "x" * 2000 + "\ntrailing  \n"
    "\ttab\x0c\x0b\x85\u2028\n=3D =\n."
)


@pytest.mark.parametrize("eight_bit", [True, False])
@pytest.mark.parametrize("nasty", [NASTY_TEXT, NASTY_TEXT.encode("ascii", "ignore").decode(), "short\n.\nFrom here\n blanks \n"])
def test_the_bytes_decode_to_exactly_what_was_rendered(tmp_path: Path, nasty: str, eight_bit: bool) -> None:
    of = with_templates(tmp_path, text="{{ row['x'] }}\n\n{{ consent_url }}\n", html=HTML.format("<pre>{{ row['x'] }}</pre>"))
    frozen = wire(of, user(header=("x",), cells=(nasty,)), eight_bit=eight_bit)

    assert_safe_on_the_wire(frozen)
    assert body(parsed(frozen), "plain") == f"{nasty}\n\n{URL}\n"
    assert f"<pre>{nasty}</pre>" in html.unescape(body(parsed(frozen), "html"))


def test_a_bare_cr_becomes_a_line_break(tmp_path: Path) -> None:
    of = with_templates(tmp_path, text=TEXT.format("{{ row['x'] }}"))
    breaks = user(header=("x",), cells=("one\rtwo\r\nthree\n.\r\r\n",))
    frozen = wire(of, breaks)

    assert_safe_on_the_wire(frozen)
    assert "\r" not in body(of.compose(breaks, 1, message_id=MESSAGE_ID, date=DATE), "plain")
    assert body(parsed(frozen), "plain") == f"one\ntwo\nthree\n.\n\n\n\n{URL}\n"


def test_a_line_of_998_is_kept_and_one_of_999_is_encoded(tmp_path: Path) -> None:
    kept = wire(with_templates(tmp_path, text=TEXT.format("x" * 998)), user())
    encoded = wire(with_templates(tmp_path, text=TEXT.format("x" * 999)), user())

    assert b"x" * 998 in kept
    assert b"x" * 80 not in encoded
    assert_safe_on_the_wire(encoded)


@pytest.mark.parametrize(("kept", "encoded"), [("é" * 499, "é" * 499 + "x"), ("é", "é\x1b"), ("é" + "x" * 996, "é" + "x" * 997)])
def test_eight_bits_have_the_same_bounds_counted_in_octets(tmp_path: Path, kept: str, encoded: str) -> None:
    of = with_templates(tmp_path, text=TEXT.format("{{ user.department }}"))
    as_it_is, otherwise = (wire(of, user(department=line), eight_bit=True) for line in (kept, encoded))

    assert f"\r\n{kept}\r\n".encode() in as_it_is
    assert otherwise.isascii()
    assert_safe_on_the_wire(as_it_is, eight_bit=True)
    assert_safe_on_the_wire(otherwise)


def test_a_relay_that_takes_eight_bits_gets_the_url_whole_in_a_mail_beyond_ascii() -> None:
    frozen = wire(composer(), user("Zoë"), eight_bit=True)
    message = parsed(frozen)
    encodings = [part["Content-Transfer-Encoding"] for part in message.walk()]

    assert_safe_on_the_wire(frozen, eight_bit=True)
    assert f"\r\n{URL}\r\n".encode() in frozen
    assert b"\r\nHello Zo\xc3\xab,\r\n" in frozen
    assert encodings == ["8bit", "8bit", "quoted-printable"]
    assert "Hello Zoë," in body(message, "html")


def test_any_other_relay_gets_seven_bits() -> None:
    frozen = wire(composer(), user("Zoë"))

    assert_safe_on_the_wire(frozen)
    assert [part["Content-Transfer-Encoding"] for part in parsed(frozen).walk()] == [None, "quoted-printable", "quoted-printable"]
    assert body(parsed(frozen), "plain") == body(parsed(wire(composer(), user("Zoë"), eight_bit=True)), "plain")


def test_an_ascii_mail_is_the_same_for_every_relay() -> None:
    frozen = wire(composer(), user(), eight_bit=True)

    assert frozen == wire(composer(), user())
    assert [part["Content-Transfer-Encoding"] for part in parsed(frozen).walk()] == [None, "7bit", "7bit"]


@pytest.mark.parametrize("eight_bit", [True, False])
def test_the_same_arguments_give_the_same_bytes(eight_bit: bool) -> None:
    assert wire(composer(), user("Zoë"), eight_bit=eight_bit) == wire(composer(), user("Zoë"), eight_bit=eight_bit)


def test_another_message_id_gives_another_boundary() -> None:
    one, other = (COMPOSER.compose(user(), 1, message_id=f"<{name}@example.com>", date=DATE) for name in ("one", "other"))

    assert one.get_boundary() != other.get_boundary()


def test_a_message_id_is_unguessable_and_says_nothing_of_the_user() -> None:
    ids = {new_message_id("contract-sender", 2, "example.com") for _ in range(100)}

    assert len(ids) == 100
    for message_id in ids:
        campaign, step, random = message_id.removeprefix("<").removesuffix("@example.com>").split(".")
        assert (campaign, step) == ("contract-sender", "2")
        assert len(bytes.fromhex(random)) == 16


def test_a_message_can_be_marked_as_a_test_for_somebody_else(tmp_path: Path) -> None:
    of = with_templates(tmp_path, subject="Zustimmung für Größeres")
    message = of.compose(user("Zoë", recipient="zoë@example.com"), 1, message_id=MESSAGE_ID, date=DATE)
    mark_as_test(message, "me@example.com")
    frozen = freeze(message)

    assert_safe_on_the_wire(frozen)
    assert parsed(frozen)["Subject"] == "[Test] Zustimmung für Größeres"
    assert recipients(frozen) == [("", "me@example.com")]


# --- the mail to a manager


def manager_of(name: str = "Grace Hopper", **fields: Any) -> User:
    """Somebody who has a manager."""
    return user(
        name, **{"email": "grace@example.com", "recipient": "grace@example.com", "manager_email": "boss@example.com", **fields}
    )


def test_the_manager_is_told_who_was_asked_for_what_since_when_and_how_often() -> None:
    message = parsed(wire(composer(), manager_of(), ESCALATION, messages=4))

    for part in (body(message, "plain"), body(message, "html")):
        for fact in (
            "Grace Hopper",
            "grace@example.com",
            "Contract Sender",
            "4 November 2026",
            "4 times",
            "helpdesk@example.com",
        ):
            assert fact in part


def test_the_mail_to_the_manager_goes_to_a_bare_address_and_greets_nobody_by_name() -> None:
    frozen = wire(composer(), manager_of(), ESCALATION)

    assert b"\r\nTo: boss@example.com\r\n" in frozen
    assert body(parsed(frozen), "plain").startswith("Hello,\n")
    assert "<p>Hello,</p>" in re.sub(' style="[^"]*"', "", body(parsed(frozen), "html"))


def test_a_managers_template_knows_no_name_to_greet_with(tmp_path: Path) -> None:
    of = with_templates(tmp_path, "escalation", text="Hello{{ greeting_name }}, please remind {{ full_name }}")

    assert body(parsed(wire(of, manager_of(), ESCALATION)), "plain") == "Hello, please remind Grace Hopper\n"


def test_the_mail_to_the_manager_holds_no_way_to_consent() -> None:
    frozen = wire(composer(), manager_of(), ESCALATION)
    message = parsed(frozen)

    for part in (body(message, "plain"), body(message, "html")):
        assert "://" not in part
        assert "docusign.com" not in part
    assert re.findall("href=.([^'\"]+)", body(message, "html")) == ["mailto:helpdesk@example.com"]


@pytest.mark.parametrize(("first_sent", "messages"), [(None, 0), (FIRST, 0), (FIRST, 1), (None, 3)])
def test_the_mail_to_the_manager_does_without_date_and_number(first_sent: datetime | None, messages: int) -> None:
    of = COMPOSER.compose(manager_of(), ESCALATION, message_id=MESSAGE_ID, date=DATE, first_sent=first_sent, messages=messages)
    text = body(of, "plain")

    assert ("4 November 2026." in text) == bool(first_sent)
    assert ("asked for it before." in text) == (not first_sent)
    assert "times" not in text


@pytest.mark.parametrize("name", ["", "www.evil.example", "boss@evil.example", "N" * 5000])
def test_a_name_that_is_none_is_not_shown_to_the_manager(name: str) -> None:
    text = body(parsed(wire(composer(), manager_of(name), ESCALATION)), "plain")

    assert "the manager of\n\n  grace@example.com\n" in text


def test_without_a_manager_there_is_nobody_to_write_to() -> None:
    COMPOSER.check(user(), ESCALATION)

    with pytest.raises(ValueError, match="recipient"):
        wire(COMPOSER, user(), ESCALATION)


def test_a_managers_mailbox_beyond_ascii_is_written_as_it_is() -> None:
    assert "\r\nTo: bøss@example.com\r\n".encode() in wire(COMPOSER, manager_of(manager_email="bøss@example.com"), ESCALATION)


def test_an_operators_mail_to_the_manager_needs_no_link_but_may_have_no_foreign_one(tmp_path: Path) -> None:
    plain = with_templates(tmp_path, "escalation", text="Please remind {{ user.email }}.\n", html="<p>Please remind.</p>")
    plain.check(manager_of(), ESCALATION)
    linked = {
        "text": with_templates(tmp_path / "text", "escalation", text="See https://evil.example/"),
        "html": with_templates(tmp_path / "html", "escalation", html='<a href="https://evil.example/">https://evil.example/</a>'),
        "subject": with_templates(tmp_path / "subject", "escalation", subject="See www.evil.example"),
    }

    for of in linked.values():
        assert "/escalation/" in refusal(of, manager_of(), ESCALATION)
    assert "the consent URL must stand in full" in refusal(with_templates(tmp_path / "user", text="Hello\n"))


# --- templates that are wrong, or hostile


def test_an_operators_file_overrides_one_and_the_shipped_ones_fill_the_rest(tmp_path: Path) -> None:
    message = parsed(wire(with_templates(tmp_path, subject="Ours for {{ user.first_name }}"), user(first_name="Ada")))

    assert message["Subject"] == "Ours for Ada"
    assert "What happens there" in body(message, "plain")


# --- languages


def administrator(reader: User) -> Administrator:
    """The same person as the administrator of a customer."""
    return Administrator(*reader._replace(header=HEADER, cells=("Acme Ltd", reader.email, "example.com", "")))


def in_language(of: Composer, locale: str, step: int = 1, **fields: Any) -> tuple[str, str, str]:
    message = parsed(wire(of, user(locale=locale, **fields), step))
    return message["Subject"], body(message, "plain"), body(message, "html")


def words(folder: Path, language: str, subject: str, kind: str = "invite") -> None:
    """An operator's words in a language of their own; those that ship with the program, but for the subject."""
    (folder / kind / language).mkdir(parents=True, exist_ok=True)
    shipped_words = (shipped("templates") / kind / "en" / "words.txt").read_text("utf-8")
    changed = re.sub(r"(?<={% set subject %}).*(?={% endset %})", subject, shipped_words, count=1)
    (folder / kind / language / "words.txt").write_text(changed, encoding="utf-8")
    (folder / "shared" / language).mkdir(parents=True, exist_ok=True)
    for name in ("words.txt", "scopes.txt"):
        (folder / "shared" / language / name).write_bytes((shipped("templates") / "shared" / "en" / name).read_bytes())


@pytest.mark.parametrize(
    ("locale", "subject"),
    [
        *((brazilian, "Brasil") for brazilian in ("pt-BR", "pt_BR.UTF-8", "pt-br", " pt-BR ")),
        *((another, "Portugal") for another in ("pt", "pt_PT@euro", "PT-AO", "pt-Latn-MZ")),
        *((unknown, "English") for unknown in ("xx", "Portuguese", "p", "", "../pt", "pt/../pt", "ptt")),
    ],
)
def test_a_reader_is_written_to_in_the_language_of_the_locale_or_the_nearest(tmp_path: Path, locale: str, subject: str) -> None:
    for language, said in (("pt-BR", "Brasil"), ("pt", "Portugal"), ("en", "English")):
        words(tmp_path, language, said)

    assert in_language(composer(directory=tmp_path), locale)[0] == subject


@pytest.mark.parametrize(
    ("language", "own", "of_many"),
    [
        ("en", "in your name", "in their name"),
        ("de", "in Ihrem Namen", "in deren Namen"),
        ("fr", "en votre nom", "au nom de ces utilisateurs"),
        ("es", "en su nombre", "en nombre de esos usuarios"),
        ("pt", "em seu nome", "em nome desses usuários"),
        ("ja", "お客様に代わって", "ユーザーに代わって"),
    ],
)
def test_an_administrator_reads_that_it_is_about_others(language: str, own: str, of_many: str) -> None:
    reader = user(locale=language)
    mine, theirs = (body(parsed(wire(composer(), one)), "html") for one in (reader, administrator(reader)))

    assert (own in mine, of_many in mine) == (True, False)
    assert (own in theirs, of_many in theirs) == (False, True)


def test_an_operators_template_of_one_language_leaves_the_others_alone(tmp_path: Path) -> None:
    words(tmp_path, "it", "Consenso")
    (tmp_path / "invite" / "it" / "body.txt").write_text(TEXT.format("Buongiorno {{ greeting_name }}"), encoding="utf-8")
    of = composer(directory=tmp_path)
    subject, text, page = in_language(of, "it-CH")

    assert (subject, text.split("\n")[0]) == ("Consenso", "Buongiorno Ada Lovelace")
    assert ("What happens there" in page, '<html lang="it"' in page) == (True, True)
    assert in_language(of, "en") == in_language(composer(), "en")
    assert in_language(of, "it", 2) == in_language(composer(), "en", 2)


def test_a_template_without_a_language_serves_them_all(tmp_path: Path) -> None:
    words(tmp_path, "it", "Consenso")
    (tmp_path / "invite" / "subject.txt").write_text("{{ language }}", encoding="utf-8")
    of = composer(directory=tmp_path)

    assert (in_language_subject(of, "de"), in_language_subject(of, "it")) == ("de", "it")


def in_language_subject(of: Composer, locale: str) -> str:
    return in_language(of, locale)[0]


def test_dates_and_numbers_are_those_of_the_readers_country(tmp_path: Path) -> None:
    of = with_templates(tmp_path, subject="{{ first_sent | date }}, {{ 1234.5 | number }}")

    assert in_language(of, "en-US")[0] == "November 4, 2026, 1,234.5"
    assert in_language(of, "en-GB")[0] == "4 November 2026, 1,234.5"
    assert in_language(of, "")[0] == "4 November 2026, 1,234.5"


def test_the_day_of_the_first_mail_is_that_of_the_readers_zone(tmp_path: Path) -> None:
    of = with_templates(tmp_path, subject="{{ first_sent | date }}")

    assert in_language(of, "", timezone="Asia/Tokyo")[0] == "5 November 2026"
    assert in_language(of, "", timezone="Nowhere")[0] == "4 November 2026"


def test_a_language_that_is_half_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "invite" / "it").mkdir(parents=True)
    (tmp_path / "invite" / "it" / "subject.txt").write_text("Consenso", encoding="utf-8")

    with pytest.raises(TemplateError, match=r"invite/it has neither words\.txt nor body\.txt"):
        composer(directory=tmp_path)


def test_a_language_without_the_words_that_mails_share_is_refused(tmp_path: Path) -> None:
    words(tmp_path, "it", "Consenso")
    (tmp_path / "shared" / "it" / "scopes.txt").unlink()

    with pytest.raises(TemplateError, match=f"^there is no template shared/it/scopes.txt in {tmp_path}"):
        composer(directory=tmp_path)


@pytest.mark.parametrize(("name", "called"), [("pt_BR", "pt-BR"), ("DE", "de"), ("pt-br", "pt-BR")])
def test_a_language_under_a_name_that_is_never_read_is_refused(tmp_path: Path, name: str, called: str) -> None:
    words(tmp_path, name, "x")

    with pytest.raises(TemplateError, match=f"/{name} would never be read") as raised:
        composer(directory=tmp_path)
    assert called in raised.value.advice


def test_what_is_wrong_with_a_languages_words_is_told_with_their_line(tmp_path: Path) -> None:
    words(tmp_path, "de", "See https://evil.example/")

    said = refusal(composer(directory=tmp_path), user(locale="de"))
    assert said.startswith(f"{tmp_path}/invite/de/words.txt:1: the link https://evil.example/ is not the consent URL")


def test_a_default_language_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[templates\] language is xx, and not all mails are there in it"):
        composer(language="xx")


def test_every_column_of_the_roster_reaches_templates(tmp_path: Path) -> None:
    of = with_templates(tmp_path, subject="{{ row['Cost Center'] }}, {{ user.department }}, {{ step }}")

    assert parsed(wire(of, user(header=("Cost Center",), cells=("4711",), department="Law")))["Subject"] == "4711, Law, 1"


def test_a_folder_without_templates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="holds no template"):
        composer(directory=tmp_path)
    with pytest.raises(TemplateError, match="holds no template"):
        composer(directory=tmp_path / "missing")


@pytest.mark.parametrize("name", ["body.html.j2", "Body.html", "body.htm", "subject.html"])
def test_a_template_under_a_name_that_is_never_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "invite").mkdir()
    (tmp_path / "invite" / name).touch()

    with pytest.raises(TemplateError, match=f"{name} would never be read"):
        with_templates(tmp_path, subject="x")


def test_a_missing_template_is_named_with_the_line_that_wants_it(tmp_path: Path) -> None:
    of = with_templates(tmp_path, text=TEXT.format("\n{% include 'invite/footer.txt' %}"))

    assert refusal(of).startswith(f"{tmp_path}/invite/body.txt:2: there is no template invite/footer.txt in {tmp_path}")


@pytest.mark.case(38)
def test_a_syntax_error_is_refused_at_the_start_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=rf"^{tmp_path}/invite/body\.txt:3: "):
        with_templates(tmp_path, text="one\ntwo\n{% if %}\n")


def test_a_syntax_error_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    of = with_templates(tmp_path, text="{% include 'invite/part.txt' %}")
    (tmp_path / "invite" / "part.txt").write_text("\n{{ }}")

    assert refusal(of).startswith(f"{tmp_path}/invite/part.txt:2: ")


@pytest.mark.case(38)
@pytest.mark.parametrize("wrong", ["{{ nmae }}", "{{ user.nmae }}", "{{ row['Nmae'] }}", "{% if nmae %}{% endif %}"])
def test_an_undefined_name_is_refused_with_line_and_user(tmp_path: Path, wrong: str) -> None:
    said = refusal(with_templates(tmp_path, text=f"one\n{wrong}\n"))

    assert said.startswith(f"{tmp_path}/invite/body.txt:2: ")
    assert "mae" in said
    assert said.endswith("(for ada@example.com, line 2 of the roster)")


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "invite").mkdir()
    (tmp_path / "invite" / "body.txt").write_bytes(b"one\ntwo \xfc\n")

    with pytest.raises(TemplateError, match=r"body\.txt:2: this is not UTF-8"):
        composer(directory=tmp_path)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "invite").mkdir()
    (tmp_path / "invite" / "body.txt").write_bytes(b"\xef\xbb\xbfHello\r\n\r\n{{ consent_url }}\r\n")

    assert body(parsed(wire(composer(directory=tmp_path), user())), "plain") == f"Hello\n\n{URL}\n"


def test_a_template_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="larger than 256 KiB"):
        with_templates(tmp_path, text="x" * 300_000)


HUGE = [
    "{{ 'x' * 10**9 }}",
    "{{ 10**9 * 'x' }}",
    "{{ [0] * 10**9 }}",
    "{{ 9**(9**9) }}",
    "{{ (-9)**(9**9) }}",
    "{{ 2**100000 * 2**200000 }}",
    "{{ 'x'|center(10**9) }}",
    "{{ 'x'.ljust(1000000000) }}",
    "{{ '%01000000000d' % 1 }}",
    "{{ '{:01000000000d}'.format(1) }}",
    "{{ 1|round(1000000000, 'ceil') }}",
    "{% for a in range(100000) %}{{ 'x' * 500 }}{% endfor %}",
    "{% set n = namespace(x='xxxxxxxxxxxxxxxx') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% for a in range(10**9) %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% include 'invite/body.txt' %}",
    "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
    "{{ 10**5000 }}",
    "{{ 1e308 ** 2 }}",
    "{{ 1 // 0 }}",
    "{{ '\\ud800' }}",
]


@pytest.mark.parametrize("huge", HUGE)
def test_a_template_that_eats_the_machine_is_refused_at_once(tmp_path: Path, huge: str) -> None:
    with pytest.raises(TemplateError, match=r"body\.txt") as raised:
        with_templates(tmp_path, text=f"{huge}\n").check(user(), 1)

    assert "takes longer" not in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.case(38)
def test_an_endless_loop_is_stopped_with_its_line(tmp_path: Path) -> None:
    loop = "{% for a in range(100000) %}" * 3 + "\n{% set x = 1 %}" + "{% endfor %}" * 3
    said = refusal(with_templates(tmp_path, text=f"\n{loop}\n"))

    assert re.match(rf"{tmp_path}/invite/body\.txt:[23]: takes longer than 2 seconds", said)


@pytest.mark.case(38)
def test_fifty_megabytes_are_cut_off_with_the_line(tmp_path: Path) -> None:
    fifty = "\n{% for a in range(500) %}{% for b in range(100000) %}\nx{% endfor %}{% endfor %}"
    said = refusal(with_templates(tmp_path, text=fifty))

    assert re.match(rf"{tmp_path}/invite/body\.txt:[23]: writes more than 256 KiB", said)


def test_rendering_leaves_signals_and_limits_as_they_were() -> None:
    COMPOSER.check(user(), 1)

    assert signal.getsignal(signal.SIGVTALRM) == signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)
    assert resource.getrlimit(resource.RLIMIT_AS) == MEMORY


def test_a_signal_that_stops_the_run_is_not_blamed_on_the_template(tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise Interrupted(ExitCode.SIGTERM)

    of = with_templates(tmp_path, text="{% for a in range(100000) %}" * 2 + "{% endfor %}" * 2)
    before = signal.signal(signal.SIGUSR1, stop)
    timer = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(Interrupted):
            of.check(user(), 1)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)


def test_templates_work_in_other_threads_too() -> None:
    seen: list[bytes] = []
    thread = threading.Thread(target=lambda: seen.append(wire(COMPOSER, user())))
    thread.start()
    thread.join()

    assert seen == [wire(COMPOSER, user())]


ESCAPES = [
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ user.__class__ }}",
    "{{ user['__class__'] }}",
    "{{ user|attr('__class__') }}",
    "{{ '{0.__class__}'.format(user) }}",
    "{{ (''|attr('format'))('{0.__class__}', user) }}",
    "{{ ['{0.__class__}']|map('format', user)|list }}",
    "{{ self._TemplateReference__context }}",
    "{{ row.update({'a': 1}) }}",
]


@pytest.mark.case(38)
@pytest.mark.parametrize("escape", ESCAPES)
def test_there_is_no_way_from_a_template_to_python(tmp_path: Path, escape: str) -> None:
    of = with_templates(tmp_path, subject=escape)
    try:
        said = str(parsed(wire(of, user()))["Subject"])
    except TemplateError as error:
        said = str(error)
        assert said.startswith(f"{tmp_path}/invite/subject.txt")

    assert "uid=" not in said
    assert "<class" not in said


def test_the_known_way_to_the_shell_is_refused_as_unsafe(tmp_path: Path) -> None:
    assert "unsafe" in refusal(with_templates(tmp_path, subject=ESCAPES[0]))


@pytest.mark.case(38)
@pytest.mark.parametrize("name", ["/etc/passwd", "../../../../../../../etc/passwd", "invite/../../secret.txt", "invite/link.txt"])
@pytest.mark.parametrize("how", ["include '{}'", "extends '{}'", "import '{}' as x", "include ['{}', '{}']"])
def test_nothing_outside_the_folders_is_read(tmp_path: Path, name: str, how: str) -> None:
    (tmp_path / "secret.txt").write_text("the secret")
    (tmp_path / "ours" / "invite").mkdir(parents=True)
    (tmp_path / "ours" / "invite" / "link.txt").symlink_to(tmp_path / "secret.txt")
    said = refusal(with_templates(tmp_path / "ours", text="{% " + how.format(name, name) + " %}"))

    assert said.startswith(f"{tmp_path}/ours/invite/body.txt:1: ")
    assert "secret" not in said.replace("secret.txt", "")
    assert "root:" not in said


def test_a_template_that_is_itself_a_link_to_the_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ours" / "invite").mkdir(parents=True)
    (tmp_path / "ours" / "invite" / "body.txt").symlink_to("/etc/passwd")

    with pytest.raises(TemplateError, match="outside the folder"):
        composer(directory=tmp_path / "ours")


@pytest.mark.case(39)
def test_data_is_escaped_in_html_and_only_there(tmp_path: Path) -> None:
    of = with_templates(tmp_path, text=TEXT.format("{{ user.name }}"), html=HTML.format("<p>{{ user.name }}</p>"))
    message = parsed(wire(of, user("<img src=x>")))

    assert "<p>&lt;img src=x&gt;</p>" in body(message, "html")
    assert body(message, "plain").startswith("<img src=x>\n")


@pytest.mark.case(39)
def test_data_is_escaped_in_an_included_file_whatever_its_suffix(tmp_path: Path) -> None:
    of = with_templates(tmp_path, html=HTML.format("{% include 'invite/part.html.j2' %}"))
    (tmp_path / "invite" / "part.html.j2").write_text("<p>{{ user.name }}</p>")

    assert "<p>&lt;img src=x&gt;</p>" in body(parsed(wire(of, user("<img src=x>"))), "html")


def test_data_that_a_template_does_not_escape_is_refused(tmp_path: Path) -> None:
    said = refusal(with_templates(tmp_path, html=HTML.format("<p>{{ user.name|safe }}</p>")), user("<img src=x>"))

    assert said == f"{tmp_path}/invite/body.html: <img> has no place in a mail (for ada@example.com, line 2 of the roster)"


@pytest.mark.promise(17)
@pytest.mark.parametrize("poison", ["www.evil.example", "https://evil.example/x", "evil.com", "x bit.ly/x"])
@pytest.mark.parametrize("part", ["text", "html", "subject"])
def test_data_cannot_introduce_a_link(tmp_path: Path, poison: str, part: str) -> None:
    sources = {"text": TEXT, "html": HTML, "subject": "{}"}
    of = with_templates(tmp_path, **{part: sources[part].format("{{ user.department }}")})
    of.check(user(department="Law"), 1)

    assert "is not the consent URL" in refusal(of, user(department=poison))


def test_a_domain_in_the_template_or_the_configuration_is_the_operators_choice(tmp_path: Path) -> None:
    with_templates(tmp_path, text=TEXT.format("We at Example.com")).check(user(), 1)
    composer(application="Example.com Signer").check(user(), 1)


@pytest.mark.promise(17)
@pytest.mark.case(40)
@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ('<a href="{{ consent_url }}">Review documents</a>', "a link shows “Review documents” and leads to https://account-d"),
        ('<a href="https://evil.example/">{{ consent_url }}</a>', "the link to https://evil.example/ is not the consent URL"),
        ('<a href="https://evil.example/">https://evil.example/</a>', "the link https://evil.example/ is not the consent URL"),
        ('<a href="https://bit.ly/x">https://bit.ly/x</a>', "the link https://bit.ly/x is not the consent URL"),
        ('<img src="https://evil.example/pixel.gif">', "<img> has no place in a mail"),
        ('<link rel="stylesheet" href="/etc/passwd">', "<link> has no place in a mail"),
        ('<p onclick="x()">x</p>', "the attribute onclick of <p> has no place in a mail"),
        ('<p style="background: url(x)">x</p>', "“url(” in CSS can load, hide or add content and has no place in a mail"),
        ("<svg onload=x>", "<svg> has no place in a mail"),
    ],
)
def test_deceptive_html_is_refused_with_its_line(tmp_path: Path, wrong: str, why: str) -> None:
    said = refusal(with_templates(tmp_path, html=HTML.format(f"<p>\n{wrong}</p>")))

    assert said.startswith(f"{tmp_path}/invite/body.html:4: {why}")


def test_a_text_without_the_url_on_its_own_line_is_refused(tmp_path: Path) -> None:
    said = refusal(with_templates(tmp_path, text="Hello\nopen {{ consent_url }}\n"))

    assert said.startswith(f"{tmp_path}/invite/body.txt:2: the consent URL must stand in full on a line of its own")


def test_an_html_part_of_nothing_but_tags_is_refused(tmp_path: Path) -> None:
    assert "more than 2000 tags" in refusal(with_templates(tmp_path, html=HTML.format("<div>" * 30_000)))


def test_a_template_can_allow_a_link_of_its_own(tmp_path: Path) -> None:
    link = "https://intranet.example.com/docusign"
    allow = f"{{# allow: {link} #}}\n"
    source = HTML.format(f'<a href="{link}">{link}</a>')

    with_templates(tmp_path / "allowed", html=allow + source, text=TEXT.format(link)).check(user(), 1)
    assert "body.html:3: the link " in refusal(with_templates(tmp_path / "silent", html=source))
    hidden = allow + source.replace(f">{link}<", ">our help page<")
    assert "both must be the same" in refusal(with_templates(tmp_path / "hidden", html=hidden))


def test_a_link_without_tls_cannot_be_allowed(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"body\.txt:1: only an https link can be allowed"):
        with_templates(tmp_path, text="{# allow: http://intranet.example.com/ #}")


def test_compose_refuses_what_check_refuses(tmp_path: Path) -> None:
    of = with_templates(tmp_path, text=TEXT.format("https://evil.example"))

    with pytest.raises(TemplateError):
        wire(of, user())


def test_what_is_refused_comes_with_advice(tmp_path: Path) -> None:
    with pytest.raises(TemplateError) as raised:
        with_templates(tmp_path, text="{{ nmae }}").check(user(), 1)

    assert "greeting_name" in raised.value.advice


def test_the_shipped_templates_are_all_there() -> None:
    for kind in ("invite", "reminder", "escalation"):
        assert {"subject.txt", "body.txt", "body.html"} <= {path.name for path in (shipped("templates") / kind).iterdir()}


# --- checked first, composed later


def test_a_message_that_was_checked_is_the_one_that_is_composed() -> None:
    people = [user(f"Person {number}", line=number) for number in range(1_100)]  # more than are remembered
    others = [person._replace(name="Somebody else") for person in people]
    told = composer()
    for person in people:
        told.check(person, 1, first_sent=FIRST)

    for one in (*people[:2], *people[-2:], *others[:2], *people[:2]):
        assert wire(told, one) == wire(composer(), one)
    assert wire(told, people[3], 2) == wire(composer(), people[3], 2)
    assert wire(told, people[4], 2, messages=2) == wire(composer(), people[4], 2, messages=2)
    assert b"Somebody else" in wire(told, others[5])
    assert len(told._checked) == 1_000 - 2
