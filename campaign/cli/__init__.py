"""The commands: the only place that prints, exits, and reads the clock or the environment.

Whatever is heavy is imported inside a command, so that --help and completion answer at once.
"""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from campaign import crash, outlets
from campaign.cli import consents, ledgers, nights, roster, trying, upkeep, users
from campaign.cli.app import Group, app
from campaign.cli.outside import on_signals
from campaign.cli.saying import complain, say
from campaign.errors import CampaignError, ExitCode, Interrupted

__all__ = ["app", "consents", "ledgers", "main", "nights", "roster", "trying", "upkeep", "users"]

app.registered_commands.sort(key=lambda command: [*map(str, Group)].index(command.rich_help_panel or ""))


def main() -> None:
    """Run the program. A bug ends in a traceback without values and exit code 1; everything expected in one sentence."""
    os.umask(0o077)
    crash.leave_no_core()
    crash.tell_by(say)
    stdout = outlets.take_over()
    on_signals(_leave)
    code = _exit_code_of(app)
    if stdout.failure:
        say(f"stdout cannot be written to: {stdout.failure.strerror}")
        code = max(code, ExitCode.LEDGER)
    sys.exit(code)


def _exit_code_of(work: Callable[[], object]) -> int:
    """Do the work; how it ended, after what there is to say of it."""
    try:
        work()
    except CampaignError as error:
        complain(error)
        return error.exit_code
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.DONE
    except BaseException as error:  # noqa: BLE001  # a panic within cryptography is no Exception
        say(crash.told(error))
        return ExitCode.BUG
    return ExitCode.DONE


def _leave(exit_code: ExitCode) -> None:
    """End a command that has nothing to settle."""
    raise Interrupted(exit_code, settled=False)


def _version(wanted: bool) -> None:
    from importlib.metadata import PackageNotFoundError, version

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
