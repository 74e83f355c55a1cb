"""Whole nights over real sockets."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from campaign import nightly
from campaign.errors import ExitCode
from campaign.given import Waits
from campaign.model import Outcome
from campaign.sandbox import CannedAnswer, json_answer
from tests.postgres_server import Keys
from tests.world import CANARY, FIRST_NIGHT, World, email, sql, user_id


@pytest.fixture
def world(tmp_path: Path, ledger_keys: Keys) -> Iterator[World]:
    with World(tmp_path, ledger=ledger_keys) as world:
        yield world


def told(world: World, person: int, *columns: str) -> tuple[str, ...]:
    """Some columns of one person's row in the report."""
    row = world.report()[user_id(person)]
    return tuple(row[column] for column in columns)


# --- the ordinary course


@pytest.mark.promise(19)
def test_the_first_night_mails_nobody_without_an_approval(world: World) -> None:
    world.roster(range(4))
    world.consent(0)
    night = world.night()

    assert (night.exit_code, world.mailed()) == (ExitCode.STOPPED, [])
    assert "campaign run --approve 3" in night.problems[0].advice
    assert told(world, 1, "status", "action", "reason", "next_action") == ("consent_required", "", "not_approved", "invite")


@pytest.mark.promise(19)
def test_an_approval_for_fewer_messages_approves_nothing(world: World) -> None:
    world.roster(range(4))

    assert world.night(approve=3).exit_code == ExitCode.STOPPED
    assert world.mailed() == []


def test_the_first_approved_night_mails_whoever_lacks_consent(world: World) -> None:
    world.roster(range(4))
    world.consent(0)
    night = world.night(approve=3)

    assert (night.exit_code, world.mailed()) == (ExitCode.DONE, [email(1), email(2), email(3)])
    assert told(world, 0, "status", "reason", "messages") == ("granted", "granted", "0")
    assert told(world, 1, "action", "reason", "messages", "last_outcome", "next_action", "next_due") == (
        *("invited", "sent", "1", "accepted", "remind"),
        "2026-11-26T02:00:00Z",
    )


@pytest.mark.promise(10)
def test_running_again_changes_nothing(world: World) -> None:
    world.roster(range(4))
    world.night(approve=4)
    for _ in range(5):
        assert world.night().exit_code == ExitCode.DONE
        world.days_pass(0.1)

    assert len(world.mailed()) == 4
    assert told(world, 1, "action", "reason") == ("", "waiting")


@pytest.mark.promise(6)
def test_reminders_come_when_they_are_due_until_the_cap(world: World) -> None:
    world.roster([1])
    mailed_on = []
    for day in (0, 1, 2, 3, 4, 9, 10, 11, 23, 24, 25, 100):
        world.now = FIRST_NIGHT + timedelta(days=day)
        before = len(world.mailed())
        world.night(approve=1)
        mailed_on += [day] * (len(world.mailed()) - before)

    assert mailed_on == [0, 3, 10, 24]
    assert told(world, 1, "reason", "messages", "next_action") == ("cap_reached", "4", "")


def test_a_reminder_tells_the_date_of_the_first_message_where_the_campaign_lives(world: World) -> None:
    world.keys = {"policy": {"timezone": "America/Los_Angeles"}}
    world.roster([1])
    world.night(approve=1)
    world.days_pass(3)
    world.night()

    assert "22 November 2026" in world.relay.accepted[-1].data


def test_whoever_consents_is_left_alone(world: World) -> None:
    world.roster([1, 2])
    world.night(approve=2)
    world.consent(1)
    world.days_pass(3)
    world.night()

    assert world.mailed() == [email(1), email(2), email(2)]
    assert told(world, 1, "status", "reason", "granted_at") == ("granted", "granted", "2026-11-26T02:00:00Z")


def test_the_granted_are_not_asked_every_night(world: World) -> None:
    world.roster([1])
    world.consent(1)
    for _ in range(8):
        world.night()
        world.days_pass(5)
    asked = [request for request in world.accounts.requests if request.user_id == user_id(1)]

    assert len(asked) == 2


