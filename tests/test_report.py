"""The report: its columns, what its cells may hold, and that it is replaced as a whole or not at all."""

import csv
import errno
import gc
import os
import re
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import openpyxl
import pytest
import python_calamine

from campaign.files import replaced
from campaign.model import Reject, Roster, Standing, Status, User
from campaign.report import Row, rows, sheets, write

AT = datetime(2026, 11, 23, 19, 12, tzinfo=UTC)
ID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
COLUMNS = (
    "user_id, email, name, status, action, reason, messages, first_sent, last_sent, last_outcome, last_probed, granted_at, "
    "next_action, next_due, detail, line, revoked_at"
)

# What a cell is given, and what it shows. Wherever it starts like a formula the CSV has one apostrophe more.
HOSTILE = {
    "=1+1": "=1+1",
    '=HYPERLINK("http://127.0.0.1/?"&B2,"click")': '=HYPERLINK("http://127.0.0.1/?"&B2,"click")',
    '=WEBSERVICE("http://127.0.0.1/")': '=WEBSERVICE("http://127.0.0.1/")',
    "=cmd|' /C calc'!A0": "=cmd|' /C calc'!A0",
    "=": "=",
    "@SUM(1+1)": "@SUM(1+1)",
    "+1+2": "+1+2",
    "+49 30 123456": "+49 30 123456",
    "-2+3": "-2+3",
    "  =1+2": "  =1+2",
    "\xa0=1+3": "\xa0=1+3",
    '"=1+4"': '"=1+4"',
    "\uff1d1+5": "\uff1d1+5",
    "{=1+6}": "{=1+6}",
    "\t=1+7": "\\t=1+7",
    "\r=1+8": "\\r=1+8",
    "\n=1+9": "\\n=1+9",
    "http://127.0.0.1/": "http://127.0.0.1/",
    "mailto:anna@example.com": "mailto:anna@example.com",
    "internal:Users!A1": "internal:Users!A1",
    "file:///etc/passwd": "file:///etc/passwd",
    "NUL\0 BEL\a ESC\x1b[31m": "NUL\\x00 BEL\\x07 ESC\\x1b[31m",
    "lone \ud800 surrogate \udfff": "lone \\ud800 surrogate \\udfff",
    "not a character \uffff": "not a character \\uffff",
    "moc.\u202eevil": "moc.\\u202eevil",
    "zero\u200bwidth": "zero\\u200bwidth",
    "<r></c><c><f>1+1</f></c></r>": "'<r></c><c><f>1+1</f></c></r>",
    "<r>&</r>": "'<r>&</r>",
    "_x0041_": "_x0041_",
    "]]> & <b> \" '": "]]> & <b> \" '",
    " spaces  inside and around ": " spaces  inside and around ",
    "Zoë 日本語 👩\u200d🚀 نام": "Zoë 日本語 👩\u200d🚀 نام",
    "x" * 40_000: "x" * 32_765 + "…",
    "😀" * 20_000: "😀" * 16_382 + "…",
    "=" * 40_000: "=" * 32_765 + "…",
    "NA": "NA",
    "None": "None",
    "#REF!": "#REF!",
}


def row(**cells: Any) -> Row:  # whatever that column holds
    """A row of the report, typical but for `cells`."""
    typical = Row(ID, "anna@example.com", "Anna", "granted", "", "granted", 0, None, None, "", AT, AT, "", None, "", 2)
    return typical._replace(**cells)


def hostile_rows() -> list[Row]:
    return [row(name=cell, detail=cell, line=line) for line, cell in enumerate(HOSTILE, 2)]


def write_all(folder: Path, *given: Row) -> tuple[Path, Path, Path, Path]:
    current, book, page, history = write(iter(given), folder, formats=["csv", "xlsx", "html"], mode=0o600, at=AT)
    return current, book, page, history


