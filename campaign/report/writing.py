"""All files of the report, replaced together or not at all."""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from campaign.errors import LedgerError
from campaign.files import open_to_all, replaced
from campaign.report.as_csv import as_csv
from campaign.report.as_html import as_html
from campaign.report.as_xlsx import as_xlsx
from campaign.report.background import Background
from campaign.report.cells import clean
from campaign.report.rows import Row
from campaign.report.tally import Tally

Add = Callable[[Row], Any]
FORMATS = ("csv", "xlsx", "html")


def check(folder: Path) -> None:
    """Raise LedgerError where reports could not be written or everybody could replace them; no folder yet is no trouble."""
    for place in (folder, folder / "history"):
        if open_to_all(place):
            raise LedgerError(f"{place} can be written by everybody, who could replace the reports", f"chmod o-w {place}")
    for path in _reports(folder, FORMATS):
        if _is_folder(path):
            raise LedgerError(f"{path} is a folder, where a report should be", "move it away")


def write(  # noqa: PLR0913  # what, where, and how each file is to be
    rows: Iterable[Row], folder: Path, *, formats: Sequence[str], mode: int, at: datetime, background: Background | None = None
) -> list[Path]:
    """Write `report.csv`, `.xlsx` and `.html`, as `formats` has them, and always `history/<at>.csv`; return their paths.

    `rows` is gone through once, a row at a time. All times must be aware. Raises OSError; then no file was replaced and
    no temporary one is left. New files get `mode`, new folders 0700; a symlink is replaced, not followed. The caller holds
    the campaign: what lies there half-written is of a process that was killed, and is removed.
    """
    history = folder / "history" / f"{at.astimezone(UTC):%Y-%m-%dT%H%M%SZ}.csv"
    reports = _reports(folder, formats)
    _prepare(history.parent, reports)
    _sweep(folder)
    with ExitStack() as stack:
        drafts = {path.name: stack.enter_context(replaced(path, mode)) for path in (history, *reports)}
        scratch = stack.enter_context(TemporaryDirectory(prefix=".report.", dir=folder))
        tally = Tally(background or Background())
        makers = [as_csv(drafts[history.name])]
        if book := drafts.get("report.xlsx"):
            makers.append(as_xlsx(book, scratch, tally, at))
        if page := drafts.get("report.html"):
            makers.append(as_html(page, tally, at))
        _fill(rows, tally, makers)
        if "report.csv" in drafts:
            shutil.copyfile(drafts[history.name], drafts["report.csv"])
    return [*reports, history]


def _reports(folder: Path, formats: Sequence[str]) -> list[Path]:
    return [folder / f"report.{ending}" for ending in FORMATS if ending in formats]


def _prepare(folder: Path, targets: Iterable[Path]) -> None:
    """Make `folder`, and find out now what would else stop only the last of several renames."""
    for part in (*reversed(folder.parents), folder):
        part.mkdir(mode=0o700, exist_ok=True)
    for path in targets:
        if _is_folder(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def _sweep(folder: Path) -> None:
    """Remove what a killed process left: nobody knows of it, and it names everybody."""
    for draft in (*folder.glob(".report.*"), *folder.glob("history/.*.csv.*.tmp")):
        if _is_folder(draft):
            shutil.rmtree(draft, ignore_errors=True)
        else:
            with suppress(OSError):
                draft.unlink()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _fill(rows: Iterable[Row], tally: Tally, makers: Sequence[AbstractContextManager[Add]]) -> None:
    """Give each row to every file; what they add up to is counted meanwhile, and complete when the files are finished."""
    with ExitStack() as stack:
        adders: list[Add] = [stack.enter_context(maker) for maker in makers]
        if len(makers) > 1:  # the CSV alone has no figures
            adders.append(tally.add)
        for row in rows:
            fit = clean(row)
            for add in adders:
                add(fit)
