"""From records to Users and Rejects: every row by itself first, then the several rows of one user together."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from itertools import repeat
from typing import Any

import pandas as pd
from email_validator import EmailNotValidError

from campaign.model import Reject, Roster, User, address_key, printable
from campaign.roster.checks import FIELD, NUMBER, recipient_of, unfit
from campaign.roster.header import Layout
from campaign.roster.records import Record

AGREE_ON = ("email", "name", "first_name", "last_name", "locale", "timezone", "manager_email", "wave")
POOL = 1_000  # different cells of a column that are worth sharing

Row = tuple[int, User | Reject]


def judged(chunk: list[Record], layout: Layout) -> list[Row]:
    """Every row of the chunk by itself, as a User or as a Reject with all that is wrong with it."""
    frame = _frame(chunk, layout)
    faults = _faults(frame, layout)
    return [(user.line, _reject(user, faults[user.line]) if user.line in faults else user) for user in _users(frame, layout)]


def _frame(chunk: list[Record], layout: Layout) -> pd.DataFrame:
    """The chunk by columns, under their places, indexed by line; recognised cells without the spaces around them."""
    lines, records = zip(*chunk, strict=True)
    frame = pd.DataFrame(records, columns=range(len(layout.header)), index=list(lines), dtype=object)  # nothing is inferred
    ours = {*layout.places.values(), *layout.statuses}
    for place, pool in enumerate(layout.pools):
        cells = frame[place].tolist()
        trimmed = [cell.strip(" ") for cell in cells] if place in ours else cells
        frame[place] = pd.Series(_shared(trimmed, pool), index=frame.index, dtype=object)
    return frame


def _shared(cells: list[str], pool: dict[str, str]) -> list[str]:
    """The same cells, equal ones being one object as long as there are few."""
    return cells if len(pool) > POOL else [pool.setdefault(cell, cell) for cell in cells]


def _reject(user: User, reason: str) -> Reject:
    return Reject(user.line, reason, printable(user.user_id), printable(user.email), printable(user.name))


def _faults(frame: pd.DataFrame, layout: Layout) -> dict[Hashable, str]:
    """Of every row that cannot be used: its line, and why; for each cell the first thing that is wrong with it."""
    ours = {place: name for name, place in layout.places.items()}
    reasons: dict[Hashable, list[str]] = defaultdict(list)
    for place, name in enumerate(layout.header):
        wrong = unfit(dict.fromkeys(frame[place]), ours.get(place, ""))
        if wrong:
            for line, cell in frame[place][frame[place].isin(list(wrong))].items():
                reasons[line].append(f"{printable(name)} {wrong[cell]}")
    return {line: "; ".join(faults) for line, faults in reasons.items()}


def _users(frame: pd.DataFrame, layout: Layout) -> Iterator[User]:
    """A User of every row, whether it is fit or not."""
    cells: dict[str, list[str]] = {ours: frame[place].tolist() for ours, place in layout.places.items()}
    nothing = [""] * len(frame)
    columns: dict[str, Iterable[Any]] = {
        **{field.name: cells.get(field.name, nothing) for field in fields(User)},
        "user_id": _lower(cells["user_id"]),
        "recipient": _recipients(cells["email"]),
        "manager_email": _recipients(cells.get("manager_email", nothing)),
        "line": frame.index.tolist(),
        "name": _names(*(cells.get(ours, nothing) for ours in ("name", "first_name", "last_name"))),
        "wave": [int(cell) if NUMBER.fullmatch(cell) else 0 for cell in cells.get("wave", ())] or repeat(0),
        "closed": _closed(frame, layout).tolist(),
        "header": repeat(layout.header),
        "cells": zip(*(frame[place].tolist() for place in frame), strict=True),
    }
    return map(User, *(columns[field.name] for field in fields(User)))


def _lower(cells: list[str]) -> list[str]:
    return cells if "".join(cells).islower() else [cell.lower() for cell in cells]


def _names(names: list[str], first: list[str], last: list[str]) -> list[str]:
    return names if all(names) else [name or f"{one} {two}".strip() for name, one, two in zip(names, first, last, strict=True)]


def _closed(frame: pd.DataFrame, layout: Layout) -> "pd.Series[bool]":
    closed = pd.Series(False, index=frame.index)
    for place in layout.statuses:
        closed |= frame[place].str.casefold() == "closed"
    return closed


def _recipients(addresses: list[str]) -> list[str]:
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
    ids = pd.Series([what.user_id if isinstance(what, User) else None for _, what in rows], dtype=object)
    places: dict[str, list[int]] = defaultdict(list)
    again = ids.duplicated(keep=False) & ids.notna()
    for place in again[again].index:
        places[ids[place]].append(place)
    return places.values()


def _verdicts(users: list[User]) -> Sequence[User | Reject]:
    """What becomes of the rows of one user id: all one User, closed if every row is, or all rejected."""
    first = users[0]
    second = next((user for user in users if _said(user) != _said(first)), None)
    if second is None:
        return [replace(first, closed=all(user.closed for user in users))] * len(users)
    return [_reject(user, _conflict(user, first if _said(user) != _said(first) else second)) for user in users]


def _said(user: User) -> tuple[object, ...]:
    """What all rows of one user must agree on."""
    return tuple(address_key(value) if "email" in name else value for name in AGREE_ON for value in [getattr(user, name)])


def _conflict(user: User, other: User) -> str:
    differing = [name for name, one, two in zip(AGREE_ON, _said(user), _said(other), strict=True) if one != two]
    return f"conflicts with line {other.line} of the same user id: another {', '.join(differing)}"
