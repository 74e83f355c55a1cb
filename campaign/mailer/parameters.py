"""What MAIL FROM and RCPT TO say besides the address: size and alphabet of the message, and that a failure be told (RFC 3461)."""

import re

from campaign.errors import RelayRefused
from campaign.mailer.conversation import Conversation

_LONGEST_ENVELOPE_ID = 100  # characters of ENVID (RFC 3461, section 4.4), as they go over the wire
_NOT_XTEXT = re.compile("[^!-*,-<>-~]")  # RFC 3461, section 4: printable ASCII without "+" and "="


def mail_parameters(conversation: Conversation, data: bytes, recipient: str, envelope_id: str) -> str:
    """The parameters of MAIL FROM, each with a space before it. Raises RelayRefused for a relay that would garble the message."""
    said = [f"SIZE={len(data)}"] if conversation.has_extn("size") else []
    if not data.isascii():
        if not conversation.has_extn("8bitmime"):
            raise RelayRefused(f"{conversation.route} offers no 8BITMIME, and the message is not ASCII", "use another relay")
        said.append("BODY=8BITMIME")
    if not recipient.isascii():
        said.append("SMTPUTF8")
    if conversation.has_extn("dsn"):
        said += ["RET=HDRS", *_envelope_id(envelope_id)]
    return "".join(f" {one}" for one in said)


def rcpt_parameters(conversation: Conversation) -> str:
    """The parameters of RCPT TO. No ORCPT: what we say is the original recipient, and nobody rewrote it before us."""
    return " NOTIFY=FAILURE" if conversation.has_extn("dsn") else ""


def xtext(text: str) -> str:
    """ASCII text as a parameter bears it (RFC 3461, section 4)."""
    return _NOT_XTEXT.sub(lambda found: f"+{ord(found[0]):02X}", text)


def _envelope_id(envelope_id: str) -> list[str]:
    encoded = xtext(envelope_id)
    usable = envelope_id.isascii() and envelope_id.isprintable() and 0 < len(encoded) <= _LONGEST_ENVELOPE_ID
    return [f"ENVID={encoded}"] if usable else []
