"""How checks are taken: one at a time, each on its own or only after the one that it builds on."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from campaign.errors import CampaignError
from campaign.model import Check, Grade

_Thing = TypeVar("_Thing")


def attempt(what: str, step: Callable[[], Check]) -> Check:
    """What a step found; BAD where it raises what would stop a night, with the exit code of that night."""
    try:
        return step()
    except CampaignError as error:
        return _bad(what, error)


def reading(what: str, step: Callable[[], tuple[Check, _Thing]]) -> tuple[Check, _Thing | None]:
    """The same for a step that also gives what other steps need; None where it fails."""
    try:
        return step()
    except CampaignError as error:
        return _bad(what, error), None


def in_turn(steps: Mapping[str, Callable[[], Check]], before: str = "") -> Iterator[Check]:
    """Take steps that build on one another until one is BAD, or up to the one named `before`; the rest is named in one line."""
    left = list(steps)
    while left and left[0] != before:
        check = attempt(left[0], steps[left.pop(0)])
        yield check
        if check.grade is Grade.BAD:
            break
    if left:
        yield not_checked(left)


def not_checked(left: Iterable[str]) -> Check:
    """The line for what could not be looked at, because of what is BAD above it."""
    return Check("not checked", Grade.DOUBT, ", ".join(left), "put right what is bad above, then ask again: campaign doctor")


def _bad(what: str, error: CampaignError) -> Check:
    return Check(what, Grade.BAD, str(error), error.advice, error.exit_code)
