"""How far a night has got, on a terminal: a bar for each stage, and what is being waited for."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from campaign.given import Progress, Waiting, unwatched


@contextmanager
def progress(*, quiet: bool) -> Iterator[tuple[Progress, Waiting]]:
    """Bars and the present wait on a terminal's stderr; elsewhere nothing at all."""
    if quiet or not sys.stderr.isatty():
        yield unwatched, unwatched
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    wait = TextColumn("{task.fields[wait]}", style="dim", markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), wait)
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {stage: bars.add_task(stage, visible=False, wait="") for stage in ("probing", "mailing")}

        def advance(stage: str, done: int, total: int) -> None:
            bars.update(tasks[stage], completed=done, total=total, visible=True, wait="")

        def wait_for(stage: str, what: str) -> None:
            bars.update(tasks[stage], visible=True, wait=what)

        yield advance, wait_for
