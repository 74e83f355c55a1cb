"""Access tokens, fetched by the real libraries from endpoints on loopback: good ones, refusing ones, and ones that lie."""

import hashlib
import json
import re
import subprocess
import sys
import threading
import time
import traceback
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)
from joserfc import jws, jwt
from joserfc.jwk import RSAKey

from campaign.config import Mail
from campaign.errors import CampaignError, ConfigError, ExitCode, RelayRefused, RelayUnreachable
from campaign.sasl import TokenSource, exchange, tokens
from tests.patience import soon
from tests.test_prober import Liar, Peer, http, saying, serving
from tests.token_server import (
    APP_ID,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_ID,
    TENANT,
    TENANT_ID,
    Certificate,
    TokenServer,
    authority,
    certificate_file,
    private,
    service_account,
    service_account_file,
)
from tests.world import pem, private_key

MAILBOX = "contracts@contoso.example"
SECRET = "marker~of-a.client~secret"
ENVIRON = {"APP_SECRET": SECRET}
TOKEN = "marker-of-an-access-token"
GOOD = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3599}


def mail(auth: str, **tables: object) -> Mail:
    given = {"host": "smtp.example.com", "from": MAILBOX, "username": MAILBOX, "auth": auth}
    return Mail.model_validate(given | tables)


def microsoft(url: str, ca_file: Path | None = None, **proof: object) -> Mail:
    proof = proof or {"secret": {"env": "APP_SECRET"}}
    return mail("microsoft", microsoft={"tenant": TENANT, "client_id": APP_ID, "authority": url, "ca_file": ca_file, **proof})


def google(account: Path, ca_file: Path | None = None) -> Mail:
    return mail("google", google={"service_account_file": account, "ca_file": ca_file})


def source_for(provider: str, url: str, folder: Path, ca_file: Path | None = None) -> TokenSource:
    """The tokens of one provider, whose server is at `url`."""
    if provider == "google":
        config = google(service_account_file(folder / "google.json", f"{url}/token"), ca_file)
    elif provider == "certificate":
        config = microsoft(url, ca_file, certificate_file=certificate_file(folder / "app.pem"))
    else:
        config = microsoft(url, ca_file)
    found = tokens(config, ENVIRON)
    assert found
    return found


