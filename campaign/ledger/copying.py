"""Copies the rows of one campaign from one database to another, whatever kind either is."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, collate, select

_AT_ONCE = 1000  # rows


def bare(tables: MetaData) -> MetaData:
    """The same tables with names, keys and the plainest types of their columns alone, which every database understands."""
    copy = MetaData()
    for table in tables.sorted_tables:
        plain = ((c, Integer() if isinstance(c.type, Integer) else String()) for c in table.c)
        Table(table.name, copy, *(Column(c.name, kind, primary_key=c.primary_key) for c, kind in plain))
    return copy


def rows_of(table: Table, campaign: str, connection: Connection) -> Iterator[dict[str, Any]]:
    """The rows of this campaign (of a table that names none, all), in the same order wherever they lie.

    Numbers that each database gives by itself are left out, and give the order alone.
    """
    mine = [table.c.campaign == campaign] if "campaign" in table.c else []
    columns = [column for column in table.c if column.name != "id"]
    rows = select(*columns).where(*mine).order_by(*(_plain(c, connection) for c in table.primary_key.columns))
    with connection.execute(rows.execution_options(yield_per=_AT_ONCE)) as found:
        yield from map(dict, found.mappings())


def _plain(column: Column[Any], connection: Connection) -> Any:  # noqa: ANN401  # SQLAlchemy's own expression types
    """Ordered by bytes, as SQLite does by itself, whatever the locale of the database is."""
    by_locale = connection.dialect.name == "postgresql" and isinstance(column.type, String)
    return collate(column, "C") if by_locale else column


def copy_rows(table: Table, campaign: str, source: Connection, target: Connection) -> None:
    """Insert what the source has of this campaign into the target."""
    rows = rows_of(table, campaign, source)
    while batch := list(islice(rows, _AT_ONCE)):
        target.execute(table.insert(), batch)
