"""Commands about the ledger as a whole."""

from dataclasses import asdict
from typing import Annotated

import typer

from campaign.cli.app import DEFAULT, Commands, ConfigFile, Group, Json, app, examples
from campaign.cli.outside import load
from campaign.cli.saying import print_json

ledger = typer.Typer(cls=Commands, no_args_is_help=True, help="Move the ledger: `campaign ledger copy FROM TO`.")
app.add_typer(ledger, name="ledger", rich_help_panel=Group.UPKEEP)


@ledger.command(
    epilog=examples("campaign ledger copy sqlite:///ledger.sqlite3 postgresql+psycopg://campaign@db.example.com/campaign")
)
def copy(
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="The ledger that is used now, written as the url of a ledger is.")
    ],
    target: Annotated[str, typer.Argument(metavar="TO", help="An empty place for it.")],
    config: ConfigFile = DEFAULT,
    as_json: Json = False,
) -> None:
    """Move the campaign's ledger from one place to another and compare every row. The old one can be used no more.

    What signs in to a database is what the configuration names. Cut short, it goes on where it stood.
    """
    from campaign import moving

    done = moving.copy(load(config), source, target)
    if as_json:
        print_json(asdict(done))
        return
    typer.echo(f"copied to {done.target}, every row compared: {done.rows['users']} users, {done.rows['slots']} messages")
    typer.echo(f'{done.source} can be used no more; now write into [ledger]: url = "{target}"')