@pytest.fixture(params=["secret", "google"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def failure(source: Callable[..., str], **how: Any) -> CampaignError:
    with pytest.raises(CampaignError) as caught:
        source(**how)
    return caught.value


def claims(assertion: str, algorithm: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The header and the claims of an assertion whose signature is right."""
    key = RSAKey.import_key(private_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    registry = jws.JWSRegistry(algorithms=[algorithm])
    registry.max_header_length = 4096  # Microsoft's holds the certificate
    token = jwt.decode(assertion, key, registry=registry)
    return token.header, token.claims


# --- what is asked for


@pytest.mark.parametrize("auth", ["none", "password"])
def test_without_xoauth2_there_are_no_tokens(auth: str) -> None:
    assert tokens(mail(auth, password={"env": "APP_SECRET"}), ENVIRON) is None


def test_microsoft_is_asked_as_the_app_with_its_secret(tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        token = source_for("secret", server.url, tmp_path, server.ca_file)()
    (asked,) = server.asked

    assert token == "token-1"
    assert server.discoveries == [f"/{TENANT}/v2.0/.well-known/openid-configuration"]
    assert asked.path == f"/{TENANT_ID}/oauth2/v2.0/token"
    assert asked.fields == {
        "client_id": APP_ID,
        "client_info": "1",
        "client_secret": SECRET,
        "grant_type": "client_credentials",
        "scope": "https://outlook.office365.com/.default",
    }


def test_microsoft_is_asked_with_an_assertion_that_the_certificates_key_has_signed(tmp_path: Path) -> None:
    path = certificate_file(tmp_path / "app.pem")
    der = subprocess.run(["openssl", "x509", "-in", path, "-outform", "DER"], check=True, capture_output=True).stdout
    with TokenServer(tmp_path) as server:
        source = tokens(microsoft(server.url, server.ca_file, certificate_file=path), {})
        assert source
        source()
    (asked,) = server.asked
    header, said = claims(asked.fields["client_assertion"], "PS256")

    assert "client_secret" not in asked.fields
    assert asked.fields["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert said["aud"] == f"{server.url}{asked.path}"
    assert said["iss"] == said["sub"] == APP_ID
    assert 0 < said["exp"] - time.time() <= 600
    assert urlsafe_b64decode(header["x5t#S256"]) == hashlib.sha256(der).digest()
    assert b64decode(header["x5c"][0]) == der


def test_google_is_asked_by_the_service_account_for_the_mailbox(tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        token = source_for("google", server.url, tmp_path, server.ca_file)()
    (asked,) = server.asked
    header, said = claims(asked.fields["assertion"], "RS256")

    assert (token, asked.path) == ("token-1", "/token")
    assert asked.fields.keys() == {"grant_type", "assertion"}
    assert asked.fields["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert header["kid"] == "key-of-the-test"
    assert 0 < said["exp"] - time.time() <= 3600
    assert {key: said[key] for key in ("iss", "sub", "scope", "aud")} == {
        "iss": SERVICE_ACCOUNT,
        "sub": MAILBOX,
        "scope": "https://mail.google.com/",
        "aud": "https://oauth2.googleapis.com/token",
    }


@pytest.mark.parametrize(
    ("url", "scope"),
    [
        ("https://login.microsoftonline.com", "https://outlook.office365.com/.default"),
        ("https://login.microsoftonline.us", "https://outlook.office365.us/.default"),
        ("https://login.partner.microsoftonline.cn", "https://partner.outlook.cn/.default"),
    ],
)
def test_each_cloud_has_its_own_exchange_online(url: str, scope: str) -> None:
    source = tokens(microsoft(url), ENVIRON)

    assert vars(source)["_scopes"] == [scope]


def test_nobody_is_asked_before_the_first_token_is_needed(provider: str, tmp_path: Path) -> None:
    with Liar(saying(b""), serving(authority().issue_cert("127.0.0.1"))) as liar:
        source_for(provider, liar.url, tmp_path)

    assert liar.connections == 0


# --- how long a token is kept


def test_a_token_is_kept_while_it_is_good(provider: str, tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        source = source_for(provider, server.url, tmp_path, server.ca_file)
        given = [source() for _ in range(3)]

    assert given == ["token-1"] * 3
    assert len(server.asked) == 1


def test_a_fresh_token_is_always_a_new_one_and_then_kept(provider: str, tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        source = source_for(provider, server.url, tmp_path, server.ca_file)
        given = [source(fresh=True), source(), source(fresh=True), source()]

    assert given == ["token-1", "token-1", "token-2", "token-2"]


def test_a_fresh_token_comes_also_where_the_old_one_was_refused_a_moment_ago(provider: str, tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        source = source_for(provider, server.url, tmp_path, server.ca_file)
        server.answers += [(400, {"error": "invalid_request"}), (503, {}), (429, {})]
        refused = [failure(source).exit_code for _ in range(3)]
        given = source(fresh=True)

    assert refused == [ExitCode.REFUSED] * 3
    assert given == "token-4"


@pytest.mark.parametrize("lifetime", [0, 200, -1, None, "", "soon", [3600], {}, "NaN"])
def test_a_token_that_soon_expires_or_does_not_say_when_is_not_kept(lifetime: object, provider: str, tmp_path: Path) -> None:
    with TokenServer(tmp_path, lifetime) as server:
        source = source_for(provider, server.url, tmp_path, server.ca_file)
        given = [source(), source()]

    assert given == ["token-1", "token-2"]


@pytest.mark.parametrize("lifetime", ["3600", 3600.5, 10**400, "inf"])
def test_a_lifetime_may_be_written_in_several_ways_but_is_a_day_at_most(lifetime: object, provider: str, tmp_path: Path) -> None:
    with TokenServer(tmp_path, lifetime) as server:
        source = source_for(provider, server.url, tmp_path, server.ca_file)
        given = [source(), source()]

    assert given == ["token-1", "token-1"]


def test_no_connection_stays_open_between_two_tokens(tmp_path: Path) -> None:
    closed = threading.Event()

    def answer_and_wait(peer: Peer) -> bool:
        peer.sock.sendall(http(200, json.dumps(GOOD).encode()))
        if not peer.sock.recv(1) and not peer.liar.over.is_set():
            closed.set()
        return False

    with Liar(answer_and_wait) as liar:
        source_for("google", liar.url, tmp_path)()

        assert closed.wait(5)


def test_an_answer_with_a_retry_after_is_not_repeated_as_a_fresh_one(tmp_path: Path) -> None:
    def answer_with_a_header(peer: Peer) -> None:
        configuration = {"token_endpoint": f"{peer.liar.url}/{TENANT_ID}/oauth2/v2.0/token"}
        content = configuration if peer.request.startswith(b"GET") else GOOD
        peer.sock.sendall(http(200, json.dumps(content).encode(), "Retry-After: 60\r\n"))

    with Liar(answer_with_a_header, serving(authority().issue_cert("127.0.0.1"))) as liar:
        source = source_for("secret", liar.url, tmp_path, TokenServer(tmp_path).ca_file)
        given = [source(), source(fresh=True)]

    assert given == [TOKEN] * 2
    assert sum(request.startswith(b"POST") for request in liar.requests) == 2


def test_threads_that_ask_at_once_share_one_token(provider: str, tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server, ThreadPoolExecutor(8) as threads:
        source = source_for(provider, server.url, tmp_path, server.ca_file)
        given = list(threads.map(lambda _: source(), range(8)))

    assert given == ["token-1"] * 8


# --- refusals


def answer(code: str, error: str = "invalid_client") -> dict[str, str]:
    return {
        "error": error,
        "error_description": f"{code}: words of Microsoft. Trace ID: 0000aaaa-11bb-cccc-dd22-eeeeee333333",
        "trace_id": "0000aaaa-11bb-cccc-dd22-eeeeee333333",
    }


@pytest.mark.parametrize(
    ("code", "why", "then"),
    [
        ("AADSTS7000215", "the client secret is wrong", "its Value, not its Secret ID"),
        ("AADSTS7000222", "the client secret has expired", f"the app {APP_ID} > Certificates & secrets"),
        ("AADSTS700016", "no app with this client_id", "Application (client) ID"),
        ("AADSTS90002", "no such tenant", "Directory (tenant) ID"),
        ("AADSTS900023", "no such tenant", "Directory (tenant) ID"),
        ("AADSTS900382", "belongs to another cloud", "authority"),
        ("AADSTS700027", "the certificate is not registered", "upload the certificate, without the key"),
        ("AADSTS1000502", "the certificate has expired", "make a new key and certificate"),
        ("AADSTS700024", "this machine's clock is wrong", "NTP"),
        ("AADSTS53003", f"a Conditional Access policy blocks the app {APP_ID}", "Service principal sign-ins"),
        ("AADSTS7000112", "the app is disabled", "Enterprise applications"),
        ("AADSTS700025", "the app is a public client", "Authentication"),
        ("AADSTS500011", "this tenant has no Exchange Online", "tenant and authority"),
        ("AADSTS424242", "invalid_client", "https://login.microsoftonline.com/error?code=424242"),
    ],
)
def test_what_microsoft_refuses_is_explained(code: str, why: str, then: str, tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        server.answers.append((401, answer(code)))
        error = failure(source_for("secret", server.url, tmp_path, server.ca_file))

    assert isinstance(error, RelayRefused)
    assert str(error).startswith(f"{server.url} gives no access token: {code} (")
    assert str(error).endswith("); trace 0000aaaa-11bb-cccc-dd22-eeeeee333333")
    assert why in str(error)
    assert then in error.advice


def test_a_tenant_that_does_not_exist_is_explained_where_its_configuration_is_asked_for(tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        server.discovery = (400, answer("AADSTS90002", "invalid_tenant"))
        error = failure(source_for("secret", server.url, tmp_path, server.ca_file))

    assert isinstance(error, RelayRefused)
    assert "AADSTS90002 (there is no such tenant in this cloud)" in str(error)
    assert not server.asked


@pytest.mark.parametrize(
    ("code", "description", "why", "then"),
    [
        (
            "unauthorized_client",
            "Client is unauthorized to retrieve access tokens using this method, or …",
            "may not act",
            "delegation",
        ),
        ("access_denied", "Requested client not authorized.", "may not act", f"client ID {SERVICE_ACCOUNT_ID}"),
        ("invalid_grant", "Invalid email or User ID", "no such mailbox", "[mail] username"),
        ("invalid_grant", "Invalid grant: account not found", "no such mailbox", "[mail] username"),
        ("invalid_grant", "Invalid JWT Signature.", "key was deleted", "make a new JSON key"),
        (
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp",
            "clock is wrong",
            "NTP",
        ),
        ("invalid_grant", "", "or this machine's clock is wrong", "Google Admin console"),
        ("admin_policy_enforced", "", "a policy of the Workspace administrator", f"client ID {SERVICE_ACCOUNT_ID}"),
        ("disabled_client", "", "deleted or disabled", "Service Accounts"),
        ("invalid_scope", "Invalid OAuth scope", "does not give the scope", "Gmail API"),
        ("something_new", "", "it says no more", "Google Cloud console"),
    ],
)
def test_what_google_refuses_is_explained(code: str, description: str, why: str, then: str, tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        server.answers.append((400, {"error": code, "error_description": description}))
        error = failure(source_for("google", server.url, tmp_path, server.ca_file))

    assert isinstance(error, RelayRefused)
    assert str(error).startswith(f"{server.url} gives no access token: {code} (")
    assert why in str(error)
    assert then in error.advice


@pytest.mark.parametrize(
    "content", [{}, {"error": None}, {"error": ["invalid_client"]}, {"error": "\x1b[2J", "error_description": 7}]
)
def test_a_refusal_without_a_code_is_told_by_its_status(content: object, provider: str, tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        server.answers.append((403, content))
        error = failure(source_for(provider, server.url, tmp_path, server.ca_file))

    assert isinstance(error, RelayRefused)
    assert str(error) == f"{server.url} gives no access token: HTTP 403 (it says no more)"


def test_a_token_that_comes_with_an_error_is_none(provider: str, tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        server.answers.append((200, GOOD | {"error": "invalid_request"}))
        error = failure(source_for(provider, server.url, tmp_path, server.ca_file))

    assert isinstance(error, RelayRefused)
    assert "invalid_request" in str(error)


# --- no usable answer


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (500, {}, "HTTP 500"),
        (503, {"error": "invalid_client"}, "HTTP 503"),
        (429, {"error": "invalid_request"}, "HTTP 429"),
        (408, {}, "HTTP 408"),
        (400, {"error": "temporarily_unavailable"}, "temporarily_unavailable"),
        (307, {}, "the answer is a redirect (HTTP 307)"),
        (200, b"<html>sign in to the guest network</html>", "HTTP 200, not JSON"),
        (200, b"", "HTTP 200, not JSON"),
        (200, b"\xff{}", "HTTP 200, not JSON"),
        (200, [], "HTTP 200, not JSON"),
        (200, TOKEN, "HTTP 200, not JSON"),
        (200, b'{"a":' + b"[" * 30_000, "HTTP 200, not JSON"),
        (200, b"{" + b" " * 70_000 + b"}", "answer too large"),
        (200, {}, "the answer holds no Bearer token that can be used"),
    ],
)
def test_an_answer_that_is_none_is_said_in_words(status: int, content: object, said: str, provider: str, tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        server.answers.append((status, content))
        error = failure(source_for(provider, server.url, tmp_path, server.ca_file))

    assert isinstance(error, RelayUnreachable)
    assert str(error) == f"{server.url} gives no access token: {said}"
    assert error.advice


@pytest.mark.parametrize(
    "content",
    [
        {"access_token": ""},
        {"access_token": "a" * 8193},
        {"access_token": "a\x01auth=Bearer b"},
        {"access_token": "a b"},
        {"access_token": "a\n"},
        {"access_token": "tökén"},
        {"access_token": 12},
        {"access_token": {"a": "b"}},
        {"access_token": None},
        {"token_type": "MAC"},
        {"token_type": None},
    ],
)
def test_a_token_that_cannot_be_sent_is_refused(content: dict[str, object], tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        server.answers.append((200, GOOD | content))
        error = failure(source_for("secret", server.url, tmp_path, server.ca_file))

    assert isinstance(error, RelayUnreachable)
    assert "no Bearer token that can be used" in str(error)


def test_the_longest_token_is_taken(provider: str, tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        server.answers.append((200, {"access_token": "~" * 8192, "token_type": "bearer"}))
        token = source_for(provider, server.url, tmp_path, server.ca_file)()

    assert token == "~" * 8192


@pytest.mark.parametrize(
    "endpoint",
    [
        None,
        7,
        "",
        "/token",
        "https://",
        "http://127.0.0.1/t/token",
        "https://127.0.0.1",
        "https://127.0.0.1//",
        "https://h/t t",
        "https://h/\n",
    ],
)
def test_a_tenant_without_a_token_endpoint_is_said_in_words(endpoint: object, tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        server.discovery = (200, {"token_endpoint": endpoint})
        error = failure(source_for("secret", server.url, tmp_path, server.ca_file))

    assert isinstance(error, RelayUnreachable)
    assert str(error).endswith("the tenant's configuration names no token endpoint")


def test_the_secret_goes_to_no_other_server_than_the_authority(tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server, Liar(saying(b"")) as other:
        server.discovery = (200, {"token_endpoint": f"https://127.0.0.1:{other.port}/{TENANT}/oauth2/v2.0/token"})
        error = failure(source_for("secret", server.url, tmp_path, server.ca_file))

    assert isinstance(error, RelayRefused)
    assert f"it points to https://127.0.0.1:{other.port}" in str(error)
    assert "authority" in error.advice
    assert (other.connections, server.asked) == (0, [])


def slowly(peer: Peer) -> None:
    peer.drip(http(200, b"{}" + b" " * 200))


def endlessly(peer: Peer) -> None:
    peer.sock.sendall(http(200, length=10**12))
    peer.flood(b"a" * 1000)


def with_endless_headers(peer: Peer) -> None:
    peer.sock.sendall(b"HTTP/1.1 200 OK\r\n")
    peer.flood(b"X-Header: and another\r\n" * 20)


@pytest.mark.promise(16)
@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (slowly, "timed out"),
        (lambda peer: peer.liar.over.wait(), "timed out"),
        (endlessly, "answer too large"),
        (with_endless_headers, "answer"),
        (lambda _: False, "connection closed without an answer"),
        (saying(b"220 smtp.example.com ESMTP\r\n"), "answer is not HTTP"),
        (saying(http(200, b"{}", length=100)), "timed out"),
        (saying(http(302, headers="Location: https://127.0.0.1:1/\r\n")), "the answer is a redirect (HTTP 302)"),
    ],
)
def test_a_server_that_lies_costs_neither_time_nor_memory(
    lie: Callable[[Peer], object], said: str, provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_SECONDS", 0.5)
    with soon(), TokenServer(tmp_path) as server, Liar(lie, serving(authority().issue_cert("127.0.0.1"))) as liar:
        error = failure(source_for(provider, liar.url, tmp_path, server.ca_file))

    assert isinstance(error, RelayUnreachable)
    assert f"{liar.url} gives no access token: {said}" in str(error)
    assert len(liar.requests) == 1


def test_thirty_seconds_is_the_longest_that_an_exchange_takes() -> None:
    assert exchange._SECONDS == 30


def test_nobody_at_the_other_end_is_said_in_words(provider: str, tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        pass
    error = failure(source_for(provider, server.url, tmp_path, server.ca_file))

    assert isinstance(error, RelayUnreachable)
    assert str(error) == f"{server.url} gives no access token: connection refused"


@pytest.mark.promise(15)
@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (lambda: trustme.CA().issue_cert("127.0.0.1"), "unable to get local issuer certificate"),
        (lambda: authority().issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC)), "certificate has expired"),
        (lambda: authority().issue_cert("example.com"), "IP address mismatch"),
    ],
)
def test_a_server_that_is_not_the_provider_gets_nothing(
    certificate: Callable[[], trustme.LeafCert], reason: str, provider: str, tmp_path: Path
) -> None:
    ca_file = TokenServer(tmp_path).ca_file
    with Liar(saying(b""), serving(certificate())) as liar:
        error = failure(source_for(provider, liar.url, tmp_path, ca_file))

    assert isinstance(error, RelayUnreachable)
    assert f"its TLS certificate cannot be verified: {reason}" in str(error)
    assert re.search(r"\[mail\.(microsoft|google)\] ca_file", error.advice)
    assert liar.requests == []


def test_a_private_authority_is_not_trusted_unless_configured(provider: str, tmp_path: Path) -> None:
    with TokenServer(tmp_path) as server:
        error = failure(source_for(provider, server.url, tmp_path))

    assert "unable to get local issuer certificate" in str(error)
    assert [*server.asked, *server.discoveries] == []


@pytest.mark.promise(15)
@pytest.mark.case(47)
def test_nothing_of_the_environment_leads_elsewhere(provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TokenServer(tmp_path) as server, Liar(saying(b"")) as elsewhere:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, elsewhere.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("MSAL_FORCE_REGION", "westus")
        token = source_for(provider, server.url, tmp_path, server.ca_file)()

    assert token == "token-1"
    assert elsewhere.connections == 0


# --- what is configured


def refused(config: Mail, environ: Mapping[str, str] = ENVIRON) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        tokens(config, environ)
    assert caught.value.advice
    return caught.value


EC_KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
ENCRYPTED = private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"marker-passphrase"))
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  # to be refused
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no private key that can be read"),
        (b"\x30\x82 not PEM", "holds no private key that can be read"),
        (
            pkcs12.serialize_key_and_certificates(b"a", private_key(), Certificate().made(), None, NoEncryption()),
            "holds no private key",
        ),
        (Certificate().pem(), "holds no private key that can be read"),
        (pem().replace(b"MII", b"!!!", 1) + Certificate().pem(), "holds no private key that can be read"),
        (pem(), "holds no certificate that can be read"),
        (pem() + Certificate().pem().replace(b"MII", b"AAA", 1), "holds no certificate that can be read"),
        (ENCRYPTED + Certificate().pem(), "holds a private key that is encrypted with a passphrase"),
        (EC_KEY + Certificate().pem(), "holds a private key that is not RSA"),
        (pem(SMALL) + Certificate(key=SMALL).pem(), "holds an RSA key of 1024 bits; at least 2048 are needed"),
        (pem() + Certificate(key=OTHER).pem(), "holds a certificate that belongs to another private key"),
        (pem() + Certificate(ends=-0.5).pem(), ": the certificate expired on 20"),
        (pem() + Certificate(begins=30).pem(), ": the certificate is not valid before 20"),
    ],
)
def test_a_certificate_file_that_cannot_be_used_is_refused_at_once(content: bytes, said: str, tmp_path: Path) -> None:
    path = private(tmp_path / "app.pem", content)
    error = refused(microsoft("https://127.0.0.1:1", certificate_file=path))

    assert str(error).startswith(f"{path}")
    assert said in str(error)


@pytest.mark.parametrize("order", ["key first", "certificate first", "a chain", "CRLF"])
def test_key_and_certificates_may_stand_in_any_order(order: str, tmp_path: Path) -> None:
    key, own, other = pem(), Certificate().pem(), Certificate(key=OTHER).pem()
    content = {
        "key first": key + own,
        "certificate first": b"Bag Attributes\n" + own + b"Key Attributes\n" + key,
        "a chain": other + key + own,
        "CRLF": (key + own).replace(b"\n", b"\r\n"),
    }[order]

    assert tokens(microsoft("https://127.0.0.1:1", certificate_file=private(tmp_path / "app.pem", content)), {})


@pytest.mark.parametrize("name", ["app.pem", "google.json"])
def test_a_key_that_others_can_read_is_refused(name: str, tmp_path: Path) -> None:
    path = private(tmp_path / name, b"anything")
    path.chmod(0o640)
    config = google(path) if name == "google.json" else microsoft("https://127.0.0.1:1", certificate_file=path)

    assert str(refused(config)) == f"{path} can be read by others (mode 0640)"


@pytest.mark.parametrize("name", ["app.pem", "google.json"])
def test_a_key_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    config = google(path) if name == "google.json" else microsoft("https://127.0.0.1:1", certificate_file=path)

    assert str(refused(config)) == f"{path} cannot be read: No such file or directory"


def test_a_secret_that_is_not_there_is_refused() -> None:
    assert "APP_SECRET is not set" in str(refused(microsoft("https://127.0.0.1:1"), {}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a JSON file as Google makes them"),
        (b"[]", "is not a JSON file as Google makes them"),
        (b'{"type": ', "is not a JSON file as Google makes them"),
        (pem(), "is not a JSON file as Google makes them"),
        ({"installed": {"client_secret": SECRET}}, "is no service account's key: it holds the secret of an OAuth client"),
        ({"type": "authorized_user", "refresh_token": SECRET}, "is no service account's key: it holds the type authorized_user"),
        ({"type": ["service_account"]}, "is no service account's key: it holds no type"),
        ({}, "is no service account's key: it holds no type"),
        (service_account("https://h/t", client_email="", private_key_id=7), "lacks client_email, private_key_id"),
        (service_account("http://oauth2.example.com/token"), ": token_uri must begin with https:// (http:// only on loopback)"),
        (
            service_account("https://user:word@example.com/token"),
            ": token_uri must begin with https:// (http:// only on loopback)",
        ),
        (service_account("https://[::1/token"), ": token_uri must begin with https:// (http:// only on loopback)"),
        (service_account("file:///etc/passwd"), ": token_uri must begin with https:// (http:// only on loopback)"),
        (service_account("https://h/t", private_key="-----BEGIN PRIVATE KEY-----"), "holds no private key that can be read"),
        (service_account("https://h/t", private_key=EC_KEY.decode()), "holds a private key that is not RSA"),
        (service_account("https://h/t", private_key=ENCRYPTED.decode()), "is encrypted with a passphrase"),
    ],
)
def test_a_service_account_file_that_cannot_be_used_is_refused_at_once(content: object, said: str, tmp_path: Path) -> None:
    path = private(tmp_path / "google.json", content if isinstance(content, bytes) else json.dumps(content))
    error = refused(google(path))

    assert str(error).startswith(f"{path}")
    assert said in str(error)
    assert SECRET not in str(error) + error.advice


def test_a_url_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    path = service_account_file(tmp_path / "google.json", "https://exa mple/token")

    assert str(refused(google(path))) == "[mail.google] https://exa mple/token is not a URL"
    assert str(refused(microsoft("https://exa mple"))) == "[mail.microsoft] https://exa mple is not a URL"


def test_a_token_uri_on_loopback_may_do_without_tls(tmp_path: Path) -> None:
    with Liar(saying(http(200, json.dumps(GOOD).encode()))) as liar:
        token = source_for("google", liar.url, tmp_path)()

    assert token == TOKEN


def test_a_ca_file_that_cannot_be_used_is_refused_at_once(provider: str, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"

    with pytest.raises(ConfigError, match=rf"\[mail\.(microsoft|google)\] ca_file {re.escape(str(ca_file))} cannot be used"):
        source_for(provider, "https://127.0.0.1:1", tmp_path, ca_file)


@pytest.mark.parametrize(
    ("name", "module", "said", "advice"),
    [
        ("secret", "msal", 'auth = "microsoft" needs the package msal', "pip install 'campaign[microsoft]'"),
        (
            "google",
            "google.oauth2.service_account",
            'auth = "google" needs the package google-auth',
            "pip install 'campaign[google]'",
        ),
    ],
)
def test_a_library_that_is_missing_is_named(  # noqa: PLR0917  # fixtures
    name: str, module: str, said: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError) as caught:
        source_for(name, "https://127.0.0.1:1", tmp_path)

    assert str(caught.value) == f"[mail] {said}, which is not installed"
    assert caught.value.advice == advice


def test_neither_library_is_loaded_where_it_is_not_needed() -> None:
    program = "import sys, campaign.sasl; print({'msal', 'google.auth', 'google.oauth2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert done.stdout == "set()\n"


# --- secrets


@pytest.mark.parametrize("name", ["secret", "certificate", "google"])
@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, GOOD),
        (200, {"access_token": f"{TOKEN} {TOKEN}", "token_type": "Bearer"}),
        (200, {"access_token": TOKEN, "token_type": TOKEN}),
        (200, {"access_token": TOKEN, "error": TOKEN}),
        (200, TOKEN),
        (200, f"{TOKEN}".encode()),
        (302, TOKEN),
        (400, {"error": SECRET, "error_description": f"AADSTS7000215: {SECRET} {TOKEN}", "trace_id": SECRET}),
        (401, {"error": "invalid_client", "error_description": SECRET, "error_uri": f"https://h/{SECRET}"}),
        (400, {"error": "invalid_grant", "error_description": f"{TOKEN}\n{SECRET}"}),
        (429, TOKEN),
        (500, SECRET.encode()),
    ],
)
def test_no_secret_is_in_anything_that_can_be_shown(  # noqa: PLR0917  # fixtures
    status: int,
    content: object,
    name: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(1)
    shown = list[str]()
    with TokenServer(tmp_path) as server:
        source = source_for(name, server.url, tmp_path, server.ca_file)
        server.answers.append((status, content))
        try:
            source()
        except CampaignError as error:
            shown += [str(error), repr(error), error.advice, *traceback.format_exception(error)]
        shown += [str(source), repr(source), repr(vars(source)), caplog.text, *capfd.readouterr()]
    (asked,) = server.asked
    assertion = (asked.fields.get("client_assertion") or asked.fields.get("assertion") or "").split(".")
    secrets = [SECRET, TOKEN, *filter(None, assertion), *pem().decode().split("\n")[1:-2]]

    assert not [secret for secret in secrets if any(secret in text for text in shown)]
    assert not [record for record in caplog.records if record.name.startswith(("msal", "google", "urllib3"))]


def test_what_is_raised_does_not_carry_the_request_along(provider: str, tmp_path: Path) -> None:
    with Liar(saying(b""), serving(trustme.CA().issue_cert("127.0.0.1"))) as liar:
        error: BaseException | None = failure(source_for(provider, liar.url, tmp_path))
    links = list[BaseException]()
    while error:
        links.append(error)
        error = error.__cause__ or error.__context__

    assert len(links) == 2
    assert not any(hasattr(link, "request") or hasattr(link, "response") for link in links)
