"""What can be learnt of a relay without handing over a message, one step after the other (RFC 5321, 3207, 4954)."""

import math
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from campaign.bounded import BoundedSocket, look_up, words
from campaign.errors import CampaignError, RelayUnreachable
from campaign.mailer.conversation import Phase
from campaign.mailer.replies import Reply
from campaign.mailer.route import Route
from campaign.mailer.signing import sign_in
from campaign.mailer.wire import MOST_BYTES, Connection
from campaign.model import Check, Grade, printable

_SOON = 14  # days before a certificate's end that somebody should know
_MOST_SHOWN = 4  # addresses or names
_EXPIRED, _NOT_YET, _OTHER_NAME = 10, 9, {62, 64}  # X509_V_ERR_… of openssl/x509_vfy.h
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, for which Python has no name

_ON_THE_WAY = "check [mail] host and port, and that no firewall on the way keeps this machine from it"
_BELONG_TOGETHER = (
    'check that [mail] port and security belong together: usually 587 with "starttls", 465 with "tls"; then the relay\'s log'
)
_ITS_LOG = "look into the relay's log, or ask whoever runs it"

# What it means for a campaign that a relay does not offer these.
_MISSED = {
    "8bitmime": "without 8BITMIME texts beyond ASCII go as quoted-printable, whose source shows long links cut in pieces",
    "smtputf8": "without SMTPUTF8 nobody can be mailed whose address is not ASCII before the @",
    "dsn": "without DSN the relay is not asked for bounces in a form that campaign bounces can count on",
}


class Survey:
    """`with Survey(route, envelope_from, now) as relay:`, then each of `relay.steps`, once and in their order.

    A step gives a GOOD or DOUBT check, or raises what a night would end with: RelayRefused, RelayUnreachable, ConfigError. It is
    bounded as the mailer's are. There is one sign-in at most, and no message.
    """

    def __init__(self, route: Route, envelope_from: str, now: datetime) -> None:
        self._route = route
        self._envelope_from = envelope_from
        self._now = now
        self._relay = _Relay(route)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._relay.close()

    @property
    def steps(self) -> Mapping[str, Callable[[], Check]]:
        """What is looked at, and how."""
        return {
            "name": self._resolve,
            "connection": self._connect,
            "TLS": self._secure,
            "capabilities": self._listen,
            "sign-in": self._sign_in,
            "sender": self._offer_sender,
        }

    def _resolve(self) -> Check:
        host = self._route.host
        try:
            found = look_up(host, self._route.port, self._route.connect_timeout)
        except (OSError, UnicodeError) as error:
            advice = "check [mail] host, and this machine's name service"
            raise RelayUnreachable(f"{host} cannot be resolved: {words(error)}", advice) from error
        return Check("name", Grade.GOOD, f"{host} is {_some(dict.fromkeys(str(address[0]) for address in found))}")

    def _connect(self) -> Check:
        begun = time.monotonic()
        with self._telling(_ON_THE_WAY):
            address = self._relay.reach()
        took = math.ceil((time.monotonic() - begun) * 1000)
        found = f"{address} port {self._route.port} answered within {took} ms"
        if self._route.security != "tls":
            with self._telling(_BELONG_TOGETHER):
                found += f": {self._relay.greeting()}"
        return Check("connection", Grade.GOOD, found)

    def _secure(self) -> Check:
        if self._route.security == "none":
            return Check("TLS", Grade.GOOD, "not used; the relay is on this machine")
        with self._telling(_BELONG_TOGETHER):
            try:
                self._relay.secure(self._route.context())
            except RelayUnreachable as error:
                if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                    raise self._distrust(error.__cause__) from error
                raise
        secured, certificate = self._relay.sock.inner, _Certificate.of(self._relay)
        found = f"{secured.version()}, {secured.cipher()[0]}; the certificate is {certificate}"
        days = (certificate.expires - self._now).days
        if days < _SOON:
            advice = "have it renewed before then: with an expired one no night sends anything"
            return Check("TLS", Grade.DOUBT, f"{found}: {days} days", advice)
        return Check("TLS", Grade.GOOD, f"{found}: {days} days")

    def _listen(self) -> Check:
        with self._telling(_BELONG_TOGETHER):
            if self._route.security == "tls":
                self._relay.greeting()
            self._relay.greet()
        features = {name: str(said) for name, said in self._relay.esmtp_features.items()}
        offered = [f"{name.upper()} {features[name]}".rstrip() for name in ("size", *_MISSED) if name in features]
        missed = [meaning for name, meaning in _MISSED.items() if name not in features]
        found = f"{', '.join(offered) or 'no extension'}; sign-in by {' '.join(features.get('auth', '').split()) or 'nothing'}"
        return Check("capabilities", Grade.DOUBT if missed else Grade.GOOD, printable(found), "; ".join(missed))

    def _sign_in(self) -> Check:
        if not (self._route.username or self._route.tokens):
            return Check("sign-in", Grade.GOOD, 'none, as [mail] auth = "none" says')
        with self._telling(_ITS_LOG):
            self._relay.sign_in()
        return Check("sign-in", Grade.GOOD, f"the relay took {printable(self._route.username)}, at the first attempt")

    def _offer_sender(self) -> Check:
        with self._telling(_ITS_LOG):
            reply = self._relay.offer(self._envelope_from)
        return Check("sender", Grade.GOOD, f"the relay takes mail from {self._envelope_from}: {reply}")

    @contextmanager
    def _telling(self, advice: str) -> Iterator[None]:
        """Turn what a connection may raise into a sentence."""
        try:
            yield
        except (OSError, UnicodeError) as error:
            raise RelayUnreachable(f"{self._route}: {self._relay.fault(error)} (at {self._relay.phase})", advice) from error

    def _distrust(self, error: ssl.SSLCertVerificationError) -> RelayUnreachable:
        """What is wrong with the certificate, and what to do about it."""
        code, route = error.verify_code, self._route
        if code in _OTHER_NAME:
            names = _certificate_without(route, _any_name)
            found = f"the certificate is for {_some(names.names)}, not" if names else "the certificate is not"
            advice = "set [mail] host to a name that the certificate bears, or have one issued for this name"
            return RelayUnreachable(f"{route}: {found} for {route.host}", advice)
        if code in {_EXPIRED, _NOT_YET}:
            shown = _certificate_without(route, _any_time)
            found = "a certificate has expired" if code == _EXPIRED else "a certificate is not valid yet"
            advice = "have it renewed by whoever runs the relay, or set this machine's clock if that is what is wrong"
            return RelayUnreachable(f"{route}: {found}{f'; the certificate is {shown}' if shown else ''}", advice)
        found = f"{route}: the certificate is not trusted: {printable(error.verify_message)}"
        if route.ca_file:
            return RelayUnreachable(found, f"[mail] ca_file {route.ca_file} alone is trusted: put the issuer's certificate there")
        advice = "set [mail] ca_file to a private authority's certificate; with a public one have the relay send the whole chain"
        return RelayUnreachable(found, advice)


