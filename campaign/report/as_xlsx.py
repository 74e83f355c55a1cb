"""The report as a workbook."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from xlsxwriter import Workbook
from xlsxwriter.exceptions import FileCreateError
from xlsxwriter.format import Format

from campaign.model import Status
from campaign.report.cells import utc
from campaign.report.rows import Row
from campaign.report.tally import Tally

_ROWS_A_SHEET = 1_048_575  # what Excel has, less the header
_WIDTHS = (39, 31, 24, 19, 12, 20, 13, 19, 19, 16, 19, 19, 16, 19, 38, 10, 19)
_STATUS = Row._fields.index("status")
_FILLS: dict[str, str] = {  # the word says it all; the colour only helps the eye
    Status.GRANTED: "#E2F0D9",
    Status.CONSENT_REQUIRED: "#FFF2CC",
    Status.USER_NOT_FOUND: "#FCE4D6",
    Status.UNKNOWN: "#E4DFEC",
    Status.NOT_PROBED: "#F2F2F2",
    Status.REJECTED: "#F8D7DA",
}
_OPTIONS = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}


@contextmanager
def as_xlsx(draft: Path, scratch: str, _tally: Tally, at: datetime) -> Iterator[Callable[[Row], None]]:
    """Yield what adds a row to the XLSX at `draft`, whose bytes follow from the rows and `at` alone."""
    book = _Book(draft, scratch, at)
    try:
        yield book.add
        book.finish()
    finally:
        book.release()


class _Target(io.FileIO):
    """The archive's file, which can be abandoned.

    On a full disk XlsxWriter leaves an open ZipFile behind: it would write once more when it is collected, fail again, and
    say so on stderr.
    """

    abandoned = False

    def write(self, data: Any, /) -> int:  # noqa: ANN401  # any buffer
        return len(data) if self.abandoned else super().write(data)


class _Book:
    """The workbook: typed cells, row by row in constant memory, on as many sheets as it takes."""

    def __init__(self, draft: Path, scratch: str, at: datetime) -> None:
        self._target = _Target(draft, "w")
        self._file = io.BufferedWriter(self._target)
        self._book = Workbook(self._file, {**_OPTIONS, "tmpdir": scratch})
        self._book.use_zip64()
        self._book.set_properties({"title": "Consent campaign", "comments": "All times are UTC.", "created": utc(at)})
        common = {"valign": "vcenter", "indent": 1}
        text = {**common, "num_format": "@"}
        self._text = self._book.add_format(text)
        self._number = self._book.add_format({**common, "num_format": "0"})
        self._time = self._book.add_format({**common, "num_format": "yyyy-mm-dd hh:mm"})
        self._header = self._book.add_format({**text, "bold": True, "bg_color": "#D9E1F2", "bottom": 1})
        self._fills = {status: self._book.add_format({**text, "bg_color": fill}) for status, fill in _FILLS.items()}
        self._formats = [self._format_of(kind) for kind in Row.__annotations__.values()]
        self._start_sheet()

    def _format_of(self, kind: object) -> Format:
        return self._text if kind is str else self._number if kind is int else self._time

    def _start_sheet(self) -> None:
        number = len(self._book.worksheets()) + 1
        self._sheet = self._book.add_worksheet("Users" if number == 1 else f"Users {number}")
        self._lay_out()
        self._set_up_print()
        self._last = 0
        for column, name in enumerate(Row._fields):
            self._sheet.write_string(0, column, name, self._header)
            if self._formats[column] is self._time:
                self._sheet.write_comment(0, column, "UTC", {"x_scale": 0.4, "y_scale": 0.3})

    def _lay_out(self) -> None:
        for column, (width, format_) in enumerate(zip(_WIDTHS, self._formats, strict=True)):
            self._sheet.set_column(column, column, width, format_)
        self._sheet.set_default_row(18)
        self._sheet.freeze_panes(1, 0)
        self._sheet.ignore_errors({"number_stored_as_text": f"A1:Q{_ROWS_A_SHEET + 1}"})

    def _set_up_print(self) -> None:
        self._sheet.set_landscape()
        self._sheet.set_paper(9)  # A4
        self._sheet.set_margins(left=0.3, right=0.3, top=0.4, bottom=0.6)
        self._sheet.fit_to_pages(1, 0)
        self._sheet.repeat_rows(0)
        self._sheet.set_footer("&L&A. All times are UTC.&RPage &P of &N")

    def add(self, row: Row) -> None:
        """Add one clean `row`. Raises OSError."""
        if self._last == _ROWS_A_SHEET:
            self._finish_sheet()
            self._start_sheet()
        self._last += 1
        for column, value in enumerate(row):
            self._put(column, value, self._formats[column])
        self._sheet.write_string(self._last, _STATUS, row.status, self._fills.get(row.status, self._text))

    def _put(self, column: int, value: object, format_: Format) -> None:
        if isinstance(value, str):
            if value:
                self._sheet.write_string(self._last, column, _literal(value), format_)
        elif isinstance(value, int):
            self._sheet.write_number(self._last, column, value, format_)
        elif isinstance(value, datetime):
            self._sheet.write_datetime(self._last, column, utc(value), format_)

    def _finish_sheet(self) -> None:
        self._sheet.autofilter(0, 0, self._last, len(Row._fields) - 1)

    def finish(self) -> None:
        """Write the archive. Raises OSError."""
        self._finish_sheet()
        failure = None
        try:
            self._book.close()
        except FileCreateError as error:
            self._target.abandoned = True
            failure = OSError(*error.args[0].args)
        if failure is not None:  # raised here, where no traceback holds the abandoned archive any more
            raise failure
        self._file.close()

    def release(self) -> None:
        """Close what a workbook that was never finished leaves open."""
        for sheet in self._book.worksheets():
            with suppress(OSError):
                sheet.row_data_fh.close()
        self._file.close()


def _literal(text: str) -> str:
    """XlsxWriter takes `<r>…</r>` for XML of its own making and writes it as it is, formulas and all."""
    return f"'{text}" if text.startswith("<r>") else text
