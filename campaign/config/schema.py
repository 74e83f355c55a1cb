"""The shape of campaign.toml: every section and key, with its default."""

from collections.abc import Mapping
from datetime import time
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator

from campaign.config.secret import Secret, Section
from campaign.config.values import (
    Authority,
    CampaignName,
    Count,
    Days,
    Domain,
    FileMode,
    Flag,
    Guid,
    HeloName,
    Holiday,
    Host,
    LedgerUrl,
    LocatedPath,
    LocatedPathOrNone,
    LoopbackServer,
    Mailbox,
    MailboxOrNone,
    Positive,
    Ratio,
    RedirectUri,
    Scope,
    Seconds,
    Share,
    Tenant,
    Window,
    ZoneName,
    is_loopback,
)

ACCOUNT_HOSTS = {"demo": "account-d.docusign.com", "production": "account.docusign.com"}
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Docusign(Section):
    """`[docusign]`: whom we ask, as whom, and how fast."""

    environment: Literal["demo", "production"]
    client_id: Guid
    private_key_file: LocatedPath
    scopes: tuple[Scope, ...] = ("signature", "impersonation")
    redirect_uri: RedirectUri
    canary: tuple[Guid, ...] = ()
    probes_per_hour: Count = 3000
    probe_burst: Positive = 200
    concurrency: Annotated[Positive, Field(le=256)] = 4
    timeout: Seconds = 30
    verify_granted_days: Days = 30
    prompt_login: Flag = False
    counterpart: LocatedPathOrNone = None  # the campaign.toml for the other environment
    account_server: LoopbackServer | None = None
    ca_file: LocatedPath | None = None

    @model_validator(mode="after")
    def _scopes_make_sense(self) -> Self:
        if "impersonation" not in self.scopes or len(self.scopes) < 2:  # noqa: PLR2004  # impersonation and one more
            raise ValueError("scopes must hold impersonation and at least one scope of an API, such as signature")
        if len(set(self.scopes)) != len(self.scopes):
            raise ValueError("scopes names one scope twice")
        return self

    @property
    def audience(self) -> str:
        """The assertion's `aud`: the environment's account host, bare."""
        return ACCOUNT_HOSTS[self.environment]

    @property
    def server(self) -> str:
        """The account server's base URL, without a final slash."""
        return self.account_server or f"https://{self.audience}"

    @property
    def scope(self) -> str:
        """The one string that feeds both the consent URL and the assertion."""
        return " ".join(self.scopes)


class Roster(Section):
    """`[roster]`: where the users stand."""

    file: LocatedPath
    encoding: str = ""
    max_rows: Positive = 1_000_000
    columns: Mapping[str, str] = {}


class Microsoft(Section):
    """`[mail.microsoft]`: the Entra app that may send as the mailbox (OAuth client credentials)."""

    tenant: Tenant
    client_id: Guid
    certificate_file: LocatedPath | None = None  # private key and certificate as one PEM file
    secret: Secret | None = None
    authority: Authority = "https://login.microsoftonline.com"  # the national clouds have others
    ca_file: LocatedPath | None = None

    @model_validator(mode="after")
    def _one_proof(self) -> Self:
        if (self.certificate_file is None) == (self.secret is None):
            raise ValueError("give either certificate_file or a [mail.microsoft.secret] table")
        return self


class Google(Section):
    """`[mail.google]`: the service account that may act for the mailbox (domain-wide delegation)."""

    service_account_file: LocatedPath
    ca_file: LocatedPath | None = None


# What each provider lets one account send; a key that is given wins over its preset.
PRESETS: Mapping[str, Mapping[str, int]] = {
    "": {},
    # 30 messages a minute, 10,000 recipients a day, 3 connections at once, for each mailbox:
    # learn.microsoft.com/exchange/mail-flow-best-practices/smtp-submission-improvements
    "microsoft365": {"per_minute": 30, "per_day": 10_000, "connections": 1},
    # 2,000 messages a day for each user; no rate is published: support.google.com/a/answer/166852
    "google-workspace": {"per_minute": 20, "per_day": 2_000, "connections": 1},
    # smtp-relay.gmail.com: 10,000 recipients a day for each user: support.google.com/a/answer/2956491
    "google-relay": {"per_minute": 60, "per_day": 10_000, "connections": 1},
    # The sandbox's: 1 a second, 200 a day. In production each account has figures of its own, and gives them as keys:
    # docs.aws.amazon.com/ses/latest/dg/quotas.html
    "ses": {"per_minute": 60, "per_day": 200, "connections": 1},
}


