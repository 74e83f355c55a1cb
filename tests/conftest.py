"""What several test files need set up for them."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.mail_stack import MailStack, memory, quick_folder
from tests.postgres_server import Keys, PostgresServer, keys_of, ledgers, require_postgres


def pytest_configure(config: pytest.Config) -> None:
    """Let the program be compiled once, for hundreds of processes of it are started.

    Keep the folders of the quick tests in memory, for their nights sync thousands of times. The long ones use the disk.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if config.option.markexpr == "not long" and (place := memory()):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(place))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two for each core: half of the time a test waits for a clock, a server or another process."""
    return 2 * (os.cpu_count() or 1)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let `-k P04` and `-k T26` select by the numbers of tests/test_promises.py."""
    for kind, letter in (("promise", "P"), ("case", "T")):
        numbers = [number for mark in item.iter_markers(kind) for number in mark.args]
        item.extra_keyword_matches.update(f"{letter}{number:02}" for number in numbers)


@pytest.fixture(scope="session")
def _mail_stack() -> Iterator[MailStack]:
    with MailStack() as stack:
        yield stack


@pytest.fixture
def mail_stack(_mail_stack: MailStack) -> MailStack:
    """Postfix and Dovecot, with nothing in their queues, mailboxes and logs. Starting them takes seconds, so they are shared."""
    _mail_stack.clear()
    return _mail_stack


@pytest.fixture(scope="session")
def _postgres() -> Iterator[PostgresServer]:
    require_postgres()
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres(_postgres: PostgresServer) -> PostgresServer:
    """A database server that several tests share, each with databases of its own: nobody may kill or stop it."""
    return _postgres


@pytest.fixture(params=ledgers(pytest.mark.long))
def ledger_keys(request: pytest.FixtureRequest) -> Keys:
    """The keys of campaign.toml for an empty ledger of each kind: what is promised of one is promised of the other."""
    return keys_of(request)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that only those trust who are given its `ca_file`."""
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of the authority."""
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """What `tmp_path` is, but where the ledger's many syncs cost nothing if possible; for nights of thousands of messages."""
    with quick_folder("campaign-world-") as folder:
        yield Path(folder)
