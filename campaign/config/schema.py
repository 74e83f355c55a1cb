"""The shape of campaign.toml: every section and key, with its default."""

from collections.abc import Mapping
from datetime import time
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, PrivateAttr, SecretStr, model_validator

from campaign.config.secret import Secret, Section
from campaign.config.values import (
    CampaignName,
    Count,
    Days,
    Domain,
    FileMode,
    Flag,
    Guid,
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


class Mail(Section):
    """`[mail]`: the relay, and who writes."""

    host: Host
    port: Annotated[Positive, Field(le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    auth: Literal["none", "password", "microsoft", "google"] = "none"
    username: str = ""
    sender: Annotated[Mailbox, Field(alias="from")]
    reply_to: MailboxOrNone = ""
    preset: str = ""
    per_minute: Count = 20
    per_day: Count = 300
    connections: Positive = 1
    timeout: Seconds = 60
    final_timeout: Seconds = 600
    allowed_domains: tuple[Domain, ...] = ()
    ca_file: LocatedPath | None = None
    password: Secret | None = None
    microsoft: Mapping[str, Any] = {}
    google: Mapping[str, Any] = {}

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.security == "none" and not is_loopback(self.host):
            raise ValueError('security = "none" is for a relay on loopback only; use "starttls" or "tls"')
        if self.auth == "password" and not (self.password and self.username):
            raise ValueError('auth = "password" needs a username and a [mail.password] table')
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


class Templates(Section):
    """`[templates]`: the organisation's own words."""

    directory: LocatedPathOrNone = None  # None = those that ship with the program


class Report(Section):
    """`[report]`: what people open in the morning."""

    directory: LocatedPath = Path("reports")
    formats: tuple[Literal["csv", "xlsx", "html"], ...] = ("csv", "xlsx", "html")
    mode: FileMode = "0600"


class Ledger(Section):
    """`[ledger]`: what is remembered between nights."""

    url: LedgerUrl = "sqlite:///ledger.sqlite3"


class Customers(Section):
    """`[customers]`: an ISV's campaign."""

    file: str = ""
    admin_first_days: Days = 7


class Monitoring(Section):
    """`[monitoring]`: who else is told. The ping URL is a secret."""

    healthcheck_url: SecretStr = SecretStr("")
    metrics_file: str = ""
    log_file: str = ""


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

    def model_post_init(self, context: Any, /) -> None:  # noqa: ANN401  # as pydantic has it
        """Remember where campaign.toml stands."""
        self._folder = (context or {}).get("folder", Path())

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
    def lock_file(self) -> Path:
        """The file that the one live run holds locked."""
        return self.ledger_file.with_name(self.ledger_file.name + ".lock")
