"""The ledger's tables, its version, and how an older one is brought up to date."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Dialect,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    select,
    text,
)
from sqlalchemy.schema import CreateColumn
from sqlalchemy.types import TypeDecorator

from campaign.errors import LedgerError


class Instant(TypeDecorator[datetime]):
    """An aware UTC time as ISO 8601 text: sorts as time does, and anybody can read it in the file."""

    impl = String(27).with_variant(String(27, collation="C"), "postgresql")  # there a locale would order by rules of its own
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], str | None]:  # noqa: ARG002  # as SQLAlchemy's
        """To text, without a step between: a large ledger holds millions."""
        return _as_text

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], datetime | None]:  # noqa: ARG002
        """From text."""
        return _as_moment


# All users of a batch were asked, and all of a run were made, at the same time.
@lru_cache(10_000)
def _as_text(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment else None


@lru_cache(10_000)
def _as_moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


class Word(TypeDecorator[str]):
    """One of a few words, kept in memory once, however many rows hold it."""

    impl = String
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str], str]:  # noqa: ARG002  # as SQLAlchemy's
        """The one that is kept."""
        return sys.intern


# Of what may be counted beyond 2^31 where many campaigns share a database. In SQLite only INTEGER counts by itself.
_Number = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

schema = Table("schema", metadata, Column("version", Integer, nullable=False))

# What binds a ledger to one campaign of one app, and how far it has got.
campaigns = Table(
    "campaigns",
    metadata,
    Column("campaign", String, primary_key=True),
    Column("ledger_id", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("client_id", String, nullable=False),
    Column("generation", Integer, nullable=False),  # counts up with every run; the witness knows it too
    Column("passed_at", Instant),  # the last night that was let through to mail; empty before the first
    Column("passed_users", Integer),  # the size of the roster on that night
    Column("passed_scope", String),  # and the scopes that it asked for
    Column("mask_key", String),  # of those whose personal data were removed; empty before the first
    Column("moved_to", String),  # where the ledger is now; empty where it is here
    Column("arriving_from", String),  # while it is being moved here
)

users = Table(
    "users",
    metadata,
    Column("campaign", String, primary_key=True),
    Column("user_id", String, primary_key=True),
    Column("email", String, nullable=False),
    Column("joined_at", Instant, nullable=False),
    Column("status", Word, nullable=False, default=""),
    Column("found", Word, nullable=False, default=""),
    Column("detail", Text, nullable=False, default=""),
    Column("last_probed", Instant),
    Column("granted_at", Instant),
    Column("verified_at", Instant),
    Column("lacking_since", Instant),
    Column("revoked_at", Instant),
    Column("suppressed", Text, nullable=False, default=""),
    Column("suppressed_until", Instant),
    Column("undeliverable", String, nullable=False, default=""),
    Column("action", Word, nullable=False, default=""),
    Column("reason", Word, nullable=False, default=""),
    Column("forgotten_at", Instant),  # by order: neither asked nor mailed since, nor named here
    Column("left_at", Instant),  # when the roster was first read without this user; empty while it shows the user
    Column("granted_scope", Word, nullable=False, server_default=""),  # of the consent; empty where not known, or taken back
)

# One row a message that was ever intended. The primary key is the promise: one slot, one message.
slots = Table(
    "slots",
    metadata,
    Column("campaign", String, primary_key=True),
    Column("user_id", String, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("message_id", String, nullable=False),
    Column("recipient", String, nullable=False),
    Column("address", String, nullable=False),  # the recipient as addresses are compared
    Column("date", Instant, nullable=False),  # the message's Date
    Column("sha256", String, nullable=False),  # of the bytes handed over
    Column("attempts", Integer, nullable=False),  # finished ones
    Column("tried_at", Instant, nullable=False),
    Column("outcome", String, nullable=False),
    Column("reply", Text, nullable=False, default=""),
    Column("run_id", String, nullable=False),
    Column("bounced", Text, nullable=False, server_default=""),  # the code of the delivery failure that came back, "5.1.1" say
    Column("scope", String, nullable=False, server_default=""),  # that the link asked for; empty where not known
    UniqueConstraint("campaign", "message_id"),
)

events = Table(
    "events",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("campaign", String, nullable=False),
    Column("user_id", String, nullable=False, index=True),
    Column("at", Instant, nullable=False),
    Column("run_id", String, nullable=False),
    Column("what", String, nullable=False),
    Column("detail", Text, nullable=False, default=""),
)

runs = Table(
    "runs",
    metadata,
    Column("campaign", String, primary_key=True),
    Column("run_id", String, primary_key=True),
    Column("started", Instant, nullable=False),
    Column("finished", Instant),
    Column("exit_code", Integer),
    Column("counts", Text, nullable=False, default="{}"),
)

# What `campaign adopt` accepted, and when: from then on messages may be missing here.
adoptions = Table(
    "adoptions",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("campaign", String, nullable=False),
    Column("at", Instant, nullable=False),
    Column("found", Text, nullable=False),
)

# The rejected rows of the last roster, so that only new ones raise the alarm. Hashes: the rows are not ours to keep.
rejects = Table(
    "rejects",
    metadata,
    Column("campaign", String, primary_key=True),
    Column("fingerprint", String, primary_key=True),
)


def add_column(connection: Connection, column: Column[Any]) -> None:
    """Give its table a column that earlier versions did not have, on any database, unless the table was just made with it.

    One that may not be NULL needs a `server_default`, for the rows that are there.
    """
    if column.name not in {present["name"] for present in inspect(connection).get_columns(column.table.name)}:
        definition = CreateColumn(column).compile(dialect=connection.dialect)
        connection.execute(text(f"ALTER TABLE {column.table.name} ADD COLUMN {definition}"))


def _add_bounced(connection: Connection) -> None:
    add_column(connection, slots.c.bounced)


def _add_masks(connection: Connection) -> None:
    add_column(connection, campaigns.c.mask_key)
    add_column(connection, users.c.forgotten_at)


def _add_leaving_and_adoptions(connection: Connection) -> None:
    add_column(connection, users.c.left_at)
    adoptions.create(connection, checkfirst=True)


def _add_scopes(connection: Connection) -> None:
    for column in (campaigns.c.passed_scope, users.c.granted_scope, slots.c.scope):
        add_column(connection, column)


def _add_moves(connection: Connection) -> None:
    add_column(connection, campaigns.c.moved_to)
    add_column(connection, campaigns.c.arriving_from)


# Each brings a ledger one version up; never changed once released. They run on every database that a ledger can lie in, and
# also right after the first of them has made all tables as they are now: so columns come by `add_column`, tables by
# `create(connection, checkfirst=True)`.
MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    metadata.create_all,
    _add_bounced,
    _add_masks,
    _add_leaving_and_adoptions,
    _add_scopes,
    _add_moves,
)


def upgrade(connection: Connection) -> None:
    """Create or upgrade all tables inside the caller's transaction. Raises LedgerError for a newer one, or none."""
    present = version(connection)
    if present > len(MIGRATIONS):
        raise LedgerError(f"the ledger has version {present}, newer than this program knows", "install the newer program")
    for migrate in MIGRATIONS[present:]:
        migrate(connection)
    if present < len(MIGRATIONS):
        connection.execute(schema.delete())
        connection.execute(schema.insert().values(version=len(MIGRATIONS)))


def version(connection: Connection) -> int:
    """The ledger's version; 0 for an empty database. Raises LedgerError for one of something else."""
    if not connection.dialect.has_table(connection, schema.name):
        if inspect(connection).get_table_names():
            what = "what [ledger] url names is a database of something else"
            raise LedgerError(what, "let it name one of the campaign's own")
        return 0
    return connection.execute(select(schema.c.version)).scalar() or 0
