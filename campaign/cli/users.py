"""Commands about one user: what happened, what is mailed, what is ordered."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from campaign.cli.app import DEFAULT, ConfigFile, Group, Json, Note, UserArgument, app, examples
from campaign.cli.outside import load, means, now, writing
from campaign.cli.saying import print_json, show


@app.command(rich_help_panel=Group.USERS, epilog=examples("campaign explain ada@example.com"))
def explain(user: UserArgument, config: ConfigFile = DEFAULT, as_json: Json = False) -> None:
    """Say everything that happened with one user, what happens next, when, and why: a letter to pass on or to read out."""
    from campaign import explaining

    settings = load(config)
    story = explaining.explain(settings, user, now())
    print_json(story.as_json()) if as_json else show(story.as_page())


@app.command(rich_help_panel=Group.USERS, epilog=examples("campaign diagnose ada@example.com --listed"))
def diagnose(
    user: UserArgument,
    config: ConfigFile = DEFAULT,
    listed: Annotated[
        bool | None,
        typer.Option("--listed/--not-listed", help="Whether the user's Connected Apps show the application."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find out why somebody who says "I already consented" still lacks it; say the remedy, and what to write to the user.

    Asks Docusign about this user id, by single scopes too, about others with its address, and in the other environment.
    """
    from campaign import diagnosing

    settings = load(config)
    found = diagnosing.diagnose(settings, means(), user, listed=listed)
    print_json(found.as_json()) if as_json else show(found.as_page())
    raise typer.Exit(found.exit_code)


@app.command(
    rich_help_panel=Group.USERS,
    epilog=examples(
        "campaign preview ada@example.com --template reminder --out reminder.html",
        "campaign preview ada@example.com --locale ja --out invite.eml",
        "campaign preview ada@example.com --to you@example.com",
    ),
)
def preview(  # noqa: PLR0913, PLR0917  # its options
    user: UserArgument,
    config: ConfigFile = DEFAULT,
    template: Annotated[
        str, typer.Option("--template", metavar="NAME", help="invite, reminder, later-reminder, escalation, administrator.")
    ] = "invite",
    locale: Annotated[str, typer.Option("--locale", metavar="LOCALE", help="In this language, as de or pt-BR, instead.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write FILE.eml, .html or .txt instead of printing the text.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="ADDRESS", help="Send it to this address, marked as a test.")] = None,
) -> None:
    """Show the exact message a user would get. Nothing is recorded."""
    from campaign import previewing

    settings = load(config)
    message = previewing.preview(settings, user, template, now(), locale)
    if out:
        with writing(out):
            previewing.save(message, out)
    if to:
        typer.echo(previewing.send_test(settings, means(), message, to))
    if not out and not to:
        typer.echo(previewing.text(message))


@app.command(rich_help_panel=Group.USERS, epilog=examples("campaign suppress ada@example.com --reason leave --until 2027-02-01"))
def suppress(
    user: UserArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever asks later.")],
    config: ConfigFile = DEFAULT,
    until: Annotated[
        datetime | None,
        typer.Option(
            "--until",
            metavar="DAY",
            formats=["%Y-%m-%d"],
            help="The first day that may mail again, as 2027-02-01, in [policy] timezone.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Let a user not be contacted, for good or until a day; also one who is new in the roster, before the first night."""
    from campaign import orders
    from campaign.model import stamp

    settings = load(config)
    ends = until.replace(tzinfo=settings.policy.zone) if until else None
    user_id = orders.suppress(settings, user, reason, ends, now())
    if as_json:
        print_json({"user_id": user_id, "suppressed": reason.strip(), "until": stamp(ends) if ends else None})
    else:
        typer.echo(f"{user_id} is not contacted" + (f" until {until:%Y-%m-%d}" if until else ""))


@app.command(rich_help_panel=Group.USERS, epilog=examples("campaign unsuppress ada@example.com"))
def unsuppress(user: UserArgument, config: ConfigFile = DEFAULT, reason: Note = "", as_json: Json = False) -> None:
    """Let a user be contacted again, also one whose address was refused."""
    from campaign import orders

    user_id = orders.unsuppress(load(config), user, now(), reason)
    print_json({"user_id": user_id, "reason": reason.strip()}) if as_json else typer.echo(f"{user_id} may be contacted again")


@app.command(rich_help_panel=Group.USERS, epilog=examples("campaign forget ada@example.com"))
def forget(user: UserArgument, config: ConfigFile = DEFAULT) -> None:
    """Take a user's personal data out of the ledger, and have the user neither asked nor mailed. Caps and spacing still hold."""
    from campaign import forgetting

    reports = forgetting.forget(load(config), user, now())
    typer.echo(f"{user} is forgotten: the ledger names this user no more, and keeps the number and dates of messages")
    if reports:
        typer.echo(f"still named in {len(reports)} reports, the last of them {reports[-1]}")
        typer.echo("with the user off the roster: campaign report, and for old reports: campaign purge --older-than DAYS")
