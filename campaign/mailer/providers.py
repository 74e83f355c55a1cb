"""What is known of a relay before it is asked: the providers' own rules, and settings that do not go together."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch

from campaign.config.schema import PRESETS, Mail
from campaign.config.values import is_loopback
from campaign.errors import ExitCode
from campaign.mailer.meanings import GOOGLE_ADVICE, MICROSOFT_ADVICE
from campaign.model import Check, Grade

_PASSWORDS_OFF = datetime(2027, 1, 1, tzinfo=UTC)  # when Microsoft has switched them off by default
_TLS_FIRST, _STARTTLS, _BETWEEN_RELAYS = 465, 587, 25  # ports (RFC 8314, RFC 6409, RFC 5321)


@dataclass(frozen=True, slots=True)
class _Provider:
    name: str
    hosts: tuple[str, ...]  # patterns
    preset: str = ""
    always_signs_in: bool = True


# The first that fits counts.
_HIGH_VOLUME = _Provider("High Volume Email", ("smtp.hve.mx.microsoft", "smtp-hve.office365.com"))
_MICROSOFT = _Provider("Microsoft 365", ("*.office365.com", "*.office365.us", "smtp-mail.outlook.com"), "microsoft365")
_EXCHANGE = _Provider(
    "Exchange Online's receiving side", ("*.mail.protection.outlook.com", "*.mx.microsoft"), "", always_signs_in=False
)
_GMAIL = _Provider("Gmail", ("smtp.gmail.com",), "google-workspace")
_GOOGLE_RELAY = _Provider("Google's SMTP relay", ("smtp-relay.gmail.com",), "google-relay", always_signs_in=False)
_SES = _Provider("Amazon SES", ("email-smtp.*.amazonaws.com", "email-smtp-fips.*.amazonaws.com"), "ses")
_OTHER = _Provider("", ("*",), always_signs_in=False)
_PROVIDERS = (_HIGH_VOLUME, _MICROSOFT, _EXCHANGE, _GMAIL, _GOOGLE_RELAY, _SES, _OTHER)


def known(mail: Mail, now: datetime) -> Iterator[Check]:
    """What is wrong or doubtful about `[mail]` itself, the gravest first; one GOOD check if nothing is. Connects to nothing."""
    host = mail.host.lower().rstrip(".")
    provider = next(each for each in _PROVIDERS if any(fnmatch(host, pattern) for pattern in each.hosts))
    found = [*_sign_in(mail, provider, now), *_port(mail), *_addresses(mail, provider), *_limits(mail, provider)]
    nothing = f'nothing is known against {mail.host} with port {mail.port}, security = "{mail.security}", auth = "{mail.auth}"'
    yield from found or [Check("[mail]", Grade.GOOD, nothing)]


def _sign_in(mail: Mail, provider: _Provider, now: datetime) -> Iterator[Check]:
    what, setting = "[mail] auth", f'{mail.host} with auth = "{mail.auth}"'
    if mail.auth == "none" and provider.always_signs_in:
        advice = "set [mail] auth and username, and the table that belongs to it"
        yield Check(what, Grade.BAD, f"{provider.name} takes no mail without a sign-in", advice, ExitCode.REFUSED)
    elif provider is _EXCHANGE:
        found = (
            f"{mail.host} offers no sign-in: it takes mail for its own organisation alone, which may refuse that (Direct Send)"
        )
        advice = (
            "have a connector made for this machine's address or certificate; or set [mail] host to smtp.office365.com, and auth"
        )
        yield Check(what, Grade.DOUBT, found, advice)
    elif mail.auth == "none" and provider is _GOOGLE_RELAY:
        advice = "allow it in the Admin console, under Gmail, Routing, SMTP relay service; or set [mail] auth"
        yield Check(what, Grade.DOUBT, f"{setting} works only from an address that the organisation has allowed", advice)
    elif mail.auth == "password" and provider is _MICROSOFT:
        since = "has switched it off by default since" if now >= _PASSWORDS_OFF else "switches it off by default at"
        works = "works only where it was allowed again" if now >= _PASSWORDS_OFF else "works today"
        yield Check(what, Grade.DOUBT, f"{setting} {works}: Microsoft {since} the end of December 2026", MICROSOFT_ADVICE)
    elif mail.auth == "password" and provider is _HIGH_VOLUME:
        found = f"{setting} works until September 2028, and for recipients inside the organisation only"
        yield Check(what, Grade.DOUBT, found, 'set auth = "microsoft" before then, and allowed_domains to your own domains')
    elif mail.auth == "password" and provider in {_GMAIL, _GOOGLE_RELAY}:
        found = f"{setting}: the account's own password has not worked since 1 May 2025, only an app password does"
        yield Check(what, Grade.DOUBT, found, GOOGLE_ADVICE)


def _port(mail: Mail) -> Iterator[Check]:
    expected = {_TLS_FIRST: "tls", _STARTTLS: "starttls", _BETWEEN_RELAYS: "starttls"}.get(mail.port, mail.security)
    if mail.security not in {expected, "none"}:
        found = f'port {mail.port} with security = "{mail.security}": on this port relays usually speak "{expected}"'
        advice = f'set [mail] security = "{expected}", or the port that belongs to "{mail.security}"'
        yield Check("[mail] security", Grade.DOUBT, found, advice)
    elif mail.port == _BETWEEN_RELAYS and mail.auth != "none" and not is_loopback(mail.host):
        found = "port 25 is for mail between relays: most offer no sign-in there, and many networks block it"
        yield Check("[mail] port", Grade.DOUBT, found, 'set [mail] port = 587, or 465 with security = "tls"')


def _addresses(mail: Mail, provider: _Provider) -> Iterator[Check]:
    sender = mail.sender_address
    own_name_only = provider in {_MICROSOFT, _GMAIL} or mail.preset in {_MICROSOFT.preset, _GMAIL.preset}
    if own_name_only and "@" in mail.username and mail.username.lower() != sender.lower():
        found = f"{mail.username} signs in and {sender} is the sender: the account needs the right to send as that address"
        advice = "give it Send As (Microsoft 365) or a verified alias (Gmail), and try it: campaign doctor --mail-to ADDRESS"
        yield Check("[mail] from", Grade.DOUBT, found, advice)
    if not mail.reply_to:
        advice = "set [mail] reply_to to an address that a person reads"
        yield Check("[mail] reply_to", Grade.DOUBT, f"not set: what people answer goes to {sender}", advice)


def _limits(mail: Mail, provider: _Provider) -> Iterator[Check]:
    if provider.preset not in {"", mail.preset}:
        found = f'preset = "{mail.preset}", and {mail.host} is {provider.name}'
        advice = f'set [mail] preset = "{provider.preset}", which knows its limits'
        yield Check("[mail] preset", Grade.DOUBT, found, advice)
    preset = mail.preset or provider.preset
    if preset == _SES.preset:  # its figures are the sandbox's; in production each account has its own
        return
    for key, most in PRESETS[preset].items():
        given = getattr(mail, key)
        if key != "connections" and (given > most or not given):
            found = f"{given or 'no limit'}, and {provider.name or preset} lets one account send {most}"
            yield Check(f"[mail] {key}", Grade.DOUBT, found, f"set [mail] {key} to {most} or less")
