"""What a night would trip over, one check each: what was looked at, what was found, what to do."""

from collections.abc import Iterable, Iterator

from campaign.config import Config
from campaign.doctor.account import account
from campaign.doctor.papers import configuration, key, people
from campaign.doctor.relay import relay
from campaign.doctor.state import state
from campaign.errors import ExitCode, Interrupted
from campaign.given import Means
from campaign.model import Check, Grade

__all__ = ["examine", "exit_code"]


def examine(config: Config, means: Means, *, mail_to: str | None = None) -> Iterator[Check]:
    """Look at one thing after the other; each is told as soon as it is known, and what needs no network comes first.

    Records nothing, leaves nothing behind, and sends nothing but the one test message to `mail_to`, and that only where the
    relay would take it. Raises Interrupted once `means.stop` is set.
    """
    for check in _all(config, means, mail_to):
        if not means.stop.is_set():  # what a signal has cut short is no finding
            yield check
        if means.stop.is_set():
            raise Interrupted(means.stop.exit_code)


def exit_code(checks: Iterable[Check]) -> ExitCode:
    """The gravest of the codes that a night would end with; DONE where it would run. Doubts do not count."""
    return max((check.exit_code for check in checks if check.grade is Grade.BAD), default=ExitCode.DONE)


def _all(config: Config, means: Means, mail_to: str | None) -> Iterator[Check]:
    yield from configuration(config, means.environ)
    parsed, signer = key(config)
    yield parsed
    yield from people(config, means)
    yield from state(config, means)
    yield from account(config, means, signer)
    yield from relay(config, means, mail_to)
