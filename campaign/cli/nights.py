"""Commands of a night: look before, plan, run, report."""

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from campaign.cli.app import DEFAULT, ConfigFile, Group, Json, Quiet, Verbose, app, examples
from campaign.cli.outside import load, means, now, writing
from campaign.cli.saying import end, print_json, say, show
from campaign.errors import UsageError


@app.command(rich_help_panel=Group.NIGHTS, epilog=examples("campaign doctor --mail-to you@example.com"))
def doctor(
    config: ConfigFile = DEFAULT,
    mail_to: Annotated[
        str | None, typer.Option("--mail-to", metavar="ADDRESS", help="Also send one test message to this address.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check whether a night would run: what it is given, what it writes to, Docusign, the relay.

    One line each, with the remedy. Changes nothing. Ends with the exit code of the night; 0 if it would run, given the
    approval that it may need.
    """
    from campaign.doctor import examine, exit_code
    from campaign.showing import nights

    settings = load(config)
    checks = []
    for check in examine(settings, means(), mail_to=mail_to):
        checks.append(check)
        if not as_json:
            show(nights.check(check))
    if as_json:
        print_json({"checks": [asdict(check) for check in checks], "exit_code": exit_code(checks)})
    raise typer.Exit(exit_code(checks))


@app.command(rich_help_panel=Group.NIGHTS, epilog=examples("campaign plan --out plan.csv", "campaign plan --forecast"))
def plan(
    config: ConfigFile = DEFAULT,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also write the whole plan to this CSV file.")] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    forecast: Annotated[
        bool, typer.Option("--forecast", help="Ask nobody; say how many nights it takes and which limit decides.")
    ] = False,
) -> None:
    """Probe and decide as `run` does; mail nobody and write nothing but the plan."""
    if forecast:
        _look_ahead(config, out, as_json=as_json)
        return
    from campaign import nightly
    from campaign.showing import nights
    from campaign.showing.plan_file import write_plan
    from campaign.showing.progress import progress as watched

    settings = load(config)
    with watched(quiet=quiet or as_json) as (progress, waiting):
        night = nightly.plan_only(settings, replace(means(), progress=progress, waiting=waiting))
    if out:
        with writing(out):
            write_plan(night, out)
    print_json(night.as_json()) if as_json else show(nights.plan(night))
    end(night.problems, night.attention, night.exit_code)


def _look_ahead(config: Path, out: Path | None, *, as_json: bool) -> None:
    from campaign.outlook import look_ahead
    from campaign.showing import ahead

    if out:
        raise UsageError("--forecast writes no plan", "leave out --out, or --forecast")
    settings = load(config)
    found = look_ahead(settings, now())
    print_json(found.as_json()) if as_json else show(ahead.page(settings.name, found))


@app.command(
    rich_help_panel=Group.NIGHTS,
    epilog=examples("campaign run --approve 21", "campaign run --config /srv/campaign/campaign.toml"),
)
def run(
    config: ConfigFile = DEFAULT,
    approve: Annotated[
        int | None,
        typer.Option("--approve", metavar="N", min=0, help="Let through a night of at most N mails that a guard would stop."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run one night: probe, plan, mail, report. Prints nothing when nothing happened that a person must know."""
    from campaign import monitoring, nightly
    from campaign.showing import nights
    from campaign.showing.progress import progress as watched

    settings, given = load(config), means()
    with monitoring.watching(settings, given.clock, say, verbose=verbose) as watch:
        with watched(quiet=quiet or as_json) as (progress, waiting):
            given = replace(given, progress=progress, waiting=waiting, settled=watch.settled)
            night = watch.night = nightly.run(settings, given, approve, run_id=watch.run_id)
        if as_json:
            print_json(night.as_json())
        elif verbose or (sys.stdout.isatty() and not quiet):
            show(nights.night(night))
        elif night.exit_code:
            typer.echo(nights.one_line(night), err=True)
        end(night.problems, night.attention, night.exit_code)


@app.command(rich_help_panel=Group.NIGHTS, epilog=examples("campaign report"))
def report(config: ConfigFile = DEFAULT, as_json: Json = False) -> None:
    """Rewrite the report from the ledger, without any network."""
    from campaign import nightly

    settings = load(config)
    paths = [str(path) for path in nightly.rewrite_report(settings, means())]
    print_json({"report": paths}) if as_json else typer.echo("\n".join(paths))
