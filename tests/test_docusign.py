"""The protocol's pure half: links, assertion, key, and what an answer means."""

import gzip
import importlib
import json
import logging
import os
import re
import string
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import RSAKey

from campaign.config import Docusign
from campaign.docusign import Answer, Signer, admin_consent_url, consent_url, interpret, load_key
from campaign.errors import ConfigError
from campaign.model import Status
from tests.world import CLIENT_ID, pem, private_key, user_id

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
USER = user_id(1)


def docusign(**keys: object) -> Docusign:
    given = {
        "environment": "demo",
        "client_id": CLIENT_ID,
        "private_key_file": "private.pem",
        "redirect_uri": "https://intranet.example.com/docusign/thanks.html",
    }
    return Docusign.model_validate(given | keys)


# --- the links


@pytest.mark.promise(17)
def test_the_consent_url_is_right_to_the_letter() -> None:
    assert consent_url(docusign()) == (
        "https://account-d.docusign.com/oauth/auth?response_type=code&scope=signature%20impersonation"
        f"&client_id={CLIENT_ID}&redirect_uri=https%3A%2F%2Fintranet.example.com%2Fdocusign%2Fthanks.html"
    )


def test_the_consent_url_of_production_differs_in_the_host_alone() -> None:
    demo, production = consent_url(docusign()), consent_url(docusign(environment="production"))

    assert production == demo.replace("account-d.docusign.com", "account.docusign.com")


def test_a_login_can_be_asked_for() -> None:
    assert consent_url(docusign(prompt_login=True)) == consent_url(docusign()) + "&prompt=login"


def test_the_administrators_url_is_right_to_the_letter() -> None:
    assert admin_consent_url(docusign()) == (
        "https://account-d.docusign.com/oauth/auth?response_type=code&scope=openid&admin_consent_scope=signature%20impersonation"
        f"&client_id={CLIENT_ID}&redirect_uri=https%3A%2F%2Fintranet.example.com%2Fdocusign%2Fthanks.html"
    )


@pytest.mark.parametrize(
    "redirect_uri",
    [
        "https://example.com/thanks?from=a+b&to=c%20d",
        "https://example.com/ö/danke",
        "http://127.0.0.1:8080/thanks",
        "https://example.com:8443/a~b_c-d.e/",
    ],
)
def test_the_redirect_uri_arrives_to_the_letter_and_nothing_of_it_stands_bare(redirect_uri: str) -> None:
    url = consent_url(docusign(redirect_uri=redirect_uri))
    escaped = url.partition("&redirect_uri=")[2]

    assert parse_qs(urlsplit(url).query)["redirect_uri"] == [redirect_uri]
    assert re.fullmatch(r"[A-Za-z0-9_.~-]|(?:[A-Za-z0-9_.~-]|%[0-9A-F]{2})+", escaped)


SCOPES = st.lists(st.text(string.ascii_lowercase + "_.:-", min_size=1, max_size=12), min_size=1, max_size=4, unique=True).filter(
    lambda scopes: not {"impersonation", "openid", "extended", "cors"} & set(scopes)
)


@given(SCOPES, st.booleans())
def test_links_and_assertion_ask_for_one_and_the_same_scope_and_never_with_a_plus(scopes: list[str], prompt_login: bool) -> None:
    config = docusign(scopes=[*scopes, "impersonation"], prompt_login=prompt_login)
    individual, administrator = consent_url(config), admin_consent_url(config)
    asked = {
        dict(parse_qsl(urlsplit(individual).query))["scope"],
        dict(parse_qsl(urlsplit(administrator).query))["admin_consent_scope"],
        claims_of(Signer(config, private_key()).assertion(USER, NOW))["scope"],
    }

    assert asked == {" ".join([*scopes, "impersonation"])}
    assert "+" not in individual + administrator
    assert "%2B" not in individual + administrator
    assert individual.count("%20") == len(scopes)


