"""How a message looks on the wire: headers written by hand, parts that decode to the letter, bytes that never vary."""

import binascii
import re
import secrets
from base64 import b64encode
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy
from typing import Self

from campaign.errors import ConfigError

# Headers go out as they are set: the standard library's folding differs by version and has lost the quotes of display names.
WIRE = SMTP.clone(refold_source="none")
WIRE_UTF8 = WIRE.clone(utf8=True)  # only for a mailbox that ASCII cannot name (RFC 6532)
_FOLDED = re.compile(rb"[^\r\n]{1,900}(?:\r\n [^\r\n]{1,900})*")
_PLAIN = re.compile(r"(?!.*=\?)[\x20-\x7e]+")
_AS_IT_STANDS = re.compile(rb"(?:[\t\x20-\x7e\x80-\xff]{0,998}\n)*")  # no line too long, no NUL, CR or other control
_SHORT = 60  # characters that fit behind the name of a header
_WORD = 39  # bytes of text in an encoded word
_WORDS = r"[^\s@<>()\[\],;:\"\\\x00-\x1f\x7f-\x9f]+"
MAILBOX = re.compile(rf"{_WORDS}@{_WORDS}")
MESSAGE_ID = re.compile(r"<[!-;=?-~]+>")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def new_message_id(campaign: str, step: int, domain: str) -> str:
    """Make up `<campaign.step.random@domain>`: 128 random bits nobody can guess, and nothing of the user."""
    return f"<{campaign}.{step}.{secrets.token_hex(16)}@{domain}>"


def freeze(message: EmailMessage) -> bytes:
    """Give the bytes for the wire: lines of at most 998 octets, each ended by CRLF, the same for the same message.

    They are ASCII but for a text part that was composed for eight bits, and for the address of a mailbox that ASCII cannot name.
    """
    return message.as_bytes()


def mark_as_test(message: EmailMessage, recipient: str) -> None:
    """Turn a composed message into a test for another address, which is ASCII."""
    message.policy = WIRE
    message.replace_header("Subject", f"[Test] {message['Subject']}")
    message.replace_header("To", recipient)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address, and the name that people see with it, which may be empty."""

    name: str
    address: str

    @classmethod
    def read(cls, text: str, key: str) -> "Mailbox":
        """Read `Name <addr>` or `addr` from the configuration. Raises ConfigError."""
        header = SMTP.header_factory("From", text)
        addresses: tuple[Address, ...] = getattr(header, "addresses", ())
        found = addresses[0].addr_spec if len(addresses) == 1 and not header.defects else ""
        if not found.isascii() or not MAILBOX.fullmatch(found):
            raise ConfigError(f"{key} is not one mail address: {text!r}", "write Name <user@example.com>, commas in quotes")
        return cls(one_line(addresses[0].display_name), found)

    def header(self) -> str:
        """Write the header's value. Every reader of RFC 5322 and 2047 gets the name back to the letter."""
        if not self.name:
            return self.address
        phrase = '"' + re.sub(r'(["\\])', r"\\\1", self.name) + '"' if _PLAIN.fullmatch(self.name) else _encoded(self.name)
        fold = "\r\n" if len(phrase) + len(self.address) > _SHORT else ""
        return f"{phrase}{fold} <{self.address}>"


def unstructured(text: str) -> str:
    """Write the value of a header that is free text."""
    return text if _PLAIN.fullmatch(text) else _encoded(text)


def _encoded(text: str) -> str:
    """Write `text` as encoded words (RFC 2047), cut between characters; with `Reply-To: ` before it no line exceeds 76."""
    chunks = [b""]
    for letter in text:
        if len(chunks[-1]) + len(letter.encode()) > _WORD:
            chunks.append(b"")
        chunks[-1] += letter.encode()
    return "\r\n ".join(f"=?utf-8?B?{b64encode(chunk).decode()}?=" for chunk in chunks)


def put(message: EmailMessage, name: str, value: str) -> None:
    """Set a header that is written already. Raises ValueError if it could be taken for more than one."""
    if not _FOLDED.fullmatch(value.encode()):
        raise ValueError(f"{name} cannot be {value!r}")
    message.set_raw(name, value)


class _Written(str):
    """A header's value that goes out as it stands. What has a name the standard library neither parses nor folds anew."""

    __slots__ = ("name",)
    name: str

    @classmethod
    def of(cls, name: str, value: str) -> Self:
        """The value of the header of this name."""
        written = cls(value)
        written.name = name
        return written

    def fold(self, *, policy: EmailPolicy) -> str:
        """Write the whole header."""
        return f"{self.name}: {self}{policy.linesep}"


def describe(message: EmailMessage, content_type: str, encoding: str = "") -> None:
    """Say what a message, or a part of it, holds, and how that is encoded, if it needs to be said."""
    described = {"Content-Type": content_type, "Content-Transfer-Encoding": encoding}
    for name, value in described.items():
        if value:
            message.set_raw(name, _Written.of(name, value))


def part(subtype: str, text: str, *, eight_bit: bool = False) -> EmailMessage:
    """Make a part that decodes to exactly `text`; written as it stands where that is possible, so that the URL stays whole.

    Text beyond ASCII stands as it is only where `eight_bit` is allowed. In seven bits nothing keeps the URL whole beside it:
    quoted-printable writes every "=" as "=3D" and breaks lines at 76 (RFC 2045, 6.7), base64 hides all of it, and UTF-7 is a
    charset that mail clients no longer read.
    """
    part = EmailMessage(policy=WIRE)
    data = text.encode()
    whole = _AS_IT_STANDS.fullmatch(data) and (eight_bit or data.isascii())
    encoding = ("7bit" if data.isascii() else "8bit") if whole else "quoted-printable"
    describe(part, f'text/{subtype}; charset="utf-8"', encoding)
    part.set_payload((data if whole else binascii.b2a_qp(data, istext=True)).decode("ascii", "surrogateescape"))
    return part


def one_line(text: str) -> str:
    """Put spaces for control characters and line ends, and one space for many."""
    return " ".join(CONTROL.sub(" ", text).split())
