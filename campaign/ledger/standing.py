"""From the rows of one user to what is remembered of that user (pure)."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping

from campaign.ledger.schema import users
from campaign.model import ESCALATION, Outcome, Standing

MOST_ATTEMPTS = 3  # in one slot, of which the last uses it up
MAY_HAVE_ARRIVED = (Outcome.ACCEPTED, Outcome.UNKNOWN, Outcome.SENDING)
REMEMBERED = [users.c[name] for name in Standing._fields if name in users.c]  # the first of its fields, in their order


def standing_of(row: Sequence[Any], messages: list[RowMapping]) -> Standing:
    """The standing of a user by what is REMEMBERED in `users`, and by the rows of `slots` by step."""
    standing = Standing(*row)  # by place: of millions of rows a look-up by name is felt
    if messages and messages[0]["step"] == ESCALATION:
        told = messages.pop(0)
        standing = standing._replace(escalated=not _is_open(told), escalation_tried=told["tried_at"])
    if not messages:
        return standing
    last = messages[-1]
    still_open = _is_open(last)
    arrived = [message for message in messages if message["outcome"] in MAY_HAVE_ARRIVED]
    return standing._replace(
        used=len(messages) - still_open,
        messages=len(arrived),
        attempts=last["attempts"] if still_open else 0,
        first_sent=arrived[0]["tried_at"] if arrived else None,
        last_sent=arrived[-1]["tried_at"] if arrived else None,
        last_tried=last["tried_at"],
        last_outcome=Outcome.UNKNOWN if last["outcome"] == Outcome.SENDING else Outcome(last["outcome"]),
    )


def _is_open(message: RowMapping) -> bool:
    """Whether the message was deferred and its slot may be tried again."""
    return bool(message["outcome"] == Outcome.DEFERRED and message["attempts"] < MOST_ATTEMPTS)
