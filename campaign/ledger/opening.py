"""Opens the ledger, or says why it is not the one that this campaign last wrote.

A first run finds neither ledger nor witness and creates both. Afterwards the two must agree, as far as the place where the
ledger lies can promise it.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from campaign.config import Config
from campaign.errors import ConfigError, LedgerError
from campaign.ledger.book import Ledger, figures
from campaign.ledger.clock import amiss, corrected, last_run
from campaign.ledger.file import File
from campaign.ledger.lock import RunLock
from campaign.ledger.records import Figures
from campaign.ledger.schema import MIGRATIONS, adoptions, campaigns, upgrade, version
from campaign.ledger.store import CampaignRow, Store
from campaign.ledger.witness import Witness, read_witness, this_host, write_witness

if TYPE_CHECKING:
    from campaign.ledger.session import Facts

_ADOPT = "find out why first; to go on with what is there: campaign adopt"


def store_of(config: Config) -> Store:
    """Where this campaign's ledger lies. Raises ConfigError where that cannot be reached for want of a package or a secret."""
    at = config.ledger.server
    if at is None:
        return File(config)
    try:
        from campaign.ledger.server import Server
    except ImportError as error:
        what = f"the ledger {config.ledger_name} needs the package {error.name}"
        raise ConfigError(what, "pip install 'campaign[postgres]'") from error
    return Server(config, at)


def hold(config: Config) -> RunLock:
    """The lock that keeps a second run of this campaign out, not yet taken. To enter it raises Busy, LedgerError."""
    return store_of(config).lock()


def facts_of(config: Config) -> "Facts":
    """What the database server says of itself; only where the ledger lies on one. Raises LedgerError, ConfigError."""
    store = store_of(config)
    from campaign.ledger.server import Server

    if not isinstance(store, Server):
        raise LedgerError(f"{store.name} is a file")
    return store.facts()


@contextmanager
def open_ledger(config: Config, lock: RunLock | None = None) -> Iterator[Ledger]:
    """Open the ledger for a run, creating it on the first. The caller holds the `lock`; without one it is taken if need be.

    Raises LedgerError when it is missing, empty, damaged, an old copy, from another machine or another campaign's.
    """
    store = store_of(config)
    seen = read_witness(store.witness)
    if seen and not store.is_there():
        raise LedgerError(_lost(store), _ADOPT)
    store.make_ready(first=not seen)
    with store.connected("write" if seen else "create", lock) as connection:
        with connection.begin():
            store.wait_for_upgrades(connection)
            upgrade(connection)
            row = campaign_row(connection, config, store)
            if seen and not row:
                raise LedgerError(_lost(store), _ADOPT)
            row = row or _create(connection, config)
        refuse(_wrong(store, row, seen))
        if seen is None or seen.generation != row.generation:  # or a second kill would leave the witness two behind
            write_witness_for(config, store, row)
        yield Ledger(connection, config.name, store, config.docusign.scope)


@contextmanager
def read_ledger(config: Config) -> Iterator[Ledger | None]:
    """Open the ledger for reading only; None before the first run. Leaves no trace.

    Of a ledger that an earlier version wrote, a copy in memory is brought up to date and read. Raises LedgerError where a run
    would refuse the ledger: what it does not know would be told as if it had not been.
    """
    store = store_of(config)
    seen = read_witness(store.witness)
    with _read(config, store) as (connection, row):
        if seen and not row:
            raise LedgerError(_lost(store), _ADOPT)
        refuse(_wrong(store, row, seen) if row else "")
        yield Ledger(connection, config.name, store, config.docusign.scope) if connection and row else None


def is_older(config: Config) -> bool:
    """Whether the ledger was written by an earlier version of this program. Raises LedgerError where it cannot be used."""
    with store_of(config).connected("read", None) as connection, connection.begin():
        return version(connection) < len(MIGRATIONS)


def witness_of(config: Config, ledger: Ledger) -> None:
    """Turn the ledger's page and let the witness know."""
    store = store_of(config)
    generation = ledger.turn_page()
    seen = read_witness(store.witness)
    if seen is None:
        raise LedgerError(f"{store.witness} vanished during the run", _ADOPT)
    write_witness(store.witness, replace(seen, generation=generation, file=store.file()))


def examine(config: Config, now: datetime) -> str:
    """What is wrong between the ledger, its witness and the clock, in words; "" if nothing is. Changes nothing."""
    store = store_of(config)
    try:
        seen = read_witness(store.witness)
    except LedgerError as error:
        return str(error)
    with _read(config, store) as (connection, row):
        if connection is None or row is None:
            return _lost(store) if seen else ""
        with connection.begin():
            return _wrong(store, row, seen) or amiss(last_run(connection, config.name), now)


