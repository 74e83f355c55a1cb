"""The messages of a maildir, which stays as it is: nothing is moved, flagged or deleted."""

import os
import stat
from collections.abc import Generator, Iterator
from pathlib import Path

from campaign.bounces.dsn import MOST_BYTES
from campaign.errors import UsageError

_FOLDERS = ("new", "cur")


def messages(directory: Path) -> Generator[bytes, None, None]:
    """The beginning of each message, `MOST_BYTES` at most. What vanishes meanwhile, and what is no plain file, is passed over.

    Raises UsageError where there is no maildir, or where something in it cannot be read.
    """
    folders = [directory / name for name in _FOLDERS if (directory / name).is_dir()]
    if not folders:
        raise UsageError(f"{directory} is no maildir: it has neither new/ nor cur/", "name the folder that holds these two")
    for folder in folders:
        for path in _files(folder):
            if (message := _beginning(path)) is not None:
                yield message


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError as error:
        raise _unreadable(folder, error) from error


def _beginning(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink() or not path.is_file():
            return None
        raise _unreadable(path, error) from error
    try:
        return os.read(descriptor, MOST_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be read: {error.strerror}", "run this as a user who may read that mailbox")
