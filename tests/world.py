"""A small world for whole nights: a folder with a campaign, an account server and a relay on loopback, and a clock to move."""

import csv
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from campaign import nightly
from campaign.config import Config, load
from campaign.given import Means, Waits
from campaign.night import Night
from campaign.sandbox import AccountServer, Application, Person
from campaign.stopping import Stop
from tests.fakes import Relay

CLIENT_ID = "5c1b2a3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
CANARY = "0a7f3c52-9d1e-4b86-a2f4-6c8d5e7b9031"
SCOPES = ("signature", "impersonation")
NO_WAITS = Waits((0, 0), (0.01, 0.01, 0.01), (0, 0), (0.01, 0.01), 0)
FIRST_NIGHT = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


def user_id(number: int) -> str:
    """The user id of the person with this number."""
    return f"{number:08x}-0000-4000-8000-000000000000"


def email(number: int) -> str:
    """The address of the person with this number."""
    return f"person{number}@example.com"


@cache
def private_key() -> rsa.RSAPrivateKey:
    """One key for all tests: making one is slow."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: Any = None) -> bytes:
    """A private key as the file that Docusign hands out."""
    return (key or private_key()).private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def toml(tables: Mapping[str, Mapping[str, Any]], name: str = "test") -> str:
    """Tables of plain values as TOML; a dot in a table's name makes a table within a table."""
    lines = [f'name = "{name}"']
    for table, keys in tables.items():
        lines += [f"[{table}]", *(f"{key} = {_value(value)}" for key, value in keys.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    return str(value) if isinstance(value, int | float) else f'"{value}"'


def sql(config: Config, statement: str) -> list[dict[str, Any]]:
    """One statement to the ledger's database, committed, and its rows; by another way than the program's."""
    if server := config.ledger.server:
        about: dict[str, Any] = {"host": server.host, "port": server.port, "user": server.user, "dbname": server.database}
        with psycopg.connect(make_conninfo(password=config.ledger_password(), **about), row_factory=dict_row) as session:
            done = session.execute(statement)
            return done.fetchall() if done.description else []
    with closing(sqlite3.connect(config.ledger_file)) as file, file:
        file.row_factory = sqlite3.Row
        assert [tuple(row) for row in file.execute("PRAGMA integrity_check")] == [("ok",)]
        return [dict(row) for row in file.execute(statement)]


def rows(config: Config, table: str) -> list[dict[str, Any]]:
    """All rows of one of the ledger's tables; none where it is not made yet."""
    if not config.ledger.server and not config.ledger_file.exists():
        return []
    try:
        return sql(config, f"SELECT * FROM {table}")  # noqa: S608
    except (sqlite3.OperationalError, psycopg.errors.UndefinedTable):
        return []


@dataclass
class World:
    """`with World(folder) as world:` serves both servers; then `world.roster(...)`, `world.night()`, `world.days_pass(3)`.

    `keys` are changes to campaign.toml: {"policy": {"max_per_run": 2}}. `world.now` is the time for program and account server;
    a `live` world has the real time instead, for runs as processes of their own.
    """

    folder: Path
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    relay: Relay = field(default_factory=Relay)
    now: datetime = FIRST_NIGHT
    stop: Stop = field(default_factory=Stop)
    live: bool = False
    waits: Waits = NO_WAITS
    name: str = "test"
    ledger: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # the keys that say where it lies

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self.accounts = stack.enter_context(AccountServer(clock=lambda: self.clock().timestamp()))
            stack.enter_context(self.relay)
            redirect_uris = (f"{self.accounts.url}/thanks",)
            self.accounts.add_application(Application(CLIENT_ID, "Test", (private_key().public_key(),), redirect_uris))
            self.accounts.add_person(Person(CANARY, "canary@example.com", "Canary"))
            self.consent(CANARY)
            self.accounts.directory.administrators.add(CANARY)
            self._running = stack.pop_all()
        key_file = self.folder / "private.pem"
        key_file.write_bytes(pem())
        key_file.chmod(0o600)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._running.close()

    # --- people

    def roster(self, people: Iterable[int] | Iterable[Mapping[str, Any]]) -> None:
        """Write the roster: people by number, or whole rows. Everybody on it has an account."""
        rows = [row if isinstance(row, Mapping) else {"user_id": user_id(row), "email": email(row)} for row in people]
        columns = list(dict.fromkeys(column for row in rows for column in row))
        with (self.folder / "roster.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, columns, restval="")
            table.writeheader()
            table.writerows(rows)
        for row in rows:
            self.accounts.add_person(Person(row["user_id"], row["email"]))

    def consent(self, *who: int | str, scopes: Iterable[str] = SCOPES) -> None:
        """Let people grant consent."""
        for person in who:
            self.accounts.consent(person if isinstance(person, str) else user_id(person), CLIENT_ID, scopes)

    def revoke(self, *who: int | str) -> None:
        """Let people take their consent back."""
        for person in who:
            self.accounts.revoke(person if isinstance(person, str) else user_id(person), CLIENT_ID)

    # --- time

    def clock(self) -> datetime:
        """The time."""
        return datetime.now(UTC) if self.live else self.now

    def days_pass(self, days: float = 1) -> None:
        """Move the clock."""
        self.now += timedelta(days=days)

    # --- the program

    def config(self, **environ: str) -> Config:
        """Write campaign.toml anew and read it."""
        tables: dict[str, dict[str, Any]] = {
            "docusign": {
                "environment": "demo",
                "client_id": CLIENT_ID,
                "private_key_file": "private.pem",
                "redirect_uri": f"{self.accounts.url}/thanks",
                "canary": [CANARY],
                "account_server": self.accounts.url,
                "probes_per_hour": 0,
                "probe_burst": 1_000_000,
                "timeout": 5,
            },
            "roster": {"file": "roster.csv"},
            "mail": {
                "host": "127.0.0.1",
                "port": self.relay.port,
                "security": "none",
                "from": "Contract Sender <contracts@example.com>",
                "per_minute": 0,
                "timeout": 5,
                "final_timeout": 5,
            },
            "report": {"formats": ["csv"]},
        }
        for table, keys in [*self.ledger.items(), *self.keys.items()]:
            tables[table] = {**tables.get(table, {}), **keys}
        path = self.folder / "campaign.toml"
        path.write_text(toml(tables, self.name), encoding="utf-8")
        return load(path, environ)

    def means(self) -> Means:
        """What a night needs from outside."""
        return Means(self.clock, self.stop, {}, waits=self.waits)

    def night(self, approve: int | None = None) -> Night:
        """One night."""
        return nightly.run(self.config(), self.means(), approve)

    def plan(self) -> Night:
        """A plan."""
        return nightly.plan_only(self.config(), self.means())

    # --- what is left behind

    def report(self) -> dict[str, dict[str, str]]:
        """The rows of report.csv by user id."""
        with (self.folder / "reports" / "report.csv").open(encoding="utf-8", newline="") as file:
            return {row["user_id"]: row for row in csv.DictReader(file)}

    def mailed(self) -> list[str]:
        """The recipients of everything that the relay took, in order."""
        return [message.recipient for message in self.relay.accepted]
