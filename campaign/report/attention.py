"""What needs a person: which rows, what to do about them, and with which command."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from campaign.errors import ExitCode
from campaign.model import Reason
from campaign.report.background import Background, Remark
from campaign.report.rows import Row
from campaign.report.tally import Tally
from campaign.words import ENDINGS

# By reason, the gravest first: what is so, what to do, and the command that helps.
NEEDS: dict[str, Remark] = {
    Reason.INVALID_ROW: Remark(
        "rows of the roster cannot be used", "Have them corrected there: the detail says what is wrong, the line where"
    ),
    Reason.UNRESOLVED: Remark(
        "have a message that may or may not have arrived",
        "Look for it in the relay's log. What to look for, and the command that settles it",
        "campaign explain {user}",
    ),
    Reason.UNDELIVERABLE: Remark(
        "have an address that takes no mail",
        "Have the address corrected in the roster. Where it does work",
        "campaign unsuppress {user}",
    ),
    Reason.USER_NOT_FOUND: Remark(
        "are not known to Docusign",
        "Compare the user id with Docusign's user list (API Username); who is gone there, take out of the roster. More on one",
        "campaign explain {user}",
    ),
    Reason.DOMAIN_NOT_ALLOWED: Remark(
        "have an address outside [mail] allowed_domains",
        "Correct the address in the roster, or allow its domain",
    ),
    Reason.CAP_REACHED: Remark(
        "have had all messages and have not consented",
        "No further mail goes out: ask them in another way. What happened with one of them",
        "campaign explain {user}",
    ),
}
_STOPPED = {
    ExitCode.STOPPED: ("See why", "campaign plan"),
    ExitCode.REFUSED: ("See what is wrong", "campaign doctor"),
    ExitCode.USAGE: ("See what is wrong", "campaign doctor"),
    ExitCode.LEDGER: ("See what is wrong", "campaign doctor"),
}


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that needs a person, ready to be read."""

    count: int  # users or rows; 0 = it is no matter of single users
    what: str
    advice: str
    command: str  # with the first user as an example
    named: Sequence[Row] = ()  # the first of them


def needs(tally: Tally, background: Background) -> Iterator[Need]:
    """All that needs a person: first the campaign as a whole, then its users by what is wrong."""
    yield from (Need(0, *remark) for remark in campaign_needs(background))
    for reason, (what, advice, command) in NEEDS.items():
        if count := tally.reasons[reason]:
            named = tally.examples[reason]
            yield Need(count, what, advice, command.format(user=named[0].user_id), named)


def campaign_needs(background: Background) -> Iterator[Remark]:
    """What needs a person and is no single user's."""
    yield from _last_run(background)
    yield from background.remarks


def _last_run(background: Background) -> Iterator[Remark]:
    """What kept the last run from its end."""
    last = background.last
    if last is None:
        return
    when = f"The run of {last.started:%Y-%m-%d %H:%M} UTC"
    if last.exit_code is None:
        yield Remark(f"{when} was killed, or is still under way", "The next run goes on from there by itself")
    elif found := _STOPPED.get(last.exit_code):
        advice, command = found
        if last.approvable:
            advice = "Look at the plan first (campaign plan). If the night is as it should be"
            command = f"campaign run --approve {last.approvable}"
        why = f" ({', '.join(last.guards)})" if last.guards else ""
        yield Remark(f"{when} {ENDINGS[last.exit_code]}{why}", advice, command)