@pytest.mark.case(29)
@pytest.mark.parametrize("environment", ["demo", "production"])
def test_links_token_server_and_audience_are_of_one_environment(environment: str) -> None:
    config = docusign(environment=environment)
    hosts = {
        urlsplit(consent_url(config)).hostname,
        urlsplit(admin_consent_url(config)).hostname,
        urlsplit(config.server).hostname,
    }

    assert hosts == {claims_of(Signer(config, private_key()).assertion(USER, NOW))["aud"]}


# --- the assertion, as joserfc reads it


def checked(assertion: str) -> jws.CompactSignature:
    return jws.deserialize_compact(assertion, RSAKey.import_key(private_key().public_key()), algorithms=["RS256"])


def claims_of(assertion: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(checked(assertion).payload)
    return claims


def test_the_assertion_says_who_asks_for_whom_and_no_more() -> None:
    seconds = int(NOW.timestamp())
    assertion = checked(Signer(docusign(), private_key()).assertion(USER, NOW))

    assert assertion.headers() == {"alg": "RS256", "typ": "JWT"}
    assert json.loads(assertion.payload) == {
        "iss": CLIENT_ID,
        "sub": USER,
        "aud": "account-d.docusign.com",
        "scope": "signature impersonation",
        "iat": seconds - 300,
        "exp": seconds + 300,
    }


def test_the_audience_is_the_environments_also_where_another_server_is_asked() -> None:
    config = docusign(environment="production", account_server="http://127.0.0.1:8080")

    assert claims_of(Signer(config, private_key()).assertion(USER, NOW))["aud"] == "account.docusign.com"


def test_the_signature_is_of_the_configured_key() -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    with pytest.raises(Exception, match="bad_signature"):
        checked(Signer(docusign(), other).assertion(USER, NOW))


def test_no_word_of_the_key_is_in_what_the_signer_shows() -> None:
    signer = Signer(docusign(), private_key())
    secret = str(private_key().private_numbers().d)

    assert secret not in repr(signer) + str(signer) + repr(vars(signer))


@pytest.fixture
def esign(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Docusign's Python SDK; a development machine may lack it, the build may not."""
    monkeypatch.setattr("warnings.filters", [])
    if os.environ.get("CI") == "true":
        yield importlib.import_module("docusign_esign")
    else:
        yield cast("ModuleType", pytest.importorskip("docusign_esign", reason="docusign-esign is not installed"))
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # as the program has it: the SDK makes it talk again


def test_docusigns_own_client_claims_the_same(esign: ModuleType) -> None:
    sent: dict[str, str] = {}

    class Listening(esign.ApiClient):  # type: ignore[misc, name-defined]  # the package has no types
        def request(self, method: str, url: str, headers: object, post_params: dict[str, str]) -> SimpleNamespace:
            sent.update(post_params, method=method, url=url, headers=str(headers))
            return SimpleNamespace(data='{"access_token":"x","token_type":"Bearer","expires_in":3600}')

    config = docusign()
    Listening().request_jwt_user_token(config.client_id, USER, config.audience, pem(), 3600, config.scopes)
    theirs, ours = checked(sent["assertion"]), checked(Signer(config, private_key()).assertion(USER, NOW))
    their_claims, our_claims = json.loads(theirs.payload), json.loads(ours.payload)

    assert (sent["method"], sent["url"]) == ("POST", f"{config.server}/oauth/token")
    assert theirs.headers() == ours.headers()
    assert their_claims.keys() == our_claims.keys()
    assert {**their_claims, "iat": 0, "exp": 0} == {**our_claims, "iat": 0, "exp": 0}
    assert {name: type(value) for name, value in their_claims.items()} == {
        name: type(value) for name, value in our_claims.items()
    }


# --- the key


def write_key(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "private.pem"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def pkcs8(key: PrivateKeyTypes, password: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def pkcs1_encrypted() -> bytes:
    return private_key().private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"secret"))


def public() -> bytes:
    return private_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certificate() -> bytes:
    return trustme.CA().cert_pem.bytes()


def assert_one_clear_sentence(error: ConfigError, path: Path, key: bytes = b"") -> None:
    """One line that names the file, advice beside it, and no line of the key in either, nor in what a traceback shows."""
    shown = "".join(traceback.format_exception(error)) + repr(error) + error.advice

    assert str(path) in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < len(str(path)) + 80
    assert error.advice
    assert not any(line in shown for line in key.decode(errors="replace").split() if len(line) > 20)


@pytest.mark.case(30)
@pytest.mark.parametrize(
    "make",
    [
        pem,
        lambda: pkcs8(private_key()),
        lambda: pem().replace(b"\n", b"\r\n"),
        lambda: pkcs8(private_key()).replace(b"\n", b"\r\n"),
        lambda: pem().rstrip(b"\n"),
        lambda: b"\n\n" + pem() + b"\n\n",
    ],
    ids=["PKCS#1", "PKCS#8", "PKCS#1 with CRLF", "PKCS#8 with CRLF", "no line end at the end", "empty lines around it"],
)
def test_the_key_is_taken_as_docusign_or_openssl_write_it(make: Callable[[], bytes], tmp_path: Path) -> None:
    key = load_key(write_key(tmp_path, make()))

    assert key.private_numbers() == private_key().private_numbers()


BAD_KEYS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "holds no private key"),
    "no PEM": (lambda: b"hello\n", "holds no private key"),
    "binary": (lambda: bytes(range(256)) * 8, "holds no private key"),
    "DER": (lambda: private_key().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), "holds no private key"),
    "public": (public, "holds a public key"),
    "certificate": (certificate, "holds no private key"),
    "EC": (lambda: pkcs8(ec.generate_private_key(ec.SECP256R1())), "not RSA"),
    "Ed25519": (lambda: pkcs8(ed25519.Ed25519PrivateKey.generate()), "not RSA"),
    "1024 bits": (lambda: pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "of 1024 bits"),  # noqa: S505  # it is to be refused
    "PKCS#1 encrypted": (pkcs1_encrypted, "passphrase"),
    "PKCS#8 encrypted": (lambda: pkcs8(private_key(), b"secret"), "passphrase"),
    "line breaks as \\n": (lambda: pem().replace(b"\n", b"\\n"), "line breaks written as"),
    "cut off": (lambda: pem()[:800], "holds no private key"),
    "a letter changed": (lambda: pem()[:200] + b"!" + pem()[201:], "holds no private key"),
}


