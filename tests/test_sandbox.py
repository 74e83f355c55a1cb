"""The account server and the mail catcher of the sandbox, over real sockets."""

import gzip
import html
import http.client
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import jwt
import pytest
import requests
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa

from campaign.errors import UsageError
from campaign.sandbox import Sandbox
from campaign.sandbox.accounts import AccountServer
from campaign.sandbox.grant import DROPPED, JWT_GRANT, Application, CannedAnswer, Person, TokenRequest, json_answer
from campaign.sandbox.mailbox import MailCatcher
from tests.patience import PATIENCE, soon

NOW = 1_800_000_000
CLIENT = "7c2b8d7e-7a6a-4a4f-9d13-2b1f1a1f0c11"
JANE = "0f8fad5b-d9cb-469f-a165-70867728950e"
JOE = "1f8fad5b-d9cb-469f-a165-70867728950e"
GONE = "2f8fad5b-d9cb-469f-a165-70867728950e"
NOBODY = "3f8fad5b-d9cb-469f-a165-70867728950e"
THANKS = "https://intranet.example.com/thanks"
BOTH = ("signature", "impersonation")
KEY, OTHER_KEY, STRANGER = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(3))


class Clock:
    """Stands still until it is set."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[AccountServer]:
    with AccountServer(clock=clock) as server:
        server.add_application(
            Application(CLIENT, "Contract Sender", (OTHER_KEY.public_key(), KEY.public_key()), (THANKS, f"{THANKS}/?a=1"))
        )
        server.add_person(Person(JANE, "jane@example.com", "Jane van Dyke"))
        server.add_person(Person(JOE, "joe@example.com", "Joe"))
        server.add_person(Person(GONE, "gone@example.com", active=False))
        yield server


@pytest.fixture
def http_session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def assertion(key: Any = KEY, algorithm: str = "RS256", **changes: Any) -> str:  # whatever PyJWT signs
    """A sound assertion for Jane with some claims changed; None leaves a claim out."""
    claims = {"iss": CLIENT, "sub": JANE, "aud": "account-d.docusign.com", "iat": NOW - 300, "exp": NOW + 3000}
    claims |= {"scope": "signature"} | changes
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm)


def ask(
    server: AccountServer,
    signed: str | None = None,
    grant_type: str = JWT_GRANT,
    **options: Any,  # of requests.post
) -> requests.Response:
    form = {"grant_type": grant_type, "assertion": assertion() if signed is None else signed}
    with requests.Session() as session:
        session.trust_env = False
        options = {"timeout": 5, "allow_redirects": False} | options
        return session.post(f"{server.url}/oauth/token", data=options.pop("data", form), **options)


def connected(server: AccountServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=5)


def grant_error(description: str) -> bytes:
    return b'{"error":"invalid_grant","error_description":"' + description.encode() + b'"}'


NO_KEY, NO_ISSUER = grant_error("no_valid_keys_or_signatures"), grant_error("issuer_not_found")


# The grant


def test_a_consented_user_gets_a_bearer_token_for_an_hour(server: AccountServer) -> None:
    server.consent(JANE, CLIENT, BOTH)
    answer = ask(server)

    assert (answer.status_code, list(answer.json())) == (200, ["access_token", "token_type", "expires_in"])
    assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("Bearer", 3600)
    assert b" " not in answer.content


def test_consent_required_looks_as_it_did_on_the_real_server(server: AccountServer) -> None:
    answer = ask(server)

    assert (answer.status_code, answer.content) == (400, b'{"error":"consent_required"}')
    assert re.fullmatch("[0-9a-f-]{36}", answer.headers.pop("X-DocuSign-TraceToken"))
    assert dict(answer.headers) == {
        "Cache-Control": "no-cache",
        "Pragma": "no-cache",
        "Content-Type": "application/json; charset=utf-8",
        "Content-Length": "28",
        "Expires": "-1",
        "X-DocuSign-Node": "DA2DFE179",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "SAMEORIGIN",
        "Date": "Fri, 15 Jan 2027 08:00:00 GMT",
    }


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        pytest.param({"sub": NOBODY}, grant_error("user_not_found"), id="unknown user"),
        pytest.param({"sub": GONE}, grant_error("user_not_found"), id="closed user"),
        pytest.param({"sub": "jane@example.com"}, grant_error("invalid_subject"), id="an address"),
        pytest.param({"sub": " "}, grant_error("invalid_subject"), id="a blank"),
        pytest.param({"key": STRANGER}, NO_KEY, id="wrong key"),
        pytest.param({"exp": None}, NO_KEY, id="no exp"),
        pytest.param({"exp": "soon"}, NO_KEY, id="exp is no number"),
        pytest.param({"nbf": NOW + 1}, NO_KEY, id="nbf in the future"),
        pytest.param({"iat": NOW + 6}, NO_KEY, id="iat in the future"),
        pytest.param({"iat": NOW * 1000}, NO_KEY, id="iat in milliseconds"),
        pytest.param({"aud": "https://account-d.docusign.com"}, NO_KEY, id="aud with scheme"),
        pytest.param({"aud": "account-d.docusign.com/"}, NO_KEY, id="aud with slash"),
        pytest.param({"aud": ["account-d.docusign.com"]}, NO_KEY, id="aud is a list"),
        pytest.param({"aud": None}, NO_KEY, id="no aud"),
        pytest.param({"key": "k" * 32, "algorithm": "HS256"}, NO_KEY, id="HS256"),
        pytest.param({"algorithm": "PS256"}, NO_KEY, id="PS256"),
        pytest.param({"key": None, "algorithm": "none"}, NO_KEY, id="unsigned"),
        pytest.param({"aud": "account.docusign.com"}, NO_ISSUER, id="the other environment"),
        pytest.param({"iss": JOE}, NO_ISSUER, id="unknown key"),
        pytest.param({"iss": None}, NO_ISSUER, id="no issuer"),
        pytest.param({"exp": NOW}, grant_error("expired_grant"), id="expired"),
    ],
)
def test_each_fault_of_an_assertion_has_its_verbatim_answer(server: AccountServer, changes: dict[str, Any], body: bytes) -> None:
    server.consent(JANE, CLIENT, BOTH)
    answer = ask(server, assertion(**changes))

    assert (answer.status_code, answer.content) == (400, body)


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ({"grant_type": "jwt"}, grant_error("unsupported_grant_type")),
        ({"data": {}}, grant_error("unsupported_grant_type")),
        ({"data": None, "json": {"grant_type": JWT_GRANT}}, grant_error("unsupported_grant_type")),
        ({"data": {"grant_type": JWT_GRANT}}, b'{"error":"invalid_request"}'),
        ({"signed": "not.a.jwt"}, b'{"error":"invalid_grant"}'),
        ({"signed": ""}, b'{"error":"invalid_grant"}'),
        ({"signed": "é" * 40}, b'{"error":"invalid_grant"}'),
    ],
)
def test_each_fault_of_a_form_has_its_verbatim_answer(server: AccountServer, options: dict[str, Any], body: bytes) -> None:
    answer = ask(server, **options)

    assert (answer.status_code, answer.content) == (400, body)


def test_of_several_faults_the_first_check_speaks(server: AccountServer) -> None:
    """Everything is wrong; then one thing after the other is put right, in the order of the checks."""
    wrong: dict[str, Any] = {"iss": JOE, "key": STRANGER, "nbf": NOW + 9, "exp": NOW - 1, "sub": "jane"}
    seen = [ask(server, assertion(**wrong), grant_type="x").json(), ask(server, "x").json()]
    for change in ({}, {"iss": CLIENT}, {"key": KEY}, {"nbf": None}, {"exp": NOW + 1}, {"sub": GONE}, {"sub": JANE}):
        wrong |= change
        seen.append(ask(server, assertion(**wrong)).json())

    assert [answer.get("error_description", answer["error"]) for answer in seen] == [
        "unsupported_grant_type",
        "invalid_grant",
        "issuer_not_found",
        "no_valid_keys_or_signatures",
        "no_valid_keys_or_signatures",
        "expired_grant",
        "invalid_subject",
        "user_not_found",
        "consent_required",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"key": OTHER_KEY}, id="another key pair"),
        pytest.param({"exp": NOW + 20_000_000}, id="longer than an hour"),
        pytest.param({"iat": None}, id="no iat"),
        pytest.param({"iat": NOW + 5}, id="iat a little ahead"),
        pytest.param({"nbf": NOW}, id="nbf now"),
        pytest.param({"scope": "impersonation signature"}, id="scopes in any order"),
        pytest.param({"scope": None}, id="no scope"),
        pytest.param({"sub": JANE.upper(), "iss": CLIENT.upper()}, id="upper case"),
    ],
)
def test_what_docusign_lets_pass_is_let_pass(server: AccountServer, changes: dict[str, Any]) -> None:
    server.consent(JANE, CLIENT, BOTH)
    answer = ask(server, assertion(**changes))

    assert (answer.status_code, answer.json()["token_type"]) == (200, "Bearer")


@pytest.mark.parametrize("subject", [None, ""])
def test_without_a_subject_the_token_is_an_applications(server: AccountServer, subject: str | None) -> None:
    answer = ask(server, assertion(sub=subject))

    assert (answer.status_code, answer.json()["token_type"], answer.json()["expires_in"]) == (200, "Application", 28800)


@pytest.mark.parametrize(
    ("consented", "asked"), [(["signature"], "signature"), (["impersonation"], "signature"), (BOTH, "signature click.manage")]
)
def test_consent_must_cover_every_scope_and_impersonation(server: AccountServer, consented: list[str], asked: str) -> None:
    server.consent(JANE, CLIENT, consented)
    server.consent(JOE, CLIENT, [*BOTH, "click.manage"])

    assert ask(server, assertion(scope=asked)).json() == {"error": "consent_required"}
    assert ask(server, assertion(scope=asked, sub=JOE)).status_code == 200


def test_the_clock_decides_what_has_expired(server: AccountServer, clock: Clock) -> None:
    server.consent(JANE, CLIENT, BOTH)
    before = ask(server)
    clock.now += 3000

    assert (before.status_code, ask(server).content) == (200, grant_error("expired_grant"))


def test_revoking_ends_the_next_grant_but_no_live_token(
    server: AccountServer, clock: Clock, http_session: requests.Session
) -> None:
    server.consent(JANE, CLIENT, BOTH)
    http_session.headers["Authorization"] = f"Bearer {ask(server).json()['access_token']}"
    server.revoke(JANE, CLIENT)
    refused = ask(server)
    live = http_session.get(f"{server.url}/oauth/userinfo").json()
    clock.now += 3600
    dead = http_session.get(f"{server.url}/oauth/userinfo")

    assert refused.json() == {"error": "consent_required"}
    assert {live["sub"], live["email"], live["name"]} == {JANE, "jane@example.com", "Jane van Dyke"}
    assert (live["given_name"], live["family_name"], live["accounts"][0]["is_default"]) == ("Jane", "van Dyke", True)
    assert (dead.status_code, dead.json()["error"]) == (401, "internal_server_error")


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}])
def test_userinfo_refuses_what_it_did_not_issue(
    server: AccountServer, http_session: requests.Session, header: dict[str, str]
) -> None:
    answer = http_session.get(f"{server.url}/oauth/userinfo", headers=header)

    assert (answer.status_code, list(answer.json())) == (401, ["error", "reference_id"])


# Faults


@pytest.mark.parametrize(
    "canned",
    [
        CannedAnswer(500),
        CannedAnswer(500, b'{"error":"consent_required"}', {"Content-Type": "application/json"}),
        json_answer(400, error="internal_server_error", reference_id="x"),
        CannedAnswer(429, b"", {"Retry-After": "17"}),
        CannedAnswer(429),
        CannedAnswer(444),
        CannedAnswer(200, b"<html>Sign in to the guest network</html>", {"Content-Type": "text/html"}),
        CannedAnswer(307, b"", {"Location": "http://127.0.0.1:1/elsewhere"}),
    ],
)
def test_a_canned_answer_arrives_to_the_letter(server: AccountServer, canned: CannedAnswer) -> None:
    server.faults.answer_all = canned
    answer = ask(server)

    assert (answer.status_code, answer.content) == (canned.status, canned.body)
    assert canned.headers.items() <= answer.headers.items()
    assert ("Content-Type" in answer.headers) == ("Content-Type" in canned.headers)


def test_a_compressed_or_cut_answer_is_sent_as_given(server: AccountServer) -> None:
    body = gzip.compress(b'{"error":"consent_required"}')
    server.faults.coming.append(CannedAnswer(400, body, {"Content-Encoding": "gzip"}))
    server.faults.coming.append(CannedAnswer(400, b'{"error":', {"Content-Length": "28", "Connection": "close"}))

    with ask(server, stream=True) as compressed:
        assert compressed.raw.read(decode_content=False) == body
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        ask(server)


def test_the_next_request_a_user_and_everybody_in_that_order(server: AccountServer) -> None:
    server.faults.coming.extend([CannedAnswer(501), CannedAnswer(502)])
    server.faults.answers[JANE] = CannedAnswer(503)
    server.faults.answer_all = CannedAnswer(504)
    seen = [ask(server).status_code for _ in range(3)] + [ask(server, assertion(sub=JOE)).status_code]
    server.faults.answers.clear()
    server.faults.answer_all = None

    assert seen == [501, 502, 503, 504]
    assert ask(server).json() == {"error": "consent_required"}


def test_a_dropped_connection_brings_no_answer_and_the_next_one_does(server: AccountServer) -> None:
    server.faults.coming.append(DROPPED)

    with pytest.raises(requests.ConnectionError):
        ask(server)
    assert ask(server).status_code == 400
    assert [request.status for request in server.requests] == [0, 400]


def test_latency_holds_an_answer_back(server: AccountServer) -> None:
    server.faults.latency = 5

    with pytest.raises(requests.ReadTimeout):
        ask(server, timeout=0.1)


def test_the_log_tells_who_asked_and_what_was_answered_but_no_secret(server: AccountServer) -> None:
    server.consent(JANE, CLIENT, BOTH)
    signed = assertion()
    token = ask(server, signed).json()["access_token"]
    ask(server, assertion(sub=JOE))
    ask(server, "nonsense")

    assert server.requests == [
        TokenRequest(NOW, JANE, 200, b""),
        TokenRequest(NOW, JOE, 400, b'{"error":"consent_required"}'),
        TokenRequest(NOW, "", 400, b'{"error":"invalid_grant"}'),
    ]
    assert not [secret for secret in (signed, token) if secret in repr(vars(server))]


# The connection


def test_one_connection_serves_many_requests_even_those_whose_body_nobody_wanted(server: AccountServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port or 0)
    answers = []
    for path in ("/nowhere", "/oauth/token", "/oauth/token"):
        connection.request("POST", path, b"x" * 100_000)
        with connection.getresponse() as answer:
            answers.append((answer.status, answer.will_close, len(answer.read()) > 0))
    connection.close()

    assert answers == [(405, False, True), (400, False, True), (400, False, True)]


def test_leaving_does_not_wait_for_clients() -> None:
    with soon(), AccountServer() as server:
        server.faults.latency = 2 * PATIENCE
        idle = connected(server)
        waiting = http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port or 0)
        waiting.request("POST", "/oauth/token", b"")
        time.sleep(0.1)

    with idle:
        waiting.close()
        assert idle.recv(1) == b""


def test_nothing_is_printed_or_logged(
    server: AccountServer, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    ask(server)
    with connected(server) as client:
        client.sendall(b"nonsense\r\n\r\n")
        refused = client.recv(1000)

    assert b"400" in refused
    assert (capfd.readouterr(), caplog.messages) == (("", ""), [])


def test_a_port_that_is_taken_is_said_plainly(server: AccountServer, tmp_path: Path) -> None:
    port = urlsplit(server.url).port or 0

    for second in (AccountServer(port=port), MailCatcher(tmp_path, port=port)):
        with pytest.raises(UsageError, match=f"127.0.0.1:{port} cannot be used: Address already in use"):
            second.__enter__()


def test_tls_is_served_and_a_client_that_distrusts_it_or_says_nothing_harms_nobody() -> None:
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)

    with AccountServer(tls=tls) as server, authority.cert_pem.tempfile() as bundle, connected(server):
        with pytest.raises(requests.exceptions.SSLError):
            ask(server)
        assert server.url.startswith("https://")
        assert ask(server, verify=bundle).status_code == 400


# The pages


def consent_link(server: AccountServer, scope: str = "signature%20impersonation", **changes: str) -> str:
    """The link as it stands in a mail; `scope` is already encoded."""
    parameters = {"response_type": "code", "client_id": CLIENT, "redirect_uri": THANKS, "state": "a b&c"} | changes
    return f"{server.url}/oauth/auth?scope={scope}&{urlencode(parameters)}"


def log_in(session: requests.Session, page: requests.Response, login: str) -> requests.Response:
    """Fill in the log-in page."""
    onward = re.search('name="continue" value="([^"]*)"', page.text)
    assert onward
    form = {"login": login, "continue": html.unescape(onward[1])}
    answer = session.post(urljoin(page.url, "/login"), data=form, allow_redirects=False)
    if not answer.is_redirect:
        return answer
    return session.get(urljoin(page.url, answer.headers["Location"]), allow_redirects=False)


def returned(answer: requests.Response) -> dict[str, list[str]]:
    """The query that the application gets back."""
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(THANKS)
    return parse_qs(urlsplit(answer.headers["Location"]).query)


def test_log_in_accept_and_the_probe_is_granted(server: AccountServer, http_session: requests.Session) -> None:
    login = http_session.get(consent_link(server))
    screen = log_in(http_session, login, "Jane@Example.com")
    before = ask(server).status_code
    back = returned(http_session.post(screen.url, data={"decision": "accept"}, allow_redirects=False))

    assert [text in screen.text for text in ("Contract Sender", "jane@example.com", "Act in your name while you are away")]
    assert (list(back), back["state"], before) == (["code", "state"], ["a b&c"], 400)
    assert server.consented(JANE, CLIENT) == set(BOTH)
    assert ask(server).status_code == 200


def test_declining_records_nothing_and_says_access_denied(server: AccountServer, http_session: requests.Session) -> None:
    screen = log_in(http_session, http_session.get(consent_link(server)), JANE)
    back = returned(http_session.post(screen.url, data={"decision": "decline"}, allow_redirects=False))

    assert back == {"error": ["access_denied"], "state": ["a b&c"]}
    assert server.consented(JANE, CLIENT) == frozenset()


def test_who_has_consented_sees_no_screen_until_a_scope_is_new(server: AccountServer, http_session: requests.Session) -> None:
    server.consent(JANE, CLIENT, BOTH)
    silent = log_in(http_session, http_session.get(consent_link(server)), JANE)
    again = http_session.get(consent_link(server, "signature+impersonation"), allow_redirects=False)
    new_scope = http_session.get(consent_link(server, "signature%20click.send%20impersonation"), allow_redirects=False)

    assert "code" in returned(silent)
    assert "code" in returned(again)
    assert (new_scope.status_code, "click.send" in new_scope.text) == (200, True)


def test_consent_is_recorded_for_whoever_is_logged_in(server: AccountServer, http_session: requests.Session) -> None:
    log_in(http_session, http_session.get(consent_link(server)), JOE)
    http_session.post(consent_link(server), data={"decision": "accept"}, allow_redirects=False)

    assert (server.consented(JOE, CLIENT), server.consented(JANE, CLIENT)) == (frozenset(BOTH), frozenset())


def test_prompt_login_asks_even_those_who_are_logged_in(server: AccountServer, http_session: requests.Session) -> None:
    server.consent(JANE, CLIENT, BOTH)
    log_in(http_session, http_session.get(consent_link(server)), JANE)
    asked = http_session.get(consent_link(server, prompt="login"), allow_redirects=False)

    assert (asked.status_code, "Log in" in asked.text) == (200, True)
    assert "code" in returned(log_in(http_session, asked, JANE))


@pytest.mark.parametrize(
    ("scope", "granted"),
    [
        ("signature%20impersonation", set(BOTH)),
        ("signature+impersonation", set(BOTH)),
        ("signature%2Bimpersonation", {"signature"}),
        ("signature%20teleportation%20impersonation", set(BOTH)),
    ],
)
def test_a_plus_that_is_literal_costs_the_second_scope_and_unknown_ones_are_dropped(
    server: AccountServer, http_session: requests.Session, scope: str, granted: set[str]
) -> None:
    screen = log_in(http_session, http_session.get(consent_link(server, scope)), JANE)
    http_session.post(screen.url, data={"decision": "accept"}, allow_redirects=False)

    assert server.consented(JANE, CLIENT) == granted


@pytest.mark.parametrize("redirect_uri", [f"{THANKS}/", THANKS.upper(), f"{THANKS}?x=1", ""])
def test_a_redirect_uri_must_be_registered_to_the_letter(
    server: AccountServer, http_session: requests.Session, redirect_uri: str
) -> None:
    answer = http_session.get(consent_link(server, redirect_uri=redirect_uri), allow_redirects=False)

    assert answer.status_code == 400
    assert "The redirect URI is not registered properly with Docusign" in answer.text


@pytest.mark.parametrize("changes", [{"client_id": "{client_id}"}, {"response_type": "x"}, {"scope": "teleportation"}])
def test_a_link_that_is_wrong_otherwise_ends_on_a_page(
    server: AccountServer, http_session: requests.Session, changes: dict[str, str]
) -> None:
    answer = http_session.get(consent_link(server, **changes), allow_redirects=False)

    assert (answer.status_code, "Something is wrong with this link" in answer.text) == (400, True)


def test_a_registered_query_is_kept_and_a_token_comes_in_the_fragment(
    server: AccountServer, http_session: requests.Session
) -> None:
    server.consent(JANE, CLIENT, BOTH)
    plain = log_in(http_session, http_session.get(consent_link(server, redirect_uri=f"{THANKS}/?a=1")), JANE)
    token = http_session.get(consent_link(server, response_type="token"), allow_redirects=False)

    assert list(returned(plain)) == ["a", "code", "state"]
    assert token.headers["Location"].startswith(f"{THANKS}#access_token=")


def test_an_address_that_two_users_share_is_chosen_by_user_id(server: AccountServer, http_session: requests.Session) -> None:
    server.add_person(Person(NOBODY, "jane@example.com"))
    asked = log_in(http_session, http_session.get(consent_link(server)), "jane@example.com")
    unknown = log_in(http_session, asked, "gone@example.com")

    assert [user_id in asked.text for user_id in (JANE, NOBODY, JOE)] == [True, True, False]
    assert "There is no such user" in unknown.text
    assert "asks for your permission" in log_in(http_session, asked, NOBODY).text


def test_a_login_leads_nowhere_else(server: AccountServer, http_session: requests.Session) -> None:
    answer = http_session.post(f"{server.url}/login", data={"login": JANE, "continue": "//example.org/"}, allow_redirects=False)

    assert (answer.status_code, "Sandbox" in answer.text) == (400, True)


def test_connected_apps_lists_what_was_consented_and_revokes_it(server: AccountServer, http_session: requests.Session) -> None:
    server.consent(JANE, CLIENT, BOTH)
    listed = log_in(http_session, http_session.get(f"{server.url}/me/appconsent"), JANE)
    after = http_session.post(f"{server.url}/me/appconsent", data={"client_id": CLIENT})

    assert ("Contract Sender" in listed.text, "impersonation signature" in listed.text) == (True, True)
    assert ("Contract Sender" in after.text, "None." in after.text) == (False, True)
    assert ask(server).json() == {"error": "consent_required"}


@pytest.mark.parametrize("query", ["?code=x&state=y", "?error=access_denied", ""])
def test_the_thank_you_page_is_a_file_as_on_any_web_server(
    server: AccountServer, http_session: requests.Session, query: str
) -> None:
    answer = http_session.get(f"{server.url}/thanks{query}")

    assert answer.text == server.site["/thanks"]
    assert http_session.get(f"{server.url}/thanks/more").status_code == 404


def test_names_are_text_not_markup(server: AccountServer, http_session: requests.Session) -> None:
    server.add_application(Application(CLIENT, "<script>alert(1)</script>", (), (THANKS,)))

    assert "<script>" not in log_in(http_session, http_session.get(consent_link(server)), JANE).text


# The mail catcher


@pytest.fixture
def catcher(tmp_path: Path) -> Iterator[MailCatcher]:
    with MailCatcher(tmp_path / "mails") as catcher:
        yield catcher


def send(catcher: MailCatcher, content: bytes, *recipients: str) -> dict[str, tuple[int, bytes]]:
    with smtplib.SMTP("127.0.0.1", catcher.port, timeout=5) as client:
        return client.sendmail("from@example.com", recipients or ("jane@example.com",), content)


AWKWARD = b"Subject: =?utf-8?q?=C3=A9?=\r\nX-Odd:\t folded\r\n  again \r\n\r\n.dots\r\n..\r\n\r\ncaf\xe9 \x00\r\n\r\n"


def test_the_bytes_are_kept_beneath_the_envelope(catcher: MailCatcher) -> None:
    send(catcher, AWKWARD, "jane@example.com", "joe@example.com")
    (message,) = catcher.messages

    assert (message.mail_from, message.rcpt_tos) == ("from@example.com", ("jane@example.com", "joe@example.com"))
    assert message.content == AWKWARD
    assert message.path.read_bytes() == (
        b"X-Envelope-From: from@example.com\r\nX-Envelope-To: jane@example.com, joe@example.com\r\n" + AWKWARD
    )


def test_a_message_is_on_the_disk_when_it_is_accepted(catcher: MailCatcher, tmp_path: Path) -> None:
    with smtplib.SMTP("127.0.0.1", catcher.port, timeout=5) as client:
        client.ehlo()
        client.mail("from@example.com")
        client.rcpt("jane@example.com")
        before = list((tmp_path / "mails").glob("*"))
        code, _ = client.data(AWKWARD)
        after = [(path.name, path.read_bytes().endswith(AWKWARD)) for path in (tmp_path / "mails").iterdir()]

    assert (before, code, after) == ([], 250, [("0001-jane@example.com.eml", True)])


def test_a_message_that_cannot_be_stored_is_not_accepted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with MailCatcher(tmp_path / "file" / "mails") as catcher:
        with pytest.raises(smtplib.SMTPDataError, match=r"452.*not stored"):
            send(catcher, AWKWARD)
        assert catcher.messages == ()


def test_file_names_are_tame_and_go_on_where_they_were(catcher: MailCatcher, tmp_path: Path) -> None:
    send(catcher, AWKWARD, "../../etc/o'neil+x@example.com")
    (tmp_path / "mails" / "0001-.._.._etc_o_neil+x@example.com.eml").rename(tmp_path / "mails" / "10000-x.eml")
    with MailCatcher(tmp_path / "mails") as later:
        send(later, AWKWARD)

    assert [path.name for path in sorted((tmp_path / "mails").iterdir())] == [
        "10000-x.eml",
        "10001-jane@example.com.eml",
    ]


def test_leaving_the_catcher_does_not_wait_for_clients(tmp_path: Path) -> None:
    with soon(), MailCatcher(tmp_path) as catcher:
        client = socket.create_connection(("127.0.0.1", catcher.port))
        client.recv(100)
    client.close()


# Both together


def test_a_sandbox_is_one_account_server_and_one_mail_catcher(tmp_path: Path) -> None:
    people = [(JANE, "jane@example.com", "Jane"), (JOE, "joe@example.com", "")]
    keys = [KEY.public_key()]
    box = Sandbox(
        people, client_id=CLIENT, application_name="A", public_keys=keys, redirect_uris=[THANKS], folder=tmp_path, clock=Clock()
    )

    with box:
        send(box.mail, AWKWARD)
        box.accounts.consent(JANE, CLIENT, BOTH)
        answers = [ask(box.accounts).status_code, ask(box.accounts, assertion(sub=JOE)).status_code]
        links = [requests.get(consent_link(box.accounts, redirect_uri=uri), timeout=5) for uri in (THANKS, box.thanks_uri)]

    assert (answers, [link.status_code for link in links], len(box.mail.messages)) == ([200, 400], [200, 200], 1)
