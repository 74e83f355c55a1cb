"""Commands about the roster."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from campaign.cli.app import DEFAULT, Commands, ConfigFile, Group, Json, Verbose, app, examples
from campaign.cli.outside import load, means
from campaign.cli.saying import print_json

roster = typer.Typer(cls=Commands, help="Where the roster comes from.", no_args_is_help=True)
app.add_typer(roster, name="roster", rich_help_panel=Group.UPKEEP)


@roster.command(epilog=examples("campaign roster pull --as 0a7f3c52-9d1e-4b86-a2f4-6c8d5e7b9031 && campaign run"))
def pull(  # noqa: PLR0913, PLR0917  # its options
    who: Annotated[
        str, typer.Option("--as", metavar="USER", help="An administrator who has consented: a user id, or an address.")
    ],
    config: ConfigFile = DEFAULT,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write here; else to [roster] file.")] = None,
    account: Annotated[str, typer.Option("--account", metavar="ID", help="Of several accounts, this one.")] = "",
    organization: Annotated[
        str, typer.Option("--organization", metavar="ID", help="All accounts of this organization, by the Admin API.")
    ] = "",
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Write the roster from Docusign's own list of users, whole or not at all. Prints nothing where nobody watches."""
    from campaign import pulling

    settings = load(config)
    done = pulling.pull(settings, means(), who, out=out, account=account, organization=organization)
    if as_json:
        print_json(done.as_json())
    elif verbose or sys.stdout.isatty():
        typer.echo(done.as_text())