@pytest.mark.case(30)
@pytest.mark.parametrize("kind", BAD_KEYS)
def test_a_bad_key_is_named_for_what_it_is(kind: str, tmp_path: Path) -> None:
    make, words = BAD_KEYS[kind]
    content = make()
    path = write_key(tmp_path, content)
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        load_key(path)

    assert_one_clear_sentence(caught.value, path, content)


@pytest.mark.case(30)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644])
def test_a_key_that_others_could_reach_is_refused_with_the_command_that_helps(mode: int, tmp_path: Path) -> None:
    path = write_key(tmp_path, pem(), mode)
    with pytest.raises(ConfigError, match=f"mode {mode:04o}") as caught:
        load_key(path)

    assert caught.value.advice == f"chmod 600 {path}"
    assert_one_clear_sentence(caught.value, path, pem())


@pytest.mark.case(30)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_key_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = write_key(tmp_path, pem())
    os.chown(path, 65533, -1)
    with pytest.raises(ConfigError, match="belongs to another user") as caught:
        load_key(path)

    assert_one_clear_sentence(caught.value, path, pem())


def test_a_symbolic_link_to_a_key_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link.pem"
    link.symlink_to(write_key(tmp_path, pem()))
    with pytest.raises(ConfigError, match="symbolic link") as caught:
        load_key(link)

    assert_one_clear_sentence(caught.value, link, pem())


@pytest.mark.case(30)
def test_a_directory_is_no_key(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(ConfigError, match="not a plain file") as caught:
        load_key(tmp_path)

    assert_one_clear_sentence(caught.value, tmp_path)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file") as caught:
        load_key(tmp_path / "private.pem")

    assert_one_clear_sentence(caught.value, tmp_path / "private.pem")


@pytest.mark.case(30)
@pytest.mark.timeout(5)
def test_a_fifo_is_no_key_and_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "private.pem"
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigError, match="not a plain file") as caught:
        load_key(path)

    assert_one_clear_sentence(caught.value, path)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1600), st.binary(max_size=40), st.integers(0, 60))
