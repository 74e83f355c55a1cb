"""Makes the plan, and writes each of its messages before the first is sent.

So a broken template mails nobody, and a row for which no message can be written holds up nobody else.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TypeAlias

from campaign import plan
from campaign.errors import TemplateError
from campaign.given import for_somebody, reading_as
from campaign.model import Decision, Reason, Reject, User
from campaign.night import Night

_FEW, _SHARE = 3, 0.01  # messages that cannot be written, of all: if there are more, it is not the rows

_Message: TypeAlias = tuple[str, int]  # user id and step


def rehearse(night: Night, terms: plan.Terms) -> None:
    """Decide about everybody, so that each message of the plan can be written.

    A row for which that cannot be done is set aside, and its place goes to the next. Raises TemplateError where it is the
    template that is broken: it fails for more than a few, or for everybody who was tried.
    """
    written: set[_Message] = set()
    failed: dict[_Message, tuple[User, TemplateError]] = {}
    _decide(night, terms)
    while _some_fail(night, written, failed):
        _decide(night, replace(terms, unwritable=failed.keys()))
    _prove_templates(night, written, failed)
    night.unwritable = [_as_reject(*why) for why in failed.values()]
    reasons = {reject.user_id: reject.reason for reject in night.unwritable}
    for decided in (night.decisions, night.asking) if failed else ():
        decided[:] = [_with_detail(decision, reasons) for decision in decided]


def too_many(failed: int, planned: int) -> bool:
    """Whether so many messages of so many cannot be written that it is the template."""
    return failed > max(_FEW, _SHARE * planned)


def _decide(night: Night, terms: plan.Terms) -> None:
    asked = [customer.administrator for customer in night.customers if customer.users and not customer.administrator.fault]
    decisions = plan.decide([*asked, *night.given.roster.users], night.standings, terms)
    night.asking, night.decisions = decisions[: len(asked)], decisions[len(asked) :]
    night.escalations = plan.escalate(decisions, night.standings, terms)


def _some_fail(night: Night, written: set[_Message], failed: dict[_Message, tuple[User, TemplateError]]) -> bool:
    """Write what is planned and was not written yet, and note what fails. Raises TemplateError where that is too much."""
    before, messages = len(failed), night.messages
    for decision in messages:
        message = decision.user.user_id, decision.step
        if message in written:
            continue
        try:
            night.check(decision)
        except TemplateError as error:
            failed[message] = decision.user, error
            if too_many(len(failed), len(messages)):
                raise
        else:
            written.add(message)
    return len(failed) > before


def _prove_templates(night: Night, written: Collection[_Message], failed: Mapping[_Message, tuple[User, TemplateError]]) -> None:
    """Try the templates of which no message could be written tonight for a few others. Raises TemplateError."""
    if not failed:
        return
    of, everybody = night.given.composer, [*night.administrators, *night.given.roster.users]
    users = {user.user_id: user for user in everybody}
    sound = {(type(users[user_id]), of.language(users[user_id], step), step) for user_id, step in written}
    others = [user for user_id, user in users.items() if not any(user_id == failing for failing, _ in failed)]
    for (_, step), (user, _error) in failed.items():
        if (type(user), of.language(user, step), step) not in sound:
            for_somebody(of, step, night.started, reading_as(user, [one for one in others if type(one) is type(user)]))


def _as_reject(user: User, error: TemplateError) -> Reject:
    what = f"no message can be written for this row: {error.__cause__ or error}"
    return Reject(user.line, what, user.user_id, user.email, user.name)


def _with_detail(decision: Decision, reasons: dict[str, str]) -> Decision:
    unwritable = decision.reason is Reason.INVALID_ROW
    return decision._replace(detail=reasons[decision.user.user_id]) if unwritable else decision
