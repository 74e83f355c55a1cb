"""The report: one row for every row of the roster, as CSV and XLSX, replaced together or not at all."""

import csv
import errno
import io
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from xlsxwriter import Workbook
from xlsxwriter.exceptions import FileCreateError
from xlsxwriter.format import Format

from campaign.errors import LedgerError
from campaign.files import open_to_all, replaced
from campaign.model import Reason, Reject, Roster, Standing, Status, User, stamp


class Row(NamedTuple):
    """One row of the report; the fields are its first columns, by name and order."""

    user_id: str
    email: str
    name: str
    status: str
    action: str
    reason: str
    messages: int
    first_sent: datetime | None
    last_sent: datetime | None
    last_outcome: str
    last_probed: datetime | None
    granted_at: datetime | None
    next_action: str
    next_due: datetime | None
    detail: str
    line: int


Upcoming = Callable[[User, Standing], tuple[str, datetime | None]]


def rows(roster: Roster, standings: Mapping[str, Standing], upcoming: Upcoming) -> Iterator[Row]:
    """Give one row for every row of the roster, in its order.

    `standings` is by user id; a user without one has not been probed. `upcoming` says what a user gets next, and when.
    """
    for line, shown in roster.rows:
        if isinstance(shown, Reject):
            yield _rejected(line, shown)
        else:
            yield _known(line, shown, standings.get(shown.user_id) or Standing(shown.user_id), upcoming)


def _known(line: int, user: User, standing: Standing, upcoming: Upcoming) -> Row:
    next_action, next_due = ("", None) if user.closed else upcoming(user, standing)
    return Row(
        user_id=user.user_id,
        email=user.email,
        name=user.name,
        status=Status.NOT_PROBED if user.closed else standing.found or Status.NOT_PROBED,
        action=standing.action,
        reason=Reason.CLOSED if user.closed else standing.reason,
        messages=standing.messages,
        first_sent=standing.first_sent,
        last_sent=standing.last_sent,
        last_outcome=standing.last_outcome,
        last_probed=standing.last_probed,
        granted_at=standing.granted_at,
        next_action=next_action,
        next_due=next_due,
        detail="" if user.closed else standing.detail,
        line=line,
    )


def _rejected(line: int, reject: Reject) -> Row:
    return Row(
        user_id=reject.user_id,
        email=reject.email,
        name=reject.name,
        status=Status.REJECTED,
        action="",
        reason=Reason.INVALID_ROW,
        messages=0,
        first_sent=None,
        last_sent=None,
        last_outcome="",
        last_probed=None,
        granted_at=None,
        next_action="",
        next_due=None,
        detail=reject.reason,
        line=line,
    )


def check(folder: Path) -> None:
    """Raise LedgerError where reports could not be written or everybody could replace them; no folder yet is no trouble."""
    for place in (folder, folder / "history"):
        if open_to_all(place):
            raise LedgerError(f"{place} can be written by everybody, who could replace the reports", f"chmod o-w {place}")
    for name in ("report.csv", "report.xlsx"):
        if _is_folder(folder / name):
            raise LedgerError(f"{folder / name} is a folder, where a report should be", "move it away")


def write(rows: Iterable[Row], folder: Path, *, formats: Sequence[str], mode: int, at: datetime) -> list[Path]:
    """Write `report.csv` and `report.xlsx`, as `formats` has them, and always `history/<at>.csv`; return their paths.

    `rows` is gone through once, a row at a time. All times must be aware. Raises OSError; then no file was replaced and
    no temporary one is left. New files get `mode`, new folders 0700; a symlink is replaced, not followed.
    """
    history = folder / "history" / f"{at.astimezone(UTC):%Y-%m-%dT%H%M%SZ}.csv"
    reports = [folder / f"report.{ending}" for ending in ("csv", "xlsx") if ending in formats]
    _prepare(history.parent, reports)
    with ExitStack() as stack:
        drafts = {path.name: stack.enter_context(replaced(path, mode)) for path in (history, *reports)}
        scratch = stack.enter_context(TemporaryDirectory(prefix=".report.", dir=folder))
        _fill(rows, drafts[history.name], drafts.get("report.xlsx"), scratch, at)
        if "report.csv" in drafts:
            shutil.copyfile(drafts[history.name], drafts["report.csv"])
    return [*reports, history]


