"""The report: one row for every row of the roster, as CSV and XLSX, replaced together or not at all."""

from campaign.report.cells import inert
from campaign.report.rows import Row, rows
from campaign.report.writing import check, write

__all__ = ["Row", "check", "inert", "rows", "write"]
