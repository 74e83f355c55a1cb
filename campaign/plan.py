"""Who is mailed tonight, and why not the others (pure)."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import cache, partial
from operator import attrgetter
from zoneinfo import ZoneInfo

from campaign.config import Policy
from campaign.customers import NEVER, Administrator
from campaign.model import ESCALATION, Action, Decision, Outcome, Reason, Standing, Status, User, address_key, beyond, zone_called

# Cron comes at the same hour, but a mail goes out some time into the night: without this, "after 3 days" would
# always mean the fourth night, and a change to summer time would cost another.
EARLY = timedelta(hours=6)
DAY = timedelta(days=1)
FRESH = timedelta(hours=6)  # a finding may cause mail no longer than that: this machine may have slept
_RETRY_AFTER = timedelta(hours=12)  # a deferred message, so that no two runs of one night try it twice
_UNANSWERED = timedelta(days=7)  # after which a last message counts so, where no reminder says how long to wait
_NEVER = timedelta(days=36500)  # without reminders an address is not mailed a second time


@dataclass(frozen=True, slots=True)
class Terms:
    """What tonight allows, whoever the user is."""

    policy: Policy
    now: datetime
    run: int  # messages in this run
    day: int  # messages that are left of the rolling day
    domains: frozenset[str]  # of recipients; empty = all
    mailed: Mapping[str, tuple[datetime, str]]  # address (as compared): when it was last mailed, on behalf of which user
    scope: str = ""  # that is asked for; "" = whatever was before
    refused: Collection[str] = frozenset()  # user ids whose last message the relay refused, for reasons of ours as it seemed
    unwritable: Collection[tuple[str, int]] = frozenset()  # (user id, step) of messages that cannot be written
    left_alone: Mapping[str, datetime] = field(default_factory=dict)  # by user id, until when an administrator is asked first


def room(sent: Sequence[datetime], per_day: int, now: datetime, linger: timedelta) -> int:
    """How many messages the rolling day takes, if each waits no longer than `linger` for an earlier one to pass out of it.

    `sent` is when messages of the last day went out, the oldest first. Without any waiting a job that comes at the same hour
    would find yesterday's messages not quite a day old, and send only every other night.
    """
    free, at = per_day - len(sent), now
    for before in sent:
        if before + DAY > at + linger:
            break
        free, at = free + 1, max(at, before + DAY)
    return max(0, free)


def upcoming(standing: Standing, policy: Policy) -> tuple[str, datetime | None]:
    """The next message of a user who lacks consent ("invite" or "remind") and when it is due; ("", None) when there is none."""
    if standing.status != Status.CONSENT_REQUIRED or standing.used > len(policy.remind_after_days) or _is_barred(standing):
        return "", None
    earliest = (_due(standing, policy), standing.suppressed_until, standing.revoked_at and standing.revoked_at + spacing(policy))
    return "remind" if standing.used else "invite", max((at for at in earliest if at), default=None)


def upcoming_for(policy: Policy, left_alone: Mapping[str, datetime]) -> Callable[[User, Standing], tuple[str, datetime | None]]:
    """What says of anybody what `upcoming` does, put off as long as an administrator is asked first (`Terms.left_alone`)."""
    return lambda user, standing: after_the_administrator(upcoming(standing, policy), left_alone.get(user.user_id))


def after_the_administrator(coming: tuple[str, datetime | None], until: datetime | None) -> tuple[str, datetime | None]:
    """What `upcoming` says, put off until then, or for good until somebody corrects the customers' file."""
    what, due = coming
    if not what or until is None:
        return coming
    return ("", None) if until == NEVER else (what, max(due or until, until))


def _is_barred(standing: Standing) -> bool:
    """Whether somebody must act before this user can be mailed again."""
    refused = standing.undeliverable and standing.undeliverable == address_key(standing.email)
    return bool(refused or (standing.suppressed and standing.suppressed_until is None))


def _due(standing: Standing, policy: Policy) -> datetime | None:
    if standing.attempts and standing.last_tried:
        return standing.last_tried + _RETRY_AFTER
    if standing.used and standing.last_tried:
        return standing.last_tried + timedelta(days=policy.remind_after_days[standing.used - 1])
    return standing.lacking_since


def spacing(policy: Policy) -> timedelta:
    """How long an address is left alone after a message, whatever user ids stand behind it."""
    return timedelta(days=policy.remind_after_days[0]) if policy.remind_after_days else _NEVER


