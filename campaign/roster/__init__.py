"""Reads the roster: a CSV file (RFC 4180, and what Excel makes of it) becomes Users, and Rejects with their lines."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from campaign.config import Config
from campaign.customers import Administrator
from campaign.errors import RosterError
from campaign.model import Roster
from campaign.roster.customers import customers_of
from campaign.roster.header import layout_of
from campaign.roster.records import Records, chunks, decoded
from campaign.roster.rows import Row, judged, settled

__all__ = ["read", "read_customers", "read_roster"]


def read_roster(config: Config, file: Path | None = None) -> Roster:
    """The roster that the configuration names, or another file in its place. Raises RosterError."""
    about = config.roster
    return read(file or about.file, encoding=about.encoding, max_rows=about.max_rows, columns=about.columns)


def read_customers(config: Config) -> tuple[Administrator, ...]:
    """The administrators of the customers that the configuration names, if it does. Raises RosterError."""
    file = config.customers.file
    return customers_of(file, encoding=config.roster.encoding) if file else ()


def read(path: Path, *, encoding: str = "", max_rows: int = 1_000_000, columns: Mapping[str, str] | None = None) -> Roster:
    """Read the roster; every data row ends as a User or as a Reject with its line and its reason.

    A byte order mark decides the encoding, then UTF-8 if the file is that, then `encoding`. `columns` maps our column
    names to the file's own headers where those are not recognised by themselves.
    Raises RosterError for a file that cannot be trusted as a whole: unreadable, undecodable, without the columns that are
    needed, broken in its structure (a row of more or fewer fields than the header), longer than `max_rows` or far too large
    for them, or without rows.
    """
    chosen = dict(columns or {})
    rows: list[Row] = []
    with _undisturbed(), decoded(path, encoding, max_rows) as text:
        records = Records(text, path, chosen)
        layout = layout_of(records.take(1).records[0], chosen, path)
        for chunk in chunks(records, len(layout.header), max_rows, path):
            rows += judged(chunk, layout)
    if not rows:
        raise RosterError(f"{path}: the roster has no rows", "it has a header alone; was the export filtered down to nobody?")
    return settled(rows)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without the search for cyclic garbage: it would look through all rows again and again, for a third of the time.

    Later it passes over them, too: a roster is there to the end of the program.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
