"""A ledger in PostgreSQL, for hosts that share it: lock and ledger are one session, so that who loses one has lost both."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self, cast

import psycopg
from sqlalchemy import Connection, MetaData, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool, StaticPool

from campaign.config import Config
from campaign.config.schema import Server as Address
from campaign.errors import Busy, LedgerError
from campaign.ledger.copying import bare, copy_rows
from campaign.ledger.lock import RunLock
from campaign.ledger.session import Facts, connect, facts_of
from campaign.ledger.store import Access, CampaignRow, Store, in_words
from campaign.ledger.witness import Witness

_UPGRADES = "campaign: making and upgrading tables"
_GRACE_MS = 300  # in which the server notices that a process died and closes its session


class Server(Store):
    """One database, which many campaigns may share: every row names its campaign."""

    advice = "see whether the database server runs and can be reached; nothing more was sent"
    shared = True

    def __init__(self, config: Config, at: Address) -> None:
        self.name = config.ledger_name
        self._at = at
        # On each host that keeps its reports: what the ledger was when it was last seen from there.
        self.witness = config.report.directory / "ledger.witness"
        self._config = config

    def lock(self) -> RunLock:
        """An advisory lock, which dies with its session."""
        return self._lock()

    def _lock(self) -> "SessionLock":
        return SessionLock(self._config.name, self.name, lambda: connect(self._config, self._at, read_only=False))

    def is_there(self) -> bool:
        """Only who connects will know."""
        return True

    def make_ready(self, *, first: bool) -> None:
        """Nothing to do: who may read and write there is the server's to say."""

    @contextmanager
    def connected(self, access: Access, lock: RunLock | None) -> Iterator[Connection]:
        """A session that can only read, or the lock's own."""
        with translated(self.name):
            if access != "read" and lock and lock.session:
                yield lock.session
            elif access != "read":
                with self._lock() as own:
                    yield own.session
            else:
                with _session(lambda: connect(self._config, self._at, read_only=True)) as connection:
                    yield connection

    @contextmanager
    def copied(self, connection: Connection, campaign: str) -> Iterator[Connection]:
        """The tables as they are there, with the rows of this campaign alone."""
        there = MetaData()
        with create_engine("sqlite://", poolclass=StaticPool).connect() as memory:
            with connection.begin(), memory.begin():
                there.reflect(connection)
                tables = bare(there)
                tables.create_all(memory)
                for table in tables.sorted_tables:
                    copy_rows(table, campaign, connection, memory)
            yield memory

    def wait_for_upgrades(self, connection: Connection) -> None:
        """Take a lock that ends with the transaction."""
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _key(_UPGRADES)})

    def disagreement(self, row: CampaignRow, seen: Witness | None) -> str:
        """Other hosts may have written since, so the ledger may be further than this host's witness, but never behind."""
        if seen and (seen.campaign, seen.ledger_id) != (row.campaign, row.ledger_id):
            return f"{self.name} is another ledger than the one that {self.witness} knows"
        if seen and row.generation < seen.generation:
            return f"{self.name} is not the last one: it is at generation {row.generation}, {self.witness} at {seen.generation}"
        return ""

    def file(self) -> int:
        """None: how far the ledger is, is all that a witness can know of a server."""
        return 0

    def still_there(self) -> None:
        """Nothing to do: a session is to one database, and ends with it."""

    def facts(self) -> Facts:
        """What the server says of itself."""
        with translated(self.name):
            return facts_of(self._config, self._at)

    def leave_no_trace(self, connection: Connection) -> None:
        """Nothing to do: PostgreSQL never overwrites, and `compact` writes anew."""

    def compact(self, connection: Connection) -> None:
        """Write the tables, and what is counted of them, anew. The server's log, standbys and backups keep what they have."""
        raw = cast("psycopg.Connection", connection.connection.dbapi_connection)
        try:
            raw.autocommit = True
            raw.execute("VACUUM (FULL, ANALYZE) users, slots, events, campaigns")
            raw.autocommit = False
        except psycopg.Error as error:
            advice = "traces of what was removed may be left in the database: run the same again"
            raise LedgerError(f"{self.name}: {in_words(error)}", advice) from error


class SessionLock(RunLock):
    """An advisory lock. When its session ends, however it ends, the server drops it, and nothing can be written any more."""

    def __init__(self, campaign: str, name: str, connect: Callable[[], psycopg.Connection]) -> None:
        self._key = {"key": _key(f"campaign: a run of {campaign}")}
        self._campaign = campaign
        self._name = name
        self._connect = connect

    @property
    def session(self) -> Connection:
        """The session that holds it."""
        return self._session

    def __enter__(self) -> Self:
        with translated(self._name):
            self._running = _session(self._connect)
            self._session = self._running.__enter__()
            try:
                self._take()
            except BaseException:
                self._running.__exit__(None, None, None)
                raise
        return self

    def check(self) -> None:
        """Raise LedgerError where this session no longer holds it: a pooler may have put another one in its place."""
        with translated(self._name), self.session.begin():
            held = self.session.execute(text(_HELD), self._key).scalar()
        if not held:
            what = f"the session at {self._name} no longer holds the campaign"
            raise LedgerError(what, "connect to the server itself, not through a pooler; the next run goes on from here")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # In so many words: the server takes a moment to notice that a session has gone, and the next run may come at once.
        try:
            with suppress(SQLAlchemyError), self.session.begin():
                self.session.execute(text("SELECT pg_advisory_unlock(:key)"), self._key)
        finally:
            self._running.__exit__(None, None, None)

    def _take(self) -> None:
        with self.session.begin():
            if not self.session.execute(text(_TAKE), {**self._key, "pause": _GRACE_MS / 1000}).scalar():
                what = f"another run holds the campaign {self._campaign!r} at {self._name}"
                raise Busy(what, "wait for it to end; nothing was changed")


# Asked twice, the second time after a pause, where the first answer is no.
_TAKE = """
    SELECT CASE WHEN pg_try_advisory_lock(:key) THEN true
                WHEN pg_sleep(:pause) IS NULL THEN false
                ELSE pg_try_advisory_lock(:key) END
"""
_HELD = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND (classid::bigint << 32 | objid::bigint) = :key AND objsubid = 1
"""


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Database errors become LedgerError."""
    try:
        yield
    except (SQLAlchemyError, psycopg.Error) as error:
        raise LedgerError(f"{name} cannot be used: {in_words(error)}", Server.advice) from error


@contextmanager
def _session(connect: Callable[[], psycopg.Connection]) -> Iterator[Connection]:
    """One session, never followed by another: SQLAlchemy would connect anew by itself, without the lock."""
    waiting = [connect()]

    def give() -> psycopg.Connection:
        if not waiting:
            raise psycopg.OperationalError("the session was lost")
        return waiting.pop()

    engine = create_engine("postgresql+psycopg://", poolclass=NullPool, creator=give, use_native_hstore=False)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _key(text: str) -> int:
    """The number of a lock: 64 bits with a sign."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)
