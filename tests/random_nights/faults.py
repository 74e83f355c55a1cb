"""The judge is judged: each of these faults, planted into the program, must be found."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from campaign import guards, handover, plan, probing, reporting
from campaign.docusign import Prober
from campaign.docusign.answers import Answer, interpret
from campaign.ledger import Ledger
from campaign.message import new_message_id
from campaign.model import Decision, Delivery, Outcome, Slot, Standing, Status, User
from campaign.night import Night

Plant = Callable[[pytest.MonkeyPatch], None]


def send_before_the_slot_is_on_disk(patch: pytest.MonkeyPatch) -> None:
    really_open, really_settle = Ledger.open, Ledger.settle

    def settle(ledger: Ledger, slot: Slot, delivery: Delivery, now: datetime) -> None:
        really_open(ledger, slot, "", now)
        really_settle(ledger, slot, delivery, now)

    patch.setattr(Ledger, "open", lambda *_: None)
    patch.setattr(Ledger, "settle", settle)


def send_unknown_again(patch: pytest.MonkeyPatch) -> None:
    _settle_as(patch, Outcome.UNKNOWN, Outcome.DEFERRED)


def take_deferred_for_accepted(patch: pytest.MonkeyPatch) -> None:
    _settle_as(patch, Outcome.DEFERRED, Outcome.ACCEPTED)


def _settle_as(patch: pytest.MonkeyPatch, true: Outcome, told: Outcome) -> None:
    really = Ledger.settle

    def settle(ledger: Ledger, slot: Slot, delivery: Delivery, now: datetime) -> None:
        really(ledger, slot, replace(delivery, outcome=told) if delivery.outcome is true else delivery, now)

    patch.setattr(Ledger, "settle", settle)


def send_again_what_was_in_flight(patch: pytest.MonkeyPatch) -> None:
    really = Ledger.begin

    def begin(ledger: Ledger, run_id: str, now: datetime) -> None:
        with ledger._connection.begin() as _:
            ledger._connection.exec_driver_sql("DELETE FROM slots WHERE outcome = 'sending'")
        really(ledger, run_id, now)

    patch.setattr(Ledger, "begin", begin)


def forget_what_was_in_flight(patch: pytest.MonkeyPatch) -> None:
    really = Ledger.begin

    def begin(ledger: Ledger, run_id: str, now: datetime) -> None:
        with ledger._connection.begin() as _:
            ledger._connection.exec_driver_sql("UPDATE slots SET outcome = 'sending ' WHERE outcome = 'sending'")
        really(ledger, run_id, now)
        with ledger._connection.begin() as _:
            ledger._connection.exec_driver_sql("UPDATE slots SET outcome = 'sending' WHERE outcome = 'sending '")

    patch.setattr(Ledger, "begin", begin)


def take_no_answer_for_no_consent(patch: pytest.MonkeyPatch) -> None:
    def credulous(code: int, body: bytes) -> Answer:
        answer = interpret(code, body)
        return Answer(Status.CONSENT_REQUIRED, "") if answer.status is Status.UNKNOWN and not answer.refusal else answer

    patch.setattr("campaign.docusign.prober.interpret", credulous)


def ignore_the_canary(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "_canary", lambda _: ())
    patch.setattr(probing, "_canary_speaks", lambda *_: True)


def ignore_the_error_share(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "_errors", lambda *_: ())


def need_no_approval(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "_first", lambda _: ())


def ignore_regressions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "_regressions", lambda *_: ())


def ignore_who_newly_lacks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "_lacking", lambda *_: ())


def ignore_added_scopes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "_scopes", lambda _: ())


def ignore_the_size_of_the_roster(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guards, "_roster", lambda *_: ())


def believe_an_approval_of_any_size(patch: pytest.MonkeyPatch) -> None:
    really = guards.check

    def check(night: guards.Night, limits: Any, approved: int | None) -> Any:
        return really(night, limits, None if approved is None else 1000)

    patch.setattr(guards, "check", check)


def mail_by_what_was_found_long_ago(patch: pytest.MonkeyPatch) -> None:
    really = plan._obstacle

    def obstacle(user: User, standing: Standing, terms: plan.Terms) -> Any:
        return really(user, standing._replace(found=standing.status), terms)

    patch.setattr(plan, "_obstacle", obstacle)


def probe_between_mails(patch: pytest.MonkeyPatch) -> None:
    really = handover._slot

    def slot(night: Night, decision: Decision, ledger: Ledger) -> Slot:
        with closing(Prober(night.config.docusign, night.given.signer, night.means.clock, night.means.stop)) as asked:
            list(asked.probe([decision.user.user_id]))
        return really(night, decision, ledger)

    patch.setattr(handover, "_slot", slot)


def mail_an_address_as_often_as_it_stands_there(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "_one_an_address", lambda candidates, _: candidates)


def forget_the_cap_of_a_run(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "_wave", lambda candidates, _: candidates)


def forget_the_cap_of_a_day(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "mailed_since", lambda *_: [])


def remind_without_pause(patch: pytest.MonkeyPatch) -> None:
    really = plan.upcoming

    def upcoming(standing: Standing, policy: Any) -> Any:
        what, due = really(standing, policy)
        return what, standing.last_tried if standing.used else due

    patch.setattr(plan, "upcoming", upcoming)


def remind_without_end(patch: pytest.MonkeyPatch) -> None:
    really = plan.upcoming

    def upcoming(standing: Standing, policy: Any) -> Any:
        return really(standing._replace(used=min(standing.used, len(policy.remind_after_days))), policy)

    patch.setattr(plan, "upcoming", upcoming)


def retry_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "_RETRY_AFTER", timedelta(0))


def retry_under_a_new_message_id(patch: pytest.MonkeyPatch) -> None:
    really = handover._slot

    def slot(night: Night, decision: Decision, ledger: Ledger) -> Slot:
        return replace(really(night, decision, ledger), message_id=new_message_id("test", decision.step, "example.com"))

    patch.setattr(handover, "_slot", slot)


def go_on_after_a_stop(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handover, "stop_if_asked", lambda *_: None)


def keep_the_report_of_yesterday(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reporting, "write", lambda *_: [])


FAULTS: dict[Plant, str] = {  # and the promise at which one may be found
    send_before_the_slot_is_on_disk: "P[1236]",
    send_unknown_again: "P[12]",
    take_deferred_for_accepted: "P3",
    send_again_what_was_in_flight: "P[1236]",
    forget_what_was_in_flight: "P[23]",
    take_no_answer_for_no_consent: "P[45]",
    ignore_the_canary: "P[45]",
    ignore_the_error_share: "P5",
    need_no_approval: "P5",
    ignore_regressions: "P5",
    ignore_who_newly_lacks: "P5",
    ignore_added_scopes: "P5",
    ignore_the_size_of_the_roster: "P5",
    believe_an_approval_of_any_size: "P5",
    mail_by_what_was_found_long_ago: "P4",
    probe_between_mails: "P5",
    mail_an_address_as_often_as_it_stands_there: "P[16]",
    forget_the_cap_of_a_run: "P6",
    forget_the_cap_of_a_day: "P6",
    remind_without_pause: "P6",
    remind_without_end: "P6",
    retry_at_once: "P6",
    retry_under_a_new_message_id: "P[123]",
    go_on_after_a_stop: "P5",
    keep_the_report_of_yesterday: "the report",
}
