"""From bytes to records: the encoding, the lines, and the fields of every row with the line where it begins."""

import codecs
import csv
import io
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from campaign.errors import RosterError
from campaign.model import printable
from campaign.roster.header import OURS, key_of

BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
DELIMITERS = ",;\t"
BLOCK = 1 << 16  # bytes
LINE = 1 << 20  # characters; the csv module stops a field at 131,072
ROW = 512  # bytes; in a whole file, rows are not longer than that on average
SMALL = 100_000_000  # bytes; so much may be read whatever the number of rows
CHUNK = 50_000  # cells checked at a time, so that memory does not grow with the file
CSV_FAULTS = {
    "unexpected end of data": "a quoted field begins here or below and is never closed",
    "field larger than field limit": "a field is too long; often a quotation mark is never closed",
    "new-line character seen": "a carriage return stands alone in a row that is not quoted",
    "expected after": "text follows a closing quotation mark; inside a quoted field the mark is written twice",
}


class Chunk(NamedTuple):
    """Some records, and the lines where they begin."""

    lines: Sequence[int]
    records: list[list[str]]


@contextmanager
def decoded(path: Path, encoding: str, max_rows: int, section: str = "roster") -> Iterator[io.TextIOWrapper]:
    """Open the file that a section of campaign.toml names, as text whose lines end at a line feed alone.

    What cannot be read or decoded becomes a RosterError.
    """
    named = f"see [{section}] file in campaign.toml"
    try:
        with open(path, "rb", opener=_at_once) as file:  # Path.open takes no opener
            _refuse_if_unfit(path, os.fstat(file.fileno()), max_rows, named)
            codec = _codec(file, encoding)
            start = file.tell()
            with io.TextIOWrapper(file, codec, newline="\n") as text:
                try:
                    yield text
                except UnicodeError as error:
                    file.seek(start)
                    raise _undecodable(f"{path}:{_bad_line(file, codec)}", codec) from error
    except OSError as error:
        raise RosterError(f"{path} cannot be read: {error.strerror}", named) from error


def _at_once(path: str, flags: int) -> int:
    """Open a file without waiting: a FIFO would hang until somebody writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _refuse_if_unfit(path: Path, about: os.stat_result, max_rows: int, named: str) -> None:
    """A file far larger than its rows may be is not even looked into: counting them would take minutes."""
    if not stat.S_ISREG(about.st_mode):
        raise RosterError(f"{path} is not a plain file", named)
    if about.st_size > max(SMALL, ROW * max_rows):
        what = f"{path}: a file of {about.st_size / 1_000_000:,.0f} MB, too large for {max_rows:,} rows"
        raise RosterError(what, "is this the roster? if that is meant: [roster] max_rows")


def _codec(file: BinaryIO, encoding: str) -> str:
    """The file's encoding; leaves `file` behind the byte order mark."""
    start = file.read(3)
    for mark, codec in BOMS:
        if start.startswith(mark):
            file.seek(len(mark))
            return codec
    file.seek(0)
    return encoding if encoding and not _is_utf8(file, encoding) else "utf-8"


def _is_utf8(file: BinaryIO, encoding: str) -> bool:
    """Whether the file is UTF-8 after all. NUL and ESC are valid there, but speak of UTF-16 and ISO 2022."""
    try:
        b"\n".decode(encoding, "ignore")
    except (LookupError, ValueError) as error:
        raise RosterError(f'[roster] encoding: "{printable(encoding)}" is not known', 'for example "cp1252"') from error
    other = any(b"\0" in block or b"\x1b" in block for block in iter(partial(file.read, BLOCK), b""))
    file.seek(0)
    is_utf8 = not other and not _bad_line(file, "utf-8")
    file.seek(0)
    return is_utf8


def _bad_line(file: BinaryIO, codec: str) -> int:
    """The line of the first byte, from where `file` stands, that `codec` cannot read; 0 if there is none."""
    decoder = codecs.getincrementaldecoder(codec)()
    line = 1
    try:
        for block in iter(partial(file.read, BLOCK), b""):
            line += decoder.decode(block).count("\n")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return line + error.object[: error.start].decode(codec, "ignore").count("\n")
    except UnicodeError:  # some codecs do not say where
        return line
    return 0


def _undecodable(where: str, codec: str) -> RosterError:
    return RosterError(
        f"{where}: a byte here is no {codec.upper()}",
        'save the file as UTF-8 ("CSV UTF-8" in Excel), or name its encoding: [roster] encoding = "cp1252"',
    )


