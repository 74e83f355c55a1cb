"""What several test files need set up for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mail_stack import MailStack, quick_folder


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


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """What `tmp_path` is, but where the ledger's many syncs cost nothing if possible; for nights of thousands of messages."""
    with quick_folder("campaign-world-") as folder:
        yield Path(folder)
