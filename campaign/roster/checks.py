"""What can be wrong with a cell."""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from itertools import filterfalse

from email_validator import EmailNotValidError, EmailSyntaxError, validate_email

from campaign.model import printable

LOCAL_PART = 64  # octets (RFC 5321, 4.5.3.1.1), of UTF-8 too
FIELD = 320  # characters of a recognised cell: the longest address that RFC 3696 ever allowed
GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
NUMBER = re.compile(r"[+-]?[0-9]{1,9}")
# Controls, line separators, zero-width characters, bidi marks and overrides, lone surrogates.
HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")
# The addresses that nearly everybody has: everything this accepts email-validator accepts too, thirty times slower.
# No group is possessive: before Python 3.11.5 such a one may match what it does not describe (python/cpython#106052).
PLAIN = re.compile(
    r"""(?=[^@]{1,64}@.{1,63}\Z)                                # so no label can be too long either
        [a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]++(?:\.[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]++)*
        @(?:[a-zA-Z0-9]++(?:-[a-zA-Z0-9]++)*\.)+                # no "--": punycode is not for a regular expression
        (?!(?i:arpa|invalid|local|localhost|onion)\Z)[a-zA-Z]{2,}""",
    re.VERBOSE,
)

Faults = Iterator[tuple[str, str]]  # (cell, what is wrong with it)


def unfit(cells: Collection[str], ours: str) -> dict[str, str]:
    """Of the different cells of a column those that cannot be used, and why; of two reasons the later one stands."""
    wrong = dict(CHECKS[ours](cells)) if ours in CHECKS else {}
    if ours and max(map(len, cells)) > FIELD:
        wrong |= {cell: f"is longer than {FIELD} characters" for cell in cells if len(cell) > FIELD}
    if not "".join(cells).isprintable():
        wrong |= {cell: hidden(cell) for cell in cells if HIDDEN.search(cell)}
    return wrong


def hidden(cell: str) -> str:
    """Name the first hidden character of a text that has one."""
    character = HIDDEN.findall(cell)[0]
    return f"holds U+{ord(character):04X} ({unicodedata.name(character, 'a control character').lower()})"


def _guids(cells: Collection[str]) -> Faults:
    for cell in filterfalse(GUID.fullmatch, cells):
        yield cell, "is not a GUID" if cell else "is empty"


def _addresses(cells: Collection[str]) -> Faults:
    for cell in filterfalse(PLAIN.fullmatch, cells):
        try:
            recipient_of(cell[: FIELD + 1])
        except EmailNotValidError as error:
            yield cell, f"is not a usable address: {printable(str(error)).rstrip('.')}" if cell else "is empty"


def recipient_of(address: str) -> str:
    """What RCPT TO gets: the local part to the letter in NFC (RFC 6532, 3.1), the domain in A-labels (RFC 5890).

    Raises EmailNotValidError. Test domains are welcome: nothing is looked up.
    """
    checked = validate_email(address, check_deliverability=False, test_environment=True)
    local_part = unicodedata.normalize("NFC", address.rpartition("@")[0])
    if len(local_part.encode()) > LOCAL_PART:
        raise EmailSyntaxError(f"The part before the @-sign is longer than {LOCAL_PART} octets.")
    return f"{local_part}@{checked.ascii_domain}"


def _managers(cells: Collection[str]) -> Faults:
    return _addresses([cell for cell in cells if cell])


def _names_without_link(cells: Collection[str]) -> Faults:
    """The name stands in the mail, where a link would look like ours."""
    if _links("\n".join(cells)):
        yield from ((cell, "holds a link") for cell in cells if _links(cell))


def _links(text: str) -> bool:
    return "://" in text or "www." in text.casefold()


def _waves(cells: Collection[str]) -> Faults:
    for cell in filterfalse(NUMBER.fullmatch, filter(None, cells)):
        yield cell, f'is not a whole number: "{printable(cell)}"'


CHECKS: dict[str, Callable[[Collection[str]], Faults]] = {  # what is wrong with the cells of that column
    "user_id": _guids,
    "email": _addresses,
    "manager_email": _managers,
    "name": _names_without_link,
    "first_name": _names_without_link,
    "last_name": _names_without_link,
    "wave": _waves,
}
