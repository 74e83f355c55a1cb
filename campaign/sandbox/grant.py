"""What a token request is answered (JWT grant, RFC 7523): the checks in their order, canned answers, and faults on request."""

import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
HOSTS = ("account-d.docusign.com", "account.docusign.com")
TOKEN_SECONDS = 3600
APPLICATION_TOKEN_SECONDS = 28800
SKEW_SECONDS = 5  # how far ahead a client's `iat` may be; the real amount is not documented
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
SIGNATURES = jwt.PyJWS()
JSON_HEADERS = {
    "Cache-Control": "no-cache",
    "Pragma": "no-cache",
    "Content-Type": "application/json; charset=utf-8",
    "Expires": "-1",
    "X-DocuSign-Node": "DA2DFE179",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}


@dataclass(frozen=True, slots=True)
class Person:
    """A Docusign user. Several may share an e-mail address; one who is not active is not found."""

    user_id: str
    email: str
    name: str = ""
    active: bool = True
    accounts: tuple[str, ...] = ("Sandbox",)  # by name; the first is the default


@dataclass(frozen=True, slots=True)
class Application:
    """An integration key with the public halves of its key pairs and its redirect URIs, which must match to the letter."""

    client_id: str
    name: str
    public_keys: tuple[RSAPublicKey, ...]
    redirect_uris: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CannedAnswer:
    """A whole answer of the token endpoint. Content-Length, Date and the trace token are added where not given."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


DROPPED = CannedAnswer(0)
"""No answer at all: the connection is closed."""


@dataclass(slots=True)
class Faults:
    """What is to go wrong at the token endpoint. May be changed at any time, from any thread.

    The first that applies is answered: the head of `coming` (once), the user's own of `answers`, then `answer_all`.
    """

    latency: float = 0.0  # seconds before every answer
    coming: deque[CannedAnswer] = field(default_factory=deque)  # the next requests, one each
    answers: dict[str, CannedAnswer] = field(default_factory=dict)  # by user id, lower case
    answer_all: CannedAnswer | None = None
    lists: dict[int, CannedAnswer] = field(default_factory=dict)  # by the number, from 1, of the request for a list of users

    def take(self, user_id: str) -> CannedAnswer | None:
        """Return what to answer instead of the truth, or None."""
        try:
            return self.coming.popleft()
        except IndexError:
            return self.answers.get(user_id, self.answer_all)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request to the token endpoint. Neither the assertion nor a token is kept."""

    at: float  # the server's clock
    user_id: str  # the assertion's `sub` as sent, believed or not
    status: int  # 0: the connection was dropped
    body: bytes  # empty where the request succeeded


class _Refused(Exception):
    """A check of the grant failed; carries the answer."""

    def __init__(self, error: str, description: str = "") -> None:
        super().__init__(error, description)
        fields = {"error": error, "error_description": description} if description else {"error": error}
        self.answer = json_answer(400, **fields)


def json_answer(status: int, **fields: Any) -> CannedAnswer:  # noqa: ANN401  # whatever JSON holds
    """Return compact JSON under the headers that the real server was seen to send."""
    return CannedAnswer(status, json.dumps(fields, separators=(",", ":")).encode(), JSON_HEADERS)


