"""Rows of one kind in the workbook: typed cells, row by row in constant memory, on as many sheets as it takes."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from xlsxwriter import Workbook
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from campaign.model import Status

_ROWS_A_SHEET = 1_048_575  # what Excel has, less the header
_LINE_HEIGHT, _MOST_LINES = 15, 10
_EPOCH = datetime(1899, 12, 30, tzinfo=UTC)  # a date is the days since then
_SECOND = timedelta(seconds=1)
_FILLS: dict[str, str] = {  # the word says it all; the colour only helps the eye
    Status.GRANTED: "#E2F0D9",
    Status.CONSENT_REQUIRED: "#FFF2CC",
    Status.USER_NOT_FOUND: "#FCE4D6",
    Status.UNKNOWN: "#E4DFEC",
    Status.NOT_PROBED: "#F2F2F2",
    Status.REJECTED: "#F8D7DA",
}

Kind: TypeAlias = Literal["text", "words", "status", "number", "time"]
Cell: TypeAlias = str | int | datetime | None


class Column(NamedTuple):
    """A column: its heading, its width in characters, and what its cells are. Words are wrapped."""

    name: str
    width: int
    kind: Kind


class Styles:
    """How cells look."""

    def __init__(self, book: Workbook) -> None:
        common = {"valign": "vcenter", "indent": 1}
        text = {**common, "num_format": "@"}
        self.text: Format = book.add_format(text)
        self.words: Format = book.add_format({**text, "text_wrap": True})
        right = {**common, "align": "right"}
        self.number: Format = book.add_format({**right, "num_format": "#,##0"})
        self.plain: Format = book.add_format({**right, "num_format": "0"})
        self.share: Format = book.add_format({**right, "num_format": "0.0%"})
        self.time: Format = book.add_format({**common, "num_format": "yyyy-mm-dd hh:mm"})
        header = {**text, "bold": True, "bg_color": "#D9E1F2", "bottom": 1}
        self.header: Format = book.add_format(header)
        self.header_right: Format = book.add_format({**header, "align": "right"})
        self.title: Format = book.add_format({"bold": True, "font_size": 16})
        self.heading: Format = book.add_format({"bold": True, "font_size": 13})
        self.prose: Format = book.add_format({"text_wrap": True, "valign": "top"})
        self.fills: dict[str, Format] = {status: book.add_format({**text, "bg_color": fill}) for status, fill in _FILLS.items()}

    def of(self, kind: Kind) -> Format:
        """The format of a whole column."""
        return {"words": self.words, "number": self.plain, "time": self.time}.get(kind, self.text)


class Table:
    """Rows of one kind. Add them one by one, then finish it."""

    def __init__(self, book: Workbook, styles: Styles, name: str, columns: Sequence[Column]) -> None:
        self._book, self._styles, self._name, self._columns = book, styles, name, columns
        self._kinds = [(column.kind, styles.of(column.kind)) for column in columns]
        self._is_wrapped = any(column.kind == "words" for column in columns)
        self.sheets: list[str] = []
        self._start_sheet()

    def _start_sheet(self) -> None:
        self.sheets.append(f"{self._name} {len(self.sheets) + 1}" if self.sheets else self._name)
        self._sheet: Worksheet = self._book.add_worksheet(self.sheets[-1])
        self._lay_out()
        _set_up_print(self._sheet)
        self._last = 0
        for place, column in enumerate(self._columns):
            style = self._styles.header_right if column.kind == "number" else self._styles.header
            self._sheet.write_string(0, place, column.name, style)
            if column.kind == "time":
                self._sheet.write_comment(0, place, "UTC", {"x_scale": 0.4, "y_scale": 0.3})

    def _lay_out(self) -> None:
        for place, column in enumerate(self._columns):
            self._sheet.set_column(place, place, column.width, self._styles.of(column.kind))
        if not self._is_wrapped:
            self._sheet.set_default_row(18)
        self._sheet.freeze_panes(1, 0)
        last = chr(ord("A") + len(self._columns) - 1)
        self._sheet.ignore_errors({"number_stored_as_text": f"A1:{last}{_ROWS_A_SHEET + 1}"})

    def _lines(self, cells: Sequence[Cell]) -> Iterator[int]:
        """How many lines each wrapped cell takes: LibreOffice leaves a row as high as it is told."""
        for value, column in zip(cells, self._columns, strict=True):
            if column.kind == "words" and isinstance(value, str):
                yield min(_MOST_LINES, 1 + len(value) // (column.width - 3))

    def add(self, cells: Sequence[Cell]) -> None:
        """Add one row. Raises OSError."""
        if self._last == _ROWS_A_SHEET:
            self._finish_sheet()
            self._start_sheet()
        self._last = row = self._last + 1
        sheet = self._sheet
        if self._is_wrapped:
            sheet.set_row(row, _LINE_HEIGHT * max(1, *self._lines(cells)))
        for place, (value, (kind, style)) in enumerate(zip(cells, self._kinds, strict=True)):
            if isinstance(value, str):
                if value:
                    filled = self._styles.fills.get(value, style) if kind == "status" else style
                    sheet.write_string(row, place, literal(value), filled)
            elif isinstance(value, datetime):
                sheet.write_number(row, place, serial(value), style)
            elif value is not None:
                sheet.write_number(row, place, value, style)

    def _finish_sheet(self) -> None:
        self._sheet.autofilter(0, 0, self._last, len(self._columns) - 1)

    def finish(self) -> None:
        """Let the last sheet be filtered, too."""
        self._finish_sheet()

    @property
    def rows(self) -> int:
        """How many rows there are, on all sheets."""
        return (len(self.sheets) - 1) * _ROWS_A_SHEET + self._last


def _set_up_print(sheet: Worksheet) -> None:
    sheet.set_landscape()
    sheet.set_paper(9)  # A4
    sheet.set_margins(left=0.3, right=0.3, top=0.4, bottom=0.6)
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(0)
    sheet.set_footer("&L&A. All times are UTC.&RPage &P of &N")


@lru_cache(10_000)
def serial(moment: datetime) -> float:
    """An aware time, to the second, as the days since the spreadsheets' epoch: a real date where a cell is formatted so."""
    return (moment - _EPOCH) // _SECOND / 86_400


def literal(text: str) -> str:
    """XlsxWriter takes `<r>…</r>` for XML of its own making and writes it as it is, formulas and all."""
    return f"'{text}" if text.startswith("<r>") else text
