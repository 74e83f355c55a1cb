"""A page on a terminal: tables with headings, and colours that only repeat what the words say.

Everything is printed as text, never as markup: names and replies are foreign.
"""

from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from campaign.showing.page import Line, Page, Table, Tone

_STYLES = {
    Tone.PLAIN: "",
    Tone.HEAD: "bold",
    Tone.GOOD: "green",
    Tone.DOUBT: "yellow",
    Tone.BAD: "bold red",
    Tone.ASIDE: "dim",
    Tone.COMMAND: "bold cyan",
}
_IN_ONE_PIECE = {Tone.COMMAND, Tone.ASIDE}  # commands and paths, which are copied


def show(page: Page, file: TextIO) -> None:
    """Print the page; rich itself honours NO_COLOR and finds the width."""
    console = Console(file=file, highlight=False)
    for block in page:
        if isinstance(block, Line):
            console.print(Text(block.text, _STYLES[block.tone]), soft_wrap=block.tone in _IN_ONE_PIECE)
        elif block.rows:
            console.print(_grid(block))


def _grid(table: Table) -> Grid:
    title = Text(table.heading, "bold") if table.heading else None
    caption = Text(table.more, "dim") if table.more else None
    grid = Grid(box=SIMPLE_HEAD, title=title, title_justify="left", caption=caption, caption_justify="left", pad_edge=False)
    for name, cell in zip(table.columns, table.rows[0], strict=True):
        grid.add_column(name, justify="right" if isinstance(cell, int) else "left", overflow="fold")
    tones = table.tones or [Tone.PLAIN] * len(table.rows)
    for row, tone in zip(table.rows, tones, strict=True):
        grid.add_row(*(Text(str(cell)) for cell in row), style=_STYLES[tone])
    return grid