@dataclass(frozen=True, slots=True)
class Grants:
    """Answers the token requests, by the people, applications and consents of whoever made it, as they are at that moment."""

    audience: str
    clock: Callable[[], float]
    people: Mapping[str, Person]  # by user id, lower case
    applications: Mapping[str, Application]  # by client id, lower case
    consented: Callable[[str, str], frozenset[str]]  # the scopes, by user id and client id
    secret: bytes = field(repr=False)  # signs access tokens, so that none need be kept

    def answer(self, form: Mapping[str, str]) -> CannedAnswer:
        """Answer a grant. Only the first failing check is ever told; the order matters to whoever reads the answer."""
        try:
            assertion, claims = _parsed(form)
            application = self._issuer(claims)
            _check_signature(assertion, application)
            self._check_claims(claims)
            if claims.get("sub", "") == "":
                return self._bearer("", "Application", APPLICATION_TOKEN_SECONDS)
            person = self._known(claims["sub"])
            scope = str(claims.get("scope", ""))
            self._check_consent(person, application, scope)
            return self._bearer(person.user_id, "Bearer", TOKEN_SECONDS, scope)
        except _Refused as refused:
            return refused.answer

    def _issuer(self, claims: dict[str, Any]) -> Application:
        application = self.applications.get(str(claims.get("iss")).lower())
        elsewhere = claims.get("aud") != self.audience and claims.get("aud") in HOSTS
        if application is None or elsewhere:
            raise _Refused("invalid_grant", "issuer_not_found")
        return application

    def _check_claims(self, claims: dict[str, Any]) -> None:
        now = self.clock()
        exp, nbf, iat = claims.get("exp"), claims.get("nbf", now), claims.get("iat", now)
        times_given = all(isinstance(value, int | float) for value in (exp, nbf, iat))
        if claims.get("aud") != self.audience or not times_given or nbf > now or iat > now + SKEW_SECONDS:
            raise _Refused("invalid_grant", "no_valid_keys_or_signatures")
        if claims["exp"] <= now:
            raise _Refused("invalid_grant", "expired_grant")

    def _known(self, subject: object) -> Person:
        if not isinstance(subject, str) or not GUID.fullmatch(subject):
            raise _Refused("invalid_grant", "invalid_subject")
        person = self.people.get(subject.lower())
        if person is None or not person.active:
            raise _Refused("invalid_grant", "user_not_found")
        return person

    def _check_consent(self, person: Person, application: Application, scope: str) -> None:
        """`impersonation` is implied: it must be consented to, but need not stand in the assertion."""
        if not {*scope.split(), "impersonation"} <= self.consented(person.user_id, application.client_id):
            raise _Refused("consent_required")

    def _bearer(self, user_id: str, kind: str, seconds: int, scope: str = "") -> CannedAnswer:
        return json_answer(200, access_token=self.minted(user_id, seconds, scope), token_type=kind, expires_in=seconds)

    def minted(self, user_id: str, seconds: int, scope: str = "") -> str:
        """Return an access token for this user that is good for so many seconds, and for what these scopes open."""
        return jwt.encode({"sub": user_id, "exp": int(self.clock()) + seconds, "scope": scope}, self.secret, "HS256")

    def bearer_of(self, token: str | None, scope: str = "") -> Person | None:
        """Return whose live access token this is; None too where it is not good for a scope."""
        try:
            claims = jwt.decode(token or "", self.secret, ["HS256"], options={"verify_exp": False})
        except jwt.InvalidTokenError:
            return None
        good = claims["exp"] > self.clock() and (not scope or scope in claims["scope"].split())
        return self.people.get(claims["sub"].lower()) if good else None


def _parsed(form: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return the assertion and its claims, not yet believed."""
    if form.get("grant_type") != JWT_GRANT:
        raise _Refused("invalid_grant", "unsupported_grant_type")
    if "assertion" not in form:
        raise _Refused("invalid_request")
    try:
        return form["assertion"], jwt.decode(form["assertion"], options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise _Refused("invalid_grant") from error


def subject_of(assertion: str) -> str:
    """Return whom an assertion speaks of, not yet believed; "" where it cannot be read or speaks of nobody."""
    try:
        return str(jwt.decode(assertion, options={"verify_signature": False}).get("sub", ""))
    except jwt.InvalidTokenError:
        return ""


def _check_signature(assertion: str, application: Application) -> None:
    """Docusign's own clients send no `kid`, so every key of the application is tried."""
    for key in application.public_keys:
        try:
            SIGNATURES.decode(assertion, key, algorithms=["RS256"])
        except jwt.InvalidTokenError:
            continue
        return
    raise _Refused("invalid_grant", "no_valid_keys_or_signatures")
