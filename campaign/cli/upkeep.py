"""Commands that keep ledger and mail in order."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from campaign.cli.app import DEFAULT, ConfigFile, Group, Json, Note, app, examples
from campaign.cli.outside import load, now
from campaign.cli.saying import print_json
from campaign.errors import UsageError

_IS_MEANT = "Is this meant, and may the campaign go on from it?"
_ADOPTED = """\
adopted, and put on record. Messages that this ledger does not know of may have gone out, and would go out again
look first: campaign plan    then let the next night through: campaign run --approve N"""


@app.command(rich_help_panel=Group.UPKEEP, epilog=examples("campaign resolve '<contracts.2.5f…@example.com>' --lost"))
def resolve(  # noqa: PLR0913, PLR0917  # its options
    message_id: Annotated[str, typer.Argument(metavar="MESSAGE_ID", help="As `campaign explain USER` shows it.")],
    arrived: Annotated[bool, typer.Option("--arrived", help="The relay's log says that it was taken.")] = False,
    lost: Annotated[bool, typer.Option("--lost", help="The relay's log does not know it.")] = False,
    config: ConfigFile = DEFAULT,
    reason: Note = "",
    as_json: Json = False,
) -> None:
    """Settle a message whose fate is unknown, after a look into the relay's log. One that was lost is tried again."""
    from campaign import orders

    if arrived == lost:
        raise UsageError("what became of the message is not said", "give one of --arrived and --lost")
    settled = orders.resolve(load(config), message_id, arrived=arrived, now=now(), reason=reason)
    if as_json:
        print_json({"message_id": settled, "arrived": arrived, "reason": reason.strip()})
    else:
        lost_so = "it was lost, and is tried again unless a later message has gone out since"
        typer.echo(f"settled: {'it arrived' if arrived else lost_so}")


@app.command(
    rich_help_panel=Group.UPKEEP,
    epilog=examples("campaign bounces --maildir ~/Maildir", "campaign bounces --imap imaps://outlook.office365.com/INBOX"),
)
def bounces(
    config: ConfigFile = DEFAULT,
    maildir: Annotated[
        Path | None, typer.Option("--maildir", metavar="DIR", help="A maildir that delivery failures come to.")
    ] = None,
    imap: Annotated[
        str | None,
        typer.Option("--imap", metavar="URL", help="Or a mailbox: imaps://HOST/MAILBOX; signs in as at the relay."),
    ] = None,
    approve: Annotated[
        int | None, typer.Option("--approve", metavar="N", min=0, help="Believe up to N failures at once, however many they are.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read delivery failures: an address that they call dead is not mailed until the roster shows another. Prints what is new."""
    from campaign import returning

    settings = load(config)
    found = returning.take_back(settings, os.environ, maildir=maildir, imap=imap, approved=approve, now=now())
    if as_json:
        print_json(found.as_json())
    elif found.exit_code or sys.stdout.isatty():
        typer.echo("\n".join([*found.lines, found.summary]))
    raise typer.Exit(found.exit_code)


@app.command(rich_help_panel=Group.UPKEEP, epilog=examples("campaign purge --older-than 180"))
def purge(
    older_than: Annotated[int, typer.Option("--older-than", metavar="DAYS", min=0, max=36500, help="What is older, goes.")],
    config: ConfigFile = DEFAULT,
) -> None:
    """Remove old personal data: of users who left the roster, everybody's history, old reports. Caps and spacing still hold."""
    from campaign import forgetting

    removed = forgetting.purge(load(config), older_than, now())
    typer.echo(f"removed: {removed.users} users who are not in the roster, {removed.events} events, {removed.reports} reports")


@app.command(rich_help_panel=Group.UPKEEP, epilog=examples("campaign adopt"))
def adopt(
    config: ConfigFile = DEFAULT,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Accept a restored or moved ledger, or a corrected clock, after showing what was found. The next night needs an approval."""
    from campaign import ledger, orders

    settings = load(config)
    with ledger.hold(settings) as lock:
        found = orders.found(settings, now())
        if found.wrong:
            typer.echo(found.as_text(), err=as_json)
            if not yes and not (sys.stdin.isatty() and typer.confirm(_IS_MEANT, err=True)):
                raise UsageError("nothing was adopted", "to adopt without being asked: campaign adopt --yes")
            ledger.adopt(settings, now(), lock)
    if as_json:
        print_json({"adopted": bool(found.wrong), **found.as_json()})
    else:
        typer.echo(_ADOPTED if found.wrong else "nothing to adopt: the ledger is the one that this campaign last wrote")
