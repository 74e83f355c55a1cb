"""The header: which of the file's columns are ours, and where they stand."""

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from campaign.errors import RosterError
from campaign.model import printable
from campaign.roster.checks import HIDDEN, hidden

ALIASES = {
    "user_id": ("userid", "userguid", "apiusername", "apiuserid", "apiuserguid"),
    "email": ("email", "emailaddress", "useremail", "useremailaddress", "mail"),
    "name": ("name", "fullname", "username"),  # in Docusign's own files UserName is the person's name
    "first_name": ("firstname", "givenname"),
    "last_name": ("lastname", "familyname", "surname"),
    "locale": ("locale",),
    "timezone": ("timezone",),
    "department": ("department",),
    "manager_email": ("manageremail", "manageremailaddress"),
    "wave": ("wave",),
    "status": ("status", "userstatus", "membershipstatus"),
}
OURS = {alias: ours for ours, aliases in ALIASES.items() for alias in aliases}
WIDTH = 1_000  # columns


@dataclass(frozen=True, slots=True)
class Layout:
    """What stands where in the file."""

    header: tuple[str, ...]  # every name differs
    places: dict[str, int]  # our column → its place in the file; status is not among them
    statuses: tuple[int, ...]  # the memberships export has two
    pools: tuple[dict[str, str], ...]  # for each column the cells seen so far: equal ones share their memory


def key_of(header: str) -> str:
    """The form in which two headers are compared: without case, spaces, dashes and underscores."""
    return re.sub(r"[\s_-]", "", header).casefold()


def layout_of(header: list[str], chosen: Mapping[str, str], path: Path) -> Layout:
    """Find our columns. Raises RosterError where one is missing, or could be meant twice."""
    where = f"{path}:1"
    if len(header) > WIDTH:
        raise RosterError(f"{where}: {len(header):,} columns, more than {WIDTH:,}", "is this the roster?")
    for cell in header:
        if HIDDEN.search(cell):
            raise RosterError(f'{where}: the header "{printable(cell)}" {hidden(cell)}', "name that column anew")
    found = _recognised(header, chosen, where)
    _refuse_doubles(header, found, where)
    for ours in ("user_id", "email"):
        if ours not in found:
            raise _missing(ours, header, found, where)
    statuses = tuple(found.pop("status", ()))
    places = {ours: place for ours, (place,) in found.items()}
    return Layout(_distinct(header), places, statuses, tuple({} for _ in header))


def _recognised(header: list[str], chosen: Mapping[str, str], where: str) -> dict[str, list[int]]:
    """Our columns, and the places where each was found. What `[roster.columns]` names is not looked for elsewhere."""
    keys = [key_of(cell) for cell in header]
    found: dict[str, list[int]] = defaultdict(list)
    for ours, theirs in chosen.items():
        found[ours] = [place for place, key in enumerate(keys) if key == key_of(theirs)]
        if ours not in ALIASES or not found[ours]:
            raise _not_there(ours, theirs, header, where)
    taken = set(chain.from_iterable(found.values()))
    for place, key in enumerate(keys):
        if key in OURS and OURS[key] not in chosen and place not in taken:
            found[OURS[key]].append(place)
    return found


def _not_there(ours: str, theirs: str, header: list[str], where: str) -> RosterError:
    if ours not in ALIASES:
        return RosterError(f"[roster.columns] {printable(ours)} is no column of ours", "ours are " + ", ".join(ALIASES))
    message = f'{where}: no column "{printable(theirs)}", which [roster.columns] {ours} names'
    return RosterError(message, "the file has " + _listed(header))


def _refuse_doubles(header: list[str], found: Mapping[str, list[int]], where: str) -> None:
    """Two columns for one of ours would leave a choice; only status may be told by several, under different headers."""
    for ours, places in found.items():
        again = Counter(key_of(header[place]) for place in places).most_common(1)[0][1] > 1
        if len(places) > 1 and (ours != "status" or again):
            doubles = _listed([header[place] for place in places])
            raise RosterError(f"{where}: {doubles} all mean {ours}", f"remove one, or choose: [roster.columns] {ours} = …")
    for one, other in ((one, other) for one in found for other in found if one < other):
        if set(found[one]) & set(found[other]):
            raise RosterError(f"{where}: [roster.columns] {one} and {other} name the same column", "each needs its own")


def _missing(ours: str, header: list[str], found: Mapping[str, list[int]], where: str) -> RosterError:
    """Say what is missing, and which header may have been meant."""
    taken = set(chain.from_iterable(found.values()))
    others = {key_of(cell): cell.strip() for place, cell in enumerate(header) if place not in taken}
    near = [others[key] for alias in ALIASES[ours] for key in difflib.get_close_matches(alias, others, n=1, cutoff=0.8)]
    if near:
        advice = f'is "{printable(near[0])}" meant? Then say so: [roster.columns] {ours} = "{printable(near[0])}"'
        return RosterError(f"{where}: no column for {ours}", advice)
    if ours == "user_id" and "useremail" in map(key_of, header):
        advice = (
            "take Users → Download Users of eSignature Admin, or the memberships export of Docusign Admin: "
            "both have APIUserName, the user id"
        )
        return RosterError(f"{where}: this is a bulk-add file: it has no user ids (no column APIUserName)", advice)
    advice = f'the file has {_listed(header)}; if one of them is meant: [roster.columns] {ours} = "…"'
    return RosterError(f"{where}: no column for {ours}", advice)


def _listed(names: Iterable[str]) -> str:
    return printable(", ".join(f'"{name.strip()}"' for name in names))


def _distinct(header: list[str]) -> tuple[str, ...]:
    """The header's names; a repeated `Group` of the eSignature download becomes `Group.2`, an empty name `column 7`."""
    names: dict[str, None] = {}
    for place, cell in enumerate(header, 1):
        name = cell.strip() or f"column {place}"
        candidates = chain([name], (f"{name}.{number}" for number in count(2)))
        names[next(candidate for candidate in candidates if candidate not in names)] = None
    return tuple(names)