def _lines(text: io.TextIOWrapper, path: Path) -> Iterator[list[str]]:
    """The lines, a block of them at a time. Only a line feed ends one."""
    number, rest = 1, ""
    for block in iter(partial(text.read, BLOCK), ""):
        lines = io.StringIO(rest + block, newline="\n").readlines()
        if "\0" in block:
            nul = next(place for place, line in enumerate(lines) if "\0" in line)
            yield lines[:nul]
            raise RosterError(f"{path}:{number + nul}: a NUL character", "this is no text file, or UTF-16 without its mark")
        if len(lines[0]) > LINE:  # no other one can be: a block is shorter
            raise RosterError(f"{path}:{number}: the line is longer than {LINE:,} characters", "is this a CSV file?")
        rest = "" if lines[-1].endswith("\n") else lines.pop()
        yield lines
        number += len(lines)
    if rest:
        yield [rest]


class Records:
    """The file's records one after the other, and the line where the next one begins."""

    def __init__(self, text: io.TextIOWrapper, path: Path, chosen: Mapping[str, str]) -> None:
        lines = chain.from_iterable(_lines(text, path))
        first = next(lines, "")
        if not first.strip():
            raise RosterError(f"{path}:1: the first line is empty; it must be the header", "user_id,email,name will do")
        self._path = path
        self._reader = csv.reader(chain([first], lines), delimiter=_delimiter(first, chosen), strict=True)
        self._line = 1

    def take(self, count: int) -> Chunk:
        """At most so many records, none at the end of the file. Raises RosterError for a broken one."""
        records: list[list[str]] = []
        try:
            records.extend(islice(self._reader, count))  # what was read before a fault stays
        except csv.Error as error:
            fault = next((meaning for sign, meaning in CSV_FAULTS.items() if sign in str(error)), str(error))
            where = f"{self._path}:{self._line + sum(map(_height, records))}"
            raise RosterError(f"{where}: {fault}", "mend the row, or export the file again") from error
        return self._numbered(records)

    def _numbered(self, records: list[list[str]]) -> Chunk:
        first, self._line = self._line, self._reader.line_num + 1
        if self._line - first == len(records):
            return Chunk(range(first, self._line), records)
        return Chunk([*accumulate(map(_height, records[:-1]), initial=first)], records)


def _height(record: list[str]) -> int:
    """The lines of the file that a record takes: what ends a line within a cell is kept there."""
    return 1 + sum(cell.count("\n") for cell in record)


def _delimiter(first: str, chosen: Mapping[str, str]) -> str:
    """The one of `,` `;` tab that makes the most of the header line."""
    known = OURS.keys() | {key_of(header) for header in chosen.values()}

    def sense(delimiter: str) -> tuple[int, int]:
        try:
            header = next(csv.reader([first], delimiter=delimiter))
        except csv.Error:
            return 0, 0
        return sum(key_of(cell) in known for cell in header), len(header)

    return max(DELIMITERS, key=sense)


def chunks(records: Records, width: int, max_rows: int, path: Path) -> Iterator[Chunk]:
    """The rows, some thousands at a time, each as wide as the header. Blank ones at the end of the file are none."""
    rows = 0
    held = Chunk([], [])
    while (more := records.take(max(1, CHUNK // width))).records:
        chunk = Chunk([*held.lines, *more.lines], held.records + more.records) if held.records else more
        end = _end(chunk.records)
        if len(chunk.records) - end > max_rows:
            end = len(chunk.records)  # a flood of blank rows is not held back in memory
        rows += end
        if rows > max_rows:
            where = f"{path}:{chunk.lines[end - rows + max_rows]}"
            raise RosterError(f"{where}: more than {max_rows:,} rows", "if that is meant: [roster] max_rows")
        _refuse_misfits(chunk.records[:end], chunk.lines, width, path)
        if end:
            yield Chunk(chunk.lines[:end], chunk.records[:end])
        held = Chunk(chunk.lines[end:], chunk.records[end:])


def _end(records: list[list[str]]) -> int:
    """The place behind the last row that is not blank."""
    return next((place for place in range(len(records), 0, -1) if any(map(str.strip, records[place - 1]))), 0)


def _refuse_misfits(records: list[list[str]], lines: Sequence[int], width: int, path: Path) -> None:
    widths = [*map(len, records)]
    if widths.count(width) < len(widths):
        line, found = next((line, found) for line, found in zip(lines, widths, strict=False) if found != width)
        raise _misfit(f"{path}:{line}", found, width)


def _misfit(where: str, found: int, width: int) -> RosterError:
    advice = "a cell that holds the delimiter or a line break must be quoted; nothing was read from this file"
    if not found:
        return RosterError(f"{where}: an empty line between the rows", "remove it; at the end of the file it would do no harm")
    return RosterError(f"{where}: {found} fields, but the header has {width}", advice)
