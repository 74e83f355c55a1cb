"""From records to Users and Rejects: every row by itself first, then the several rows of one user together."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Sequence
from itertools import repeat
from typing import Any

from email_validator import EmailNotValidError

from campaign.model import Reject, Roster, User, address_key, printable
from campaign.roster.checks import FIELD, NUMBER, recipient_of, unfit
from campaign.roster.header import Layout
from campaign.roster.records import Chunk

AGREE_ON = ("email", "name", "first_name", "last_name", "locale", "timezone", "manager_email", "wave")
POOL = 1_000  # different cells of a column that are worth sharing

Row = tuple[int, User | Reject]
Column = Sequence[str]


def judged(chunk: Chunk, layout: Layout) -> list[Row]:
    """Every row of the chunk by itself, as a User or as a Reject with all that is wrong with it."""
    columns, wrong = [], []
    ours = {place: name for name, place in layout.places.items()}
    for place, cells in enumerate(zip(*chunk.records, strict=True)):
        column, different = _tidied(cells, layout.pools[place], trim=place in ours or place in layout.statuses)
        columns.append(column)
        wrong.append(unfit(different, ours.get(place, "")))
    users = _users(chunk.lines, columns, layout)
    if not any(wrong):
        return [*zip(chunk.lines, users, strict=True)]
    faults = _faults(chunk.lines, columns, wrong, layout)
    return [
        (line, _reject(user, faults[line]) if line in faults else user) for line, user in zip(chunk.lines, users, strict=True)
    ]


def _tidied(cells: Column, pool: dict[str, str], *, trim: bool) -> tuple[Column, Collection[str]]:
    """The cells of a column, if need be without the spaces around them, and the different ones among them.

    Equal ones are one object, also from chunk to chunk, as long as there are few; where there are many nobody counts them.
    """
    if len(pool) > POOL:
        tidy = [*map(str.strip, cells, repeat(" "))] if trim else cells
        return tidy, tidy
    shared = {cell: cell.strip(" ") if trim else cell for cell in set(cells)}
    shared = {cell: pool.setdefault(tidy, tidy) for cell, tidy in shared.items()}
    return [*map(shared.__getitem__, cells)], set(shared.values())


def _reject(user: User, reason: str) -> Reject:
    return Reject(user.line, reason, printable(user.user_id), printable(user.email), printable(user.name))


def _faults(lines: Sequence[int], columns: list[Column], wrong: list[dict[str, str]], layout: Layout) -> dict[Hashable, str]:
    """Of every row that cannot be used: its line, and why; for each cell the first thing that is wrong with it."""
    import pandas as pd  # half a second: only where something is wrong

    reasons: dict[Hashable, list[str]] = defaultdict(list)
    for name, column, faults in zip(layout.header, columns, wrong, strict=True):
        if faults:
            found = pd.Series([*column], index=[*lines], dtype=object)
            for line, cell in found[found.isin(list(faults))].items():
                reasons[line].append(f"{printable(name)} {faults[cell]}")
    return {line: "; ".join(faults) for line, faults in reasons.items()}


def _users(lines: Sequence[int], columns: list[Column], layout: Layout) -> Iterable[User]:
    """A User of every row, whether it is fit or not."""
    cells: dict[str, Column] = {ours: columns[place] for ours, place in layout.places.items()}
    nothing = [""] * len(lines)
    fields: dict[str, Iterable[Any]] = {
        **{name: cells.get(name, nothing) for name in User._fields},
        "user_id": _lower(cells["user_id"]),
        "recipient": _recipients(cells["email"]),
        "manager_email": _recipients(cells.get("manager_email", nothing)),
        "line": lines,
        "name": _names(*(cells.get(ours, nothing) for ours in ("name", "first_name", "last_name"))),
        "wave": [int(cell) if NUMBER.fullmatch(cell) else 0 for cell in cells.get("wave", ())] or repeat(0),
        "closed": _closed([columns[place] for place in layout.statuses]) or repeat(False),
        "header": repeat(layout.header),
        "cells": zip(*columns, strict=True),
    }
    rows = zip(*fields.values(), strict=False)  # as long as the columns are, not what is repeated
    return map(tuple.__new__, repeat(User), rows)  # what User._make does, without a call in Python for each


def _lower(cells: Column) -> Column:
    together = "".join(cells)
    return cells if together == together.lower() else [cell.lower() for cell in cells]


def _names(names: Column, first: Column, last: Column) -> Column:
    return names if all(names) else [name or f"{one} {two}".strip() for name, one, two in zip(names, first, last, strict=True)]


def _closed(statuses: list[Column]) -> list[bool]:
    """Whether any status says so, for every row; nothing where none does."""
    closed = {status for column in statuses for status in set(column) if status.casefold() == "closed"}
    return [not closed.isdisjoint(row) for row in zip(*statuses, strict=True)] if closed else []


def _recipients(addresses: Column) -> Column:
    """What RCPT TO gets; ASCII stays as it is, and so does what is no address."""
    return addresses if "".join(addresses).isascii() else [_recipient(address) for address in addresses]


def _recipient(address: str) -> str:
    if address.isascii() or len(address) > FIELD:
        return address
    try:
        return recipient_of(address)
    except EmailNotValidError:
        return address


# Several rows of one user


def settled(rows: list[Row]) -> Roster:
    """Make rows of the same user id that agree one User, and reject those that do not."""
    for places in _repeated(rows):
        users = [user for _, user in (rows[place] for place in places) if isinstance(user, User)]
        for place, verdict in zip(places, _verdicts(users), strict=True):
            rows[place] = (rows[place][0], verdict)
    return Roster(
        users=tuple(user for line, user in rows if isinstance(user, User) and user.line == line),
        rejects=tuple(reject for _, reject in rows if isinstance(reject, Reject)),
        rows=tuple(rows),
    )


def _repeated(rows: list[Row]) -> Iterable[list[int]]:
    """The places in `rows` of each user who has several. A row that is rejected already says nothing about anybody."""
    ids = [what.user_id for _, what in rows]
    if len(set(ids)) == len(ids):
        return []
    import pandas as pd  # as above

    again = pd.Series(ids, dtype=object).duplicated(keep=False)
    places: dict[str, list[int]] = defaultdict(list)
    for place in again[again].index:
        if isinstance(rows[place][1], User):
            places[ids[place]].append(place)
    return [several for several in places.values() if len(several) > 1]


def _verdicts(users: list[User]) -> Sequence[User | Reject]:
    """What becomes of the rows of one user id: all one User, closed if every row is, or all rejected."""
    first = users[0]
    second = next((user for user in users if _said(user) != _said(first)), None)
    if second is None:
        return [first._replace(closed=all(user.closed for user in users))] * len(users)
    return [_reject(user, _conflict(user, first if _said(user) != _said(first) else second)) for user in users]


def _said(user: User) -> tuple[object, ...]:
    """What all rows of one user must agree on."""
    return tuple(address_key(value) if "email" in name else value for name in AGREE_ON for value in [getattr(user, name)])


def _conflict(user: User, other: User) -> str:
    differing = [name for name, one, two in zip(AGREE_ON, _said(user), _said(other), strict=True) if one != two]
    return f"conflicts with line {other.line} of the same user id: another {', '.join(differing)}"