class Mail(Section):
    """`[mail]`: the relay, and who writes."""

    host: Host
    port: Annotated[Positive, Field(le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    helo_name: HeloName = ""
    auth: Literal["none", "password", "microsoft", "google"] = "none"
    username: str = ""
    sender: Annotated[Mailbox, Field(alias="from")]
    reply_to: MailboxOrNone = ""
    preset: Literal["", "microsoft365", "google-workspace", "google-relay", "ses"] = ""
    per_minute: Count = 20
    per_day: Count = 300
    connections: Annotated[Positive, Field(le=32)] = 1
    timeout: Seconds = 60
    final_timeout: Seconds = 600
    allowed_domains: tuple[Domain, ...] = ()
    ca_file: LocatedPath | None = None
    password: Secret | None = None
    microsoft: Microsoft | None = None
    google: Google | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_preset(cls, given: Any) -> Any:  # noqa: ANN401  # as pydantic has it
        return {**PRESETS.get(str(given.get("preset", "")), {}), **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.security == "none" and not is_loopback(self.host):
            raise ValueError('security = "none" is for a relay on loopback only; use "starttls" or "tls"')
        if self.auth != "none" and not (self.username and getattr(self, self.auth)):
            raise ValueError(f'auth = "{self.auth}" needs a username and a [mail.{self.auth}] table')
        return self

    @property
    def sender_address(self) -> str:
        """The bare address of `from`: the envelope's sender."""
        return parseaddr(self.sender)[1]

    @property
    def sender_name(self) -> str:
        """The display name of `from`: how the reader knows the application; else the bare address."""
        return parseaddr(self.sender)[0] or self.sender_address


class Policy(Section):
    """`[policy]`: how often, how many, when."""

    remind_after_days: tuple[Annotated[Days, Field(ge=1)], ...] = (3, 7, 14)
    max_per_run: Positive = 300
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ()
    hours: Window = ""
    timezone: ZoneName = "UTC"
    holidays: tuple[Holiday, ...] = ()
    escalate_after: Count = 0

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of days, hours and holidays."""
        return ZoneInfo(self.timezone)

    @property
    def weekdays(self) -> frozenset[int]:
        """`days` as numbers, Monday is 0; empty = any day."""
        return frozenset(_DAYS.index(day) for day in self.days)

    @property
    def opening(self) -> tuple[time, time]:
        """`hours` as two times of day; the whole day if empty."""
        opens, _, closes = self.hours.partition("-")
        return (time.fromisoformat(opens), time.fromisoformat(closes)) if self.hours else (time.min, time.max)


class Guards(Section):
    """`[guards]`: what a mass failure looks like."""

    max_error_share: Share = 0.10
    max_regressions: Count = 3
    max_new_lacking: Count = 25
    max_roster_change: Ratio = 0.30
    max_bounces: Count = 25


class Templates(Section):
    """`[templates]`: the organisation's own words."""

    directory: LocatedPathOrNone = None  # None = those that ship with the program
    language: str = "en"  # of readers whose row in the roster names none, or one that there are no templates in


class Report(Section):
    """`[report]`: what people open in the morning."""

    directory: LocatedPath = Path("reports")
    formats: tuple[Literal["csv", "xlsx", "html"], ...] = ("csv", "xlsx", "html")
    mode: FileMode = "0600"


class Server(NamedTuple):
    """A database server, and who signs in to which database there."""

    host: str
    port: int
    user: str
    database: str

    def __str__(self) -> str:
        """The server as messages call it."""
        return f"postgresql://{self.user}@{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/{self.database}"


class Ledger(Section):
    """`[ledger]`: what is remembered between nights, in a file or on a database server."""

    url: LedgerUrl = "sqlite:///ledger.sqlite3"
    ca_file: LocatedPath | None = None
    password: Secret | None = None

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.server and not self.ca_file and not is_loopback(self.server.host):
            raise ValueError("a database server elsewhere needs ca_file: the certificates that its own is checked by")
        return self

    @property
    def server(self) -> Server | None:
        """The database server; None for a file."""
        if not self.url.startswith("postgresql"):
            return None
        parts = urlsplit(self.url)
        return Server(parts.hostname or "", parts.port or 5432, unquote(parts.username or ""), parts.path[1:])


class Customers(Section):
    """`[customers]`: an ISV's campaign, in which the administrators of its customers are asked first."""

    file: LocatedPathOrNone = None
    admin_first_days: Days = 7


class Monitoring(Section):
    """`[monitoring]`: who else is told. The ping URL is a secret."""

    healthcheck_url: SecretStr = SecretStr("")
    metrics_file: LocatedPathOrNone = None
    log_file: LocatedPathOrNone = None
    log_addresses: Flag = False

    @field_validator("healthcheck_url")
    @classmethod
    def _safe(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value() and not _is_safe(url.get_secret_value()):
            raise ValueError("must be an https:// URL without a fragment (http:// only on loopback)")  # and is not repeated here
        return url


def _is_safe(url: str) -> bool:
    """Whether a secret may go there."""
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname) and not parts.fragment and parts.port != 0 and url.isprintable() and " " not in url
    except ValueError:  # whose text may hold a part of the URL
        return False
    return whole and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")))


class Config(Section):
    """Everything that a run needs to know, checked; paths are absolute."""

    name: CampaignName
    docusign: Docusign
    roster: Roster
    mail: Mail
    policy: Policy = Policy()
    guards: Guards = Guards()
    templates: Templates = Templates()
    report: Report = Report()
    ledger: Ledger = Ledger()
    customers: Customers = Customers()
    monitoring: Monitoring = Monitoring()
    _folder: Path = PrivateAttr(default=Path())
    _environ: Mapping[str, str] = PrivateAttr(default={})

    def model_post_init(self, context: Any, /) -> None:  # noqa: ANN401  # as pydantic has it
        """Remember where campaign.toml stands, and the environment that it was read in."""
        self._folder = (context or {}).get("folder", Path())
        self._environ = (context or {}).get("environ", {})

    @property
    def folder(self) -> Path:
        """The folder of campaign.toml, where relative paths start."""
        return self._folder

    @property
    def stop_file(self) -> Path:
        """The file whose mere existence stops a run before the next mail."""
        return self.folder / "STOP"

    @property
    def ledger_file(self) -> Path:
        """The SQLite file; the lock and the witness stand beside it."""
        return self.folder / self.ledger.url.removeprefix("sqlite:///")

    @property
    def ledger_name(self) -> str:
        """The file or the server of the ledger as messages call it; no secret stands in it."""
        return str(self.ledger.server or self.ledger_file)

    @property
    def lock_file(self) -> Path:
        """The file that the one live run holds locked, where the ledger is a file."""
        return self.ledger_file.with_name(self.ledger_file.name + ".lock")

    def ledger_password(self) -> str | None:
        """Fetch what signs in to the database server; None where nothing is needed. Raises ConfigError."""
        password = self.ledger.password
        return password.read(self._environ).get_secret_value() if password else None