def look(config: Config) -> tuple[Figures | None, Witness | None]:
    """How far the ledger and its witness have got, as far as either can be read. Changes nothing."""
    store = store_of(config)
    try:
        seen = read_witness(store.witness)
    except LedgerError:
        seen = None
    with _read(config, store) as (connection, row):
        if connection is None or row is None:
            return None, seen
        with connection.begin():
            return figures(connection, config.name, row.generation), seen


def adopt(config: Config, now: datetime, lock: RunLock | None = None) -> None:
    """Accept what is there as this campaign's ledger, or begin anew where nothing is; and accept the clock.

    What was wrong is put on record. The next night needs an approval again.
    """
    store = store_of(config)
    found = examine(config, now)
    if not store.is_there():
        store.make_ready(first=True)
    with store.connected("write", lock) as connection, connection.begin():
        store.wait_for_upgrades(connection)
        upgrade(connection)
        row = campaign_row(connection, config, store) or _create(connection, config)
        connection.execute(
            campaigns.update()
            .where(campaigns.c.campaign == config.name)
            .values(passed_at=None, moved_to=None, arriving_from=None)
        )
        corrected(connection, config.name, now)
        connection.execute(adoptions.insert().values(campaign=config.name, at=now, found=found))
    write_witness_for(config, store, row)


def write_witness_for(config: Config, store: Store, row: CampaignRow) -> None:
    """Let the witness know that the ledger is this one."""
    write_witness(store.witness, Witness(config.name, row.ledger_id, row.generation, this_host(), store.file()))


def _lost(store: Store) -> str:
    what = "holds nothing of this campaign" if store.is_there() else "is missing or empty"
    return f"{store.name} {what}, but its witness says that it was written here before"


def refuse(disagreement: str) -> None:
    """Raise LedgerError for anything but ""."""
    if disagreement:
        raise LedgerError(disagreement, _ADOPT)


def moved(row: CampaignRow) -> str:
    """Where a ledger has gone, or comes from, in words; "" where it is at home."""
    if row.moved_to:
        return f"it was moved to {row.moved_to}"
    return f"it has not wholly arrived from {row.arriving_from}: campaign ledger copy, again" if row.arriving_from else ""


def _wrong(store: Store, row: CampaignRow, seen: Witness | None) -> str:
    """What keeps a run from using it, in words; "" if nothing does."""
    away = moved(row)
    return f"{store.name} is not the campaign's ledger: {away}" if away else store.disagreement(row, seen)


def campaign_row(connection: Connection, config: Config, store: Store) -> CampaignRow | None:
    """The row of `campaigns` that is this one's. Raises LedgerError where it is another app's, or the file another's."""
    rows = connection.execute(select(campaigns)).all()
    for row in rows:
        if row.campaign == config.name:
            _same_app(row, config)
            return row
    if rows and not store.shared:
        what = f"{store.name} belongs to the campaign {rows[0].campaign!r}, not to {config.name!r}"
        raise LedgerError(what, "give each campaign a folder, or a [ledger] url, of its own")
    return None


def _same_app(row: CampaignRow, config: Config) -> None:
    """Consent belongs to one integration key in one environment: what was learnt of another says nothing."""
    if (row.environment, row.client_id) != (config.docusign.environment, config.docusign.client_id):
        what = f"{config.ledger_name} was written for client_id {row.client_id} in {row.environment}"
        raise LedgerError(
            f"{what}, not for the one configured now", "another integration key or environment needs a ledger of its own"
        )


def _create(connection: Connection, config: Config) -> CampaignRow:
    values = {"campaign": config.name, "ledger_id": str(uuid.uuid4()), "generation": 0}
    app = {"environment": config.docusign.environment, "client_id": config.docusign.client_id}
    connection.execute(campaigns.insert().values(**values, **app))
    return connection.execute(select(campaigns).where(campaigns.c.campaign == config.name)).one()


@contextmanager
def _read(config: Config, store: Store) -> Iterator[tuple[Connection | None, CampaignRow | None]]:
    """A connection that reads, and the campaign's row; None and None where there is nothing to connect to."""
    if not store.is_there():
        yield None, None
        return
    with store.connected("read", None) as there, _up_to_date(there, config, store) as connection:
        with connection.begin():
            row = campaign_row(connection, config, store)
        yield connection, row


@contextmanager
def _up_to_date(there: Connection, config: Config, store: Store) -> Iterator[Connection]:
    """The connection itself, or one to an upgraded copy in memory where the ledger is of an earlier version."""
    with there.begin():
        older = version(there) < len(MIGRATIONS)
    with store.copied(there, config.name) if older else nullcontext(there) as connection:
        with connection.begin():
            upgrade(connection)  # refuses a newer one
        yield connection
