"""What the commands print: results on stdout, everything else on stderr."""

import json
import sys
from typing import TYPE_CHECKING, Any

import typer

from campaign.errors import CampaignError, ExitCode

if TYPE_CHECKING:
    from campaign.showing.page import Page


def show(page: "Page") -> None:
    """Print a page: as tables where somebody watches, as plain lines elsewhere."""
    if sys.stdout.isatty():
        from campaign.showing.terminal import show

        show(page, sys.stdout)
    else:
        from campaign.showing.page import as_text

        typer.echo(as_text(page))


def print_json(content: dict[str, Any]) -> None:
    """Print a result for scripts."""
    typer.echo(json.dumps(content))  # in ASCII: right whatever the locale


def end(problems: list[CampaignError], attention: list[str], exit_code: ExitCode) -> None:
    """Print each problem once, with its next step, and leave with the gravest exit code."""
    for line in attention[:20]:
        typer.echo(f"campaign: new: {line}", err=True)
    if len(attention) > 20:  # noqa: PLR2004  # a screenful; the report has them all
        typer.echo(f"campaign: new: and {len(attention) - 20} more, see the report", err=True)
    for problem in problems:
        complain(problem)
    raise typer.Exit(exit_code)


def complain(error: CampaignError) -> None:
    """Say in one sentence what is wrong, and below it the next step."""
    say(str(error))
    if error.advice:
        typer.echo(f"          {error.advice}", err=True)


def say(text: str) -> None:
    """Say what is no result."""
    typer.echo(f"campaign: {text}", err=True)
