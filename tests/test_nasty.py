"""What is rendered is what arrives: each nasty mail, written for relays of eight bits and of seven."""

import csv
import email
import email.policy
import quopri
import re
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import pytest

from campaign import roster
from campaign.message import Composer, freeze
from campaign.model import User
from tests.nasty import NASTY, Nasty, write_templates

URL = "https://account.docusign.com/oauth/auth?response_type=code&scope=signature%20impersonation&client_id=7c2b8d7e"
ENCODINGS = {b"7bit", b"8bit", b"quoted-printable"}
each_of_them = pytest.mark.parametrize("nasty", NASTY, ids=lambda nasty: nasty.name)
for_both_relays = pytest.mark.parametrize("eight_bit", [True, False])


@pytest.fixture(scope="module")
def composer(tmp_path_factory: pytest.TempPathFactory) -> Composer:
    return Composer(
        directory=write_templates(tmp_path_factory.mktemp("templates")),
        application="Contract Sender",
        sender="contracts@example.com",
        reply_to="",
        consent_url=URL,
        admin_consent_url=URL,
        scopes=["signature", "impersonation"],
        account_host="account.docusign.com",
    )


def user(nasty: Nasty) -> User:
    """The user of that row, as if the roster let everything through."""
    row = nasty.user(1)
    header, cells = tuple(row), tuple(row.values())
    return User(row["user_id"], row["email"], row["email"], line=2, name=row["name"], header=header, cells=cells)


def wire(composer: Composer, nasty: Nasty, *, eight_bit: bool) -> bytes:
    date = datetime(2026, 11, 23, 20, 15, tzinfo=UTC)
    return freeze(composer.compose(user(nasty), 1, message_id="<test.1.0@example.com>", date=date, eight_bit=eight_bit))


def text_part(frozen: bytes) -> tuple[bytes, bytes]:
    """The encoding and the body of the text part, by hand: what stands between the first two delimiters (RFC 2046, 5.1.1)."""
    found = re.search(rb'boundary="([^"]+)"', frozen)
    assert found
    first = frozen.split(b"\r\n--" + found[1])[1]
    headers, _, content = first.partition(b"\r\n\r\n")
    encodings = re.findall(rb"\r\nContent-Transfer-Encoding: (.+)", headers)
    assert len(encodings) == 1
    return encodings[0], content


@pytest.mark.case(11, 12)
@each_of_them
@for_both_relays
def test_the_standard_library_reads_exactly_what_was_rendered(composer: Composer, nasty: Nasty, eight_bit: bool) -> None:
    message = email.message_from_bytes(wire(composer, nasty, eight_bit=eight_bit), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    text = message.get_body(("plain",))

    assert text
    assert text.get_content().replace("\r\n", "\n") == nasty.text(URL)
    assert not message.defects
    assert len(message.keys()) == (10 if message["Content-Transfer-Encoding"] else 9)
    assert [address.addr_spec for address in message["To"].addresses] == [user(nasty).email]


@pytest.mark.case(11, 12)
@each_of_them
@for_both_relays
def test_so_does_who_decodes_the_bytes_by_hand(composer: Composer, nasty: Nasty, eight_bit: bool) -> None:
    encoding, content = text_part(wire(composer, nasty, eight_bit=eight_bit))
    decoded = quopri.decodestring(content) if encoding == b"quoted-printable" else content

    assert encoding in ENCODINGS
    assert decoded.decode() == nasty.text(URL).replace("\n", "\r\n")


@pytest.mark.case(11)
@each_of_them
@for_both_relays
def test_no_line_is_too_long_and_none_ends_in_anything_but_crlf(composer: Composer, nasty: Nasty, eight_bit: bool) -> None:
    frozen = wire(composer, nasty, eight_bit=eight_bit)
    lines = frozen.split(b"\r\n")

    assert lines[-1] == b""
    assert max(map(len, lines)) <= 998
    assert not any(re.search(rb"[\0\r\n]", line) for line in lines)
    assert frozen.isascii() or eight_bit


@each_of_them
def test_the_consent_url_is_whole_in_the_source_wherever_the_text_can_stand_as_it_is(composer: Composer, nasty: Nasty) -> None:
    lines = nasty.text(URL).encode().split(b"\n")
    as_it_stands = all(re.fullmatch(rb"[^\x00-\x08\x0b-\x1f\x7f]{0,998}", line) for line in lines)
    encoding, content = text_part(wire(composer, nasty, eight_bit=True))

    assert (encoding != b"quoted-printable") == as_it_stands
    assert (f"\r\n{URL}\r\n".encode() in b"\r\n" + content) == as_it_stands


@pytest.mark.promise(12)
@pytest.mark.case(33)
def test_the_roster_rejects_what_it_should_and_lets_the_rest_through_to_the_letter(tmp_path: Path) -> None:
    rows = [nasty.user(number) for number, nasty in enumerate(NASTY, 1)]
    with (tmp_path / "roster.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    read = roster.read(tmp_path / "roster.csv")

    assert [user.row for user in read.users] == [row for row, nasty in zip(rows, NASTY, strict=True) if not nasty.refused]
    assert [re.findall(r"U\+....", reject.reason) for reject in read.rejects] == [["U+000D"], ["U+001B"]]
