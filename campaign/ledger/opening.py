"""Opens the ledger, or says why it is not the one that this campaign last wrote.

A first run finds neither ledger nor witness and creates both. Afterwards the two must agree: same ledger, same machine,
same generation. SQLite alone would not notice: it opens an empty file as a valid database and creates a missing one.
"""

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias, cast
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Row, create_engine, event, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool, StaticPool

from campaign.config import Config
from campaign.errors import LedgerError
from campaign.ledger import place
from campaign.ledger.book import Ledger, figures
from campaign.ledger.clock import amiss, corrected, last_run
from campaign.ledger.records import Figures
from campaign.ledger.schema import MIGRATIONS, adoptions, campaigns, upgrade, version
from campaign.ledger.witness import Witness, read_witness, this_host, write_witness

_Access: TypeAlias = Literal["create", "write", "read"]

_PATIENCE = 30  # seconds to wait for a reader's lock
_ADOPT = "find out why first; to go on with what is there: campaign adopt"


@contextmanager
def open_ledger(config: Config) -> Iterator[Ledger]:
    """Open the ledger for a run, creating it on the first. The caller holds the lock.

    Raises LedgerError when it is missing, empty, damaged, an old copy, from another machine or another campaign's.
    """
    seen = read_witness(_witness_file(config))
    _refuse(_lost(config, seen))
    place.check(config.ledger_file)
    if not seen:
        place.make(config.ledger_file)
    with _connected(config, "write" if seen else "create") as connection:
        with connection.begin():
            upgrade(connection)
            row = _campaign_row(connection, config) or _create(connection, config)
        _refuse(_disagreement(config, row, seen))
        if seen is None or seen.generation != row.generation:  # or a second kill would leave the witness two behind
            _write_witness(config, row, row.generation)
        yield Ledger(connection, config.name, str(config.ledger_file), config.docusign.scope)


@contextmanager
def read_ledger(config: Config) -> Iterator[Ledger | None]:
    """Open the ledger for reading only; None before the first run. Leaves no trace.

    Of a ledger that an earlier version wrote, a copy in memory is brought up to date and read. Raises LedgerError where a run
    would refuse the ledger: what it does not know would be told as if it had not been.
    """
    seen = read_witness(_witness_file(config))
    _refuse(_lost(config, seen))
    if not _present(config.ledger_file):
        yield None
        return
    with _connected(config, "read") as file, _up_to_date(file) as connection:
        with connection.begin():
            row = _campaign_row(connection, config)
        _refuse(_disagreement(config, row, seen) if row else "")
        yield Ledger(connection, config.name, str(config.ledger_file), config.docusign.scope) if row else None


def is_older(config: Config) -> bool:
    """Whether the ledger was written by an earlier version of this program. Raises LedgerError where it cannot be used."""
    with _connected(config, "read") as connection, connection.begin():
        return version(connection) < len(MIGRATIONS)


def witness_of(config: Config, ledger: Ledger) -> None:
    """Turn the ledger's page and let the witness know."""
    generation = ledger.turn_page()
    seen = read_witness(_witness_file(config))
    if seen is None:
        raise LedgerError(f"{_witness_file(config)} vanished during the run", _ADOPT)
    write_witness(_witness_file(config), replace(seen, generation=generation))


def examine(config: Config, now: datetime) -> str:
    """What is wrong between the ledger, its witness and the clock, in words; "" if nothing is. Changes nothing."""
    try:
        seen = read_witness(_witness_file(config))
    except LedgerError as error:
        return str(error)
    if not _present(config.ledger_file):
        return _lost(config, seen)
    with _connected(config, "read") as file, _up_to_date(file) as connection, connection.begin():
        row = _campaign_row(connection, config)
        if row is None:
            return f"{config.ledger_file} holds nothing of this campaign"
        return _disagreement(config, row, seen) or amiss(last_run(connection, config.name), now)


def look(config: Config) -> tuple[Figures | None, Witness | None]:
    """How far the ledger and its witness have got, as far as either can be read. Changes nothing."""
    try:
        seen = read_witness(_witness_file(config))
    except LedgerError:
        seen = None
    return _figures(config), seen


def _figures(config: Config) -> Figures | None:
    if not _present(config.ledger_file):
        return None
    with _connected(config, "read") as file, _up_to_date(file) as connection, connection.begin():
        row = _campaign_row(connection, config)
        return figures(connection, config.name, row.generation) if row else None


def adopt(config: Config, now: datetime) -> None:
    """Accept what is there as this campaign's ledger, or begin anew where nothing is; and accept the clock.

    What was wrong is put on record. The next night needs an approval again.
    """
    found = examine(config, now)
    if not _present(config.ledger_file):
        place.check(config.ledger_file)
        place.make(config.ledger_file)
    with _connected(config, "write") as connection, connection.begin():
        upgrade(connection)
        row = _campaign_row(connection, config) or _create(connection, config)
        connection.execute(campaigns.update().where(campaigns.c.campaign == config.name).values(passed_at=None))
        corrected(connection, config.name, now)
        connection.execute(adoptions.insert().values(campaign=config.name, at=now, found=found))
    _write_witness(config, row, row.generation)


