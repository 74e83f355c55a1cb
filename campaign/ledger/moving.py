"""Moves a campaign's ledger from one place to another, so that at no instant two of them can be written to.

    target: all rows, "arriving" -> COMMIT    compare    source: "moved" -> COMMIT    target: "there" -> COMMIT

Killed in between, the same command goes on from there; until it has, a run can use the source alone, or neither.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from sqlalchemy import Connection, Table

from campaign.config import Config
from campaign.errors import LedgerError, UsageError
from campaign.ledger import copying
from campaign.ledger.opening import campaign_row, hold, moved, refuse, store_of, write_witness_for
from campaign.ledger.schema import campaigns, metadata, schema, upgrade
from campaign.ledger.store import CampaignRow, Store
from campaign.ledger.witness import read_witness

_OF_THE_PLACE = {"generation", "moved_to", "arriving_from"}  # columns of `campaigns`


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved: the rows of each table, all compared."""

    source: str
    target: str
    rows: dict[str, int]


@dataclass(frozen=True, slots=True)
class _End:
    """One end of the way."""

    config: Config
    store: Store
    connection: Connection

    @property
    def name(self) -> str:
        return self.store.name

    def row(self) -> CampaignRow | None:
        """What is there of the campaign, brought up to date."""
        with self.connection.begin():
            self.store.wait_for_upgrades(self.connection)
            upgrade(self.connection)
            return campaign_row(self.connection, self.config, self.store)

    def rows(self, table: Table) -> Generator[dict[str, Any], None, None]:
        """The rows of a table without what differs between two places."""
        for row in copying.rows_of(table, self.config.name, self.connection):
            yield {name: value for name, value in row.items() if table is not campaigns or name not in _OF_THE_PLACE}

    def mark(self, **values: object) -> None:
        """Write something into the campaign's row."""
        with self.connection.begin():
            self.connection.execute(campaigns.update().where(campaigns.c.campaign == self.config.name).values(**values))


def move(here: Config, there: Config) -> Moved:
    """Move the ledger of the campaign from where one configuration has it to where the other does.

    Raises UsageError where both are one place, or there is nothing to move; LedgerError where either cannot be used, or the
    target holds a ledger of this campaign already; Busy. Then the source is as it was.
    """
    source, target = store_of(here), store_of(there)
    if source.name == target.name:
        raise UsageError(f"{source.name} is the same place twice", "name two: campaign ledger copy FROM TO")
    if not source.is_there():
        raise UsageError(f"{source.name} does not exist", "name the ledger that is used now first: campaign ledger copy FROM TO")
    with hold(here) as lock, hold(there) as other:
        target.make_ready(first=True)
        with source.connected("write", lock) as connection, target.connected("create", other) as its:
            return _move(_End(here, source, connection), _End(there, target, its))


def _move(old: _End, new: _End) -> Moved:
    leaving, present = old.row(), new.row()
    if leaving is None:
        raise UsageError(f"{old.name} holds nothing of this campaign", "there is nothing to copy")
    refuse(old.store.disagreement(leaving, read_witness(old.store.witness)))
    _refuse_if_elsewhere(old, leaving, new, present)
    if not leaving.moved_to:
        _fill(old, new)
    counts = {table.name: _compared(table, old, new) for table in _tables()}
    old.mark(moved_to=new.name)
    new.mark(arriving_from=None, moved_to=None, generation=leaving.generation + 1)
    write_witness_for(new.config, new.store, new.row() or leaving)
    return Moved(old.name, new.name, counts)


def _tables() -> list[Table]:
    """All but the version, which each place has for itself."""
    return [table for table in metadata.sorted_tables if table is not schema]


def _refuse_if_elsewhere(old: _End, leaving: CampaignRow, new: _End, present: CampaignRow | None) -> None:
    """Raise where the source is not the campaign's ledger, or the target would lose one."""
    goes_on = present and present.ledger_id == leaving.ledger_id and present.arriving_from == old.name
    if leaving.moved_to == new.name and not goes_on:
        raise UsageError(f"{old.name} was moved to {new.name} before", "let [ledger] url name that")
    if leaving.arriving_from or leaving.moved_to not in {None, new.name}:
        raise LedgerError(f"{old.name} is not the campaign's ledger: {moved(leaving)}", "name that one first")
    if present and old.name not in {present.arriving_from, present.moved_to}:
        raise LedgerError(f"{new.name} holds a ledger of this campaign already", "name an empty place")


def _fill(old: _End, new: _End) -> None:
    """Put everything into the target, in the place of what an earlier attempt or a ledger that moved away left there."""
    with new.connection.begin(), old.connection.begin():
        for table in _tables():
            new.connection.execute(table.delete().where(table.c.campaign == new.config.name))
            copying.copy_rows(table, new.config.name, old.connection, new.connection)
        arriving = campaigns.update().where(campaigns.c.campaign == new.config.name).values(arriving_from=old.name)
        new.connection.execute(arriving)


def _compared(table: Table, old: _End, new: _End) -> int:
    """Compare every row of two tables; return how many there are. Raises LedgerError where two differ."""
    count = 0
    with old.connection.begin(), new.connection.begin(), closing(old.rows(table)) as ones, closing(new.rows(table)) as others:
        for count, (one, other) in enumerate(zip_longest(ones, others), start=1):
            if one != other:
                what = f"row {count} of the table {table.name} is not the same in both places"
                raise LedgerError(what, "the old ledger is as it was; please report it")
    return count
