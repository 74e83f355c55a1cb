"""The report as CSV."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from campaign.model import stamp
from campaign.report.cells import inert_row
from campaign.report.rows import Row

_TIMES = [place for place, kind in enumerate(Row.__annotations__.values()) if kind not in {str, int}]


@contextmanager
def as_csv(draft: Path) -> Iterator[Callable[[Row], Any]]:
    """Yield what adds a row to the CSV at `draft`. UTF-8 without BOM, lines end in LF, times are ISO 8601 in UTC."""
    with draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        yield lambda row: writer.writerow(_line(row))


def _line(row: Row) -> list[object]:
    """What the CSV holds of a clean `row`."""
    cells: list[object] = [*inert_row(row)]
    for place in _TIMES:  # looking at these alone takes half the time
        if isinstance(moment := cells[place], datetime):
            cells[place] = stamp(moment)
    return cells
