"""Commands that try things out with nobody else involved."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from campaign.cli.app import DEFAULT, ConfigFile, Group, app, examples
from campaign.cli.outside import load, now, program, stop_on_signals
from campaign.cli.saying import show
from campaign.errors import UsageError


@app.command(rich_help_panel=Group.TRYING, epilog=examples("campaign init work && cd work"))
def init(directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to lay out; made if it is missing.")]) -> None:
    """Lay out a working folder: a commented campaign.toml, templates, an example roster, nightly jobs. Overwrites nothing."""
    from campaign.layout import lay_out

    for path, written in lay_out(directory):
        typer.echo(f"{'wrote' if written else 'kept '} {path}")
    typer.echo(f"next: cd {directory} && campaign sandbox    (then, in a second terminal there: campaign plan)", err=True)


@app.command(rich_help_panel=Group.TRYING, epilog=examples("campaign demo --directory /tmp/story --users 40"))
def demo(
    directory: Annotated[
        Path, typer.Option("--directory", metavar="DIR", help="Where mails, reports and the ledger are left.")
    ] = Path("campaign-demo"),
    users: Annotated[int, typer.Option("--users", metavar="N", min=5, help="How many users the campaign has.")] = 24,
) -> None:
    """Run several nights on this machine with nothing configured: real sockets, an invented Docusign, invented people."""
    require_sandbox()
    from campaign.sandbox.demo import tell_story

    tell_story(directory, users, now, show, program=program())


@app.command(
    rich_help_panel=Group.TRYING,
    epilog=examples("campaign sandbox", "campaign plan    (in another terminal, same folder)"),
)
def sandbox(
    config: ConfigFile = DEFAULT,
    port: Annotated[int, typer.Option("--port", metavar="PORT", help="The account server's port.")] = 8080,
    smtp_port: Annotated[int, typer.Option("--smtp-port", metavar="PORT", help="The mail catcher's port.")] = 2525,
    roster: Annotated[
        Path | None, typer.Option("--roster", metavar="FILE", help="Who has a Docusign account; else the configured roster.")
    ] = None,
) -> None:
    """Serve a simulated Docusign account server and a mail catcher, to try a configuration with nobody else involved."""
    require_sandbox()
    from campaign.sandbox.serving import serve

    settings = load(config)
    serve(settings, port=port, smtp_port=smtp_port, roster=roster, stop=stop_on_signals(), say=typer.echo)


def require_sandbox() -> None:
    """Raise UsageError where the packages are missing that only the sandbox needs."""
    missing = [name for name in ("aiosmtpd", "werkzeug") if find_spec(name) is None]
    if missing:
        raise UsageError(f"the sandbox needs {' and '.join(missing)}", "install it with: pip install 'campaign[demo]'")