def of_csv(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def part_of(path: Path, sheet: str) -> str:
    """The part of the archive that holds a sheet."""
    return f"xl/worksheets/sheet{openpyxl.load_workbook(path).sheetnames.index(sheet) + 1}.xml"


def of_zip(path: Path, sheet: str = "Users") -> list[list[object]]:
    """The cells by the standard's own words: ECMA-376 part 1, 18.3.1.4 and 22.9.2.19."""
    main = {"": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
    with zipfile.ZipFile(path) as archive:
        found = ET.fromstring(archive.read(part_of(path, sheet)))  # noqa: S314  # our own file
    return [_of_row(line, main) for line in found.iterfind("sheetData/row", main)]


def _of_row(line: ET.Element, main: dict[str, str]) -> list[object]:
    cells: list[object] = [None] * len(Row._fields)
    for cell in line.iterfind("c", main):
        column = ord(cell.attrib["r"][0]) - ord("A")
        if cell.get("t") == "inlineStr":
            cells[column] = re.sub("_x([0-9A-F]{4})_", lambda code: chr(int(code[1], 16)), cell.findtext("is/t", "", main))
        else:
            cells[column] = float(cell.findtext("v", "", main))
    return cells


def of_openpyxl(path: Path) -> list[list[object]]:
    book = openpyxl.load_workbook(path)
    return [list(line) for line in book["Users"].iter_rows(values_only=True)]


def of_calamine(path: Path) -> list[list[object]]:
    book = python_calamine.CalamineWorkbook.from_path(str(path))
    return [list(line) for line in book.get_sheet_by_name("Users").to_python()]


def serial(moment: datetime) -> float:
    """The days since the spreadsheets' epoch."""
    return (moment - datetime(1899, 12, 30, tzinfo=UTC)) / timedelta(days=1)


# Rows


def test_every_row_of_the_roster_has_its_row_in_its_order() -> None:
    anna = User(ID, "Anna@example.com", "Anna@example.com", 2, name="Anna")
    broken = Reject(3, "the id is no GUID", "007", "ben@example.com", "Ben")
    roster = Roster((anna,), (broken,), ((2, anna), (3, broken), (4, anna)))
    standing = Standing(ID, found="consent_required", detail="consent_required", messages=1, action="invited", reason="sent")

    found = list(rows(roster, {ID: standing}, lambda _user, _standing: ("remind", AT)))

    assert [(each.line, each.user_id, each.status, each.reason) for each in found] == [
        (2, ID, "consent_required", "sent"),
        (3, "007", "rejected", "invalid_row"),
        (4, ID, "consent_required", "sent"),
    ]
    assert found[0][1:3] == ("Anna@example.com", "Anna")
    assert found[0][12:15] == ("remind", AT, "consent_required")
    assert found[1] == row(
        user_id="007", email="ben@example.com", name="Ben", status="rejected", reason="invalid_row",
        last_probed=None, granted_at=None, detail="the id is no GUID", line=3,
    )  # fmt: skip


def test_a_user_of_whom_nothing_is_known_was_not_probed() -> None:
    anna = User(ID, "anna@example.com", "anna@example.com", 2)

    (found,) = rows(Roster((anna,), (), ((2, anna),)), {}, lambda _user, _standing: ("invite", None))

    assert (found.status, found.messages, found.last_probed, found.next_action) == ("not_probed", 0, None, "invite")


def test_a_closed_user_keeps_the_past_and_has_no_future() -> None:
    anna = User(ID, "anna@example.com", "anna@example.com", 2, closed=True)
    standing = Standing(ID, found="consent_required", detail="consent_required", reason="waiting", messages=2, last_sent=AT)

    (found,) = rows(Roster((anna,), (), ((2, anna),)), {ID: standing}, lambda _user, _standing: ("remind", AT))

    assert (found.status, found.reason, found.detail) == ("not_probed", "closed", "")
    assert (found.messages, found.last_sent) == (2, AT)
    assert (found.next_action, found.next_due) == ("", None)


# Files


def test_the_columns_are_those_that_scripts_rely_on(tmp_path: Path) -> None:
    current, book, _, history = write_all(tmp_path / "reports")

    assert current.read_bytes().decode() == COLUMNS.replace(" ", "") + "\n"
    assert history.read_bytes() == current.read_bytes()
    assert of_zip(book) == of_openpyxl(book) == of_calamine(book) == [COLUMNS.split(", ")]


def test_each_file_is_where_it_is_expected(tmp_path: Path) -> None:
    folder = tmp_path / "reports"

    names = ("report.csv", "report.xlsx", "report.html", "history/2026-11-23T191200Z.csv")
    assert write_all(folder) == tuple(folder / name for name in names)


def test_the_history_is_kept_whatever_the_formats(tmp_path: Path) -> None:
    written = write([row()], tmp_path, formats=[], mode=0o600, at=AT)

    assert written == [tmp_path / "history" / "2026-11-23T191200Z.csv"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["2026-11-23T191200Z.csv", "history"]


def test_a_csv_line_is_plain_text_with_times_in_utc(tmp_path: Path) -> None:
    berlin = datetime(2026, 11, 23, 20, 12, 0, 999_999, tzinfo=timezone(timedelta(hours=1)))
    current, *_ = write_all(
        tmp_path, row(name="Zoë", messages=2, last_sent=berlin, next_due=AT + timedelta(days=3), revoked_at=AT)
    )

    assert current.read_bytes().split(b"\n")[1:] == [
        f"{ID},anna@example.com,Zoë,granted,,granted,2,,2026-11-23T19:12:00Z,,2026-11-23T19:12:00Z,2026-11-23T19:12:00Z,,"
        "2026-11-26T19:12:00Z,,2,2026-11-23T19:12:00Z".encode(),
        b"",
    ]


def test_three_readers_find_the_same_typed_cells_in_the_workbook(tmp_path: Path) -> None:
    _, book, *_ = write_all(
        tmp_path, row(user_id="007", name="1E5", messages=2, last_sent=AT, detail="2026-11-23", revoked_at=AT)
    )

    naive = AT.replace(tzinfo=None)
    sent = [2, "", naive, "", naive, naive, "", "", "2026-11-23", 2, naive]
    typed = ["007", "anna@example.com", "1E5", "granted", "", "granted", *sent]
    assert of_calamine(book)[1] == typed
    assert of_openpyxl(book)[1] == [None if cell == "" else cell for cell in typed]
    assert of_zip(book)[1] == [
        None if cell == "" else pytest.approx(serial(AT)) if cell == naive else cell for cell in typed
    ]  # fmt: skip


@pytest.mark.promise(18)
@pytest.mark.parametrize("read", [of_zip, of_openpyxl, of_calamine])
def test_a_hostile_cell_is_text_in_the_workbook(tmp_path: Path, read: Callable[[Path], list[list[object]]]) -> None:
    _, book, *_ = write_all(tmp_path, *hostile_rows())

    found = [line[14] for line in read(book)[1:]]
    # Only the first reader knows the format's own escapes; both libraries hand them on.
    plain = [str(cell).replace("_x005F_", "_") for cell in found]
    assert plain == list(HOSTILE.values())


@pytest.mark.promise(18)
def test_a_hostile_cell_is_no_formula_in_the_csv(tmp_path: Path) -> None:
    current, *_ = write_all(tmp_path, *hostile_rows())

    given, found = list(HOSTILE), {line[14]: line[2] for line in of_csv(current)[1:]}
    assert found == {cell: cell for cell in found}
    assert all(re.match(r"""[^=+\-@\t\r\n]""", cell.lstrip(' "\xa0')) for cell in found)
    assert [cell.removeprefix("'") for cell in found] == [HOSTILE[cell].removeprefix("'") for cell in given]
    assert {cell[0] for cell in list(found)[:13]} == {"'"}


@pytest.mark.promise(18)
def test_no_cell_becomes_a_formula_where_excel_splits_lines_at_semicolons(tmp_path: Path) -> None:
    current, *_ = write_all(tmp_path, row(name='Anna;=1+1; "@SUM(1)";fine', detail="a; b"))

    assert of_csv(current)[1][2] == "Anna;'=1+1;' \"@SUM(1)\";fine"
    assert of_csv(current)[1][14] == "a; b"


@pytest.mark.promise(18)
def test_the_workbook_has_no_formula_link_macro_or_name_of_a_user(tmp_path: Path) -> None:
    _, book, *_ = write_all(tmp_path, *hostile_rows())

    with zipfile.ZipFile(book) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    cells = b"".join(content for name, content in parts.items() if name.startswith("xl/worksheets/sheet"))
    assert not re.search(rb"<f[ >]|<hyperlink", cells)
    assert not [name for name in parts if re.search("(?i)vba|externalLink|connection|embed", name)]
    assert not [name for name, content in parts.items() if b'TargetMode="External"' in content]
    assert b"<dc:creator></dc:creator>" in parts["docProps/core.xml"]
    assert b"<cp:lastModifiedBy></cp:lastModifiedBy>" in parts["docProps/core.xml"]
    assert parts["docProps/core.xml"].count(b"2026-11-23T19:12:00Z") == 2


def test_the_workbook_is_ready_to_read_filter_and_print(tmp_path: Path) -> None:
    _, book, *_ = write_all(tmp_path, *(row(status=status.value, line=line) for line, status in enumerate(Status, 2)))

    sheet = openpyxl.load_workbook(book)["Users"]
    fills = [sheet.cell(line, 4).fill.fgColor.rgb for line in range(2, 8)]
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("A2", "A1:Q7")
    assert sheet["A1"].font.b
    assert sheet["K2"].number_format == "yyyy-mm-dd hh:mm"
    assert [sheet[cell].comment.text for cell in ("H1", "I1", "K1", "L1", "N1")] == ["UTC"] * 5
    assert len(set(fills)) == len(Status)
    assert (sheet.page_setup.orientation, sheet.page_setup.fitToHeight) == ("landscape", 0)
    assert sheet.print_title_rows == "$1:$1"
    assert sheet.column_dimensions["A"].width > len(ID)


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    one = write_all(tmp_path / "one", *hostile_rows())
    other = write_all(tmp_path / "other", *hostile_rows())

    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_what_does_not_fit_on_one_sheet_continues_on_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "_ROWS_A_SHEET", 10)
    _, book, *_ = write_all(tmp_path, *(row(line=line) for line in range(2, 23)))

    found = openpyxl.load_workbook(book)
    names = ["Users", "Users 2", "Users 3"]
    assert found.sheetnames == ["Summary", "Users", "Needs attention", "Nights", "Users 2", "Users 3"]
    assert [found[name].auto_filter.ref for name in names] == ["A1:Q11", "A1:Q11", "A1:Q2"]
    assert [[line[15] for line in of_zip(book, name)[1:]] for name in names] == [[*range(2, 12)], [*range(12, 22)], [22]]
    assert {of_zip(book, name)[0][0] for name in names} == {"user_id"}
    said = [cell for line in found["Summary"].iter_rows(values_only=True) for cell in line if isinstance(cell, str)]
    assert "Users, Users 2, Users 3" in said
    assert any("goes on in the next" in cell for cell in said)


@pytest.mark.promise(16)
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        write((row(line=line) for line in range(count)), tmp_path, formats=["csv", "xlsx", "html"], mode=0o600, at=AT)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(10)  # imports

    assert peak(4_000) < peak(400) + 1_000_000


# Whole or not at all


@pytest.mark.promise(18)
def test_the_report_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "reports"
    files = write_all(folder, row())

    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent, folder / "history")} == {0o700}