def _prepare(folder: Path, targets: Iterable[Path]) -> None:
    """Make `folder`, and find out now what would else stop only the last of several renames."""
    for part in (*reversed(folder.parents), folder):
        part.mkdir(mode=0o700, exist_ok=True)
    for path in targets:
        if _is_folder(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _fill(rows: Iterable[Row], csv_draft: Path, xlsx_draft: Path | None, scratch: str, at: datetime) -> None:
    with ExitStack() as stack:
        adders = [stack.enter_context(_csv(csv_draft))]
        if xlsx_draft is not None:
            adders.append(stack.enter_context(_xlsx(xlsx_draft, scratch, at)))
        for row in rows:
            clean = _clean(row)
            for add in adders:
                add(clean)


# What a cell may hold

_LONGEST = 32_766  # UTF-16 units: Excel's limit, less the apostrophe that may go before a cell
_UNSEEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # controls: most of them are not XML 1.0
    r"\u200b\ufeff\u2028\u2029"  # zero width, line breaks
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidi: the cell would read otherwise than it is
    r"\ud800-\udfff\ufffe\uffff]"  # not characters
)
_texts = itemgetter(*(column for column, kind in enumerate(Row.__annotations__.values()) if kind is str))


def _clean(row: Row) -> Row:
    """Make every text fit for both files: what cannot be seen or stored becomes a visible escape, what is too long is cut."""
    joined = "".join(_texts(row))
    if joined.isprintable() and len(joined) <= _LONGEST // 2:
        return row
    return _each_text(_clean_text, row)


def _each_text(change: Callable[[str], str], row: Row) -> Row:
    return Row._make(change(value) if isinstance(value, str) else value for value in row)


def _clean_text(text: str) -> str:
    shown = _UNSEEN.sub(_escape, text)
    units = shown.encode("utf-16-le")
    if len(units) <= 2 * _LONGEST:
        return shown
    return units[: 2 * (_LONGEST - 1)].decode("utf-16-le", "ignore") + "…"


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _utc(moment: datetime | None) -> datetime | None:
    """To the second and naive, as spreadsheets have it."""
    return None if moment is None else moment.astimezone(UTC).replace(microsecond=0, tzinfo=None)


# CSV

_FORMULA = re.compile(r""";(?=[\s"]*[=+\-@\uff1d\uff0b\uff0d\uff20])""")  # the last four: full width, as East Asian Excel has it


@contextmanager
def _csv(draft: Path) -> Iterator[Callable[[Row], Any]]:
    """Yield what adds a row to the CSV at `draft`. UTF-8 without BOM, lines end in LF, times are ISO 8601 in UTC."""
    with draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        yield lambda row: writer.writerow(_line(row))


def _line(row: Row) -> Iterable[object]:
    """What the CSV holds of a clean `row`."""
    if _FORMULA.search(";".join(("", *_texts(row)))):
        row = _each_text(inert, row)
    return [stamp(value) if isinstance(value, datetime) else value for value in row]


def inert(text: str) -> str:
    """Keep spreadsheets from calculating `text`, by an apostrophe before what they would take for a formula.

    What follows a semicolon is treated as a cell of its own: with a comma as the decimal sign, Excel splits lines there.
    """
    return _FORMULA.sub(";'", f";{text}")[1:]


# XLSX

_ROWS_A_SHEET = 1_048_575  # what Excel has, less the header
_WIDTHS = (39, 31, 24, 19, 12, 20, 13, 19, 19, 16, 19, 19, 16, 19, 38, 10)
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
def _xlsx(draft: Path, scratch: str, at: datetime) -> Iterator[Callable[[Row], None]]:
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
        self._book.set_properties({"title": "Consent campaign", "comments": "All times are UTC.", "created": _utc(at)})
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
        self._sheet.ignore_errors({"number_stored_as_text": f"A1:P{_ROWS_A_SHEET + 1}"})

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
            self._sheet.write_datetime(self._last, column, _utc(value), format_)

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
