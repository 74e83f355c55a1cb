"""A PostgreSQL of our own on loopback, as Debian ships it: to be killed, restarted and torn down."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import psycopg
import pytest
import trustme

Keys: TypeAlias = dict[str, dict[str, Any]]  # of campaign.toml, by table

PASSWORD = "s3cret-of-the-database"
_SOON = 30  # seconds


@cache
def binaries() -> Path | None:
    """Where Debian keeps the server's programs; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    return found[-1].parent if found else None


def require_postgres() -> None:
    """Skip where there is no server to start; in CI nothing is skipped."""
    if binaries() is None:
        if os.environ.get("CI") == "true":
            pytest.fail("PostgreSQL is not installed")
        pytest.skip("PostgreSQL is not installed")


class PostgresServer:
    """`with PostgresServer() as server:` initialises and starts one; `server.database()` makes an empty database in it.

    With a `certificate` it offers TLS. `settings` are those of postgresql.conf; it is durable unless they say otherwise.
    """

    def __init__(self, certificate: trustme.LeafCert | None = None, **settings: str) -> None:
        tls = {"ssl": "on", "ssl_cert_file": "'tls.pem'", "ssl_key_file": "'tls.pem'"} if certificate else {}
        self._settings = {"max_connections": "60", "shared_buffers": "16MB", **tls, **settings}
        self._certificate = certificate
        self._numbers = count(1)

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="campaign-postgres-"))
        self._owner = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        try:
            self._initialise()
            self.start()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def data(self) -> Path:
        """The server's data directory."""
        return self._folder / "data"

    def _initialise(self) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD, encoding="utf-8")
        if os.geteuid() == 0:
            owner = pwd.getpwnam(self._owner)
            for path in (self._folder, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        as_is = ("-U", "campaign", f"--pwfile={password}", "--auth=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        self._run("initdb", "-D", self.data, *as_is)
        if self._certificate:
            pem = self.data / "tls.pem"
            self._certificate.private_key_and_cert_chain_pem.write_to_path(pem)
            pem.chmod(0o600)
            os.chown(pem, self.data.stat().st_uid, -1)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        own = {"listen_addresses": "'127.0.0.1'", "port": str(self.port), "unix_socket_directories": "''", **self._settings}
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = {value}\n" for name, value in own.items())

    def _run(self, program: str, *arguments: object) -> None:
        """Run one of the server's programs as its owner: root may not."""
        folder = binaries()
        assert folder
        command = [str(folder / program), *map(str, arguments)]
        before = ["setpriv", f"--reuid={self._owner}", f"--regid={self._owner}", "--clear-groups"] if os.geteuid() == 0 else []
        done = subprocess.run([*before, *command], cwd="/", capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    # --- its life

    def start(self) -> None:
        """Start it, after a death with recovery; return when it answers."""
        self._run("pg_ctl", "-D", self.data, "-l", self._folder / "log", "-t", _SOON, "-w", "start")

    def stop(self) -> None:
        """Stop it as an administrator would who does not wait for sessions."""
        self._run("pg_ctl", "-D", self.data, "-m", "fast", "-w", "stop")

    def kill(self) -> None:
        """`kill -9` to the server and all its processes, and wait until they are gone; nothing where it does not run."""
        with suppress(OSError, ValueError, IndexError):
            leader = int((self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
            family = [leader, *_children(leader)]
            for number in family:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            deadline = time.monotonic() + _SOON
            while any(_lives(number) for number in family):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            (self.data / "postmaster.pid").unlink()

    # --- what is in it

    def database(self, *options: str) -> str:
        """Make an empty database; return its name."""
        name = f"test{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0 {' '.join(options)}")
        return name

    def url(self, database: str) -> str:
        """What `[ledger] url` is for a database."""
        return f"postgresql+psycopg://campaign@127.0.0.1:{self.port}/{database}"

    def keys(self, database: str) -> Keys:
        """What campaign.toml says of a ledger in a database, the place of the password included."""
        secret = self._folder / "password-of-the-client"
        if not secret.exists():
            secret.write_text(PASSWORD, encoding="utf-8")
            secret.chmod(0o600)
        return {"ledger": {"url": self.url(database)}, "ledger.password": {"file": str(secret)}}

    @contextmanager
    def connected(self, database: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        """A session of the administrator's own, each statement committed."""
        about = f"host=127.0.0.1 port={self.port} user=campaign password={PASSWORD} dbname={database}"
        with psycopg.connect(about, autocommit=True) as connection:
            yield connection

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """One statement of the administrator's, and its rows."""
        with self.connected(database) as connection:
            done = connection.execute(statement)
            return done.fetchall() if done.description else []

    def cut(self, database: str) -> None:
        """End all sessions at a database, as an administrator or a failover does."""
        with self.connected() as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])


def ledgers(*marks: pytest.MarkDecorator) -> list[Any]:
    """Each kind of ledger, as parameters of a fixture that gives `keys_of(request)`; `marks` are those of the server's."""
    return ["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, *marks])]


in_a_file = pytest.mark.parametrize("ledger_keys", ["sqlite"], indirect=True)  # what no other ledger has


def keys_of(request: pytest.FixtureRequest) -> Keys:
    """The keys of campaign.toml for an empty ledger of the kind that is asked for."""
    if request.param == "sqlite":
        return {}
    server = request.getfixturevalue("postgres")
    assert isinstance(server, PostgresServer)
    return server.keys(server.database())


def _children(number: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(entry.read_text(encoding="utf-8").rpartition(")")[2].split()[1]) == number:
                found.append(int(entry.parent.name))
    return found


def _lives(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