@pytest.mark.promise(8, 18)
def test_what_a_killed_process_left_half_written_goes_with_the_next_report(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    with ExitStack() as killed:
        drafts = [killed.enter_context(replaced(folder / name)) for name in ("report.xlsx", "history/2026-11-22T020000Z.csv")]
        scratch = folder / ".report.ab12_z89"  # as TemporaryDirectory calls one
        scratch.mkdir()
        (scratch / "part").touch()
        (folder / ".of-somebody-else").touch()
        write_all(folder, row())
        left = {path.name for path in folder.rglob(".*")}
        killed.pop_all()

    assert drafts[0].name.startswith(".report.xlsx.")
    assert left == {".of-somebody-else"}


def test_the_report_has_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    files = write([row()], tmp_path, formats=["csv", "xlsx", "html"], mode=0o640, at=AT)

    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}


@pytest.mark.promise(18)
@pytest.mark.case(41)
def test_a_symlink_is_replaced_and_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("as it was")
    for name in ("report.csv", "report.xlsx", "report.html"):
        (tmp_path / name).symlink_to(precious)

    files = write_all(tmp_path, row())

    assert precious.read_text() == "as it was"
    assert not [path for path in files if path.is_symlink()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


SMALL_DISK = """
import resource, sys
from datetime import timedelta
from pathlib import Path
from campaign.report import write
from tests.test_report import AT, row
for limit in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    rows = (row(line=line) for line in range(int(sys.argv[2])))
    try:
        write(rows, Path(sys.argv[1]), formats=["csv", "xlsx", "html"], mode=0o600, at=AT + timedelta(days=1))
    except OSError as error:
        print(error.errno)
"""


def errors_on_a_small_disk(folder: Path, count: int, *limits: int) -> list[int]:
    """Write `count` rows where no file may grow beyond each of `limits` bytes; nothing may be said on stderr."""
    command = [sys.executable, "-c", SMALL_DISK, str(folder), str(count), *map(str, limits)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stderr == ""
    return [int(number) for number in done.stdout.split()]


@pytest.mark.promise(18)
@pytest.mark.case(41)
def test_a_disk_that_is_full_at_any_point_leaves_the_old_report_whole_and_nothing_else(tmp_path: Path) -> None:
    _, book, *_ = write_all(tmp_path, row())
    before, size = contents(tmp_path), book.stat().st_size
    limits = [*range(0, size - 500, 1000), *range(size - 450, size, 100)]

    assert errors_on_a_small_disk(tmp_path, 1, *limits) == [errno.EFBIG] * len(limits)
    assert contents(tmp_path) == before


@pytest.mark.promise(18)
@pytest.mark.case(41)
@pytest.mark.parametrize("limit", [50_000, 500_000], ids=["in the CSV", "in the workbook's rows"])
def test_a_disk_that_fills_up_on_the_way_leaves_the_old_report_whole_and_nothing_else(tmp_path: Path, limit: int) -> None:
    write_all(tmp_path, row())
    before = contents(tmp_path)

    assert errors_on_a_small_disk(tmp_path, 4000, limit) == [errno.EFBIG]
    assert contents(tmp_path) == before


def test_rows_that_break_off_leave_the_old_report_whole_and_nothing_else(tmp_path: Path) -> None:
    def broken() -> Iterator[Row]:
        yield row()
        raise LookupError("the ledger is gone")

    write_all(tmp_path, row())
    before = contents(tmp_path)
    with pytest.raises(LookupError):
        write(broken(), tmp_path, formats=["csv", "xlsx", "html"], mode=0o600, at=AT + timedelta(days=1))
    gc.collect()  # a file that was left open would now say so

    assert contents(tmp_path) == before


@pytest.mark.promise(18)
@pytest.mark.case(41)
@pytest.mark.parametrize("blocked", ["report.csv", "report.xlsx", "report.html", "history"])
def test_a_target_that_cannot_be_replaced_leaves_the_others_as_they_were(tmp_path: Path, blocked: str) -> None:
    if blocked == "history":
        (tmp_path / blocked).write_text("a file where a folder should be")
    else:
        (tmp_path / blocked).mkdir()
    before = contents(tmp_path)
    with pytest.raises(OSError, match=blocked):
        write_all(tmp_path, row())

    assert {path: content for path, content in contents(tmp_path).items() if Path(path).name != "history" or content} == before


def test_a_folder_that_cannot_be_made_is_an_error_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file where the folder should be")

    with pytest.raises(OSError, match="reports"):
        write_all(tmp_path / "reports", row())
