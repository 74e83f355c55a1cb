"""The report: one row for every row of the roster, as CSV and XLSX, and what they add up to, replaced together or not at all."""

from campaign.report.background import Background, Change, Limit, Remark, Run, Section
from campaign.report.cells import inert
from campaign.report.rows import Row, rows
from campaign.report.tally import State, state
from campaign.report.writing import check, write

__all__ = [
    "Background",
    "Change",
    "Limit",
    "Remark",
    "Row",
    "Run",
    "Section",
    "State",
    "check",
    "inert",
    "rows",
    "state",
    "write",
]
