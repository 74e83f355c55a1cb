"""What is shown: a page of lines and tables, said the same in plain text and on a terminal."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Tone(StrEnum):
    """What a line or a row is to the reader. A colour may repeat it, the words say it."""

    PLAIN = "plain"
    HEAD = "head"
    GOOD = "good"
    DOUBT = "doubt"  # somebody should look
    BAD = "bad"  # somebody must act
    ASIDE = "aside"
    COMMAND = "command"  # to be given as it stands


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence, or a gap where it is empty."""

    text: str = ""
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells of one kind each. Columns have names only on a terminal; numbers stand to the right.

    The last cell of a row may have several lines.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str | int, ...]]
    heading: str = ""
    more: str = ""  # what the rows leave out
    tones: Sequence[Tone] = ()  # of the rows; all plain where there are none


Page: TypeAlias = Sequence[Line | Table]


def as_text(page: Page) -> str:
    """The page for cron's mail, files and pipes: a line each, columns aligned by spaces."""
    return "\n".join(_lines(page))


def _lines(page: Page) -> Iterator[str]:
    for block in page:
        if isinstance(block, Line):
            yield block.text
        elif block.rows:
            yield from _of_table(block)


def _of_table(table: Table) -> Iterator[str]:
    if table.heading:
        yield f"{table.heading}:"
    widths = [max(map(len, map(str, column))) for column in zip(*table.rows, strict=True)]
    below = "\n" + " " * (2 * len(widths) + sum(widths[:-1]))
    for row in table.rows:
        cells = (_aligned(cell, width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip().replace("\n", below)
    if table.more:
        yield f"  {table.more}"


def _aligned(cell: str | int, width: int) -> str:
    return f"{cell:>{width}}" if isinstance(cell, int) else f"{cell:<{width}}"


def spaced(*parts: Iterable[Line | Table]) -> list[Line | Table]:
    """The parts that hold anything as one page, with a gap between each two."""
    blocks: list[Line | Table] = []
    for part in map(list, parts):
        blocks += [*([Line()] if blocks and part else []), *part]
    return blocks
