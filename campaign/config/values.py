"""What one value of campaign.toml may be, each with the sentence that says so."""

import ipaddress
import re
from datetime import date
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from email_validator import EmailNotValidError, ValidatedEmail, validate_email
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from campaign.model import zone_called

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"
_SQLITE = "sqlite:///"
_POSTGRES = "postgresql+psycopg://"


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,64}", text):
        raise ValueError(f"{text!r} must be 1 to 64 small letters, digits and hyphens, such as contract-sender")
    return text


def _mode(text: str) -> str:
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError(f'{text!r} is not a file mode such as "0600" or "0640"')
    return text


def _guid(text: str) -> str:
    if not _GUID.fullmatch(text.lower()):
        raise ValueError(f"{text!r} is not a GUID like 00000000-0000-0000-0000-000000000000")
    return text.lower()


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this very machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _redirect_uri(text: str) -> str:
    parts = urlsplit(text)
    if parts.fragment or not parts.hostname or not text.isprintable() or " " in text:
        raise ValueError("must be an absolute URL without a fragment, exactly as registered on the integration key")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError("must begin with https:// (http:// only on loopback)")
    return text


def _account_server(text: str) -> str:
    parts = urlsplit(text)
    bare = f"{parts.scheme}://{parts.netloc}" == text.rstrip("/") and "@" not in parts.netloc
    if not bare or parts.scheme not in {"http", "https"} or not is_loopback(parts.hostname or "") or parts.port == 0:
        raise ValueError("must be a loopback server such as http://127.0.0.1:8080; elsewhere `environment` decides")
    return text.rstrip("/")


def _authority(text: str) -> str:
    parts = urlsplit(text)
    if f"https://{parts.hostname}{f':{parts.port}' if parts.port else ''}" != text.rstrip("/").lower():
        raise ValueError("must be an https server such as https://login.microsoftonline.com")
    return text.rstrip("/")


def _tenant(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", text) or text.lower() in {"common", "organizations", "consumers"}:
        raise ValueError(f"{text!r} is not a tenant: its domain, such as contoso.onmicrosoft.com, or its id")
    return text


def _host(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        if not re.fullmatch(r"[\w.-]+", text):
            raise ValueError(f"{text!r} is not a host name or an IP address; a port has a key of its own") from None
    return text


def _domain(text: str) -> str:
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)+", text):
        raise ValueError(f"{text!r} is not a domain such as example.com")
    return text


def _helo_name(text: str) -> str:
    if text and not re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", text):
        raise ValueError(f"{text!r} is not a full host name such as server.example.com")
    return text


def _scope(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.:-]+", text):
        raise ValueError(f"scope {text!r}: one scope an entry, without spaces, commas or escapes")
    if text in {"openid", "extended", "cors"}:
        raise ValueError(f"scope {text!r} belongs to other grants and must not stand here")
    return text


def _mailbox(text: str) -> str:
    """One `Name <address>` or a bare address; parseaddr alone would take the first of several."""
    name, address = parseaddr(text)
    alone = text.strip() == address or re.fullmatch(r"[^<>]*<[^<>]+>", text.strip())
    if not alone or not text.isprintable() or not _fit_for_a_header(name, address):
        raise ValueError(f"{text!r} is not one e-mail address, such as Contract Sender <contracts@example.com>")
    if not address.isascii():  # relays and replies know the sender by this form alone
        raise ValueError(f"{text!r}: write the domain as {_checked(address).ascii_domain}")
    return text


def _checked(address: str) -> ValidatedEmail:
    return validate_email(address, check_deliverability=False, allow_smtputf8=False, test_environment=True)


def _fit_for_a_header(name: str, address: str) -> bool:
    try:
        _checked(address)
        Address(display_name=name, addr_spec=address)
    except (EmailNotValidError, ValueError):
        return False
    return True


def _mailbox_or_none(text: str) -> str:
    return text and _mailbox(text)


def _timezone(text: str) -> str:
    if zone_called(text) is None:
        raise ValueError(f"{text!r} is no time zone; they are called Europe/Berlin, America/New_York, UTC")
    return text


def _window(text: str) -> str:
    opens, _, closes = text.partition("-")
    if text and not (re.fullmatch(f"{_CLOCK}-{_CLOCK}", text) and opens < closes):
        raise ValueError(f"{text!r} is not a time of day like 08:00-18:00, from earlier to later")
    return text


def _ledger_url(text: str) -> str:
    """Neither sentence repeats the URL: a password may stand in it."""
    if text.startswith(_POSTGRES):
        _check_server(text)
    elif not re.fullmatch(f"{_SQLITE}/?[^:?/][^:?]*", text):
        raise ValueError(f"must be {_SQLITE} and the path of a file, or {_POSTGRES}USER@HOST:PORT/DATABASE")
    return text


def _check_server(url: str) -> None:
    try:
        parts = urlsplit(url)
        whole = bool(parts.username and parts.hostname) and parts.port != 0
    except ValueError:  # whose text may hold a part of the URL
        parts, whole = urlsplit(""), False
    if parts.password is not None:
        raise ValueError("must not hold a password: say in a [ledger.password] table where it is read from")
    if not whole or not re.fullmatch(r"/[^/%]+", parts.path) or parts.query or parts.fragment or not url.isprintable():
        raise ValueError(f"must be {_POSTGRES}USER@HOST:PORT/DATABASE, and nothing more")


def _located(path: Path, info: ValidationInfo) -> Path:
    """Relative paths start at the folder of campaign.toml, wherever cron stands."""
    if "\n" in str(path):
        raise ValueError("must be the path of a file, not what stands in it")  # and what stands in it is not repeated here
    return Path((info.context or {}).get("folder", "")) / path


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


CampaignName = Annotated[str, AfterValidator(_name)]
FileMode = Annotated[str, AfterValidator(_mode)]
Guid = Annotated[str, AfterValidator(_guid)]
Host = Annotated[str, AfterValidator(_host)]
HeloName = Annotated[str, AfterValidator(_helo_name)]
Domain = Annotated[str, AfterValidator(_domain)]
Mailbox = Annotated[str, AfterValidator(_mailbox)]
MailboxOrNone = Annotated[str, AfterValidator(_mailbox_or_none)]
RedirectUri = Annotated[str, AfterValidator(_redirect_uri)]
LoopbackServer = Annotated[str, AfterValidator(_account_server)]
LedgerUrl = Annotated[str, AfterValidator(_ledger_url)]
Authority = Annotated[str, AfterValidator(_authority)]
Tenant = Annotated[str, AfterValidator(_tenant)]
Scope = Annotated[str, AfterValidator(_scope)]
ZoneName = Annotated[str, AfterValidator(_timezone)]
Window = Annotated[str, AfterValidator(_window)]
LocatedPath = Annotated[Path, AfterValidator(_located)]
LocatedPathOrNone = Annotated[LocatedPath | None, BeforeValidator(_none_if_empty)]

# Strict: `true` is no 1 and "20" is no 20. The bounds keep every sum of times within what a clock can show.
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[int, Field(strict=True, ge=1)]
Days = Annotated[int, Field(strict=True, ge=0, le=3650)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=3600)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Ratio = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Holiday = Annotated[date, Field(strict=True)]
