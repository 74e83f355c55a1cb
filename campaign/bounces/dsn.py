"""What a delivery status notification says (RFC 3464, 6522 and 6533), read from bytes that anybody may have forged (pure).

Written by hand and flat: the standard library's parser follows every part into its parts, for as long as a sender likes.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from campaign.model import address_key, printable

MOST_BYTES = 1 << 18  # of one message that are looked at: its report and the beginning of what it returns
_MOST_PARTS = 20  # a report has three
_MOST_GROUPS = 1000  # recipients in one report; ours have one
_REPORT_TYPES = {"delivery-status", "global-delivery-status"}
_STATUS_PARTS = {"message/delivery-status", "message/global-delivery-status"}
_RETURNED_PARTS = {"message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers"}

_FIELD = re.compile(r"^([!-9;-~]{1,80}):[ \t]*(.*(?:\n[ \t].*)*)", re.MULTILINE)
_PARAMETER = re.compile(r';\s*([\w-]+)\s*=\s*(?:"([^"]*)"|([^\s;"]+))')
_GROUP_END = re.compile(r"\n[ \t]*\n")
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,900}>")
_ADDRESS_TYPE = re.compile(r"^[\w-]+\s*;\s*")
_STATUS = re.compile(r"(?<![\w.])[45]\.\d{1,3}\.\d{1,3}(?![\w-]|\.\d)")

# The codes of RFC 3463 that say: this address, or its domain, takes no mail. All others speak of us, of a passing state or of
# a policy. 5.1.7 and 5.1.8 are about the sender's address, 5.1.90 about our own limit; 5.4.1 is what Exchange Online says of an
# unknown recipient, 5.4.310 of a domain that does not exist:
# learn.microsoft.com/exchange/mail-flow-best-practices/non-delivery-reports-in-exchange-online
_BLAMES_ADDRESS = re.compile(r"5\.(0\.0|1\.(?!(7|8|90)$)\d+|2\.1|4\.(1|4|310))")


@dataclass(frozen=True, slots=True)
class Failure:
    """One recipient whom a message did not reach, as the report has it. `said` is printable."""

    message_id: str  # of the message that came back, with its angle brackets
    recipients: frozenset[str]  # the address that failed, and what it was before it was passed on, as addresses are compared
    status: str  # "5.1.1", say: class 4 or 5
    said: str  # the last words of the server that refused it


def blames_address(status: str) -> bool:
    """Whether a failure with this status means that the address itself cannot be mailed."""
    return bool(_BLAMES_ADDRESS.fullmatch(status))


def read(data: bytes) -> list[Failure]:
    """What failed for good, by this message; nothing for whatever is no report of a failure that names the message returned.

    Promises to end soon, to raise nothing, and to look only at the structure of RFC 6522: one level of parts.
    """
    about, body = _split(data[:MOST_BYTES].replace(b"\r\n", b"\n"))
    kind, parameters = _content_type(about)
    boundary = parameters.get("boundary", "")
    if kind != "multipart/report" or parameters.get("report-type", "").lower() not in _REPORT_TYPES or not boundary:
        return []
    parts = _parts(body, boundary)
    returned, _ = _split(next((content for kind, content in parts if kind in _RETURNED_PARTS), b"").lstrip(b"\n"))
    message_id = _MESSAGE_ID.search(returned.get("message-id", ""))
    status = next((content for kind, content in parts if kind in _STATUS_PARTS), b"")
    return list(_failures(message_id[0], status)) if message_id else []


def _failures(message_id: str, status: bytes) -> Iterator[Failure]:
    for group in _GROUP_END.split(status.decode("utf-8", "replace"), _MOST_GROUPS)[:_MOST_GROUPS]:
        fields = _fields(group)
        if fields.get("action", "").lower().startswith("failed") and (code := _code(fields)):
            said = fields.get("diagnostic-code", "")
            yield Failure(message_id, _recipients(fields), code, printable(said))


def _code(fields: dict[str, str]) -> str:
    """The status; where it says nothing in particular, as Exim's always does, the one within the last server's words."""
    codes = [match[0] for name in ("status", "diagnostic-code") if (match := _STATUS.search(fields.get(name, "")))]
    return next((code for code in codes if not code.endswith(".0.0")), codes[0] if codes else "")


def _recipients(fields: dict[str, str]) -> frozenset[str]:
    named = (fields.get(name, "") for name in ("final-recipient", "original-recipient"))
    return frozenset(address_key(_ADDRESS_TYPE.sub("", address).strip("<> ")) for address in named if address)


def _parts(body: bytes, boundary: str) -> list[tuple[str, bytes]]:
    """The parts between the boundary's lines: media type, and content without its transfer encoding."""
    line = re.compile(rb"^--" + re.escape(boundary.encode()) + rb"(?:--)?[ \t]*$\n?", re.MULTILINE)
    found = (_split(part) for part in line.split(body, _MOST_PARTS)[1:])
    return [(_content_type(about)[0], _decoded(about, content)) for about, content in found]


def _decoded(about: dict[str, str], content: bytes) -> bytes:
    try:
        match about.get("content-transfer-encoding", "").lower():
            case "base64":
                content = binascii.a2b_base64(content)
            case "quoted-printable":
                content = binascii.a2b_qp(content)
    except binascii.Error:
        return b""
    return content.replace(b"\r\n", b"\n")


def _content_type(about: dict[str, str]) -> tuple[str, dict[str, str]]:
    kind, semicolon, rest = about.get("content-type", "")[:1000].partition(";")
    return kind.strip().lower(), {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(semicolon + rest)}


def _split(message: bytes) -> tuple[dict[str, str], bytes]:
    """The header's fields, and what follows the first empty line."""
    header, _, body = message.partition(b"\n\n") if not message.startswith(b"\n") else (b"", b"", message[1:])
    return _fields(header.decode("utf-8", "replace")), body


def _fields(block: str) -> dict[str, str]:
    """Each field's first value, unfolded, by its name in lower case."""
    found: dict[str, str] = {}
    for name, value in _FIELD.findall(block):
        found.setdefault(name.lower(), " ".join(value.split()))
    return found