def test_a_revocation_is_news_once_and_waits_before_the_next_mail(world: World) -> None:
    world.keys = {"docusign": {"verify_granted_days": 0}}
    world.roster([1, 2])
    world.consent(1)
    world.night(approve=1)
    world.revoke(1)
    world.days_pass()
    found, later = world.night(), world.night()

    assert (found.exit_code, later.exit_code) == (ExitCode.ATTENTION, ExitCode.DONE)
    assert told(world, 1, "reason", "next_due") == ("waiting", "2026-11-27T02:00:00Z")


@pytest.mark.case(37)
def test_who_leaves_and_returns_goes_on_where_they_were(world: World) -> None:
    world.roster(range(5))
    world.night(approve=5)
    world.roster(range(4))
    world.days_pass(3)
    world.night()
    world.roster(range(5))
    world.days_pass()
    world.night()

    assert world.mailed()[9:] == [email(4)]
    assert told(world, 4, "action", "messages") == ("reminded", "2")


@pytest.mark.case(2)
def test_a_changed_address_keeps_its_history_and_is_deliverable_again(world: World) -> None:
    world.relay.at("RCPT", "550 5.1.1 no such user", recipient=email(1))
    world.roster([1, 2])
    first = world.night(approve=2)
    world.days_pass(3)
    world.night()
    assert told(world, 1, "reason", "last_outcome") == ("undeliverable", "rejected")
    world.roster([{"user_id": user_id(1), "email": "new@example.com"}, {"user_id": user_id(2), "email": email(2)}])
    world.days_pass(3)
    world.night()

    assert first.exit_code == ExitCode.ATTENTION
    assert world.mailed()[-1] == "new@example.com"
    assert told(world, 1, "action", "messages") == ("reminded", "1")


@pytest.mark.promise(6)
@pytest.mark.case(35)
def test_one_address_under_two_ids_is_mailed_once(world: World) -> None:
    world.roster([{"user_id": user_id(n), "email": "shared@example.com"} for n in (1, 2)])
    world.night(approve=2)

    assert world.mailed() == ["shared@example.com"]
    assert told(world, 2, "reason") == ("same_address",)


@pytest.mark.promise(6)
def test_the_wave_goes_on_the_next_night(world: World) -> None:
    world.keys = {"policy": {"max_per_run": 2}}
    world.roster(range(5))
    world.night(approve=2)
    assert told(world, 4, "reason") == ("run_full",)
    world.days_pass()
    world.night()
    world.days_pass()
    world.night()

    assert world.mailed() == [email(n) for n in range(5)]


@pytest.mark.promise(6)
def test_a_nightly_job_sends_a_days_messages_every_night_and_never_more_in_any_24_hours(tmp_path: Path) -> None:
    class Ticking(World):
        woke = time.monotonic()

        def clock(self) -> datetime:
            return self.now + timedelta(seconds=time.monotonic() - self.woke)

        def days_pass(self, days: float = 1) -> None:
            super().days_pass(days)
            self.woke = time.monotonic()

    with Ticking(tmp_path, keys={"mail": {"per_day": 5}}, waits=Waits(room=60)) as world:
        world.relay.at("dot", "delay 0.1")
        world.roster(range(1, 21))
        sent = []
        for _ in range(3):
            world.days_pass(1)
            night = world.night(approve=20)
            sent.append(sum(delivery.outcome is Outcome.ACCEPTED for delivery in night.deliveries))
        times = sorted(datetime.fromisoformat(row["tried_at"]) for row in sql(world.config(), "SELECT tried_at FROM slots"))

    assert sent == [5, 5, 5]
    assert all(later - earlier >= timedelta(days=1) for earlier, later in zip(times, times[5:], strict=False))


