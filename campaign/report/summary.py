"""The first sheet of the workbook: where the campaign stands, in words, figures and charts."""

from collections.abc import Sequence
from datetime import datetime

from xlsxwriter import Workbook
from xlsxwriter.chart import Chart
from xlsxwriter.worksheet import Worksheet

from campaign.report.background import Run
from campaign.report.page import Grouping, Page
from campaign.report.sheets import Styles, Table, literal, serial
from campaign.report.tally import COUNTED, State, Tally

_NAME = "Summary"
_WIDTHS = (46, 17, 19, 17, 11, 11, 11, 18)  # of the tables
_LINE = 135  # characters of a paragraph that fit into a line across the tables
_BAND = 16  # rows for the charts, side by side between the first sentence and the tables
_BAND_TOP = 2
_CHART_WIDTHS = (420, 380, 290)
_BLUE, _GREY = "#0B5394", "#7F7F7F"
_COLOURS = {State.CONSENTED: _BLUE, State.ASKED: "#6FA8DC", State.SILENT: "#C77700", State.BARRED: "#6B6375"}
_VERDICT = "so it"
_USERS, _CONSENTED = 4, 5  # columns of the sheet Nights


class Summary:
    """The sheet; it stands first, and is written last. What it writes goes down row by row, as constant memory wants it."""

    def __init__(self, book: Workbook, styles: Styles) -> None:
        self._book, self._styles = book, styles
        self._sheet: Worksheet = book.add_worksheet(_NAME)
        self._row = 0
        self._charts = 0

    def write(self, tally: Tally, tables: Sequence[Table], nights: Table) -> None:
        """Fill it in from the complete `tally`; `tables` are the other sheets. Raises OSError."""
        page = Page(tally)
        self._lay_out()
        self._heading(f"{tally.background.campaign}: consent campaign", self._styles.title)
        self._paragraph(page.lead)
        self._row = _BAND_TOP + _BAND
        self._states(page)
        self._progress(page, tally.background.runs, nights)
        self._steps(page)
        for grouping in page.groupings:
            self._groups(grouping)
        self._contents(tables)

    # --- the parts

    def _states(self, page: Page) -> None:
        top = self._header("users who", "users", "share")
        for state, words, users in page.states:
            is_counted = state in COUNTED and page.tally.total
            self._line(words, users, users / page.tally.total if is_counted else None)
        counted = page.states[: len(COUNTED)]
        chart = self._chart("bar", "Users by where they stand")
        chart.add_series(
            {
                "categories": [_NAME, top, 0, top + len(counted) - 1, 0],
                "values": [_NAME, top, 1, top + len(counted) - 1, 1],
                "categories_data": [words for _, words, _ in counted],
                "values_data": [users for _, _, users in counted],
                "points": [{"fill": {"color": _COLOURS.get(state, _GREY)}} for state, _, _ in counted],
                "data_labels": {"value": True, "num_format": "#,##0"},
                "gap": 40,
            }
        )
        chart.set_y_axis({"reverse": True})
        chart.set_x_axis({"visible": False, "major_gridlines": {"visible": False}})

    def _progress(self, page: Page, runs: Sequence[Run], nights: Table) -> None:
        self._heading("Progress, and what to expect")
        self._paragraph(f"{page.outlook} {page.doubt}".rstrip())
        if not runs:
            return
        chart = self._chart("line", "Users who have consented, run by run")
        for column, name, colour in ((_CONSENTED, "have consented", _BLUE), (_USERS, "users", _GREY)):
            chart.add_series(self._curve(runs, nights.sheets[0], column, name, colour))
        chart.set_x_axis({"date_axis": True, "num_format": "d mmm", "major_unit_type": "days", "major_unit": _apart(runs)})
        chart.set_y_axis({"min": 0, "num_format": "#,##0", "major_gridlines": {"visible": True, "line": {"color": "#D9D9D9"}}})
        chart.set_legend({"position": "bottom"})

    def _curve(self, runs: Sequence[Run], sheet: str, column: int, name: str, colour: str) -> dict[str, object]:
        return {
            "name": name,
            "categories": [sheet, 1, 0, len(runs), 0],
            "values": [sheet, 1, column, len(runs), column],
            "categories_data": [serial(run.started) for run in runs],
            "values_data": [(run.consented if column == _CONSENTED else run.users) or 0 for run in runs],
            "line": {"color": colour, "width": 2.25, **({} if column == _CONSENTED else {"dash_type": "round_dot"})},
        }

    def _steps(self, page: Page) -> None:
        self._heading("What each message brings")
        self._paragraph(page.advice_on_reminders)
        names = ("message", "users who got it", "consented after it", "may yet answer", "share", "at least", "at most", _VERDICT)
        top = self._header(*names)
        found = page.steps
        for step in found:
            at = (step.share.middle, step.share.low, step.share.high) if step.ripe else (None, None, None)
            self._line(f"message {step.number}", step.sent, step.consented, step.waiting, *at, step.verdict, shares=(4, 5, 6))
        chart = self._chart("column", "Share of users who consent after each message")
        chart.add_series(
            {
                "categories": [_NAME, top, 0, top + len(found) - 1, 0],
                "values": [_NAME, top, 4, top + len(found) - 1, 4],
                "categories_data": [f"message {step.number}" for step in found],
                "values_data": [step.share.middle if step.ripe else "" for step in found],
                "fill": {"color": _BLUE},
                "data_labels": {"value": True, "num_format": "0%"},
                "gap": 80,
            }
        )
        chart.set_y_axis({"visible": False, "major_gridlines": {"visible": False}})

    def _groups(self, grouping: Grouping) -> None:
        self._heading(f"By {grouping.heading}")
        self._header(grouping.heading, "users", "have consented", "others", "share")
        for group in grouping.groups:
            share = group.consented / group.users if group.users else None
            self._line(group.name, group.users, group.consented, group.lacking, share, shares=(4,))

    def _contents(self, tables: Sequence[Table]) -> None:
        self._heading("The other sheets")
        self._header("sheet", "rows")
        for table in tables:
            self._line(", ".join(table.sheets), table.rows)
        if any(len(table.sheets) > 1 for table in tables):
            self._paragraph("A sheet holds 1,048,576 rows at most; what is beyond goes on in the next of the same name.")
        self._paragraph("Every figure is that of the rows in Users. All times are UTC. This file names people: keep it well.")

    # --- what they are made of

    def _lay_out(self) -> None:
        for place, width in enumerate(_WIDTHS):
            self._sheet.set_column(place, place, width)
        self._sheet.hide_gridlines(2)
        self._sheet.set_landscape()
        self._sheet.set_paper(9)  # A4
        self._sheet.fit_to_pages(1, 0)
        self._sheet.set_footer("&L&A. All times are UTC.&RPage &P of &N")

    def _chart(self, kind: str, title: str) -> Chart:
        """Put a new chart beside those before, above the tables."""
        chart: Chart = self._book.add_chart({"type": kind})
        chart.set_title({"name": title, "name_font": {"size": 11, "bold": True}})
        chart.set_legend({"none": True})
        chart.set_size({"width": _CHART_WIDTHS[self._charts] - 8, "height": 20 * _BAND - 30})
        place = {"x_offset": sum(_CHART_WIDTHS[: self._charts]), "description": f"{title}. The tables below have the figures."}
        self._sheet.insert_chart(_BAND_TOP, 0, chart, place)
        self._charts += 1
        return chart

    def _heading(self, text: str, style: object = None) -> None:
        self._row += 1 if self._row else 0
        self._sheet.write_string(self._row, 0, literal(text), style or self._styles.heading)
        self._row += 1

    def _paragraph(self, text: str) -> None:
        self._sheet.set_row(self._row, 16 * (1 + len(text) // _LINE))
        self._sheet.merge_range(self._row, 0, self._row, len(_WIDTHS) - 1, literal(text), self._styles.prose)
        self._row += 1

    def _header(self, *names: str) -> int:
        """Write the head of a table; return the row of its first line."""
        for place, name in enumerate(names):
            is_word = place == 0 or name == _VERDICT
            self._sheet.write_string(self._row, place, name, self._styles.header if is_word else self._styles.header_right)
        self._row += 1
        return self._row

    def _line(self, *cells: str | float | datetime | None, shares: tuple[int, ...] = (2,)) -> None:
        for place, value in enumerate(cells):
            if isinstance(value, str):
                self._sheet.write_string(self._row, place, literal(value), self._styles.text)
            elif value is not None:
                self._sheet.write_number(self._row, place, value, self._styles.share if place in shares else self._styles.number)
        self._row += 1


def _apart(runs: Sequence[Run]) -> int:
    """The days from one mark of the time axis to the next."""
    return max(1, (runs[-1].started - runs[0].started).days // 5)
