"""Reads `[customers] file`: a CSV file with one row a customer, as strictly as the roster.

The file is small and kept by hand. A mistake in it would send mail to users who should be left alone, so one that leaves it
open whose users are whose refuses the file. Where only the administrator cannot be used, the row keeps its users from mail.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from email_validator import EmailNotValidError, validate_email

from campaign.customers import HEADER, Administrator, customer_id
from campaign.domains import PUBLIC
from campaign.errors import RosterError
from campaign.model import printable
from campaign.roster.checks import recipient_of, unfit
from campaign.roster.header import key_of
from campaign.roster.records import Records, chunks, decoded

_COLUMNS = {"customer": "customer", "adminemail": "admin_email", "domains": "domains", "locale": "locale"}
_NEEDED = ("customer", "admin_email", "domains")
_MOST = 100_000  # rows
_ADVICE = "see [customers] file in campaign.toml: a header customer,admin_email,domains and one row a customer"


def customers_of(path: Path, *, encoding: str = "") -> tuple[Administrator, ...]:
    """Every customer, in the file's order; one with a `fault` has no administrator who can be asked.

    Several domains in a cell are separated by spaces, commas or semicolons. Raises RosterError, with file and line, for what
    refuses the roster too, a customer or a domain that stands there twice, and a domain that is none or a mail provider's.
    """
    with decoded(path, encoding, _MOST, "customers") as text:
        records = Records(text, path, {name: name for name in _NEEDED})
        places = _places(records.take(1).records[0], path)
        rows = [row for chunk in chunks(records, places.width, _MOST, path) for row in zip(*chunk, strict=True)]
    if not rows:
        raise RosterError(f"{path}: there are no customers in it", _ADVICE)
    return tuple(_distinct([_administrator(line, cells, places, path) for line, cells in rows], path))


@dataclass(frozen=True, slots=True)
class _Places:
    width: int
    of: dict[str, int]

    def cell(self, cells: Sequence[str], column: str) -> str:
        return cells[self.of[column]].strip() if column in self.of else ""


def _places(header: Sequence[str], path: Path) -> _Places:
    found = [(_COLUMNS[key_of(cell)], place) for place, cell in enumerate(header) if key_of(cell) in _COLUMNS]
    of = dict(found)
    if missing := [name for name in _NEEDED if name not in of]:
        raise RosterError(f"{path}:1: no column {missing[0]}", _ADVICE)
    if len(found) > len(of):
        raise RosterError(f"{path}:1: a column stands there twice", _ADVICE)
    return _Places(len(header), of)


def _administrator(line: int, cells: Sequence[str], places: _Places, path: Path) -> Administrator:
    name, email, locale = (places.cell(cells, column) for column in ("customer", "admin_email", "locale"))
    fault = next(_faults(name, email), "")
    return Administrator(
        user_id=customer_id(printable(name)),
        email=printable(email),
        recipient="" if fault else recipient_of(email),
        line=line,
        name=printable(name),
        locale=locale,
        header=HEADER,
        cells=(name, email, " ".join(_domains(places.cell(cells, "domains"), f"{path}:{line}")), fault),
    )


def _faults(name: str, email: str) -> Iterator[str]:
    for column, kind, cell in (("customer", "name", name), ("admin_email", "email", email)):
        yield from (f"{column} {what}" for what in unfit([cell], kind).values())
    if not name:
        yield "customer is empty"


def _domains(cell: str, where: str) -> Iterator[str]:
    """The domains in A-labels and lower case (RFC 5890), each once."""
    words = dict.fromkeys(word.lower() for word in re.split(r"[\s,;]+", cell) if word)
    if not words:
        raise RosterError(f"{where}: no domains", "name the domains of the customer's users: acme.example acme.co.example")
    for word in words:
        name = _domain(word)
        if name is None:
            raise RosterError(f'{where}: "{printable(word)}" is no domain', "write domains as example.com, without @")
        if name in PUBLIC:
            raise RosterError(f"{where}: {name} is a mail provider's: no organization can claim it", "leave it out")
        yield name


def _domain(word: str) -> str | None:
    try:
        return str(validate_email(f"x@{word}", check_deliverability=False, test_environment=True).ascii_domain).lower()
    except EmailNotValidError:
        return None


def _distinct(administrators: Iterable[Administrator], path: Path) -> Iterator[Administrator]:
    """Raise RosterError where a customer or a domain stands in two rows: nobody could say whom to ask for its users."""
    lines: dict[str, int] = {}
    for one in administrators:
        named = {one.user_id: f"the customer {one.name}"} if one.name else {}
        for key, what in {**named, **{domain: f"the domain {domain}" for domain in one.domains}}.items():
            if key in lines:
                raise RosterError(f"{path}:{one.line}: {what} stands in line {lines[key]}, too", "each stands in one row")
            lines[key] = one.line
        yield one