def _witness_file(config: Config) -> Path:
    return config.ledger_file.with_name(config.ledger_file.name + ".witness")


def _write_witness(config: Config, row: Row[tuple[object, ...]], generation: int) -> None:
    write_witness(_witness_file(config), Witness(config.name, row.ledger_id, generation, this_host()))


def _present(path: Path) -> bool:
    """An empty file is no ledger: SQLite leaves one when the very first commit was cut short."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _lost(config: Config, seen: Witness | None) -> str:
    if seen is None or _present(config.ledger_file):
        return ""
    return f"{config.ledger_file} is missing or empty, but its witness says that it was written here before"


def _refuse(disagreement: str) -> None:
    if disagreement:
        raise LedgerError(disagreement, _ADOPT)


def _disagreement(config: Config, row: Row[tuple[object, ...]], seen: Witness | None) -> str:
    ledger = config.ledger_file
    if seen is None:
        return f"{ledger} has been used, but its witness {_witness_file(config).name} is missing" if row.generation else ""
    if (seen.campaign, seen.ledger_id) != (row.campaign, row.ledger_id):
        return f"{ledger} and its witness belong to different ledgers"
    if seen.host != this_host():
        return f"{ledger} was last written on another machine"
    # A run that is killed between its commit and the witness leaves the ledger one ahead; nothing leaves it behind.
    if row.generation - seen.generation not in {0, 1}:
        return f"{ledger} is not the last one: it is at generation {row.generation}, its witness at {seen.generation}"
    return ""


def _campaign_row(connection: Connection, config: Config) -> Row[tuple[object, ...]] | None:
    rows = connection.execute(select(campaigns)).all()
    for row in rows:
        if row.campaign == config.name:
            _same_app(row, config)
            return row
    if rows:
        what = f"{config.ledger_file} belongs to the campaign {rows[0].campaign!r}, not to {config.name!r}"
        raise LedgerError(what, "give each campaign a folder, or a [ledger] url, of its own")
    return None


def _same_app(row: Row[tuple[object, ...]], config: Config) -> None:
    """Consent belongs to one integration key in one environment: what was learnt of another says nothing."""
    if (row.environment, row.client_id) != (config.docusign.environment, config.docusign.client_id):
        what = f"{config.ledger_file} was written for client_id {row.client_id} in {row.environment}"
        raise LedgerError(
            f"{what}, not for the one configured now", "another integration key or environment needs a ledger of its own"
        )


def _create(connection: Connection, config: Config) -> Row[tuple[object, ...]]:
    values = {"campaign": config.name, "ledger_id": str(uuid.uuid4()), "generation": 0}
    app = {"environment": config.docusign.environment, "client_id": config.docusign.client_id}
    connection.execute(campaigns.insert().values(**values, **app))
    return connection.execute(select(campaigns).where(campaigns.c.campaign == config.name)).one()


@contextmanager
def _connected(config: Config, access: _Access) -> Iterator[Connection]:
    """One connection for one process, checked for damage; database errors become LedgerError."""
    path = config.ledger_file
    place.refuse_link(path)
    engine = _engine(path, access)
    try:
        with engine.connect() as connection:
            _check(connection, path)
            yield connection
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        advice = "check the disk and the file; if it is damaged restore a backup"
        raise LedgerError(f"{path} cannot be used: {cause}", advice) from error
    finally:
        engine.dispose()


@contextmanager
def _up_to_date(file: Connection) -> Iterator[Connection]:
    """The connection itself, or one to an upgraded copy in memory where the file is of an earlier version."""
    with file.begin():
        older = version(file) < len(MIGRATIONS)
    with _copied(file) if older else nullcontext(file) as connection:
        with connection.begin():
            upgrade(connection)  # refuses a newer one
        yield connection


@contextmanager
def _copied(file: Connection) -> Iterator[Connection]:
    """A connection to a copy in memory, which vanishes with it."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    with closing(copy):
        cast("sqlite3.Connection", file.connection.dbapi_connection).backup(copy)
        with create_engine("sqlite://", poolclass=StaticPool, creator=lambda: copy).connect() as connection:
            yield connection


def _check(connection: Connection, path: Path) -> None:
    with connection.begin():
        damage = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if damage != "ok":
        raise LedgerError(f"{path} is damaged: {damage}", "restore it from a backup, then run: campaign adopt")


def _engine(path: Path, access: _Access) -> Engine:
    uri = f"file:{quote(str(path))}?mode={'rwc' if access == 'create' else 'rw'}"
    connect = partial(sqlite3.connect, uri, uri=True, isolation_level=None, timeout=_PATIENCE)
    engine = create_engine("sqlite://", poolclass=NullPool, creator=connect)

    @event.listens_for(engine, "connect")
    def _durable(connection: sqlite3.Connection, _: object) -> None:
        # One file without -wal and -shm; EXTRA also syncs the folder, so that no commit is lost with the power.
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute(f"PRAGMA query_only = {'ON' if access == 'read' else 'OFF'}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if access == "read" else "BEGIN IMMEDIATE")

    return engine
