"""Acts for one user who has consented: requests to Docusign's APIs, under a token that lives in memory alone."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from requests import PreparedRequest
from requests.structures import CaseInsensitiveDict

from campaign.config import Docusign
from campaign.docusign.answers import interpret
from campaign.docusign.assertion import Signer
from campaign.docusign.links import consent_url
from campaign.docusign.wire import TokenEndpoint
from campaign.errors import DocusignRefused, DocusignUnreachable, Interrupted
from campaign.https import BadCertificate, Client, NoAnswer, Reply, json_object, prepared
from campaign.model import Status
from campaign.pace import Pace
from campaign.stopping import Stop

_MOST_BYTES = 4 << 20  # of one answer: a page of users may hold some kilobytes of each
_LONGEST_PAUSE = 300.0  # seconds; when Docusign asks for more, another hour must do
_TOO_MANY = {"BURST_APIINVOCATION_LIMIT_EXCEEDED", "HOURLY_APIINVOCATION_LIMIT_EXCEEDED"}  # with HTTP 400 or 429
_OK, _BAD_REQUEST, _TOO_MANY_REQUESTS, _SERVER_ERRORS = 200, 400, 429, 500
_LATER = "the file that is there was left alone; look at Docusign's status page, and try again later"
_WHOSE = "--as must name an administrator who may list these users"


class Acting:
    """GET requests for one user, one at a time, within Docusign's limits. `config.scopes` is what the token is asked for.

    An answer that may be transient is asked for again after each of `back_off` seconds; `burst` seconds make up for a burst. The
    token is asked for by `begin`; it is in no repr, no error and no log, and gone with this object.
    """

    def __init__(  # noqa: PLR0913  # how long it waits
        self,
        config: Docusign,
        signer: Signer,
        clock: Callable[[], datetime],
        stop: Stop,
        *,
        back_off: tuple[float, ...],
        burst: float,
    ) -> None:
        self._config = config
        self._signer = signer
        self._clock = clock
        self._stop = stop
        self._back_off = back_off
        self._burst = burst
        self._pace = Pace((config.probe_burst, 30), (config.probes_per_hour, 3600))
        self._endpoint = TokenEndpoint(config)
        self._client = Client("docusign", config.ca_file, config.timeout, most=_MOST_BYTES)
        self._headers: dict[str, str] = {}

    def __repr__(self) -> str:
        return "Acting(…)"

    def begin(self, user_id: str) -> None:
        """Ask for the token of this user. Raises DocusignRefused, DocusignUnreachable."""
        reply = self._answered(lambda: self._endpoint.post(self._signer.assertion(user_id, self._clock())), self._transient_grant)
        answer = interpret(reply.code, reply.body)
        if answer.status is Status.CONSENT_REQUIRED:
            what = f"{user_id} has not consented to {self._config.scope}"
            raise DocusignRefused(what, f"open this as that user and accept: {consent_url(self._config)}")
        if answer.status is not Status.GRANTED:
            advice = answer.refusal or "compare the user id with Docusign Admin, Users (API Username)"
            raise DocusignRefused(f"{self._config.server} gives no token for {user_id}: {answer.detail}", advice)
        self._headers = {"Authorization": f"Bearer {(json_object(reply.body) or {})['access_token']}"}

    def get(self, url: str) -> dict[str, Any]:
        """The JSON object that stands at `url`, which must be pinned. Raises DocusignRefused, DocusignUnreachable."""
        reply = self._answered(lambda: self._client.send(self._request(url)), self._transient)
        content = json_object(reply.body)
        if reply.code == _OK and content is not None:
            return content
        code = _error_code(content)
        if reply.code >= _BAD_REQUEST and code:
            raise DocusignRefused(f"{url.partition('?')[0]} is refused: HTTP {reply.code} {code}", _WHOSE)
        what = f"{url.partition('?')[0]} answers HTTP {reply.code}, and not as Docusign does"
        raise DocusignRefused(what, "look for a proxy or a firewall page in between")

    def close(self) -> None:
        """Close all connections, and forget the token."""
        self._headers = {}
        self._endpoint.close()
        self._client.close()

    def _request(self, url: str) -> PreparedRequest:
        return prepared("GET", url, self._headers)

    def _answered(self, ask: Callable[[], Reply], transient: Callable[[Reply], str]) -> Reply:
        """The first answer that will not be another one when asked for again."""
        failure = ""
        for pause in (*self._back_off, 0.0):
            self._wait()
            try:
                reply = ask()
            except BadCertificate as error:
                advice = "nothing was sent; a network that inspects TLS needs its authority's certificate in [docusign] ca_file"
                raise DocusignUnreachable(f"its TLS certificate cannot be verified: {error}", advice) from error
            except NoAnswer as error:
                failure = str(error)
            else:
                failure = transient(reply)
                self._heed(reply.headers, too_many=failure in _TOO_MANY or reply.code == _TOO_MANY_REQUESTS)
                if not failure:
                    return reply
            self._stop.wait(pause)
        raise DocusignUnreachable(f"Docusign gives no usable answer: {failure}", _LATER)

    def _transient_grant(self, reply: Reply) -> str:
        answer = interpret(reply.code, reply.body)
        return answer.detail if answer.status is Status.UNKNOWN and not answer.refusal else ""

    def _transient(self, reply: Reply) -> str:
        """Why it is worth asking again; "" if it is not."""
        if reply.code >= _SERVER_ERRORS or reply.code == _TOO_MANY_REQUESTS:
            return f"HTTP {reply.code}"
        code = _error_code(json_object(reply.body)) if reply.code == _BAD_REQUEST else ""
        return code if code in _TOO_MANY else ""

    def _wait(self) -> None:
        """Wait for the next request's turn. Raises DocusignUnreachable where that takes too long, Interrupted."""
        if (left := self._pace.left()) > _LONGEST_PAUSE:
            raise DocusignUnreachable(f"Docusign's limit is reached for {left:.0f} s", _LATER)
        if not self._pace.wait(self._stop):
            raise Interrupted(self._stop.exit_code)

    def _heed(self, headers: CaseInsensitiveDict[str], *, too_many: bool) -> None:
        """Hold what comes next as the answer asks.

        Source: developers.docusign.com/docs/esign-rest-api/esign101/rules-and-limits/responses.
        """
        if too_many:
            self._pace.hold(_number(headers, "Retry-After", self._burst))
        if _number(headers, "X-BurstLimit-Remaining", 1) < 1:
            self._pace.hold(self._burst)
        if _number(headers, "X-RateLimit-Remaining", 1) < 1:
            reset = _number(headers, "X-RateLimit-Reset", 0.0) - self._clock().timestamp()
            self._pace.hold(reset if reset > 0 else self._burst)


def _number(headers: CaseInsensitiveDict[str], name: str, otherwise: float) -> float:
    """A whole number out of a header; `otherwise` where there is none."""
    found = headers.get(name, "")
    return float(found) if re.fullmatch(r"\d{1,12}", found) else otherwise


def _error_code(content: dict[str, Any] | None) -> str:
    """Docusign's error code, of either API; "" for anything that is none, so that no foreign text gets further."""
    code = (content or {}).get("errorCode") or (content or {}).get("error")
    return code if isinstance(code, str) and re.fullmatch(r"[A-Za-z_]{1,60}", code) else ""
