"""A ledger in a SQLite file on this machine, with lock and witness beside it."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool, StaticPool

from campaign.config import Config
from campaign.errors import LedgerError
from campaign.ledger import place
from campaign.ledger.lock import FileLock, RunLock
from campaign.ledger.store import Access, CampaignRow, Store, in_words
from campaign.ledger.witness import Witness, this_host

_PATIENCE = 30  # seconds to wait for a reader's lock


class File(Store):
    """Opens an existing file, where SQLite alone would take an empty one for a database and create a missing one."""

    advice = "check the disk; nothing more was sent"
    shared = False

    def __init__(self, config: Config) -> None:
        self.path = config.ledger_file
        self.name = config.ledger_name
        self.witness = self.path.with_name(self.path.name + ".witness")
        self._lock_file = config.lock_file
        self._opened: os.stat_result | None = None

    def lock(self) -> RunLock:
        """`flock` on a file beside it."""
        return FileLock(self._lock_file)

    def is_there(self) -> bool:
        """An empty file is no ledger: SQLite leaves one when the very first commit was cut short."""
        try:
            return self.path.stat().st_size > 0
        except FileNotFoundError:
            return False

    def make_ready(self, *, first: bool) -> None:
        """Refuse a file or a folder that others could read or replace, and a full disk."""
        place.check(self.path)
        if first:
            place.make(self.path)

    @contextmanager
    def connected(self, access: Access, lock: RunLock | None) -> Iterator[Connection]:  # noqa: ARG002  # the kernel keeps it
        """One connection, checked for damage; database errors become LedgerError."""
        place.refuse_link(self.path)
        engine = _engine(self.path, access)
        try:
            with engine.connect() as connection:
                _check(connection, self.path)
                self._opened = self.path.stat()
                yield connection
        except SQLAlchemyError as error:
            advice = "check the disk and the file; if it is damaged restore a backup"
            raise LedgerError(f"{self.path} cannot be used: {in_words(error)}", advice) from error
        finally:
            engine.dispose()

    @contextmanager
    def copied(self, connection: Connection, campaign: str) -> Iterator[Connection]:  # noqa: ARG002  # it is alone there
        """The whole file."""
        copy = sqlite3.connect(":memory:", isolation_level=None)
        with closing(copy):
            cast("sqlite3.Connection", connection.connection.dbapi_connection).backup(copy)
            with create_engine("sqlite://", poolclass=StaticPool, creator=lambda: copy).connect() as memory:
                yield memory

    def wait_for_upgrades(self, connection: Connection) -> None:
        """Nothing to do: a transaction that writes has the whole file to itself from its beginning."""

    def disagreement(self, row: CampaignRow, seen: Witness | None) -> str:
        """The two must agree: same ledger, same machine, same generation, same file."""
        if seen is None:
            return f"{self.path} has been used, but its witness {self.witness.name} is missing" if row.generation else ""
        if (seen.campaign, seen.ledger_id) != (row.campaign, row.ledger_id):
            return f"{self.path} and its witness belong to different ledgers"
        if seen.host != this_host():
            return f"{self.path} was last written on another machine"
        # A run that is killed between its commit and the witness leaves the ledger one ahead; nothing leaves it behind.
        if row.generation - seen.generation not in {0, 1}:
            return f"{self.path} is not the last one: it is at generation {row.generation}, its witness at {seen.generation}"
        if seen.file and seen.file != self.file():
            return f"{self.path} is a copy, not the file that was last written: there may be another one in use, or a newer one"
        return ""

    def file(self) -> int:
        """As it lies there now."""
        return self.path.stat().st_ino

    def still_there(self) -> None:
        """SQLite goes on writing to a file that was removed or replaced meanwhile."""
        try:
            same = self._opened is not None and os.path.samestat(self._opened, self.path.lstat())
        except OSError:
            same = False
        if not same:
            raise LedgerError(f"{self.path} was removed or replaced during the run", "find out why; nothing more was sent")

    def leave_no_trace(self, connection: Connection) -> None:
        """Have SQLite overwrite it (https://sqlite.org/pragma.html#pragma_secure_delete)."""
        connection.exec_driver_sql("PRAGMA secure_delete = ON").close()

    def compact(self, connection: Connection) -> None:
        """Write the file anew."""
        try:
            cursor = connection.connection.cursor()  # not by SQLAlchemy: it would begin a transaction first
            cursor.execute("PRAGMA temp_store = MEMORY")  # or its draft, with everybody in it, lies in /var/tmp for a while
            cursor.execute("VACUUM")
        except sqlite3.Error as error:
            advice = "traces of what was removed may be left in the file: make room on the disk, then run the same again"
            raise LedgerError(f"{self.path}: {error}", advice) from error


def _check(connection: Connection, path: Path) -> None:
    with connection.begin():
        damage = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if damage != "ok":
        raise LedgerError(f"{path} is damaged: {damage}", "restore it from a backup, then run: campaign adopt")


def _engine(path: Path, access: Access) -> Engine:
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