@pytest.mark.promise(6)
def test_the_day_is_counted_across_runs(world: World) -> None:
    world.keys = {"mail": {"per_day": 3}}
    world.roster(range(5))
    world.night(approve=3)
    world.days_pass(0.5)
    world.night()
    assert told(world, 4, "reason") == ("day_full",)
    world.days_pass(0.6)
    world.night()

    assert len(world.mailed()) == 5


# --- Docusign in trouble


@pytest.mark.promise(4)
@pytest.mark.parametrize(
    "lie",
    [
        CannedAnswer(500),
        CannedAnswer(500, b'{"error":"consent_required"}'),
        CannedAnswer(503, b"<html>"),
        json_answer(401, error="consent_required"),
        json_answer(200, access_token="x", expires_in=3600),
        json_answer(200, access_token="x", token_type="Application"),
        json_answer(200, error="consent_required"),
        json_answer(400, error="CONSENT_REQUIRED"),
        json_answer(400, error=["consent_required"]),
        json_answer(400, error="something_new"),
    ],
)
def test_no_answer_is_not_a_lack_of_consent(world: World, lie: CannedAnswer) -> None:
    world.keys = {"guards": {"max_error_share": 1.0}}
    world.roster([1, 2])
    world.accounts.faults.answers = {user_id(1): lie}
    night = world.night(approve=2)

    assert (night.exit_code, world.mailed()) == (ExitCode.DONE, [email(2)])
    assert told(world, 1, "status", "reason") == ("unknown", "no_answer")


@pytest.mark.promise(5)
@pytest.mark.case(25)
@pytest.mark.parametrize(
    "lie",
    [
        json_answer(400, error="invalid_grant", error_description="issuer_not_found"),
        json_answer(400, error="invalid_grant", error_description="no_valid_keys_or_signatures"),
        json_answer(400, error="invalid_grant"),
        json_answer(400, error="invalid_request"),
        CannedAnswer(200, b"<html>please log in</html>"),
        CannedAnswer(400, b"consent_required"),
        CannedAnswer(400, b'["consent_required"]'),
        CannedAnswer(400, b"[" * 60_000),
        CannedAnswer(307, b"", {"Location": "http://127.0.0.1:9/"}),
    ],
)
def test_a_refusal_of_the_app_stops_the_run_and_mails_nobody(world: World, lie: CannedAnswer) -> None:
    world.roster(range(30))
    world.accounts.faults.answers = {user_id(n): lie for n in range(3, 30)}
    night = world.night(approve=30)

    assert (night.exit_code, world.mailed()) == (ExitCode.REFUSED, [])
    assert len(world.accounts.requests) <= 1 + 3 + 4  # the canary, the first three, and one for each connection
    assert told(world, 29, "status", "reason") == ("not_probed", "stopped")


@pytest.mark.promise(5)
@pytest.mark.parametrize("lie", [json_answer(400, error="consent_required"), CannedAnswer(500)])
def test_a_canary_that_is_not_granted_stops_the_night_before_anybody_is_asked(world: World, lie: CannedAnswer) -> None:
    world.roster(range(5))
    world.accounts.faults.answers = {CANARY: lie}
    night = world.night(approve=5)

    assert night.exit_code == (ExitCode.STOPPED if lie.status == 400 else ExitCode.REFUSED)
    assert world.mailed() == []
    assert {request.user_id for request in world.accounts.requests} == {CANARY}


@pytest.mark.promise(5)
def test_without_a_canary_nobody_is_mailed(world: World) -> None:
    world.keys = {"docusign": {"canary": []}}
    world.roster([1])

    assert world.night(approve=1).exit_code == ExitCode.STOPPED
    assert (world.mailed(), told(world, 1, "status", "reason")) == ([], ("consent_required", "guard"))


@pytest.mark.promise(4)
def test_an_outage_of_docusign_costs_nothing_but_the_night(world: World) -> None:
    world.keys = {"docusign": {"verify_granted_days": 0}}
    world.roster([1, 2])
    world.consent(1)
    world.night(approve=2)
    world.accounts.faults.answer_all = CannedAnswer(503)
    world.days_pass(3)
    outage = world.night()
    world.accounts.faults.answer_all = None
    world.days_pass()
    world.night()

    assert outage.exit_code == ExitCode.REFUSED
    assert world.mailed() == [email(2), email(2)]
    assert told(world, 1, "reason", "granted_at") == ("granted", "2026-11-23T02:00:00Z")


