"""One exchange with a provider's token endpoint: what comes back is what was asked for, or an error that says what to do.

The libraries get to see only answers that were checked here, reduced to what they need: what goes wrong otherwise would end
in their log, in their exceptions, or in an endless cache.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from requests import PreparedRequest, RequestException

from campaign.errors import CampaignError, ConfigError, RelayRefused, RelayUnreachable
from campaign.https import BadCertificate, Client, NoAnswer, Reply, json_object, prepared
from campaign.sasl.refusals import Refusal

_SECONDS = 30.0  # for one exchange, whole
_A_DAY = 86_400  # seconds; no token is believed to be good for longer
_TOKEN = re.compile(r"[!-~]{1,8192}")  # what fits into one line of AUTH XOAUTH2 and cannot end it
_ERROR = re.compile(r"[a-z][a-z_]{1,39}")  # as the codes of RFC 6749 section 5.2 are written
_TRACE = re.compile(r"[0-9a-f-]{36}")
_PASSING = {"server_error", "temporarily_unavailable"}
_OK, _TIMED_OUT, _THROTTLED = 200, 408, 429

Explain = Callable[[str, str], Refusal]  # of an error's code and its description


class Exchange:
    """Exchanges with the provider at `url`, of which all go to the same server; `explain` knows what its refusals mean.

    Raises ConfigError, which names `section`, for a URL or a CA file that cannot be used.
    """

    def __init__(self, section: str, url: str, ca_file: Path | None, explain: Explain) -> None:
        try:
            prepared("GET", url, {})
        except RequestException as error:
            raise ConfigError(f"[{section}] {url} is not a URL", "correct it") from error
        self.server = urlunsplit((*urlsplit(url)[:2], "", "", ""))
        self._section = section
        self._explain = explain
        self._client = Client(section, ca_file, _SECONDS)

    def get(self, url: str) -> dict[str, Any]:
        """The JSON object there. Raises RelayRefused, RelayUnreachable."""
        return self._content(prepared("GET", url, {}))

    def token(self, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """Ask for a Bearer token: `access_token`, `token_type`, `expires_in` in whole seconds.

        Raises RelayRefused, RelayUnreachable.
        """
        content = self._content(prepared("POST", url, headers, body))
        token, kind = content.get("access_token"), content.get("token_type")
        if not (isinstance(token, str) and _TOKEN.fullmatch(token) and isinstance(kind, str) and kind.lower() == "bearer"):
            raise self.unusable("the answer holds no Bearer token that can be used")
        return {"access_token": token, "token_type": "Bearer", "expires_in": _seconds(content.get("expires_in"))}

    def unusable(self, what: str, advice: str = "") -> RelayUnreachable:
        """The error for an answer that is none."""
        return RelayUnreachable(f"{self.server} gives no access token: {what}", advice or "the next run tries again")

    def close(self) -> None:
        """Close the connection; the next exchange opens a new one."""
        self._client.close()

    def _content(self, request: PreparedRequest) -> dict[str, Any]:
        reply = self._reply(request)
        if reply.code >= 500 or reply.code in {_TIMED_OUT, _THROTTLED}:  # noqa: PLR2004  # a server's own trouble
            raise self.unusable(f"HTTP {reply.code}")
        if 300 <= reply.code < 400:  # noqa: PLR2004
            advice = "no redirect is followed: check the network between this machine and that server"
            raise self.unusable(f"the answer is a redirect (HTTP {reply.code})", advice)
        content = json_object(reply.body)
        if content is None:
            advice = "the answer is not the provider's: look for a proxy, a firewall page or a wrong host"
            raise self.unusable(f"HTTP {reply.code}, not JSON", advice)
        if reply.code != _OK or "error" in content:
            raise self._refused(reply.code, content)
        return content

    def _reply(self, request: PreparedRequest) -> Reply:
        try:
            return self._client.send(request)
        except BadCertificate as error:
            what = f"its TLS certificate cannot be verified: {error}"
            advice = (
                f"nothing was sent; a network that inspects TLS needs its authority's certificate in [{self._section}] ca_file"
            )
            raise self.unusable(what, advice) from error
        except NoAnswer as error:
            raise self.unusable(str(error)) from error

    def _refused(self, code: int, content: Mapping[str, Any]) -> CampaignError:
        """Tell the codes alone: a description may repeat what was sent."""
        error, trace = _match(_ERROR, content.get("error")), _match(_TRACE, content.get("trace_id"))
        if error in _PASSING:
            return self.unusable(error)
        description = content.get("error_description")
        refusal = self._explain(error, description if isinstance(description, str) else "")
        note = f"; trace {trace}" if trace else ""
        said = refusal.code or f"HTTP {code}"
        return RelayRefused(f"{self.server} gives no access token: {said} ({refusal.why}){note}", refusal.then)


def _match(form: re.Pattern[str], given: object) -> str:
    """What was given, if it has that form; else "", so that no foreign text gets further."""
    return given if isinstance(given, str) and form.fullmatch(given) else ""


def _seconds(given: object) -> int:
    """How long a token is good; 0, which is never kept, where the answer does not say it in a number."""
    try:
        seconds = float(given)  # type: ignore[arg-type]  # whatever it is
    except (TypeError, ValueError):
        return 0
    return int(min(seconds, _A_DAY)) if seconds > 0 else 0