def decide(users: Sequence[User], standings: Mapping[str, Standing], terms: Terms) -> list[Decision]:
    """One Decision for everybody, in the given order; those with an action are tonight's messages.

    `users` may hold customers' administrators. `standings` hold tonight's findings.
    """
    decisions = {user.user_id: _judge(user, standings[user.user_id], terms) for user in users}
    candidates = _open_first(in_sending_order(decisions.values()), terms)
    chosen = _wave(_one_an_address(candidates, terms), terms)
    decisions.update((decision.user.user_id, decision) for decision in chosen)
    return [decisions[user.user_id] for user in users]


def in_sending_order(decisions: Iterable[Decision]) -> list[Decision]:
    """Tonight's messages: administrators first, who may spare many others theirs; lower waves; whoever has waited longest.

    Whose last message the relay refused comes after all others: if it refuses this one alone, it holds up nobody.
    """
    order = attrgetter("user.wave", "next_due", "user.line")
    wanted = (decision for decision in decisions if decision.action)
    return sorted(wanted, key=lambda d: (d.comes_last, d.action is not Action.ASKED, *order(d)))


def _judge(user: User, standing: Standing, terms: Terms) -> Decision:
    """What this user's own standing says; a message only if nothing speaks against it."""
    coming, last = upcoming(standing, terms.policy), user.user_id in terms.refused
    what, due = after_the_administrator(coming, terms.left_alone.get(user.user_id))
    reason = _reason(user, standing, terms, due, is_over=not coming[0])
    action, step = (_action(user, standing), standing.used + 1) if reason is Reason.SENT else (Action.NONE, 0)
    return Decision(user, reason, action, step, next_action=what, next_due=due, comes_last=last)


def _reason(user: User, standing: Standing, terms: Terms, due: datetime | None, *, is_over: bool) -> Reason:
    if obstacle := _obstacle(user, standing, terms):
        return obstacle
    if is_over:
        return Reason.CAP_REACHED
    if due is None or terms.now < due - (timedelta(0) if standing.attempts else EARLY):
        return Reason.UNRESOLVED if standing.last_outcome == Outcome.UNKNOWN else Reason.WAITING
    return Reason.INVALID_ROW if (user.user_id, standing.used + 1) in terms.unwritable else Reason.SENT


def _action(user: User, standing: Standing) -> Action:
    if isinstance(user, Administrator):
        return Action.ASKED
    return Action.REMINDED if standing.used else Action.INVITED


def _obstacle(user: User, standing: Standing, terms: Terms) -> Reason | None:
    if user.closed:
        return Reason.CLOSED
    if standing.forgotten_at:
        return Reason.SUPPRESSED
    if standing.found != Status.CONSENT_REQUIRED:
        return _unasked(standing, terms)
    if _is_suppressed(standing, terms):
        return Reason.SUPPRESSED
    if standing.undeliverable == user.address:
        return Reason.UNDELIVERABLE
    return None if _is_allowed(user.recipient, terms) else Reason.DOMAIN_NOT_ALLOWED


def _is_suppressed(standing: Standing, terms: Terms) -> bool:
    return bool(standing.suppressed) and (standing.suppressed_until is None or terms.now < standing.suppressed_until)


def _is_allowed(recipient: str, terms: Terms) -> bool:
    return not terms.domains or recipient.rpartition("@")[2].lower() in terms.domains


def _unasked(standing: Standing, terms: Terms) -> Reason:
    """Without `consent_required` in this very run there is no mail."""
    if standing.found == Status.UNKNOWN:
        return Reason.NO_ANSWER
    if standing.found == Status.USER_NOT_FOUND:
        return Reason.USER_NOT_FOUND
    is_granted = standing.status == Status.GRANTED and not beyond(terms.scope, standing.granted_scope)
    return Reason.GRANTED if is_granted else Reason.STOPPED


def _open_first(candidates: Iterable[Decision], terms: Terms) -> list[Decision]:
    """Whose window is closed must not hold the address that another user id could be mailed at tonight."""
    is_open_for = _windows(terms)
    return sorted(candidates, key=lambda decision: not is_open_for(decision))


