"""All files of the report, replaced together or not at all."""

import errno
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from campaign.errors import LedgerError
from campaign.files import open_to_all, replaced
from campaign.report.as_csv import as_csv
from campaign.report.as_xlsx import as_xlsx
from campaign.report.cells import clean
from campaign.report.rows import Row


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
        adders = [stack.enter_context(as_csv(csv_draft))]
        if xlsx_draft is not None:
            adders.append(stack.enter_context(as_xlsx(xlsx_draft, scratch, at)))
        for row in rows:
            fit = clean(row)
            for add in adders:
                add(fit)
