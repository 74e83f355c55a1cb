"""What is learnt of the account server without asking about anybody, from one that is right and from servers that lie."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from campaign.docusign.clock import ahead
from campaign.docusign.survey import Survey
from campaign.errors import CampaignError, ConfigError, DocusignRefused, DocusignUnreachable
from campaign.model import Check, Grade
from campaign.sandbox import AccountServer, Application
from tests.test_prober import Liar, docusign, http, saying
from tests.world import CLIENT_ID

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
DATE = "Date: Mon, 23 Nov 2026 02:00:00 GMT\r\n"
THANKS = "https://intranet.example.org/thanks"


def survey(url: str, now: datetime = NOW, **keys: Any) -> Survey:
    return Survey(docusign(url, **{"redirect_uri": THANKS, "timeout": 0.5, **keys}), lambda: now)


def told(answer: bytes, step: Callable[[Survey], Check] = Survey.reach) -> Check:
    with Liar(saying(answer)) as liar:
        return step(survey(liar.url))


# --- whether it answers


def test_a_server_that_refuses_a_request_without_a_token_is_good() -> None:
    with AccountServer() as server:
        check = survey(server.url).reach()

    assert (check.what, check.grade) == ("account server", Grade.GOOD)
    assert check.found.startswith(f"{server.url} answered within ")


@pytest.mark.parametrize("answer", [http(200, b"<html>Welcome to this hotel</html>"), http(302), http(503)])
def test_a_server_that_answers_anything_else_is_in_doubt(answer: bytes) -> None:
    assert told(answer).grade is Grade.DOUBT


def failure(url: str, **keys: Any) -> CampaignError:
    with pytest.raises(CampaignError) as failed:
        survey(url, **keys).reach()
    return failed.value


def test_a_closed_port_and_a_silent_server_are_told_in_words() -> None:
    with Liar(lambda peer: peer.liar.over.wait()) as silent:
        waited = failure(silent.url, timeout=0.1)
    closed = failure(silent.url)

    assert [type(error) for error in (waited, closed)] == [DocusignUnreachable] * 2
    assert (str(waited), str(closed)) == (f"{silent.url}: timed out", f"{silent.url}: connection refused")


def test_a_certificate_that_is_not_trusted_names_the_key_that_may_help() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with Liar(saying(http(401)), context) as liar:
        error = failure(liar.url)

    assert "certificate cannot be verified" in str(error)
    assert "[docusign] ca_file" in error.advice
    assert liar.requests == []


def test_a_file_of_authorities_that_is_none_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    assert isinstance(failure("http://127.0.0.1:1", ca_file=tmp_path / "none.pem"), ConfigError)


# --- its clock


def compared(off: timedelta, date: str = DATE) -> Check:
    with Liar(saying(http(401, b"", date))) as liar:
        server = survey(liar.url, NOW + off)
        server.reach()
    return server.compare_clocks()


@pytest.mark.parametrize("seconds", [-119, 0, 119])
def test_a_clock_within_two_minutes_is_good(seconds: int) -> None:
    assert compared(timedelta(seconds=seconds)).grade is Grade.GOOD


@pytest.mark.parametrize(("seconds", "words"), [(-299, "299 s behind"), (200, "200 s ahead of")])
def test_a_clock_within_an_assertions_life_is_in_doubt(seconds: int, words: str) -> None:
    check = compared(timedelta(seconds=seconds))

    assert check.grade is Grade.DOUBT
    assert words in check.found


@pytest.mark.parametrize(("minutes", "words"), [(-10, "600 s behind"), (10, "600 s ahead of")])
def test_beyond_an_assertions_life_nothing_would_be_believed(minutes: int, words: str) -> None:
    with pytest.raises(DocusignRefused, match=words):
        compared(timedelta(minutes=minutes))


@pytest.mark.parametrize("date", ["", "Date: yesterday\r\n", "Date: Mon, 23 Nov 99999999999999 02:00:00 GMT\r\n"])
def test_a_server_that_names_no_time_is_not_taken_for_one_that_agrees(date: str) -> None:
    assert compared(timedelta(), date).grade is Grade.DOUBT


def test_the_difference_knows_time_zones() -> None:
    assert ahead({"Date": "Mon, 23 Nov 2026 04:00:00 +0200"}, NOW + timedelta(seconds=3)) == 3


# --- its consent page


@pytest.fixture
def accounts() -> AccountServer:
    server = AccountServer()
    server.add_application(Application(CLIENT_ID, "Test", (), (THANKS,)))
    return server


def test_a_registered_redirect_uri_leads_to_the_log_in(accounts: AccountServer) -> None:
    with accounts:
        check = survey(accounts.url).open_consent_page()

    assert (check.what, check.grade) == ("consent page", Grade.GOOD)
    assert "asks to log in" in check.found


def test_a_redirect_uri_that_differs_by_a_slash_is_refused(accounts: AccountServer) -> None:
    with accounts, pytest.raises(ConfigError) as refused:
        survey(accounts.url, redirect_uri=f"{THANKS}/").open_consent_page()

    assert f"{THANKS}/ is not registered for client_id {CLIENT_ID}" in str(refused.value)


def test_an_unknown_client_id_is_in_doubt(accounts: AccountServer) -> None:
    with accounts:
        check = survey(accounts.url, client_id="ffffffff-0000-4000-8000-000000000000").open_consent_page()

    assert check.grade is Grade.DOUBT
    assert "HTTP 400" in check.found


@pytest.mark.parametrize(
    "location",
    ["/login?continue=1", "https://account-d.docusign.com/logout", "https://auth.docusign.com/"],
)
def test_a_way_to_docusigns_log_in_is_good_and_is_not_followed(location: str) -> None:
    with Liar(saying(http(302, b"", f"Location: {location}\r\n"))) as liar:
        check = survey(liar.url).open_consent_page()

    assert check.grade is Grade.GOOD
    assert len(liar.requests) == 1


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("/error?error=invalid_scope", "the error invalid_scope"),
        (f"{THANKS}?error=unauthorized%1b%5b31m", r"the error unauthorized\x1b[31m"),
        ("https://portal.example.org/accept", "portal.example.org, which is not Docusign's"),
        ("https://evil-docusign.com/", "evil-docusign.com, which is not Docusign's"),
        ("http://[::1", "an address that is none"),
        ("/?" + "&" * 2000 + "error=" + "x" * 2000, "the error " + "x" * 39 + "…"),
    ],
)
def test_a_way_to_anywhere_else_is_in_doubt(location: str, words: str) -> None:
    check = told(http(302, b"", f"Location: {location}\r\n"), Survey.open_consent_page)

    assert check.grade is Grade.DOUBT
    assert check.found.endswith(words)


@pytest.mark.parametrize("answer", [http(200, b"x" * 100_000), http(200, length=5) + b"x", b"SSH-2.0\r\n"])
def test_a_page_that_cannot_be_read_is_in_doubt_and_no_reason_to_stop(answer: bytes) -> None:
    assert told(answer, Survey.open_consent_page).grade is Grade.DOUBT


def test_what_is_asked_is_the_link_that_is_mailed_as_a_browser_would() -> None:
    with Liar(saying(http(200))) as liar:
        survey(liar.url).open_consent_page()
    head, *headers = liar.requests[0].decode().split("\r\n")

    assert head.startswith("GET /oauth/auth?response_type=code&scope=signature%20impersonation&client_id=")
    assert "Accept: text/html" in headers
    assert not [line for line in headers if line.lower().startswith(("authorization", "cookie"))]


# --- its scopes
