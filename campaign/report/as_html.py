"""The report as one page of HTML: no script, nothing remote, nothing but aggregates."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from campaign.files import shipped
from campaign.report.cells import clean_text, utc
from campaign.report.drawing import progress
from campaign.report.page import Page, share
from campaign.report.rows import Row
from campaign.report.tally import Tally


@contextmanager
def as_html(draft: Path, tally: Tally, at: datetime) -> Iterator[Callable[[Row], None]]:
    """Yield what takes each row; the page is written from the complete `tally` when all have gone by."""
    yield lambda _: None
    draft.write_text(render(tally, at), encoding="utf-8")


def render(tally: Tally, at: datetime) -> str:
    """The page."""
    page = Page(tally)
    chart = progress(page.nights, page.forecast) if page.nights else None
    return (
        _environment().get_template("report.html").render(page=page, about=tally.background, chart=chart, at=utc(at), share=share)
    )


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(shipped("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )


def _shown(value: object) -> object:
    """Figures with their thousands apart; no text that hides or turns what stands beside it."""
    if type(value) is str:  # not what is marked as safe
        return clean_text(value)
    return f"{value:,}" if isinstance(value, int) else value
