"""Who is mailed tonight, and why not the others."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from campaign.config import Policy
from campaign.model import ESCALATION, Action, Decision, Outcome, Reason, Standing, Status, User
from campaign.plan import Terms, decide, escalate, in_sending_order, is_open, room, upcoming
from tests.world import email, user_id

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


def user(number: int = 1, **changes: Any) -> User:
    address = changes.pop("email", email(number))
    return User(user_id(number), address, address, line=number + 1, **changes)


def lacking(number: int = 1, **changes: Any) -> Standing:
    known = {"status": Status.CONSENT_REQUIRED, "found": Status.CONSENT_REQUIRED, "lacking_since": NOW}
    return Standing(user_id(number), email(number), **{**known, **changes})


def mailed(days_ago: float, used: int = 1, **changes: Any) -> Standing:
    then = NOW - timedelta(days=days_ago)
    known = {"lacking_since": then, "used": used, "messages": used, "first_sent": then, "last_sent": then, "last_tried": then}
    return lacking(**{**known, "last_outcome": Outcome.ACCEPTED, **changes})


def terms(**changes: Any) -> Terms:
    policy = Policy(**{key: changes.pop(key) for key in list(changes) if key in Policy.model_fields})
    known: dict[str, Any] = {"now": NOW, "run": 300, "day": 300, "domains": frozenset(), "mailed": {}}
    return Terms(policy=policy, **{**known, **changes})


def decision(standing: Standing, who: User | None = None, **changes: Any) -> Decision:
    who = who or user()
    (only,) = decide([who], {who.user_id: standing}, terms(**changes))
    return only


def test_who_lacks_consent_is_invited() -> None:
    decided = decision(lacking())

    assert (decided.action, decided.reason, decided.step) == (Action.INVITED, Reason.SENT, 1)


@pytest.mark.promise(4)
@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Status.GRANTED, Reason.GRANTED),
        (Status.UNKNOWN, Reason.NO_ANSWER),
        (Status.USER_NOT_FOUND, Reason.USER_NOT_FOUND),
        (Status.NOT_PROBED, Reason.STOPPED),
        ("", Reason.STOPPED),
    ],
)
def test_only_consent_required_in_this_run_can_cause_mail(found: str, reason: Reason) -> None:
    decided = decision(lacking(found=found, status=Status.GRANTED if found == Status.GRANTED else Status.CONSENT_REQUIRED))

    assert (decided.action, decided.reason) == (Action.NONE, reason)


def test_granted_recently_and_not_asked_again_is_granted() -> None:
    decided = decision(Standing(user_id(1), email(1), status=Status.GRANTED, found=""))

    assert decided.reason is Reason.GRANTED


@pytest.mark.parametrize(("days", "action"), [(2.5, Action.NONE), (2.99, Action.REMINDED), (3, Action.REMINDED)])
def test_a_reminder_comes_on_the_third_night_also_when_cron_is_a_little_early(days: float, action: Action) -> None:
    assert decision(mailed(days)).action is action


@pytest.mark.promise(6)
def test_after_the_last_reminder_nobody_is_mailed() -> None:
    decided = decision(mailed(365, used=4))

    assert (decided.action, decided.reason) == (Action.NONE, Reason.CAP_REACHED)


def test_without_reminders_one_message_is_all() -> None:
    assert decision(mailed(365), remind_after_days=()).reason is Reason.CAP_REACHED


def test_a_deferred_message_is_tried_again_in_its_slot_but_not_before_twelve_hours() -> None:
    deferred = lacking(attempts=1, last_outcome=Outcome.DEFERRED)
    soon = decision(deferred._replace(last_tried=NOW - timedelta(hours=11)))
    later = decision(deferred._replace(last_tried=NOW - timedelta(hours=12)))

    assert (soon.action, soon.reason) == (Action.NONE, Reason.WAITING)
    assert (later.action, later.step) == (Action.INVITED, 1)


def test_a_message_of_unknown_fate_is_not_sent_again_and_shown() -> None:
    decided = decision(mailed(1, last_outcome=Outcome.UNKNOWN))

    assert (decided.action, decided.reason) == (Action.NONE, Reason.UNRESOLVED)


def test_after_a_revocation_there_is_peace_for_a_while() -> None:
    revoked = lacking(revoked_at=NOW - timedelta(days=1), lacking_since=NOW - timedelta(days=1))

    assert decision(revoked).reason is Reason.WAITING
    assert decision(revoked._replace(revoked_at=NOW - timedelta(days=3))).action is Action.INVITED


def test_the_obstacles_have_their_reasons() -> None:
    assert decision(lacking(), user(closed=True)).reason is Reason.CLOSED
    assert decision(lacking(suppressed="asked not to")).reason is Reason.SUPPRESSED
    assert decision(lacking(suppressed="holiday", suppressed_until=NOW)).action is Action.INVITED
    assert decision(lacking(undeliverable=email(1))).reason is Reason.UNDELIVERABLE
    assert decision(lacking(undeliverable="old@example.com")).action is Action.INVITED
    assert decision(lacking(), domains=frozenset({"example.org"})).reason is Reason.DOMAIN_NOT_ALLOWED
    assert decision(lacking(), domains=frozenset({"example.com"})).action is Action.INVITED


@pytest.mark.promise(6)
@pytest.mark.case(35)
def test_an_address_is_mailed_once_whatever_user_ids_stand_behind_it() -> None:
    twins = [user(1), user(2, email="Person1@Example.com")]
    decided = decide(twins, {u.user_id: lacking(n) for n, u in enumerate(twins, start=1)}, terms())
    other = decision(lacking(), mailed={email(1): (NOW - timedelta(days=2), user_id(2))})

    assert [d.reason for d in decided] == [Reason.SENT, Reason.SAME_ADDRESS]
    assert other.reason is Reason.SAME_ADDRESS
    assert other.next_due == NOW + timedelta(days=1)


def test_the_wave_takes_lower_waves_first_and_then_the_longest_waiting() -> None:
    crowd = [user(1, wave=2), user(2), user(3), user(4, wave=1)]
    waiting = {1: 9, 2: 1, 3: 5, 4: 0}
    standings = {user_id(n): lacking(n, lacking_since=NOW - timedelta(days=days)) for n, days in waiting.items()}
    decided = decide(crowd, standings, terms(run=3))
    order = [d.user.line - 1 for d in in_sending_order(decided)]

    assert order == [3, 2, 4]
    assert decided[0].reason is Reason.RUN_FULL


@pytest.mark.parametrize(
    ("ages", "free"),  # of the messages of the last day, in minutes short of a day; how many may go out, of five a day
    [
        ([], 5),
        ([0, 0, 0, 0, 0], 5),
        ([10, 20, 30, 40, 50], 5),
        ([31, 31, 31, 31, 31], 0),
        ([10, 20, 30, 61, 62], 3),
        ([10] * 7, 5),
    ],
)
def test_the_rolling_day_has_room_for_what_waits_half_an_hour_at_most_for_an_earlier_message(ages: list[int], free: int) -> None:
    sent = [NOW - timedelta(days=1) + timedelta(minutes=age) for age in ages]

    assert room(sent, 5, NOW, timedelta(minutes=30)) == free
    assert room(sent, 5, NOW, timedelta(0)) == max(0, 5 - sum(age > 0 for age in ages))


def test_the_day_may_be_fuller_than_the_run() -> None:
    crowd = [user(1), user(2)]
    decided = decide(crowd, {u.user_id: lacking(n) for n, u in enumerate(crowd, start=1)}, terms(day=1))

    assert [d.reason for d in decided] == [Reason.SENT, Reason.DAY_FULL]


@pytest.mark.parametrize(
    "window",
    [
        {"hours": "08:00-18:00"},
        {"days": ("tue",)},
        {"holidays": (date(2026, 11, 23),)},
        {"days": ("mon",), "timezone": "America/Los_Angeles"},  # it is still Sunday there
    ],
)
def test_outside_days_hours_and_holidays_nobody_is_mailed(window: dict[str, Any]) -> None:
    assert decision(lacking(), **window).reason is Reason.OUTSIDE_HOURS


def test_inside_the_window_mail_goes_out() -> None:
    assert decision(lacking(), hours="03:00-04:00", days=("mon",), timezone="Europe/Berlin").action is Action.INVITED


OFFICE = {"hours": "08:00-18:00", "timezone": "Europe/Berlin"}
NOON_IN_BERLIN = datetime(2026, 11, 23, 11, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "window", "may"),
    [
        ("Europe/Berlin", OFFICE, True),
        ("Asia/Tokyo", OFFICE, False),  # 20:00
        ("America/New_York", OFFICE, False),  # 06:00
        ("Asia/Tokyo", {**OFFICE, "hours": "19:00-21:00"}, True),
        ("Pacific/Kiritimati", {"days": ("tue",)}, True),  # 01:00 on Tuesday
        ("Pacific/Kiritimati", {"days": ("mon",)}, False),
        ("Pacific/Kiritimati", {"holidays": (date(2026, 11, 24),)}, False),
        ("Pacific/Kiritimati", {"holidays": (date(2026, 11, 23),)}, True),
    ],
)
def test_days_hours_and_holidays_are_the_users_own(zone: str, window: dict[str, Any], may: bool) -> None:
    decided = decision(lacking(), user(timezone=zone), now=NOON_IN_BERLIN, **window)

    assert decided.reason is (Reason.SENT if may else Reason.OUTSIDE_HOURS)


@pytest.mark.parametrize(
    "name",
    ["", "PST", "tz_05_pacific_time", "Europe", "europe/berlin", "../../etc/passwd", "/etc/localtime", "x" * 300, "Zürich"],
)
def test_a_time_zone_that_is_none_is_the_campaigns(name: str) -> None:
    berlin = decision(lacking(), user(timezone=name), now=NOON_IN_BERLIN, **OFFICE)
    tokyo = decision(lacking(), user(timezone=name), now=NOON_IN_BERLIN, **{**OFFICE, "timezone": "Asia/Tokyo"})

    assert (berlin.reason, tokyo.reason) == (Reason.SENT, Reason.OUTSIDE_HOURS)


def test_whose_window_is_closed_takes_nobodys_turn() -> None:
    crowd = [user(1, timezone="Asia/Tokyo"), user(2), user(3, timezone="Asia/Tokyo"), user(4)]
    standings = {who.user_id: lacking(n, lacking_since=NOW - timedelta(days=9 - n)) for n, who in enumerate(crowd, start=1)}
    decided = decide(crowd, standings, terms(now=NOON_IN_BERLIN, run=2, day=2, **OFFICE))

    assert [d.reason for d in decided] == [Reason.OUTSIDE_HOURS, Reason.SENT, Reason.OUTSIDE_HOURS, Reason.SENT]


def test_whose_window_is_closed_does_not_hold_an_address_that_another_user_id_has() -> None:
    twins = [user(1, email="shared@example.com", timezone="Asia/Tokyo"), user(2, email="shared@example.com")]
    decided = decide(twins, {u.user_id: lacking(n) for n, u in enumerate(twins, start=1)}, terms(now=NOON_IN_BERLIN, **OFFICE))

    assert [d.reason for d in decided] == [Reason.SAME_ADDRESS, Reason.SENT]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
def test_an_hour_that_a_night_leaves_out_is_no_window_and_one_that_comes_twice_is_open_twice(zone: str) -> None:
    policy = Policy(hours="02:00-03:00" if zone == "Europe/Berlin" else "01:00-02:00")
    local = ZoneInfo(zone)

    def minutes_open(day: date) -> int:
        midnight = datetime(day.year, day.month, day.day, tzinfo=local).astimezone(UTC)
        minutes = (midnight + timedelta(minutes=n) for n in range(26 * 60))
        return sum(is_open(policy, now, local) for now in minutes if now.astimezone(local).date() == day)

    spring, autumn = (
        (date(2027, 3, 28), date(2027, 10, 31)) if zone == "Europe/Berlin" else (date(2027, 3, 14), date(2027, 11, 7))
    )
    skipped = Policy(hours="02:00-03:00")

    assert minutes_open(date(2027, 6, 1)) == 60
    assert minutes_open(autumn) == 120
    assert not any(
        is_open(skipped, datetime(spring.year, spring.month, spring.day, tzinfo=UTC) + timedelta(minutes=n), local)
        for n in range(24 * 60)
    )


def test_everybody_gets_a_decision_in_the_rosters_order() -> None:
    crowd = [user(n) for n in (3, 1, 2)]
    decided = decide(crowd, {u.user_id: lacking(n) for u, n in zip(crowd, (3, 1, 2), strict=True)}, terms(run=1))

    assert [d.user for d in decided] == crowd


def test_what_comes_next_is_told() -> None:
    assert upcoming(lacking(), Policy()) == ("invite", NOW)
    assert upcoming(mailed(0), Policy()) == ("remind", NOW + timedelta(days=3))
    assert upcoming(mailed(0, used=4), Policy()) == ("", None)
    assert upcoming(Standing(user_id(1), status=Status.GRANTED), Policy()) == ("", None)
    assert upcoming(lacking(suppressed="asked not to"), Policy()) == ("", None)
    assert upcoming(lacking(suppressed="on leave", suppressed_until=NOW + timedelta(days=9)), Policy()) == (
        "invite",
        NOW + timedelta(days=9),
    )
    assert upcoming(lacking(undeliverable=email(1)), Policy()) == ("", None)


# --- the manager


BOSS = "boss@example.com"


def led(number: int = 1, manager: str = BOSS) -> User:
    return user(number, manager_email=manager)


def told(*standings: Standing, users: Sequence[User] = (), **changes: Any) -> list[Decision]:
    """The messages to managers, where the users with these standings have the same manager unless told otherwise."""
    users = users or [led(number) for number in range(1, len(standings) + 1)]
    known = {who.user_id: standing for who, standing in zip(users, standings, strict=True)}
    rules = terms(**{"escalate_after": 2, **changes})
    return escalate(decide(users, known, rules), known, rules)


def test_a_manager_is_told_when_the_message_before_had_its_time() -> None:
    (only,) = told(mailed(7, used=2))

    assert (only.action, only.step, only.recipient, only.address) == (Action.ESCALATED, ESCALATION, BOSS, BOSS)
    assert told(mailed(6, used=2)) == []
    assert told(mailed(7, used=1)) == []
    assert told(mailed(7, used=2), escalate_after=0) == []


def test_the_reminder_of_the_same_night_goes_out_too() -> None:
    who = led()
    known = {who.user_id: mailed(7, used=2)}
    rules = terms(escalate_after=2)
    decided = decide([who], known, rules)

    assert [d.action for d in decided] == [Action.REMINDED]
    assert len(escalate(decided, known, rules)) == 1


def test_without_reminders_a_manager_is_told_after_a_week() -> None:
    assert told(mailed(6, used=1), escalate_after=1, remind_after_days=()) == []
    assert len(told(mailed(7, used=1), escalate_after=1, remind_after_days=())) == 1


def test_a_manager_is_told_once_of_a_user() -> None:
    assert told(mailed(7, used=2, escalated=True)) == []


def test_a_deferred_message_to_a_manager_is_tried_again_on_another_night() -> None:
    assert told(mailed(7, used=2, escalation_tried=NOW - timedelta(hours=11))) == []
    assert len(told(mailed(7, used=2, escalation_tried=NOW - timedelta(hours=13)))) == 1


def test_a_manager_of_many_is_not_flooded() -> None:
    several = told(mailed(7, used=2), mailed(7, used=2), mailed(7, used=2))

    assert [d.user.user_id for d in several] == [user_id(1)]
    assert told(mailed(7, used=2), mailed={BOSS: (NOW - timedelta(days=1), user_id(9))}) == []


def test_a_later_message_does_not_start_the_wait_again() -> None:
    assert len(told(mailed(1, used=3))) == 1


def test_a_consent_that_was_taken_back_does() -> None:
    assert told(mailed(30, used=3, revoked_at=NOW - timedelta(days=1))) == []
    assert len(told(mailed(30, used=3, revoked_at=NOW - timedelta(days=7)))) == 1


@pytest.mark.parametrize(
    ("changes", "who"),
    [
        ({"status": Status.GRANTED, "found": Status.GRANTED}, led()),
        ({"found": Status.UNKNOWN}, led()),
        ({"suppressed": "on leave"}, led()),
        ({"undeliverable": email(1)}, led()),
        ({}, user(1, manager_email=BOSS, closed=True)),
        ({}, user()),
        ({}, led(manager="boss@elsewhere.example")),
    ],
)
def test_no_manager_is_told_of_who_could_not_be_mailed(changes: dict[str, Any], who: User) -> None:
    assert told(mailed(7, used=2, **changes), users=[who], domains=frozenset({"example.com"})) == []


def test_messages_to_managers_come_after_those_to_users_and_count_into_the_same_limits() -> None:
    users = [led(1, "one@example.com"), led(2, "two@example.com")]
    standings = (mailed(7, used=2), mailed(7, used=2))

    assert len(told(*standings, users=users, run=4)) == 2
    assert len(told(*standings, users=users, run=3)) == 1
    assert told(*standings, users=users, run=2) == []
    assert told(*standings, users=users, day=2) == []
    assert told(*standings, users=users, hours="08:00-18:00") == []


def test_a_manager_is_told_by_the_campaigns_clock_whatever_the_users_is() -> None:
    abroad = [user(1, manager_email=BOSS, timezone="Asia/Tokyo")]
    at_home = [user(1, manager_email=BOSS, timezone="Europe/Berlin")]
    standing = mailed(7, used=2)

    assert len(told(standing, users=abroad, now=NOON_IN_BERLIN, **OFFICE)) == 1
    assert told(standing, users=at_home, now=NOON_IN_BERLIN, **{**OFFICE, "timezone": "Asia/Tokyo"}) == []
