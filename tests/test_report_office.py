"""The report as a spreadsheet program sees it: LibreOffice, told to calculate whatever it takes for a formula."""

import csv
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import openpyxl
import pytest
import python_calamine
from xlsxwriter import Workbook

from campaign.model import Status
from campaign.report import Remark, Row, write
from tests.made_up import example
from tests.test_report import AT, HOSTILE, hostile_rows, of_csv, row, write_all
from tests.test_report_html import Page, number

OFFICE = shutil.which("soffice") or shutil.which("libreoffice")
pytestmark = [
    pytest.mark.office,
    pytest.mark.skipif(OFFICE is None and os.environ.get("CI") != "true", reason="LibreOffice is not installed"),
]

ALWAYS_CALCULATE = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Office.Calc/Formula/Load">
<prop oor:name="ODFRecalcMode" oor:op="fuse"><value>0</value></prop>
<prop oor:name="OOXMLRecalcMode" oor:op="fuse"><value>0</value></prop>
</item>
</oor:items>
"""
AS_SHOWN = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false"
ALL_SHEETS = f"{AS_SHOWN},false,false,-1"  # each as a file of its own
Convert = Callable[..., Path]


@pytest.fixture(scope="module")
def convert(tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """What converts a spreadsheet to `kind` and returns the new file. A CSV is split at `separator`."""
    profile = tmp_path_factory.mktemp("profile")
    (profile / "user").mkdir()
    (profile / "user" / "registrymodifications.xcu").write_text(ALWAYS_CALCULATE)

    def convert(path: Path, kind: str = AS_SHOWN, separator: str = ",", sheet: str = "") -> Path:
        assert OFFICE is not None, "LibreOffice is not installed"
        folder = path.parent / f"{path.suffix[1:]}-as-{kind[:3]}"
        reading = [f"--infilter=CSV:{ord(separator)},34,76,1"] if path.suffix == ".csv" else []
        command = [OFFICE, f"-env:UserInstallation={profile.as_uri()}", "--headless", *reading]
        subprocess.run([*command, "--convert-to", kind, "--outdir", folder, path], check=True, capture_output=True, timeout=60)
        return folder / f"{path.stem}{f'-{sheet}' if sheet else ''}.{kind[:3]}"

    return convert


def test_the_program_that_these_tests_ask_does_calculate(tmp_path: Path, convert: Convert) -> None:
    (tmp_path / "plain.csv").write_text("=1+1\n")
    with Workbook(tmp_path / "plain.xlsx") as book:
        book.add_worksheet().write_formula("A1", "=1+1")  # with 0 as its stored result

    assert of_csv(convert(tmp_path / "plain.csv")) == [["2"]]
    assert of_csv(convert(tmp_path / "plain.xlsx")) == [["2"]]


def test_a_hostile_cell_of_the_workbook_is_shown_as_the_text_it_is(tmp_path: Path, convert: Convert) -> None:
    _, book, *_ = write_all(tmp_path, *hostile_rows())

    shown = of_csv(convert(book, ALL_SHEETS, sheet="Users"))
    assert shown[0] == list(Row._fields)
    assert [line[14] for line in shown[1:]] == list(HOSTILE.values())


def test_a_hostile_cell_of_the_csv_is_shown_as_the_text_it_is(tmp_path: Path, convert: Convert) -> None:
    current, *_ = write_all(tmp_path, *hostile_rows())

    assert of_csv(convert(current)) == of_csv(current)


def test_a_csv_that_is_split_at_semicolons_calculates_nothing_either(tmp_path: Path, convert: Convert) -> None:
    current, *_ = write_all(tmp_path, row(name='Anna;=1+1; "=1+2";@SUM(1+3)', detail="=1+4;=1+5"))

    shown = [cell for line in of_csv(convert(current, separator=";")) for cell in line if cell]
    assert shown == [cell for line in csv.reader(current.read_text().splitlines(), delimiter=";") for cell in line]


def test_forty_users_print_on_one_page_and_each_other_sheet_on_its_own(tmp_path: Path, convert: Convert) -> None:
    statuses = list(Status)
    _, book, *_ = write_all(tmp_path, *(row(status=statuses[line % 6].value, last_sent=AT, line=line) for line in range(2, 42)))

    assert convert(book, "pdf").read_bytes().count(b"/Type/Page/") == len(("Summary", "Users", "Needs attention", "Nights"))


def test_three_independent_readers_agree_on_every_sheet_of_rows(tmp_path: Path, convert: Convert) -> None:
    made = example(users=400)
    about = replace(made.background(), remarks=[Remark("something is amiss", "See what", "campaign doctor")])
    book, _ = write(iter(made.rows()), tmp_path, formats=["xlsx"], mode=0o600, at=AT, background=about)

    for sheet in ("Users", "Needs attention", "Nights"):
        shown = of_csv(convert(book, ALL_SHEETS, sheet=sheet))
        by_openpyxl = [list(map(_as_shown, cells)) for cells in openpyxl.load_workbook(book)[sheet].iter_rows(values_only=True)]
        calamine = python_calamine.CalamineWorkbook.from_path(str(book)).get_sheet_by_name(sheet).to_python()
        assert shown == by_openpyxl == [list(map(_as_shown, cells)) for cells in calamine]
        assert len(shown) > 10


def _as_shown(cell: object) -> str:
    """A cell as the spreadsheet shows it."""
    if isinstance(cell, datetime):
        return f"{cell:%Y-%m-%d %H:%M:%S}"
    if isinstance(cell, float):
        return f"{cell:.0f}"
    return "" if cell is None else str(cell)


def test_the_summary_says_what_the_page_says(tmp_path: Path, convert: Convert) -> None:
    made = example(users=400)
    book, page, _ = write(iter(made.rows()), tmp_path, formats=["xlsx", "html"], mode=0o600, at=AT, background=made.background())

    shown = of_csv(convert(book, ALL_SHEETS, sheet="Summary"))
    told = Page(page)
    cells = {line[0]: line[1] for line in shown if line[0]}
    states = {line[0].strip(): number(line[1]) for line in told.table("states")}
    domains = {line[0]: number(line[1]) for line in told.table("e-mail domain")}
    assert {words: number(cells[words]) for words in states} == states
    assert {name: number(cells[name]) for name in domains} == domains
    assert shown[1][0] in told.said
    with zipfile.ZipFile(book) as archive:
        charts = [archive.read(name).decode() for name in archive.namelist() if name.startswith("xl/charts/chart")]
    assert len(charts) == 3
    assert f"<c:v>{states['have consented']}</c:v>" in charts[0]