class _Relay(Connection):
    """A connection whose opening is taken apart. Raises OSError for what may pass, RelayRefused, RelayUnreachable."""

    def __init__(self, route: Route) -> None:
        # The TLS that comes first is a step of its own here. Until then the context trusts nobody.
        super().__init__(replace(route, security="none"), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self._security = route.security

    def reach(self) -> str:
        """Connect; the address that answered."""
        self.sock = self._get_socket(self.route.host, self.route.port, self.route.timeout)
        return str(self.sock.getpeername()[0])

    def greeting(self) -> Reply:
        """Wait for the relay to speak."""
        reply = self.reply()
        self.accept(reply)
        return reply

    def greet(self) -> None:
        """Say EHLO and hear what is offered."""
        self._greet()

    def secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS from here on, at once or by STARTTLS."""
        self.context = context
        if self._security == "starttls":
            self._greet()
            self._start_tls()
        else:
            self.sock = BoundedSocket(self._verified(self.sock.inner), self.route.timeout, MOST_BYTES)

    def sign_in(self) -> None:
        """Try once."""
        sign_in(self)

    def offer(self, envelope_from: str) -> Reply:
        """Begin a message and take it back, then take leave."""
        reply = self.ask(Phase.MAIL, f"<{envelope_from}>")
        self.accept(reply)
        with suppress(OSError):
            self.rset()
        self.leave()
        return reply


@dataclass(frozen=True, slots=True)
class _Certificate:
    names: tuple[str, ...]
    issuer: str
    expires: datetime

    @classmethod
    def of(cls, relay: Connection) -> Self:
        """The certificate that the relay has shown, and that was verified."""
        shown: dict[str, Any] = relay.sock.inner.getpeercert()
        subject, issuer = ({key: str(value) for part in shown[of] for key, value in part} for of in ("subject", "issuer"))
        names = tuple(str(name) for _, name in shown.get("subjectAltName", ())) or (subject.get("commonName", "nobody"),)
        expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC)
        return cls(names, issuer.get("organizationName") or issuer.get("commonName") or "nobody named", expires)

    def __str__(self) -> str:
        return f"for {_some(self.names)}, issued by {printable(self.issuer)}, valid until {self.expires:%Y-%m-%d}"


def _certificate_without(route: Route, leave_out: Callable[[ssl.SSLContext], None]) -> _Certificate | None:
    """What a certificate says that one check has failed: by a second connection, over which nothing else is said."""
    context = route.context()
    leave_out(context)
    with suppress(CampaignError, OSError, UnicodeError), closing(_Relay(route)) as relay:
        relay.reach()
        if route.security == "starttls":
            relay.greeting()
        relay.secure(context)
        return _Certificate.of(relay)
    return None


def _any_name(context: ssl.SSLContext) -> None:
    context.check_hostname = False


def _any_time(context: ssl.SSLContext) -> None:
    context.verify_flags |= _NO_CHECK_TIME


def _some(names: Mapping[str, None] | tuple[str, ...]) -> str:
    shown = [printable(name) for name in list(names)[:_MOST_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else "")
