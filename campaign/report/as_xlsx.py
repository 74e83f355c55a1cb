"""The report as a workbook: a summary with charts, the rows, those that need a person, and every run."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from xlsxwriter import Workbook
from xlsxwriter.exceptions import FileCreateError

from campaign.report.attention import NEEDS, campaign_needs
from campaign.report.background import Remark
from campaign.report.cells import utc
from campaign.report.rows import Row
from campaign.report.sheets import Column, Kind, Styles, Table
from campaign.report.summary import Summary
from campaign.report.tally import Tally
from campaign.words import ENDINGS

_OPTIONS = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
_KINDS: dict[object, Kind] = {str: "text", int: "number"}
_WIDTHS = (39, 31, 24, 19, 12, 20, 13, 19, 19, 16, 19, 19, 16, 19, 38, 10, 19)
_USERS = [
    Column(name, width, "status" if name == "status" else _KINDS.get(kind, "time"))
    for (name, kind), width in zip(Row.__annotations__.items(), _WIDTHS, strict=True)
]
_ATTENTION = [
    Column("what to do", 60, "words"),
    Column("command", 58, "text"),
    *(column for column in _USERS if column.name in {"user_id", "email", "name", "status", "reason", "messages", "last_sent"}),
    Column("detail", 38, "words"),
    Column("line", 10, "number"),
]
_NIGHTS = [
    Column("started", 19, "time"),
    Column("finished", 19, "time"),
    Column("exit_code", 12, "number"),
    Column("the run", 52, "text"),
    *(Column(name, 16, "number") for name in ("users", "consented", "lacked consent", "no answer", "mailed")),
    *(Column(name, 12, "number") for name in ("accepted", "unknown", "deferred", "rejected")),
    Column("guards", 30, "text"),
]


@contextmanager
def as_xlsx(draft: Path, scratch: str, tally: Tally, at: datetime) -> Iterator[Callable[[Row], None]]:
    """Yield what adds a row to the XLSX at `draft`, whose bytes follow from the rows, the background and `at` alone.

    What the summary says is taken from the complete `tally` when all rows have gone by.
    """
    book = _Book(draft, scratch, tally, at)
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
    """The workbook. Each sheet grows in a file of its own, so the summary can stand first and be written last."""

    def __init__(self, draft: Path, scratch: str, tally: Tally, at: datetime) -> None:
        self._target = _Target(draft, "w")
        self._file = io.BufferedWriter(self._target)
        self._book = Workbook(self._file, {**_OPTIONS, "tmpdir": scratch})
        self._book.use_zip64()
        self._book.set_properties({"title": "Consent campaign", "comments": "All times are UTC.", "created": utc(at)})
        self._tally = tally
        styles = Styles(self._book)
        self._summary = Summary(self._book, styles)
        self._users = Table(self._book, styles, "Users", _USERS)
        self._attention = Table(self._book, styles, "Needs attention", _ATTENTION)
        self._nights = Table(self._book, styles, "Nights", _NIGHTS)
        self._begin()

    def _begin(self) -> None:
        """Write what is known before the first row: what concerns no single user, and the runs."""
        about = self._tally.background
        for remark in campaign_needs(about):
            nobody = [None] * (len(_ATTENTION) - 2)
            self._attention.add((f"{remark.what}. {_to_do(remark)}", remark.command, *nobody))
        for run in about.runs:
            ended = "was killed, or is under way" if run.exit_code is None else ENDINGS[run.exit_code]
            figures = (run.users, run.consented, run.lacking, run.no_answer, run.mailed)
            outcomes = (run.outcome.get(kind, 0) for kind in ("accepted", "unknown", "deferred", "rejected"))
            self._nights.add((run.started, run.finished, run.exit_code, ended, *figures, *outcomes, ", ".join(run.guards)))

    def add(self, row: Row) -> None:
        """Add one clean `row`. Raises OSError."""
        self._users.add(row)
        if (need := NEEDS.get(row.reason)) and self._tally.is_first(row):
            own = (row.user_id, row.email, row.name, row.status, row.reason, row.messages, row.last_sent, row.detail, row.line)
            command = need.command.format(user=row.user_id)
            self._attention.add((_to_do(need), command, *own))

    def finish(self) -> None:
        """Write the archive. Raises OSError."""
        tables = (self._users, self._attention, self._nights)
        for table in tables:
            table.finish()
        self._summary.write(self._tally, tables, self._nights)
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


def _to_do(remark: Remark) -> str:
    return f"{remark.advice}{':' if remark.command else '.'}"
