"""The same of what is promised of customers: faults to be planted that must be found."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from campaign import given, nightly, plan, probing
from campaign.config import Config
from campaign.customers import Administrator, Customer, asking
from campaign.docusign import admin_consent_url
from campaign.errors import RosterError
from campaign.message.kinds import INVITE
from campaign.model import Decision, Finding, Standing, Status
from campaign.roster import read_customers
from tests.random_nights.faults import Plant


def mail_users_while_their_administrator_is_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nightly, "left_alone", lambda *_: {})


def leave_users_alone_for_good(patch: pytest.MonkeyPatch) -> None:
    really = asking._until

    def until(config: Config, administrator: Administrator, standings: Mapping[str, Standing], now: datetime) -> Any:
        mine = standings[administrator.user_id] if not administrator.fault else Standing("")
        return really(config, administrator, {administrator.user_id: mine._replace(first_sent=now)}, now)

    patch.setattr(asking, "_until", until)


def mail_users_of_a_row_that_cannot_be_used(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(asking, "NEVER", None)


def do_without_customers_that_are_refused(patch: pytest.MonkeyPatch) -> None:
    def credulous(config: Config) -> tuple[Administrator, ...]:
        try:
            return read_customers(config)
        except RosterError:
            return ()

    patch.setattr(given, "read_customers", credulous)


def ask_administrators_without_an_answer(patch: pytest.MonkeyPatch) -> None:
    really = asking.finding

    def finding(customer: Customer, standings: Mapping[str, Standing]) -> Finding | None:
        found = really(customer, standings)
        return replace(found, status=Status.CONSENT_REQUIRED) if found and found.status is Status.UNKNOWN else found

    patch.setattr(probing, "finding", finding)


def ask_administrators_who_have_consented(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(asking, "_has_turned", lambda *_: False)


def ask_administrators_last(patch: pytest.MonkeyPatch) -> None:
    really = plan.in_sending_order

    def in_sending_order(decisions: Any) -> list[Decision]:
        return sorted(really(decisions), key=lambda decision: isinstance(decision.user, Administrator))

    patch.setattr(plan, "in_sending_order", in_sending_order)


def show_administrators_the_link_of_users(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("campaign.message.composer.kind_of", lambda *_: INVITE)


def show_users_the_link_of_administrators(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(given, "consent_url", admin_consent_url)


CUSTOMERS_FAULTS: dict[Plant, str] = {  # and what the judge says
    mail_users_while_their_administrator_is_asked: "customers: .* (before|after)",
    leave_users_alone_for_good: "not mailed on a good night",
    mail_users_of_a_row_that_cannot_be_used: "customers: .* cannot be used",
    do_without_customers_that_are_refused: "P12",
    ask_administrators_without_an_answer: "P4",
    ask_administrators_who_have_consented: "customers: .* turned granted",
    ask_administrators_last: "customers: users were mailed before",
    show_administrators_the_link_of_users: "P4|P11",
    show_users_the_link_of_administrators: "P11",
}
