"""The commands: the only place that prints, exits, and reads the clock or the environment.

Whatever is heavy is imported inside a command, so that --help and completion answer at once.
"""

import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from campaign import crash
from campaign.errors import CampaignError, ExitCode, UsageError
from campaign.model import stamp

if TYPE_CHECKING:
    from campaign.config import Config
    from campaign.given import Means
    from campaign.showing.page import Page
    from campaign.stopping import Stop

app = typer.Typer(
    help="Runs a Docusign consent campaign: asks who has consented, mails the consent link to those who have not, reports.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its tracebacks can show local variables, and those hold the key
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[Path, typer.Option("--config", envvar="CAMPAIGN_CONFIG", help="The campaign's configuration.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary; only what went wrong.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print the summary also where nobody watches, as under cron.")]
Note = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever asks later; may be left out.")]
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="A user id or an e-mail address.")]
DEFAULT = Path("campaign.toml")

_IS_MEANT = "Is this meant, and may the campaign go on from it?"
_ADOPTED = """\
adopted, and put on record. Messages that this ledger does not know of may have gone out, and would go out again
look first: campaign plan    then let the next night through: campaign run --approve N"""


def main() -> None:
    """Run the program. A bug ends in a traceback without values and exit code 1; everything expected in one sentence."""
    os.umask(0o077)
    crash.leave_no_core()
    crash.tell_by(_say)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # cron's locale may not know the names of the world
    try:
        app()
    except CampaignError as error:
        _complain(error)
        sys.exit(error.exit_code)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001  # a panic within cryptography is no Exception
        _say(crash.told(error))
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


@app.command()
def init(directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to lay out; made if it is missing.")]) -> None:
    """Lay out a working folder: a commented campaign.toml, templates, an example roster, nightly jobs. Overwrites nothing."""
    from campaign.layout import lay_out

    for path, written in lay_out(directory):
        typer.echo(f"{'wrote' if written else 'kept '} {path}")
    typer.echo(f"next: cd {directory} && campaign sandbox    (then, in a second terminal there: campaign plan)", err=True)


@app.command()
def demo(
    directory: Annotated[Path, typer.Option("--directory", help="Where mails, reports and the ledger are left.")] = Path(
        "campaign-demo"
    ),
    users: Annotated[int, typer.Option("--users", min=5, help="How many users the campaign has.")] = 24,
) -> None:
    """Run several nights on this machine with nothing configured: real sockets, an invented Docusign, invented people."""
    _require_sandbox()
    from campaign.sandbox.demo import tell_story

    tell_story(directory, users, _now, _show, program=_program())


@app.command()
def sandbox(
    config: ConfigFile = DEFAULT,
    port: Annotated[int, typer.Option("--port", help="The account server's port.")] = 8080,
    smtp_port: Annotated[int, typer.Option("--smtp-port", help="The mail catcher's port.")] = 2525,
    roster: Annotated[
        Path | None, typer.Option("--roster", help="Who has a Docusign account; else the configured roster.")
    ] = None,
) -> None:
    """Serve a simulated Docusign account server and a mail catcher, to try a configuration with nobody else involved."""
    _require_sandbox()
    from campaign.sandbox.serving import serve

    settings = _load(config)
    serve(settings, port=port, smtp_port=smtp_port, roster=roster, stop=_stop_on_signals(), say=typer.echo)


@app.command()
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

    settings = _load(config)
    checks = []
    for check in examine(settings, _means(), mail_to=mail_to):
        checks.append(check)
        if not as_json:
            _show(nights.check(check))
    if as_json:
        _print_json({"checks": [asdict(check) for check in checks], "exit_code": exit_code(checks)})
    raise typer.Exit(exit_code(checks))


@app.command()
def plan(
    config: ConfigFile = DEFAULT,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the whole plan to this CSV file.")] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Probe and decide as `run` does; mail nobody and write nothing but the plan."""
    from campaign import nightly
    from campaign.showing import nights
    from campaign.showing.plan_file import write_plan
    from campaign.showing.progress import progress as watched

    settings = _load(config)
    with watched(quiet=quiet or as_json) as (progress, waiting):
        night = nightly.plan_only(settings, replace(_means(), progress=progress, waiting=waiting))
    if out:
        with _writing(out):
            write_plan(night, out)
    _print_json(night.as_json()) if as_json else _show(nights.plan(night))
    _end(night.problems, night.attention, night.exit_code)


@app.command()
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

    settings, means = _load(config), _means()
    with monitoring.watching(settings, means.clock, _say, verbose=verbose) as watch:
        with watched(quiet=quiet or as_json) as (progress, waiting):
            means = replace(means, progress=progress, waiting=waiting, settled=watch.settled)
            night = watch.night = nightly.run(settings, means, approve, run_id=watch.run_id)
        if as_json:
            _print_json(night.as_json())
        elif verbose or (sys.stdout.isatty() and not quiet):
            _show(nights.night(night))
        elif night.exit_code:
            typer.echo(nights.one_line(night), err=True)
        _end(night.problems, night.attention, night.exit_code)


@app.command()
def report(config: ConfigFile = DEFAULT, as_json: Json = False) -> None:
    """Rewrite the report from the ledger, without any network."""
    from campaign import nightly

    settings = _load(config)
    paths = [str(path) for path in nightly.rewrite_report(settings, _means())]
    _print_json({"report": paths}) if as_json else typer.echo("\n".join(paths))


@app.command()
def explain(user: UserArgument, config: ConfigFile = DEFAULT, as_json: Json = False) -> None:
    """Say everything that happened with one user, what happens next, when, and why: a letter to pass on or to read out."""
    from campaign import explaining

    settings = _load(config)
    story = explaining.explain(settings, user, _now())
    _print_json(story.as_json()) if as_json else _show(story.as_page())


@app.command()
def preview(
    user: UserArgument,
    config: ConfigFile = DEFAULT,
    template: Annotated[str, typer.Option("--template", help="invite, reminder or escalation.")] = "invite",
    out: Annotated[Path | None, typer.Option("--out", help="Write FILE.eml, .html or .txt instead of printing the text.")] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="ADDRESS", help="Send it to this address, marked as a test.")] = None,
) -> None:
    """Show the exact message a user would get. Nothing is recorded."""
    from campaign import previewing

    settings = _load(config)
    message = previewing.preview(settings, user, template, _now())
    if out:
        with _writing(out):
            previewing.save(message, out)
    if to:
        typer.echo(previewing.send_test(settings, _means(), message, to))
    if not out and not to:
        typer.echo(previewing.text(message))