def _one_an_address(candidates: Iterable[Decision], terms: Terms) -> Iterator[Decision]:
    """Leave an address alone that was mailed lately, or is mailed tonight on behalf of another user id."""
    latest = dict(terms.mailed)
    pause = spacing(terms.policy)
    for decision in candidates:
        when, whose = latest.get(decision.address, (None, ""))
        if when and terms.now < when + pause - EARLY:
            reason = Reason.WAITING if whose == decision.user.user_id else Reason.SAME_ADDRESS
            yield _put_off(decision, reason, when + pause)
        else:
            latest[decision.address] = (terms.now, decision.user.user_id)
            yield decision


def _wave(candidates: Iterable[Decision], terms: Terms) -> Iterator[Decision]:
    """Let through what this run, this day and this hour allow; the rest comes first the next night."""
    is_open_for = _windows(terms)
    sent = 0
    for decision in candidates:
        if not decision.action:
            yield decision
        elif not is_open_for(decision):
            yield _put_off(decision, Reason.OUTSIDE_HOURS, decision.next_due)
        elif sent >= min(terms.run, terms.day):
            yield _put_off(decision, Reason.RUN_FULL if terms.run <= terms.day else Reason.DAY_FULL, decision.next_due)
        else:
            sent += 1
            yield decision


def _put_off(decision: Decision, reason: Reason, due: datetime | None) -> Decision:
    return decision._replace(reason=reason, action=Action.NONE, step=0, next_due=due)


def escalate(decisions: Sequence[Decision], standings: Mapping[str, Standing], terms: Terms) -> list[Decision]:
    """Tonight's messages to managers, each about one user; `decisions` are those about the users themselves.

    They come after all messages to users and count into the same limits; the pause between two messages to an address holds
    for a manager's too, so that who has many people gets no flood. Who is not to be contacted is not, as a manager either.
    """
    if not terms.policy.escalate_after:
        return []
    barred = {address_key(s.email) for s in standings.values() if s.forgotten_at or _is_suppressed(s, terms)}
    wanted = [
        Decision(decision.user, Reason.SENT, Action.ESCALATED, ESCALATION)
        for decision in decisions
        if _is_left_unanswered(decision.user, standings[decision.user.user_id], terms)
        and address_key(decision.user.manager_email) not in barred
        and (decision.user.user_id, ESCALATION) not in terms.unwritable
    ]
    chosen = _wave(_one_an_address([*in_sending_order(decisions), *wanted], terms), terms)
    return [decision for decision in chosen if decision.action is Action.ESCALATED]


def _is_left_unanswered(user: User, standing: Standing, terms: Terms) -> bool:
    """Whether the manager is to be told tonight."""
    after = terms.policy.escalate_after
    if not user.manager_email or standing.escalated or standing.messages < after:
        return False
    if _obstacle(user, standing, terms) or not _is_allowed(user.manager_email, terms):
        return False
    if standing.escalation_tried:
        return terms.now >= standing.escalation_tried + _RETRY_AFTER
    # Later messages do not start the wait again, a consent that was taken back does.
    since = standing.revoked_at or (standing.last_sent if standing.messages == after else None)
    return since is None or terms.now >= since + _patience(terms.policy) - EARLY


def _patience(policy: Policy) -> timedelta:
    """How long the last message before an escalation has time to be answered: until the next one would be due."""
    days = policy.remind_after_days
    return timedelta(days=days[min(policy.escalate_after, len(days)) - 1]) if days else _UNANSWERED


def _windows(terms: Terms) -> Callable[[Decision], bool]:
    """Whether a message may go out now; each time zone is looked at once."""
    opened = cache(partial(is_open, terms.policy, terms.now))
    return lambda decision: opened(zone_of(decision, terms.policy))


def is_open(policy: Policy, now: datetime, zone: ZoneInfo) -> bool:
    """Whether mail may go out at this instant to somebody in this time zone, by the policy's days, hours and holidays."""
    local = now.astimezone(zone)
    day: date = local.date()
    opens, closes = policy.opening
    clock: time = local.time()
    return is_open_on(policy, day) and opens <= clock < closes


def is_open_on(policy: Policy, day: date) -> bool:
    """Whether mail may go out on this day, at some hour."""
    return (not policy.weekdays or day.weekday() in policy.weekdays) and day not in policy.holidays


def zone_of(decision: Decision, policy: Policy) -> ZoneInfo:
    """The time zone of whom the message goes to: the user's own where the roster has one, else the policy's."""
    own = None if decision.action is Action.ESCALATED else zone_called(decision.user.timezone)
    return own or policy.zone
