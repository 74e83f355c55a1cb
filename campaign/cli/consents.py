"""Commands about the ways to the consent."""

from pathlib import Path
from typing import Annotated

import typer

from campaign.cli.app import DEFAULT, ConfigFile, Group, Json, app, examples
from campaign.cli.outside import load, means, writing
from campaign.cli.saying import print_json, show
from campaign.errors import UsageError


@app.command(rich_help_panel=Group.CONSENTS, epilog=examples("campaign link --admin"))
def link(
    config: ConfigFile = DEFAULT,
    admin: Annotated[bool, typer.Option("--admin", help="The URL for an organisation's administrator instead.")] = False,
    as_json: Json = False,
) -> None:
    """Print the consent URL."""
    from campaign.docusign.links import admin_consent_url, consent_url

    settings = load(config)
    url = (admin_consent_url if admin else consent_url)(settings.docusign)
    print_json({"url": url}) if as_json else typer.echo(url)


@app.command(rich_help_panel=Group.CONSENTS, epilog=examples("campaign pages /var/www/docusign"))
def pages(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write them to; made if it is missing.")],
    config: ConfigFile = DEFAULT,
    as_json: Json = False,
) -> None:
    """Write static pages for a web server: one that informs and holds the consent link, one that thanks at the redirect URI."""
    from campaign.pages import write

    settings = load(config)
    with writing(directory):
        done = list(write(settings, directory))
    if as_json:
        print_json({"written": [str(path) for path, new in done if new], "removed": [str(path) for path, new in done if not new]})
    else:
        typer.echo("\n".join(f"{'wrote' if new else 'removed'} {path}" for path, new in done))
        typer.echo(f"next: let {directory / 'thanks.html'} be what {settings.docusign.redirect_uri} shows", err=True)


@app.command(rich_help_panel=Group.CONSENTS, epilog=examples("campaign advise", "campaign advise --verify example.com"))
def advise(
    config: ConfigFile = DEFAULT,
    domain: Annotated[
        list[str] | None,
        typer.Option("--domain", metavar="NAME", help="Consider one consent for this domain; may be given several times."),
    ] = None,
    verify: Annotated[
        str | None, typer.Option("--verify", metavar="DOMAIN", help="Ask Docusign about a handful of users who lack it there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say how many of those who lack consent one administrator's consent would clear, and how it is given. Changes nothing."""
    from campaign import advice
    from campaign.showing import advised

    settings = load(config)
    if verify and domain:
        raise UsageError("--domain and --verify do not go together", "first count, then verify")
    if verify:
        verdict = advice.verify(settings, means(), verify)
        print_json(verdict.as_json()) if as_json else typer.echo(verdict.as_text())
    else:
        found = advice.advise(settings, domain or ())
        print_json(found.as_json()) if as_json else show(advised.page(found))
