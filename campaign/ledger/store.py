"""The seam: what a ledger in a file and one on a database server do each in its own way. All else is told once."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from sqlalchemy import Connection, Row

from campaign.ledger.lock import RunLock
from campaign.ledger.witness import Witness

Access: TypeAlias = Literal["create", "write", "read"]
CampaignRow: TypeAlias = Row[tuple[Any, ...]]  # of the table `campaigns`


class Store(Protocol):
    """Where a ledger lies. Every method raises LedgerError."""

    name: str  # how messages call it; no secret stands in it
    advice: str  # where a statement failed
    shared: bool  # whether other campaigns may lie there, too
    witness: Path

    def lock(self) -> RunLock:
        """The lock that keeps a second run out, not yet taken."""

    def is_there(self) -> bool:
        """Whether there is something to connect to; what is found there then is another question."""

    def make_ready(self, *, first: bool) -> None:
        """See to it that a run can write there, and nobody else; on the `first` run make room."""

    def connected(self, access: Access, lock: RunLock | None) -> AbstractContextManager[Connection]:
        """One connection, checked; to write, it is the lock's own session, or takes the lock itself."""

    def copied(self, connection: Connection, campaign: str) -> AbstractContextManager[Connection]:
        """A connection to a copy of this campaign in memory, which vanishes with it."""

    def wait_for_upgrades(self, connection: Connection) -> None:
        """Let nobody else make or upgrade tables until the transaction ends."""

    def disagreement(self, row: CampaignRow, seen: Witness | None) -> str:
        """Why this is not the ledger that was last written, in words; "" if it is."""

    def file(self) -> int:
        """The inode number of the ledger's file; 0 where it is none."""

    def still_there(self) -> None:
        """Raise LedgerError where what is written to is no longer what lies there: what is noted would be lost."""

    def leave_no_trace(self, connection: Connection) -> None:
        """From now on let what is removed be overwritten, as far as that can be had within a transaction."""

    def compact(self, connection: Connection) -> None:
        """Write anew what is there, so that nothing of what was removed is left between the rows."""


def in_words(error: Exception) -> str:
    """What a database says, in one line."""
    return " ".join(str(getattr(error, "orig", None) or error).split())
