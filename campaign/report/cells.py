"""What a cell may hold, so that it is stored as it is, read as it is, and never calculated."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from operator import itemgetter

from campaign.report.rows import Row

_LONGEST = 32_766  # UTF-16 units: Excel's limit, less the apostrophe that may go before a cell
_UNSEEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # controls: most of them are not XML 1.0
    r"\u200b\ufeff\u2028\u2029"  # zero width, line breaks
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidi: the cell would read otherwise than it is
    r"\ud800-\udfff\ufffe\uffff]"  # not characters
)
_texts = itemgetter(*(column for column, kind in enumerate(Row.__annotations__.values()) if kind is str))


def clean(row: Row) -> Row:
    """Make every text fit for both files: what cannot be seen or stored becomes a visible escape, what is too long is cut."""
    joined = "".join(_texts(row))
    if joined.isprintable() and len(joined) <= _LONGEST // 2:
        return row
    return _each_text(clean_text, row)


def _each_text(change: Callable[[str], str], row: Row) -> Row:
    return Row._make(change(value) if isinstance(value, str) else value for value in row)


def clean_text(text: str) -> str:
    """Text in which everything is seen, and which a cell can hold."""
    shown = _UNSEEN.sub(_escape, text)
    units = shown.encode("utf-16-le")
    if len(units) <= 2 * _LONGEST:
        return shown
    return units[: 2 * (_LONGEST - 1)].decode("utf-16-le", "ignore") + "…"


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def utc(moment: datetime | None) -> datetime | None:
    """To the second and naive, as spreadsheets have it."""
    return None if moment is None else moment.astimezone(UTC).replace(microsecond=0, tzinfo=None)


_FORMULA = re.compile(r""";(?=[\s"]*[=+\-@\uff1d\uff0b\uff0d\uff20])""")  # the last four: full width, as East Asian Excel has it


def inert(text: str) -> str:
    """Keep spreadsheets from calculating `text`, by an apostrophe before what they would take for a formula.

    What follows a semicolon is treated as a cell of its own: with a comma as the decimal sign, Excel splits lines there.
    """
    return _FORMULA.sub(";'", f";{text}")[1:]


def inert_row(row: Row) -> Row:
    """A row whose texts are all inert."""
    return _each_text(inert, row) if _FORMULA.search(";".join(("", *_texts(row)))) else row
