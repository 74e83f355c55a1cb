"""Takes personal data out of what the campaign keeps: of one user who asks to be forgotten, or of all that is old."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from campaign.config import Config
from campaign.errors import LedgerError
from campaign.explaining import one_of
from campaign.ledger import hold, open_ledger, witness_of
from campaign.roster import read_customers, read_roster

_NAME = "%Y-%m-%dT%H%M%SZ"  # of a report in the history, by the time of its run


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge removed."""

    users: int
    events: int
    reports: int


def forget(config: Config, user: str, now: datetime) -> list[Path]:
    """Remove a user's personal data from the ledger; return the reports (CSV, HTML) that still name the user.

    Counts and dates stay under a mask, so that caps and spacing hold; the user is neither asked nor mailed until
    `campaign unsuppress`. Raises UsageError for an unknown user, LedgerError, Busy; who is forgotten already stays so.
    """
    with hold(config) as lock, open_ledger(config, lock) as ledger:
        user_id = one_of(ledger.find(user), user)
        ledger.forget(user_id, now)
        ledger.compact()
        witness_of(config, ledger)
    return [path for path in _reports(config) if _names(path, {user.casefold(), user_id})]


def purge(config: Config, days: int, now: datetime) -> Purged:
    """Remove what is older than so many days: users who left the roster, everybody's history, and reports.

    Kept is what caps, spacing, guards and bounces need. Raises RosterError, as the roster says who stays; LedgerError, Busy.
    """
    before = now - timedelta(days=days)
    present = {shown.user_id.lower() for _, shown in read_roster(config).rows}  # a rejected row is there, too
    present |= {one.user_id for one in read_customers(config)}
    with hold(config) as lock, open_ledger(config, lock) as ledger:
        removed = ledger.purge(present, before, now)
        ledger.compact()
        witness_of(config, ledger)
        return Purged(removed.users, removed.events, _remove_reports(config, before))


def _reports(config: Config) -> Iterator[Path]:
    """Every report there is as CSV, and the page; the last CSV may be there twice."""
    folder = config.report.directory
    yield from sorted([*folder.glob("report.csv"), *folder.glob("report.html"), *folder.glob("history/*.csv")])


def _names(path: Path, texts: set[str]) -> bool:
    try:
        content = path.read_text(encoding="utf-8", errors="replace").casefold()
    except OSError as error:
        raise LedgerError(f"{path} cannot be read: {error.strerror}", "look into it yourself, or remove it") from error
    return any(text in content for text in texts)


def _remove_reports(config: Config, before: datetime) -> int:
    """Remove the reports of runs before then, by their names; return how many. Other files are left alone."""
    old = [path for path in config.report.directory.glob("history/*.csv") if _is_older(path, before)]
    for path in old:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise LedgerError(
                f"{path} cannot be removed: {error.strerror}", "check who owns the folder, then run it again"
            ) from error
    return len(old)


def _is_older(path: Path, before: datetime) -> bool:
    try:
        return datetime.strptime(path.stem, _NAME).replace(tzinfo=UTC) < before
    except ValueError:
        return False