@pytest.mark.promise(5)
def test_everybody_suddenly_lacking_is_held_back_until_somebody_says_that_it_is_meant(world: World) -> None:
    world.keys = {"docusign": {"verify_granted_days": 0}}
    world.roster(range(30))
    world.consent(*range(30))
    world.revoke(0)
    world.night(approve=1)
    world.revoke(*range(30))
    for _ in range(10):  # also when the first alarm is slept through
        world.days_pass()
        night = world.night()

    assert (night.exit_code, world.mailed()) == (ExitCode.STOPPED, [email(0)])
    assert {trip.guard for trip in night.trips} == {"new_lacking", "regressions"}
    assert world.night(approve=30).exit_code == ExitCode.DONE


@pytest.mark.case(26)
def test_a_user_whom_docusign_does_not_know_is_news_and_never_mailed(world: World) -> None:
    world.roster([1, 2])
    world.accounts.faults.answers = {user_id(1): json_answer(400, error="invalid_grant", error_description="user_not_found")}
    night = world.night(approve=2)

    assert (night.exit_code, world.mailed()) == (ExitCode.ATTENTION, [email(2)])
    assert told(world, 1, "status", "reason") == ("user_not_found", "user_not_found")


# --- the relay in trouble


@pytest.mark.promise(1)
@pytest.mark.case(1, 4)
@pytest.mark.parametrize(("phase", "fault"), [("RCPT", "450 4.2.0 later"), ("DATA", "drop"), ("dot", "451 4.3.0 later")])
def test_a_deferred_message_is_tried_again_with_the_same_message_id(world: World, phase: str, fault: str) -> None:
    world.relay.at(phase, fault, message=1)
    world.roster([1, 2])
    world.night(approve=2)
    assert told(world, 1, "reason", "last_outcome", "messages") == ("waiting", "deferred", "0")
    before = _slots(world)[user_id(1), 1]
    world.days_pass()
    world.night()

    assert world.mailed() == [email(2), email(1)]
    assert _slots(world)[user_id(1), 1][:2] == before[:2]
    assert before[0] in world.relay.accepted[-1].data


@pytest.mark.promise(1, 2)
@pytest.mark.parametrize("fault", ["store drop", "drop", "garbage", "199 what", "store 354 go on"])
def test_what_is_ambiguous_after_the_dot_is_never_sent_again_in_its_slot(world: World, fault: str) -> None:
    world.relay.at("dot", fault, message=1)
    world.roster([1, 2])
    night = world.night(approve=2)
    world.days_pass()
    world.night()

    assert night.exit_code == ExitCode.ATTENTION
    assert night.deliveries[0].outcome is Outcome.UNKNOWN
    assert told(world, 1, "reason", "last_outcome", "messages") == ("unresolved", "unknown", "1")
    assert world.mailed().count(email(1)) == (1 if "store" in fault else 0)


@pytest.mark.promise(13)
@pytest.mark.case(3)
def test_a_relay_that_refuses_us_stops_the_run_and_uses_up_nothing(world: World) -> None:
    world.relay.at("MAIL", "550 5.7.60 not allowed to send as this sender", message=2)
    world.roster(range(1, 5))
    night = world.night(approve=4)
    assert (night.exit_code, world.mailed()) == (ExitCode.REFUSED, [email(1)])
    assert told(world, 2, "action", "reason", "messages", "last_outcome") == ("", "relay_refused", "0", "")
    again = world.night()

    assert again.exit_code == ExitCode.DONE
    assert world.mailed() == [email(n) for n in (1, 3, 4, 2)]  # who was refused comes last