@app.command()
def link(
    config: ConfigFile = DEFAULT,
    admin: Annotated[bool, typer.Option("--admin", help="The URL for an organisation's administrator instead.")] = False,
    as_json: Json = False,
) -> None:
    """Print the consent URL."""
    from campaign.docusign.links import admin_consent_url, consent_url

    settings = _load(config)
    url = (admin_consent_url if admin else consent_url)(settings.docusign)
    _print_json({"url": url}) if as_json else typer.echo(url)


@app.command()
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

    settings = _load(config)
    if verify and domain:
        raise UsageError("--domain and --verify do not go together", "first count, then verify")
    if verify:
        verdict = advice.verify(settings, _means(), verify)
        _print_json(verdict.as_json()) if as_json else typer.echo(verdict.as_text())
    else:
        found = advice.advise(settings, domain or ())
        _print_json(found.as_json()) if as_json else _show(advised.page(found))


@app.command()
def suppress(
    user: UserArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever asks later.")],
    config: ConfigFile = DEFAULT,
    until: Annotated[
        datetime | None,
        typer.Option("--until", formats=["%Y-%m-%d"], help="The first day, in [policy] timezone, that may mail again."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Let a user not be contacted, for good or until a day; also one who is new in the roster, before the first night."""
    from campaign import orders

    settings = _load(config)
    ends = until.replace(tzinfo=settings.policy.zone) if until else None
    user_id = orders.suppress(settings, user, reason, ends, _now())
    if as_json:
        _print_json({"user_id": user_id, "suppressed": reason.strip(), "until": stamp(ends) if ends else None})
    else:
        typer.echo(f"{user_id} is not contacted" + (f" until {until:%Y-%m-%d}" if until else ""))


@app.command()
def unsuppress(user: UserArgument, config: ConfigFile = DEFAULT, reason: Note = "", as_json: Json = False) -> None:
    """Let a user be contacted again, also one whose address was refused."""
    from campaign import orders

    user_id = orders.unsuppress(_load(config), user, _now(), reason)
    _print_json({"user_id": user_id, "reason": reason.strip()}) if as_json else typer.echo(f"{user_id} may be contacted again")


@app.command()
def forget(user: UserArgument, config: ConfigFile = DEFAULT) -> None:
    """Take a user's personal data out of the ledger, and have the user neither asked nor mailed. Caps and spacing still hold."""
    from campaign import forgetting

    reports = forgetting.forget(_load(config), user, _now())
    typer.echo(f"{user} is forgotten: the ledger names this user no more, and keeps the number and dates of messages")
    if reports:
        typer.echo(f"still named in {len(reports)} reports, the last of them {reports[-1]}")
        typer.echo("with the user off the roster: campaign report, and for old reports: campaign purge --older-than DAYS")


@app.command()
def purge(
    older_than: Annotated[int, typer.Option("--older-than", metavar="DAYS", min=0, max=36500, help="What is older, goes.")],
    config: ConfigFile = DEFAULT,
) -> None:
    """Remove old personal data: of users who left the roster, everybody's history, old reports. Caps and spacing still hold."""
    from campaign import forgetting

    removed = forgetting.purge(_load(config), older_than, _now())
    typer.echo(f"removed: {removed.users} users who are not in the roster, {removed.events} events, {removed.reports} reports")


@app.command()
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
    settled = orders.resolve(_load(config), message_id, arrived=arrived, now=_now(), reason=reason)
    if as_json:
        _print_json({"message_id": settled, "arrived": arrived, "reason": reason.strip()})
    else:
        lost_so = "it was lost, and is tried again unless a later message has gone out since"
        typer.echo(f"settled: {'it arrived' if arrived else lost_so}")


@app.command()
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

    settings = _load(config)
    found = returning.take_back(settings, os.environ, maildir=maildir, imap=imap, approved=approve, now=_now())
    if as_json:
        _print_json(found.as_json())
    elif found.exit_code or sys.stdout.isatty():
        typer.echo("\n".join([*found.lines, found.summary]))
    raise typer.Exit(found.exit_code)


@app.command()
def adopt(
    config: ConfigFile = DEFAULT,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Accept a restored or moved ledger, or a corrected clock, after showing what was found. The next night needs an approval."""
    from campaign import ledger, orders

    settings = _load(config)
    with ledger.RunLock(settings.lock_file):
        found = orders.found(settings, _now())
        if found.wrong:
            typer.echo(found.as_text(), err=as_json)
            if not yes and not (sys.stdin.isatty() and typer.confirm(_IS_MEANT, err=True)):
                raise UsageError("nothing was adopted", "to adopt without being asked: campaign adopt --yes")
            ledger.adopt(settings, _now())
    if as_json:
        _print_json({"adopted": bool(found.wrong), **found.as_json()})
    else:
        typer.echo(_ADOPTED if found.wrong else "nothing to adopt: the ledger is the one that this campaign last wrote")


def _program() -> str:
    """How the user called this program, to be called so again."""
    return "python -m campaign" if sys.argv[0].endswith("__main__.py") else sys.argv[0]


def _now() -> datetime:
    return datetime.now(UTC)


def _load(path: Path) -> "Config":
    from campaign.config import load

    return load(path, os.environ)


def _require_sandbox() -> None:
    """Raise UsageError where the packages are missing that only the sandbox needs."""
    missing = [name for name in ("aiosmtpd", "werkzeug") if find_spec(name) is None]
    if missing:
        raise UsageError(f"the sandbox needs {' and '.join(missing)}", "install it with: pip install 'campaign[demo]'")


def _means() -> "Means":
    from campaign.given import Means

    return Means(_now, _stop_on_signals(), os.environ)


def _stop_on_signals() -> "Stop":
    """SIGINT and SIGTERM ask the run to end after the message in flight; a second one ends it at once."""
    from campaign.stopping import Stop

    stop = Stop()

    def ask(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.ask(ExitCode.SIGINT if number == signal.SIGINT else ExitCode.SIGTERM)

    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGTERM, ask)
    return stop


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", "choose a place that you may write to") from error


def _show(page: "Page") -> None:
    """Print a page: as tables where somebody watches, as plain lines elsewhere."""
    if sys.stdout.isatty():
        from campaign.showing.terminal import show

        show(page, sys.stdout)
    else:
        from campaign.showing.page import as_text

        typer.echo(as_text(page))


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content))  # in ASCII: right whatever the locale


def _end(problems: list[CampaignError], attention: list[str], exit_code: ExitCode) -> None:
    """Print each problem once, with its next step, and leave with the gravest exit code."""
    for line in attention[:20]:
        typer.echo(f"campaign: new: {line}", err=True)
    if len(attention) > 20:  # noqa: PLR2004  # a screenful; the report has them all
        typer.echo(f"campaign: new: and {len(attention) - 20} more, see the report", err=True)
    for problem in problems:
        _complain(problem)
    raise typer.Exit(exit_code)


def _complain(error: CampaignError) -> None:
    _say(str(error))
    if error.advice:
        typer.echo(f"          {error.advice}", err=True)


def _say(text: str) -> None:
    typer.echo(f"campaign: {text}", err=True)