def test_however_a_key_is_damaged_it_is_a_key_or_a_sentence(at: int, put: bytes, drop: int) -> None:
    with TemporaryDirectory() as folder:
        path = write_key(Path(folder), pem()[:at] + put + pem()[at + drop :])
        try:
            key = load_key(path)
        except ConfigError as error:
            assert_one_clear_sentence(error, path, pem())
        else:
            assert key.key_size >= 2048


# --- what an answer means

CONSENT_REQUIRED = Answer(Status.CONSENT_REQUIRED, "")
GRANTED = Answer(Status.GRANTED, "")
TOKEN = "eyJ0eXAiOiJNVCIsImFsZyI6IlJTMjU2In0.marker-of-an-access-token"


def body(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def test_the_one_answer_that_can_cause_mail() -> None:
    assert interpret(400, b'{"error":"consent_required"}') == CONSENT_REQUIRED


def test_consent_is_required_whatever_else_the_object_says_or_how_it_is_spaced() -> None:
    assert interpret(400, b' {\n "error_description": "x", "error" : "consent_required", "n": 1e999 }\n') == CONSENT_REQUIRED


@pytest.mark.parametrize(
    "content",
    [
        b'{"access_token":"x","token_type":"Bearer","expires_in":3600}',
        b'{"access_token":"x","token_type":"bearer","expires_in":28800,"scope":"signature impersonation"}',
        b'{"token_type":"BEARER","access_token":"x"}',
    ],
)
def test_a_bearer_token_is_a_consent(content: bytes) -> None:
    assert interpret(200, content) == GRANTED


@pytest.mark.parametrize(
    "content",
    [
        b'{"access_token":"x","token_type":"Application","expires_in":28800}',
        b'{"error":"consent_required"}',
        b'{"error":"consent_required","access_token":"x","token_type":"Bearer"}',
        b'{"access_token":"x"}',
        b'{"token_type":"Bearer"}',
        b'{"access_token":"","token_type":"Bearer"}',
        b'{"access_token":null,"token_type":"Bearer"}',
        b'{"access_token":1,"token_type":"Bearer"}',
        b'{"access_token":"x","token_type":["Bearer"]}',
        b'{"access_token":"x","token_type":"Bearer "}',
        b"{}",
    ],
)
def test_a_200_without_a_bearer_token_says_nothing_of_the_user(content: bytes) -> None:
    answer = interpret(200, content)

    assert (answer.status, answer.refusal) == (Status.UNKNOWN, "")


@pytest.mark.parametrize("code", [201, 202, 203, 206, 400, 401])
def test_a_bearer_token_is_a_consent_only_under_200(code: int) -> None:
    answer = interpret(code, b'{"access_token":"x","token_type":"Bearer","expires_in":3600}')

    assert (answer.status, answer.refusal) == (Status.UNKNOWN, "")


@pytest.mark.parametrize("description", ["user_not_found", "invalid_subject", "User_Not_Found", " user_not_found "])
def test_a_user_whom_docusign_does_not_know_is_that_users_own_matter(description: str) -> None:
    answer = interpret(400, body(error="invalid_grant", error_description=description))

    assert answer == Answer(Status.USER_NOT_FOUND, description.strip().lower())


REFUSALS = [
    (
        b'{"error":"invalid_grant","error_description":"no_valid_keys_or_signatures"}',
        "no_valid_keys_or_signatures",
        "private_key_file",
    ),
    (b'{"error":"invalid_grant","error_description":"issuer_not_found"}', "issuer_not_found", "client_id"),
    (b'{"error":"invalid_grant","error_description":"Issuer_not_found"}', "issuer_not_found", "environment"),
    (b'{"error":"invalid_grant","error_description":"expired_grant"}', "expired_grant", "clock"),
    (b'{"error":"invalid_grant","error_description":"unsupported_grant_type"}', "unsupported_grant_type", "proxy"),
    (b'{"error":"unsupported_grant_type"}', "unsupported_grant_type", "proxy"),
    (b'{"error":"invalid_grant"}', "invalid_grant", "client_id"),
    (b'{"error":"invalid_grant","error_description":""}', "invalid_grant", "client_id"),
    (b'{"error":"invalid_grant","error_description":null}', "invalid_grant", "client_id"),
    (b'{"error":"invalid_request"}', "invalid_request", "proxy"),
    (b'{"error":"invalid_request","error_description":"whatever it says"}', "invalid_request", "proxy"),
    (b'{"error":"invalid_scope"}', "invalid_scope", "scopes"),
    (b'{"error":"invalid_client"}', "invalid_client", "client_id"),
    (b'{"error":"invalid_grant","error_description":"unauthorized_client"}', "unauthorized_client", "integration key"),
]


@pytest.mark.case(25)
@pytest.mark.parametrize(("content", "detail", "place"), REFUSALS)
def test_a_refusal_of_the_app_names_the_place_to_look_at(content: bytes, detail: str, place: str) -> None:
    answer = interpret(400, content)

    assert (answer.status, answer.detail) == (Status.UNKNOWN, detail)
    assert place in answer.refusal


@pytest.mark.parametrize("code", [300, 301, 302, 303, 304, 307, 308, 399])
def test_a_redirect_stops_the_run_whatever_it_holds(code: int) -> None:
    answers = [interpret(code, content) for content in (b"", b'{"error":"consent_required"}', b"<html>")]

    assert all(answer.status is Status.UNKNOWN and "redirect" in answer.refusal for answer in answers)


HUGE = b"9" * 100_000
NO_JSON_OBJECTS = {
    "empty": b"",
    "HTML": b"<!DOCTYPE html><html><body>consent_required</body></html>",
    "plain text": b"consent_required",
    "a string": b'"consent_required"',
    "an array": b'[{"error":"consent_required"}]',
    "null": b"null",
    "a number": b"400",
    "a huge number": HUGE,
    "cut off": b'{"error":"consent_required"',
    "something behind it": b'{"error":"consent_required"}{}',
    "single quotes": b"{'error':'consent_required'}",
    "a key twice": b'{"error":"consent_required","error":"consent_required"}',
    "a key twice with two meanings": b'{"error":"invalid_grant","error":"consent_required"}',
    "a key twice further down": b'{"error":"consent_required","x":{"a":1,"a":2}}',
    "a BOM": b'\xef\xbb\xbf{"error":"consent_required"}',
    "UTF-16": '{"error":"consent_required"}'.encode("utf-16"),
    "UTF-16 without a BOM": '{"error":"consent_required"}'.encode("utf-16-le"),
    "UTF-32": '{"error":"consent_required"}'.encode("utf-32"),
    "latin-1": '{"error":"consent_required","x":"é"}'.encode("latin-1"),
    "NaN": b'{"error":"consent_required","x":NaN}',
    "Infinity": b'{"error":"consent_required","x":-Infinity}',
    "deeply nested arrays": b"[" * 200_000,
    "deeply nested arrays, closed": b"[" * 200_000 + b"]" * 200_000,
    "deeply nested objects": b'{"a":' * 200_000,
    "deeply nested in an object": b'{"error":"consent_required","x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "gzip": gzip.compress(b'{"error":"consent_required"}'),
    "a NUL": b'{"error":"consent_required"}\0',
}


@pytest.mark.parametrize("kind", NO_JSON_OBJECTS)
@pytest.mark.parametrize("code", [200, 201, 204, 400, 401, 404, 444])
def test_what_is_no_json_object_is_not_docusigns_answer_and_stops_the_run(code: int, kind: str) -> None:
    answer = interpret(code, NO_JSON_OBJECTS[kind])

    assert answer.status is Status.UNKNOWN
    assert "not Docusign's" in answer.refusal


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504, 599, 999])
def test_whatever_a_transient_answer_holds_it_is_unknown_and_stops_nothing(code: int) -> None:
    contents = [b"", b'{"error":"consent_required"}', body(access_token="x", token_type="Bearer"), REFUSALS[0][0], b"<html>"]

    assert {interpret(code, content) for content in contents} == {Answer(Status.UNKNOWN, f"HTTP {code}")}