def test_a_relay_that_is_down_stops_the_run_before_any_slot(world: World) -> None:
    world.keys = {"mail": {"port": 9}}
    world.roster([1])
    night = world.night(approve=1)

    assert night.exit_code == ExitCode.REFUSED
    assert "127.0.0.1:9" in str(night.problems[0])
    assert _slots(world) == {}


@pytest.mark.case(6)
def test_a_relay_that_defers_everything_is_not_asked_for_ever(world: World) -> None:
    world.relay.at("RCPT", "452 4.3.1 insufficient system storage")
    world.roster(range(20))
    night = world.night(approve=20)

    assert night.exit_code == ExitCode.REFUSED
    assert world.relay.messages == 3


# --- being stopped


@pytest.mark.promise(19)
def test_the_stop_file_stops_the_night_before_anything(world: World) -> None:
    world.roster([1])
    (world.folder / "STOP").touch()

    assert world.night(approve=1).exit_code == ExitCode.STOPPED
    assert (world.mailed(), world.accounts.requests) == ([], [])
    assert told(world, 1, "reason") == ("stopped",)


@pytest.mark.promise(19)
def test_a_signal_between_two_messages_stops_before_the_next(world: World) -> None:
    world.roster(range(3))
    config, means = world.config(), world.means()

    def watch(stage: str, done: int, _total: int) -> None:
        if (stage, done) == ("mailing", 1):
            world.stop.ask(ExitCode.SIGINT)

    night = nightly.run(config, replace(means, progress=watch), approved=3)

    assert (night.exit_code, world.mailed()) == (ExitCode.SIGINT, [email(0)])
    assert told(world, 2, "reason") == ("stopped",)


# --- the plan


def test_a_plan_decides_as_the_night_does_and_leaves_nothing_behind(world: World) -> None:
    world.roster(range(4))
    world.consent(0)
    world.config()
    before = sorted(path.name for path in world.folder.iterdir())
    plan = world.plan()

    assert sorted(path.name for path in world.folder.iterdir()) == before
    assert (plan.exit_code, plan.planned, world.mailed()) == (ExitCode.DONE, 3, [])
    night = world.night(approve=3)
    assert [d.next_action for d in plan.decisions] == ["", "invite", "invite", "invite"]
    assert [bool(d.action) for d in night.decisions] == [False, True, True, True]


def test_a_plan_does_not_believe_the_findings_of_another_night(world: World) -> None:
    world.roster([1, 2])
    world.night()
    world.accounts.faults.answers = {user_id(1): CannedAnswer(500)}

    assert [str(d.reason) for d in world.plan().decisions][:1] == ["no_answer"]


def test_the_report_can_be_rewritten_without_any_network(world: World) -> None:
    world.roster([1, 2])
    world.night(approve=2)
    before = world.report()
    for path in (world.folder / "reports").glob("*.csv"):
        path.unlink()
    asked = len(world.accounts.requests)
    nightly.rewrite_report(world.config(), world.means())

    assert world.report() == before
    assert len(world.accounts.requests) == asked


def test_the_counts_add_up(world: World) -> None:
    world.roster([{"user_id": user_id(n), "email": email(n)} for n in (1, 2, 3)] + [{"user_id": "nonsense", "email": "x"}])
    world.consent(1)
    counts = world.night(approve=2).counts()

    assert counts == {
        "rows": 4,
        "users": 3,
        "status": {"granted": 1, "consent_required": 2, "rejected": 1},
        "state": {"consented": 1, "asked": 2},
        "action": {"invited": 2},
        "reason": {"granted": 1, "sent": 2, "invalid_row": 1},
        "outcome": {"accepted": 2},
    }


def _slots(world: World) -> dict[tuple[str, int], tuple[Any, ...]]:
    """The ledger's slots: (message id, date, outcome, attempts) by user and step."""
    rows = sql(world.config(), "SELECT user_id, step, message_id, date, outcome, attempts FROM slots")
    return {(user, step): tuple(rest) for user, step, *rest in (row.values() for row in rows)}
