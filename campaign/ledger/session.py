"""One session at a PostgreSQL server: verified, durable, and with an end to every wait."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from campaign.config import Config
from campaign.config.schema import Server
from campaign.errors import ConfigError, LedgerError

OLDEST = 14  # the oldest version of the server that has all that is used here
_CONNECT = 10  # seconds
_DEADLINE = 300  # seconds for a statement, for all rows of many at once; the server ends single ones sooner

# What the server is asked to do for this session. A session whose host has vanished ends, and its lock with it, within a minute.
_ASKED = {
    "statement_timeout": "120s",
    "lock_timeout": "30s",
    "idle_in_transaction_session_timeout": "300s",
    "idle_session_timeout": "0",  # a relay may take minutes, and a pause hours
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60s",
    "client_connection_check_interval": "10s",
}


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for nothing without end."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:  # noqa: ANN401  # as psycopg has it
        """As psycopg's; where the server says nothing for too long the session is over."""
        try:
            return super().wait(gen, interval, timeout or _DEADLINE)
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001  # what its parameter `timeout` raises has no other name
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {timeout or _DEADLINE} seconds") from error


def connect(config: Config, server: Server, *, read_only: bool) -> Session:
    """A new session. Raises ConfigError where a secret or a CA file cannot be read, LedgerError, psycopg.Error."""
    ca_file = config.ledger.ca_file
    if ca_file and not ca_file.is_file():
        raise ConfigError(f"{ca_file} is no file", "[ledger] ca_file names the certificates that the server's own is checked by")
    settings = {**_ASKED, "default_transaction_read_only": "on" if read_only else "off"}
    if read_only:
        settings["default_transaction_isolation"] = "repeatable\\ read"  # all that one transaction reads is of one instant
    session = Session.connect(
        host=server.host,
        hostaddr="",  # given here, nothing in the environment takes its place: PGHOSTADDR and the like
        port=server.port,
        user=server.user,
        dbname=server.database,
        password=config.ledger_password() or "",
        passfile=os.devnull,
        target_session_attrs="any",
        application_name=f"campaign {config.name}",
        client_encoding="UTF8",
        connect_timeout=_CONNECT,
        options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
        keepalives_idle=30,
        keepalives_interval=10,
        keepalives_count=3,
        tcp_user_timeout=60_000,
        **_security(ca_file),
    )
    try:
        _be_sure(session, str(server))
    except BaseException:
        session.close()
        raise
    return session


def _security(ca_file: Path | None) -> dict[str, Any]:
    """TLS to the very host that is named. On loopback it is the server's choice; there a password is never given in clear."""
    shared = {"gssencmode": "disable"}
    if ca_file:
        return {**shared, "sslmode": "verify-full", "sslrootcert": str(ca_file)}
    return {**shared, "sslmode": "prefer", "require_auth": "scram-sha-256,none"}


def _be_sure(session: Session, name: str) -> None:
    """Refuse a server that would lose what it called written, or cannot hold what is written."""
    session.autocommit = True
    columns = "'server_version_num', 'server_encoding', 'fsync', 'synchronous_commit'"
    row = session.execute(f"SELECT pg_is_in_recovery(), current_setting(s) FROM unnest(ARRAY[{columns}]) AS s").fetchall()  # noqa: S608
    (standby, version), (_, encoding), (_, fsync), (_, commit) = row
    wrong = {
        f"has version {version[:-4]}, older than {OLDEST}": int(version) < OLDEST * 10_000,
        f"has the encoding {encoding}, not UTF8: createdb -E UTF8": encoding != "UTF8",
        "is a standby, which only reads": standby,
        "has fsync = off, and would lose with the power what it called written": fsync != "on",
    }
    if found := [what for what, is_so in wrong.items() if is_so]:
        raise LedgerError(f"{name} {found[0]}", "let [ledger] url name a server that keeps what it is given; nothing was sent")
    if commit not in {"on", "remote_apply"}:
        session.execute("SET synchronous_commit = on")
    session.autocommit = False


class Facts(NamedTuple):
    """What a server says of itself."""

    version: str
    tls: str  # the version of the protocol; "" without
    standbys: str  # that a commit waits for; "" = none
    now: datetime
    may_create: bool  # tables


def facts_of(config: Config, server: Server) -> Facts:
    """Ask a server about itself. Raises as `connect` does."""
    with connect(config, server, read_only=True) as session:
        row = session.execute("""
            SELECT split_part(current_setting('server_version'), ' ', 1),
                   coalesce((SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()), ''),
                   current_setting('synchronous_standby_names'), clock_timestamp(),
                   coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)
        """).fetchall()
    return Facts(*row[0])