@pytest.mark.parametrize(
    "content",
    [
        b'{"error":"Consent_Required"}',
        b'{"error":"CONSENT_REQUIRED"}',
        b'{"error":"consent_required "}',
        b'{"error":" consent_required"}',
        b'{"error":"consent_required\\u0000"}',
        b'{"error":"consent_required\\n"}',
        b'{"error":["consent_required"]}',
        b'{"error":{"consent_required":true}}',
        b'{"error":true}',
        b'{"error":null}',
        b'{"Error":"consent_required"}',
        b'{"error_description":"consent_required"}',
        b'{"error":"invalid_thing","error_description":"consent_required"}',
        b'{"error":"invalid_grant","error_description":"consent_required"}',
        b'{"errors":[{"error":"consent_required"}]}',
        b'{"error":"user_not_found"}',
        b'{"error":"internal_server_error","reference_id":"0f5b1c2d-0000-0000-0000-000000000000"}',
        b'{"errorCode":"HOURLY_APIINVOCATION_LIMIT_EXCEEDED","message":"The maximum number of hourly API invocations"}',
        b'{"error":"\\ud800"}',
        b'{"error":' + HUGE + b"}",
        b"{}",
    ],
)
def test_what_only_resembles_a_known_error_is_unknown(content: bytes) -> None:
    answer = interpret(400, content)

    assert (answer.status, answer.refusal) == (Status.UNKNOWN, "")


