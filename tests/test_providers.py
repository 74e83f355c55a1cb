"""What is known of a relay before it is asked."""

from datetime import UTC, datetime
from typing import Any

import pytest

from campaign.config.schema import Mail
from campaign.errors import ExitCode
from campaign.mailer.providers import known
from campaign.model import Check, Grade

TODAY = datetime(2026, 11, 23, tzinfo=UTC)
NEXT_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
FROM = "contracts@example.com"
PASSWORD: dict[str, Any] = {"auth": "password", "username": FROM, "password": {"env": "SMTP_PASSWORD"}}
_APP = {"tenant": "contoso.onmicrosoft.com", "client_id": "00000000-0000-0000-0000-000000000000", "certificate_file": "app.pem"}
MICROSOFT: dict[str, Any] = {"auth": "microsoft", "username": FROM, "microsoft": _APP}


def checks(now: datetime = TODAY, **keys: Any) -> dict[str, Check]:
    """What is said of `[mail]` with these keys, by the key it is about."""
    given = {"host": "smtp.example.com", "from": f"Contracts <{FROM}>", "reply_to": "helpdesk@example.com", **keys}
    found = list(known(Mail.model_validate(given), now))
    assert len({check.what for check in found}) == len(found)
    return {check.what: check for check in found}


@pytest.mark.parametrize(
    "keys",
    [
        PASSWORD,
        {"port": 465, "security": "tls", **PASSWORD},
        {"port": 25},
        {"host": "127.0.0.1", "port": 25, "security": "none", **PASSWORD},
        {"host": "smtp.office365.com", "preset": "microsoft365", **MICROSOFT},
        {"host": "smtp.hve.mx.microsoft", **MICROSOFT},
        {"host": "email-smtp.eu-west-1.amazonaws.com", "preset": "ses", "per_minute": 800, **PASSWORD},
    ],
)
def test_of_sound_settings_there_is_one_good_check(keys: dict[str, Any]) -> None:
    found = checks(**keys)

    assert [(check.what, check.grade) for check in found.values()] == [("[mail]", Grade.GOOD)]


@pytest.mark.parametrize(
    "host",
    ["smtp.office365.com", "SMTP.Office365.com.", "eu.smtp.office365.com", "smtp.office365.us", "smtp-mail.outlook.com"],
)
def test_a_password_at_microsoft_is_a_doubt_with_the_date_and_three_ways_out(host: str) -> None:
    check = checks(host=host, **PASSWORD)["[mail] auth"]

    assert check.grade is Grade.DOUBT
    assert "works today: Microsoft switches it off by default at the end of December 2026" in check.found
    assert [way for way in ('auth = "microsoft"', "High Volume Email", "connector", "2027") if way not in check.advice] == []


def test_a_password_at_microsoft_is_told_differently_once_the_date_has_passed() -> None:
    check = checks(NEXT_YEAR, host="smtp.office365.com", **PASSWORD)["[mail] auth"]

    assert check.grade is Grade.DOUBT
    assert "has switched it off by default since the end of December 2026" in check.found


def test_a_host_that_only_looks_like_microsofts_is_not_taken_for_it() -> None:
    assert "[mail] auth" not in checks(host="smtp.office365.com.example.com", **PASSWORD)
    assert "[mail] auth" not in checks(host="notoffice365.com", **PASSWORD)


@pytest.mark.parametrize("host", ["smtp.hve.mx.microsoft", "smtp-hve.office365.com"])
def test_high_volume_email_takes_a_password_for_longer(host: str) -> None:
    assert "September 2028" in checks(host=host, **PASSWORD)["[mail] auth"].found


@pytest.mark.parametrize("host", ["smtp.gmail.com", "smtp-relay.gmail.com"])
def test_a_password_at_google_must_be_an_app_password(host: str) -> None:
    check = checks(host=host, **PASSWORD)["[mail] auth"]

    assert check.grade is Grade.DOUBT
    assert "1 May 2025" in check.found
    assert "app password" in check.advice


@pytest.mark.parametrize("host", ["smtp.office365.com", "smtp.gmail.com", "email-smtp.us-east-1.amazonaws.com"])
def test_a_provider_that_wants_a_sign_in_would_refuse_every_night_without(host: str) -> None:
    check = checks(host=host)["[mail] auth"]

    assert (check.grade, check.exit_code) == (Grade.BAD, ExitCode.REFUSED)


@pytest.mark.parametrize("host", ["contoso-com.mail.protection.outlook.com", "contoso-com.o-v1.mx.microsoft"])
def test_the_receiving_side_of_exchange_online_is_no_relay(host: str) -> None:
    (check,) = checks(host=host, port=25).values()

    assert (check.what, check.grade) == ("[mail] auth", Grade.DOUBT)
    assert "Direct Send" in check.found
    assert "connector" in check.advice


def test_googles_relay_takes_mail_without_a_sign_in_from_allowed_addresses() -> None:
    assert checks(host="smtp-relay.gmail.com")["[mail] auth"].grade is Grade.DOUBT


@pytest.mark.parametrize(
    ("port", "security", "usual"), [(465, "starttls", "tls"), (587, "tls", "starttls"), (25, "tls", "starttls")]
)
def test_a_port_that_usually_speaks_otherwise_is_a_doubt(port: int, security: str, usual: str) -> None:
    check = checks(port=port, security=security)["[mail] security"]

    assert check.grade is Grade.DOUBT
    assert f'security = "{usual}"' in check.advice


def test_signing_in_on_port_25_is_a_doubt() -> None:
    assert "587" in checks(port=25, **PASSWORD)["[mail] port"].advice


@pytest.mark.parametrize(
    "keys",
    [{"host": "smtp.office365.com"}, {"host": "smtp.gmail.com"}, {"preset": "google-workspace"}, {"preset": "microsoft365"}],
)
def test_writing_in_another_name_than_one_signs_in_with_needs_a_right(keys: dict[str, Any]) -> None:
    check = checks(**{**PASSWORD, **keys, "username": "robot@example.net"})["[mail] from"]

    assert check.grade is Grade.DOUBT
    assert "robot@example.net" in check.found
    assert FROM in check.found
    assert "[mail] from" not in checks(**{**PASSWORD, **keys, "username": FROM.upper()})


def test_without_a_reply_to_somebody_should_look() -> None:
    check = checks(reply_to="")["[mail] reply_to"]

    assert check.grade is Grade.DOUBT
    assert FROM in check.found


@pytest.mark.parametrize(
    ("host", "preset"),
    [
        ("smtp.office365.com", "microsoft365"),
        ("smtp.gmail.com", "google-workspace"),
        ("smtp-relay.gmail.com", "google-relay"),
        ("email-smtp.eu-central-1.amazonaws.com", "ses"),
    ],
)
def test_a_known_provider_has_a_preset(host: str, preset: str) -> None:
    assert preset in checks(host=host)["[mail] preset"].advice
    assert "[mail] preset" not in checks(host=host, preset=preset)


@pytest.mark.parametrize(("key", "given"), [("per_minute", 31), ("per_minute", 0), ("per_day", 10_001)])
def test_more_than_the_provider_takes_is_a_doubt(key: str, given: int) -> None:
    found = checks(host="smtp.office365.com", preset="microsoft365", **{**MICROSOFT, key: given})

    assert [(check.what, check.grade) for check in found.values()] == [(f"[mail] {key}", Grade.DOUBT)]
