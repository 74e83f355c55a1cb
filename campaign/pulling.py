"""Writes the roster from Docusign's own list of users, acting as an administrator who has consented."""

import csv
import re
from collections.abc import Iterable
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from campaign.config import Config
from campaign.docusign import Signer, load_key
from campaign.docusign.acting import Acting
from campaign.docusign.people import Account, Member, accounts, of_account, of_organization
from campaign.errors import GuardTripped, LedgerError, UsageError
from campaign.explaining import in_roster, one_of
from campaign.files import replaced
from campaign.given import Means
from campaign.stopping import stop_if_asked

HEADER = ("user_id", "email", "name", "first_name", "last_name", "status", "company", "job_title")
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ESIGNATURE, _ADMIN = ("signature", "impersonation"), ("user_read", "impersonation")  # all that the token may do
_LONGEST = 1000  # characters of a cell; longer ones are refused with their row when the roster is read


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was written."""

    file: Path
    source: str
    users: int
    closed: int  # of these

    def as_text(self) -> str:
        """One line."""
        return f"{self.file}: {self.users} users of {self.source}, {self.closed} of them closed"

    def as_json(self) -> dict[str, Any]:
        """The same for scripts."""
        return {"file": str(self.file), "source": self.source, "users": self.users, "closed": self.closed}


def pull(  # noqa: PLR0913  # each is an option of the command
    config: Config, means: Means, who: str, *, out: Path | None = None, account: str = "", organization: str = ""
) -> Pulled:
    """List the users of one account of the administrator `who`, or of an organization, and replace the roster in one step.

    Closed users are marked by their status. The file that is there is left alone unless the whole list was read and holds
    somebody, and unless an earlier pull wrote it. Raises UsageError, ConfigError, GuardTripped, DocusignRefused,
    DocusignUnreachable, LedgerError where the disk fails.
    """
    if organization and not _GUID.fullmatch(organization):
        raise UsageError(f"{organization} is not the id of an organization", "it stands in Docusign Admin: 00000000-0000-…")
    target, user_id = out or config.roster.file, _administrator(config, who)
    _refuse_foreign(target)
    stop_if_asked(means.stop, config.stop_file)
    docusign = config.docusign.model_copy(update={"scopes": _ADMIN if organization else _ESIGNATURE})
    signer = Signer(docusign, load_key(docusign.private_key_file))
    waits = means.waits
    with closing(Acting(docusign, signer, means.clock, means.stop, back_off=waits.probe, burst=waits.burst)) as acting:
        acting.begin(user_id)
        own = accounts(acting, docusign)
        if organization:
            source, members = f"organization {organization}", of_organization(acting, docusign, organization, own)
        else:
            chosen = _chosen(own, account)
            source, members = f"account {chosen.name or chosen.account_id}", of_account(acting, chosen)
    stop_if_asked(means.stop, config.stop_file)
    return Pulled(target, source, len(members), _write(members, target, source))


def _administrator(config: Config, who: str) -> str:
    """The user id that is meant; an address is looked up in the roster that is there. Raises UsageError, RosterError."""
    if _GUID.fullmatch(who):
        return who.lower()
    if not config.roster.file.exists():
        raise UsageError(f"there is no roster yet to look {who} up in", "give the user id (Docusign Admin, Users, API Username)")
    return one_of([*dict.fromkeys(row.user_id for row in in_roster(config, who))], who)


def _chosen(own: list[Account], wanted: str) -> Account:
    """The account that is named, or else the default one. Raises UsageError."""
    fits = [one for one in own if (one.account_id == wanted.lower() if wanted else one.is_default or len(own) == 1)]
    if not fits or not fits[0].account_id:
        listed = ", ".join(f"{one.account_id} ({one.name})" for one in own) or "none"
        raise UsageError(f"the user that --as names has no account {wanted or 'by default'}", f"name one by --account: {listed}")
    return fits[0]


def _refuse_foreign(target: Path) -> None:
    """Raise UsageError for a file that no pull wrote: columns that somebody keeps by hand would be lost."""
    try:
        with target.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline(1000).rstrip("\r\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{target} cannot be read: {error.strerror}", "choose another place: --out FILE") from error
    if header not in {"", ",".join(HEADER)}:
        raise UsageError(f"{target} was not written by campaign roster pull", "move it away, or write to another: --out FILE")


def _write(members: Iterable[Member], target: Path, source: str) -> int:
    """Replace the file, whole or not at all; return how many users are closed. Raises GuardTripped, LedgerError."""
    rows = [tuple(map(_cell, astuple(member))) for member in members]
    closed = sum(member.is_closed for member in members)
    if closed == len(rows):
        raise GuardTripped(f"guard roster_change: {source} lists no open user", f"{target} was left as it is; look at --as")
    try:
        with replaced(target) as draft, draft.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([HEADER, *rows])
    except OSError as error:
        raise LedgerError(f"{target} cannot be written: {error.strerror}", "it is as it was; make room, or --out FILE") from error
    return closed


def _cell(text: str) -> str:
    """A cell that costs nobody else the file: whatever else is wrong with it, its row is rejected when the roster is read."""
    return text[:_LONGEST].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
