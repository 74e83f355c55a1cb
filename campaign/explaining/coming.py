"""What happens next with one user, when, and why (pure)."""

from datetime import datetime

from campaign import plan
from campaign.config import Policy
from campaign.customers import NEVER
from campaign.explaining.facts import Facts, message_name
from campaign.ledger.standing import MOST_ATTEMPTS
from campaign.model import Outcome, Reason, Reject, Status, address_key

_WENT = {Outcome.ACCEPTED: "went out", Outcome.UNKNOWN: "went out, or may have,"}


def following(facts: Facts) -> list[str]:
    """The next message with its conditions, or why there is none; one line each."""
    nothing = _out(facts) or _granted(facts) or _barred(facts) or _unasked(facts) or _spent(facts)
    due = facts.due
    if nothing or due is None:
        lines = [nothing or "No message is due."]
    else:
        lines = [f"{_message(facts, due)}, because {_because(facts, due)}.", _conditions(facts, due)]
    return [*lines, *_escalation(facts)]


def _out(facts: Facts) -> str:
    """Why nobody even asks."""
    if facts.left_at:
        since = facts.local(facts.left_at)
        return f"No message: the roster has been without this user since {since}. If the user returns, it goes on from here."
    if isinstance(facts.row, Reject):
        return f"No message before the row in the roster can be used: {facts.row.reason}."
    if facts.standing.reason == Reason.CLOSED or getattr(facts.row, "closed", False):
        return "No message: the roster says that this account is closed."
    return ""


def _granted(facts: Facts) -> str:
    if facts.standing.status != Status.GRANTED:
        return ""
    if facts.added:
        return f"The next run asks Docusign again: the consent that is there does not extend to {', '.join(facts.added)}."
    if facts.is_administrator:
        return "No message: most of the customer's users have turned granted. They are still asked in every run."
    days, seen = facts.config.docusign.verify_granted_days, facts.standing.verified_at
    last = f" on {facts.local(seen)}" if seen else ""
    return f"No message: consent was seen{last}. Docusign is asked again {days} days after that."


def _barred(facts: Facts) -> str:
    """Why a person must act first."""
    standing, lift = facts.standing, f"campaign unsuppress {facts.to_command}"
    if standing.forgotten_at or (standing.suppressed and not standing.suppressed_until):
        return f"No message until somebody lifts the order not to contact this user: {lift}"
    if standing.undeliverable and standing.undeliverable == address_key(standing.email):
        return f"No message until the roster shows another address. If this one does take mail: {lift}"
    if standing.reason == Reason.INVALID_ROW:
        return f"No message before the row in the roster can be used: {standing.detail}."
    if facts.left_alone_until == NEVER and facts.customer:
        return f"No message before the row of its customer can be used: {facts.customer.detail}."
    if standing.reason == Reason.DOMAIN_NOT_ALLOWED:
        return "No message while [mail] allowed_domains leaves out the domain of this address."
    return ""


def _unasked(facts: Facts) -> str:
    """Why it is not known whether consent is lacking."""
    if facts.standing.status == Status.USER_NOT_FOUND:
        return "No message while Docusign does not know this user id. Every run asks again."
    if facts.standing.status:
        return ""
    if facts.standing.last_probed:
        return "No message before Docusign has given a usable answer. Every run asks again."
    return "The next run asks Docusign. If consent is lacking, the invitation goes out when it is this user's turn."


def _spent(facts: Facts) -> str:
    used = facts.standing.used
    if used < facts.most:
        return ""
    went = "have been sent" if used == facts.standing.messages else f"are used up, of which {facts.standing.messages} went out"
    return f"No further message: all {used} {went}. Docusign is still asked in every run, and the report shows the answer."


def _message(facts: Facts, due: datetime) -> str:
    number = facts.standing.used + 1
    word = "due since" if due <= facts.now else "due from"
    return f"Next: {message_name(number)} (message {number} of at most {facts.most}), {word} {facts.local(due)}"


def _because(facts: Facts, due: datetime) -> str:
    """What makes the message due then and not before: whatever ends last."""
    return _held_back(facts, due) or _by_schedule(facts, due)


def _held_back(facts: Facts, due: datetime) -> str:
    standing, policy = facts.standing, facts.config.policy
    if due == standing.suppressed_until:
        return f"nobody is to contact this user before then ({standing.suppressed})"
    if due == facts.left_alone_until and facts.customer:
        return f"the administrator of {facts.customer.customer} is asked first, and has until then"
    if standing.revoked_at and due == standing.revoked_at + plan.spacing(policy):
        return f"consent was found to be taken back on {facts.local(standing.revoked_at)}, {_days(policy)} before"
    return ""


def _by_schedule(facts: Facts, due: datetime) -> str:
    standing, policy = facts.standing, facts.config.policy
    if facts.mailed and due != plan.upcoming(standing, policy)[1]:
        return _pause(facts, *facts.mailed)
    if standing.attempts and standing.last_tried:
        again = f"try {standing.attempts + 1} of at most {MOST_ATTEMPTS}, not before twelve hours have passed"
        return f"it did not go out on {facts.local(standing.last_tried)}, and the very same one is tried again ({again})"
    if standing.used and standing.last_tried:
        return _unanswered(facts, standing.last_tried)
    return "consent is lacking, and nobody has written to this user yet"


def _pause(facts: Facts, at: datetime, whose: str) -> str:
    whom = "" if whose == facts.standing.user_id else f" on behalf of the user id {whose}"
    return f"the address was mailed on {facts.local(at)}{whom}, and is left alone for {_days(facts.config.policy)} after that"


def _days(policy: Policy) -> str:
    return f"{plan.spacing(policy).days} days"


def _unanswered(facts: Facts, tried: datetime) -> str:
    used, days = facts.standing.used, facts.config.policy.remind_after_days
    went = _WENT.get(Outcome(facts.standing.last_outcome), "was tried")
    when = f"on {facts.local(tried)}, {days[used - 1]} days before"
    return f"{message_name(used)} {went} {when}, and no consent has been seen since"


def _conditions(facts: Facts, due: datetime) -> str:
    """What must be so for the message to go out."""
    standing, mail, policy = facts.standing, facts.config.mail, facts.config.policy
    is_early_enough = standing.used and not standing.attempts and due != standing.suppressed_until
    early = " (up to six hours earlier is in time)" if is_early_enough else ""
    lacking = "a user of this customer lacks consent" if facts.is_administrator else "consent is lacking"
    day = f" and {mail.per_day} a day" if mail.per_day else ""
    return (
        f"It goes out with the first run from then on{early} in which Docusign says again that {lacking}"
        f"{_window(policy)}, with at most {policy.max_per_run} messages a run{day}: whoever has waited longest comes first."
    )


def _window(policy: Policy) -> str:
    when = " ".join(filter(None, (", ".join(policy.days), policy.hours)))
    if not when and not policy.holidays:
        return ""
    within = (f", within {when}" if when else "") + (", but not on holidays" if policy.holidays else "")
    return f"{within} (in the user's own time zone where the roster names one, else {policy.timezone})"


def _escalation(facts: Facts) -> list[str]:
    after, standing = facts.config.policy.escalate_after, facts.standing
    if not after or standing.escalated or not facts.lacks_consent or _out(facts) or _barred(facts):
        return []
    return [f"If {after} messages stay unanswered, the manager whom the roster names, if any, gets one message."]
