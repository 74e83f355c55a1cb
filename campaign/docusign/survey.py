"""What can be learnt of the account server without asking about anybody: that it answers, its clock, its consent page."""

import math
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from urllib.parse import parse_qs, urljoin, urlsplit

from campaign.config import Docusign
from campaign.docusign.clock import ahead
from campaign.docusign.links import consent_url
from campaign.errors import ConfigError, DocusignRefused, DocusignUnreachable
from campaign.https import BadCertificate, Client, NoAnswer, Reply, prepared
from campaign.model import Check, Grade, printable

_UNAUTHORIZED = 401  # to a request without a token (RFC 6750, 3.1)
_OK, _REDIRECTS = 200, range(300, 400)
_WORTH_A_LOOK = 120  # seconds between the clocks
_LIFETIME = 300  # seconds that an assertion is good for, before and after it was signed
_UNREGISTERED = b"redirect uri is not registered"  # support.docusign.com/en/articles/Redirect-URI-not-registered

_LOOK_YOURSELF = "open the link of `campaign link` in a browser and read what it says; compare client_id and redirect_uri"


class Survey:
    """`reach` first, then the rest in any order. Two requests in all, each of them bounded as the prober's are.

    A step gives a GOOD or DOUBT check, or raises what is wrong: ConfigError, DocusignRefused, DocusignUnreachable.
    """

    def __init__(self, config: Docusign, clock: Callable[[], datetime]) -> None:
        self._config = config
        self._clock = clock
        self._ahead: float | None = None

    def reach(self) -> Check:
        """Whether the account server answers: it must refuse a request that brings no token."""
        server, begun = self._config.server, time.monotonic()
        try:
            reply = self._get(f"{server}/oauth/userinfo")
        except NoAnswer as error:
            raise self._unreachable(error) from error
        self._ahead = ahead(reply.headers, self._clock())
        found = f"{server} answered within {math.ceil((time.monotonic() - begun) * 1000)} ms"
        if reply.code != _UNAUTHORIZED:
            advice = "look for a proxy or a firewall page in between, and at Docusign's status page"
            return Check("account server", Grade.DOUBT, f"{found}, but HTTP {reply.code} in place of {_UNAUTHORIZED}", advice)
        return Check("account server", Grade.GOOD, found)

    def compare_clocks(self) -> Check:
        """How far this machine's clock is from the server's; beyond the life of an assertion nobody's is believed."""
        if self._ahead is None:
            return Check("clock", Grade.DOUBT, "the server's answer names no time", "see that NTP sets this machine's clock")
        off = f"{abs(self._ahead):.0f} s {'ahead of' if self._ahead > 0 else 'behind'} the server's"
        if abs(self._ahead) > _LIFETIME:
            what = f"this machine's clock is {off}: Docusign would refuse what it signs"
            raise DocusignRefused(what, "set it by NTP")
        advice = f"set it by NTP: beyond {_LIFETIME} s Docusign refuses what this machine signs"
        doubtful = abs(self._ahead) > _WORTH_A_LOOK
        return Check("clock", Grade.DOUBT if doubtful else Grade.GOOD, off, advice if doubtful else "")

    def open_consent_page(self) -> Check:
        """What the consent link answers to somebody who is not logged in; more cannot be seen without an account.

        An unregistered redirect URI is refused on the spot; the words are those of Docusign's page.
        """
        docusign = self._config
        try:
            reply = self._get(consent_url(docusign), accept="text/html")
        except NoAnswer as error:
            return Check("consent page", Grade.DOUBT, f"it could not be seen: {error}", _LOOK_YOURSELF)
        if _UNREGISTERED in reply.body.lower():
            what = f"Docusign says that {docusign.redirect_uri} is not registered for client_id {docusign.client_id}"
            advice = "register it to the letter, final slash and all: Docusign Admin, Apps and Keys, Redirect URIs"
            raise ConfigError(what, advice)
        if doubt := self._doubt(reply):
            return Check("consent page", Grade.DOUBT, doubt, _LOOK_YOURSELF)
        return Check("consent page", Grade.GOOD, "it asks to log in, and nothing is said against client_id and redirect_uri")

    def _doubt(self, reply: Reply) -> str:
        """What an answer other than the log-in page may mean."""
        if reply.code == _OK:
            return ""
        if reply.code not in _REDIRECTS:
            return f"it answers HTTP {reply.code}, not with a page to log in"
        try:
            target = urlsplit(urljoin(self._config.server, reply.headers.get("Location", "")))
            error, host = parse_qs(target.query).get("error"), target.hostname or ""
        except ValueError:
            return "it leads to an address that is none"
        if error:
            return f"it leads on with the error {printable(error[0], 40)}"
        if host != urlsplit(self._config.server).hostname and not host.endswith(".docusign.com"):
            return f"it leads to {printable(host, 100)}, which is not Docusign's"
        return ""

    def _get(self, url: str, accept: str = "application/json") -> Reply:
        request = prepared("GET", url, {})
        request.headers["Accept"] = accept
        with closing(Client("docusign", self._config.ca_file, self._config.timeout)) as client:
            return client.send(request)

    def _unreachable(self, error: NoAnswer) -> DocusignUnreachable:
        host = urlsplit(self._config.server).hostname
        if isinstance(error, BadCertificate):
            advice = "a network that inspects TLS needs its authority's certificate in [docusign] ca_file"
            return DocusignUnreachable(f"{self._config.server}: its certificate cannot be verified: {error}", advice)
        advice = f"let this machine reach {host} by HTTPS, without a proxy: check name service and firewall"
        if self._config.account_server:
            advice = "start it, if it is the sandbox (campaign sandbox), or remove [docusign] account_server"
        return DocusignUnreachable(f"{self._config.server}: {error}", advice)
