"""One run at a time: a lock that is held for the live process and dropped when it dies."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from sqlalchemy import Connection

from campaign.errors import Busy, LedgerError


class RunLock(Protocol):
    """Holds one campaign; to enter raises Busy where another run does, at once."""

    @property
    def session(self) -> Connection | None:
        """The session that the lock is bound to: where there is one, nobody may write to the ledger by another."""

    def __enter__(self) -> Self: ...
    def check(self) -> None:
        """Raise LedgerError where the lock is no longer ours: another run may hold the campaign."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class FileLock(RunLock):
    """Holds `flock` on a file beside the ledger. The file stays; its existence means nothing."""

    session = None  # the kernel's locks are the process's

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerError(
                f"{self._path} cannot be written: {error.strerror}", "check the disk and the folder's owner"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise Busy(f"another run holds {self._path}", "wait for it to end; nothing was changed") from None
        return self

    def check(self) -> None:
        """Raise LedgerError where the file at the path is no longer the one that is locked: another run may hold that one."""
        try:
            same = os.path.samestat(os.fstat(self._descriptor), self._path.lstat())
        except OSError:
            same = False
        if not same:
            raise LedgerError(
                f"{self._path} was removed or replaced during the run", "leave it in place; the next run goes on from here"
            )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._descriptor)
