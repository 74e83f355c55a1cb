"""The commands: the only place that prints, exits, and reads the clock or the environment.

Whatever is heavy is imported inside a command, so that --help and completion answer at once.
"""

import io
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from campaign import crash
from campaign.cli import consents, nights, trying, upkeep, users
from campaign.cli.app import Group, app
from campaign.cli.saying import complain, say
from campaign.errors import CampaignError, ExitCode

__all__ = ["app", "consents", "main", "nights", "trying", "upkeep", "users"]

app.registered_commands.sort(key=lambda command: [*map(str, Group)].index(command.rich_help_panel or ""))


def main() -> None:
    """Run the program. A bug ends in a traceback without values and exit code 1; everything expected in one sentence."""
    os.umask(0o077)
    crash.leave_no_core()
    crash.tell_by(say)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # cron's locale may not know the names of the world
    try:
        app()
    except CampaignError as error:
        complain(error)
        sys.exit(error.exit_code)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001  # a panic within cryptography is no Exception
        say(crash.told(error))
        sys.exit(ExitCode.BUG)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"campaign {version('campaign')}")
        except PackageNotFoundError:
            typer.echo("campaign, from a checkout that is not installed")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Runs a Docusign consent campaign: asks who has consented, mails the consent link to those who have not, reports."""