@pytest.mark.promise(4)
@pytest.mark.parametrize("code", [200, 201, 202, 401, 403, 404, 422, 499])
def test_consent_required_counts_only_under_400(code: int) -> None:
    assert interpret(code, b'{"error":"consent_required"}').status is Status.UNKNOWN


def test_foreign_text_gets_no_further_than_an_error_code() -> None:
    answers = [
        interpret(400, body(error=text, error_description=text))
        for text in ("\x1b[31mred", "a\nb", "<script>", "x" * 41, TOKEN, "\uff43onsent", "_", "a b")
    ]

    assert {answer.detail for answer in answers[:-2]} == {"HTTP 400"}


WORDS = st.sampled_from(
    ["consent_required", "invalid_grant", "user_not_found", "issuer_not_found", "Bearer", "Application", TOKEN, "", "x"]
)
KEYS = st.sampled_from(["error", "error_description", "token_type", "access_token", "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
BODIES = (
    st.binary(max_size=60)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(KEYS, VALUES, max_size=5).map(lambda value: json.dumps(value).encode())
    | st.tuples(st.sampled_from(sorted(NO_JSON_OBJECTS)), st.binary(max_size=3)).map(
        lambda two: NO_JSON_OBJECTS[two[0]][:99] + two[1]
    )
)
CODES = st.sampled_from([200, 400, 401, 429, 500]) | st.integers(-1, 1000)


@pytest.mark.promise(4)
@settings(max_examples=400, deadline=None)
@given(CODES, BODIES)
def test_any_answer_has_a_meaning_and_only_the_two_exact_shapes_say_yes_or_no(code: int, content: bytes) -> None:
    answer = interpret(code, content)
    if answer.status is Status.CONSENT_REQUIRED:
        assert code == 400
        assert json.loads(content)["error"] == "consent_required"
    if answer.status is Status.GRANTED:
        assert code == 200
        assert json.loads(content)["token_type"].lower() == "bearer"
        assert json.loads(content)["access_token"]
        assert "error" not in json.loads(content)

    assert answer.status in {Status.GRANTED, Status.CONSENT_REQUIRED, Status.USER_NOT_FOUND, Status.UNKNOWN}
    assert TOKEN not in repr(answer)
    assert re.fullmatch(r"[\x20-\x7e]{0,60}", answer.detail)


@given(st.dictionaries(KEYS.filter(lambda key: key != "error"), VALUES, max_size=4))
def test_consent_required_is_recognised_in_any_company(company: dict[str, Any]) -> None:
    content = json.dumps(company | {"error": "consent_required"}, allow_nan=True)

    assert (interpret(400, content.encode()) == CONSENT_REQUIRED) == (not re.search(r"NaN|Infinity", content))
