"""The program's face: its name, its options, and the groups that its commands stand in."""

import inspect
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class Group(StrEnum):
    """Where a command stands in the help, in this order."""

    TRYING = "Trying it out"
    NIGHTS = "Every night"
    CONSENTS = "Ways to the consent"
    USERS = "One user"
    UPKEEP = "Upkeep"


class Commands(TyperGroup):
    """Several commands, which the help lists group by group. Typer does that with Rich alone, which takes long to load."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401  # Typer does not export their types
        """Write what each is for: the first paragraph of its own help."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.commands[name]
            its = groups.setdefault(getattr(command, "rich_help_panel", None) or "Commands", [])
            its.append((name, inspect.cleandoc(command.help or "").partition("\n\n")[0]))
        for group, rows in groups.items():
            with formatter.section(group):
                formatter.write_dl(rows)


app = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    help="Runs a Docusign consent campaign: asks who has consented, mails the consent link to those who have not, reports.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its tracebacks can show local variables, and those hold the key
    context_settings={"help_option_names": ["-h", "--help"]},
)


ConfigFile = Annotated[
    Path, typer.Option("--config", metavar="FILE", envvar="CAMPAIGN_CONFIG", help="The campaign's configuration.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary; only what went wrong.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print the summary also where nobody watches, as under cron.")]
Note = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever asks later; may be left out.")]
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="A user id or an e-mail address.")]
DEFAULT = Path("campaign.toml")


def examples(*lines: str) -> str:
    """What stands below a command's help: lines to copy."""
    return "\n\n".join(["Examples:" if len(lines) > 1 else "Example:", *lines])
