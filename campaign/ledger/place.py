"""Where the ledger lies: nobody else may read or replace it, and there must be room for a night."""

import os
import stat
import tempfile
from pathlib import Path

from campaign.errors import LedgerError

_ROOM = 1 << 20  # bytes: more than a night of ten thousand messages writes at once


def make(path: Path) -> None:
    """See to it that there is a file, and that nobody else may read it. Raises LedgerError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise LedgerError(f"{path} cannot be written: {error.strerror}", "check the disk and the folder's owner") from error


def check(path: Path) -> None:
    """Raise LedgerError where others could read the ledger or put another in its place, or where the disk is full."""
    folder = path.parent
    if folder.stat().st_mode & stat.S_IWOTH:  # though sticky: whoever can add a journal there can have SQLite roll it back
        raise LedgerError(f"{folder} can be written by everybody, who could change the ledger", f"chmod o-w {folder}")
    refuse_link(path)
    if path.exists():
        _refuse_if_open(path)
    make_sure_of_room(folder)


def refuse_link(path: Path) -> None:
    """Raise LedgerError for a symbolic link: whoever made it chose what is read and written here."""
    if path.is_symlink():
        raise LedgerError(f"{path} is a symbolic link", "put the file itself in its place")


def _refuse_if_open(path: Path) -> None:
    about = path.stat()
    if about.st_size and about.st_mode & stat.S_IRWXO:
        raise LedgerError(f"{path} can be read by everybody (mode {stat.S_IMODE(about.st_mode):04o})", f"chmod 600 {path}")


def make_sure_of_room(folder: Path) -> None:
    """Write to a folder what has no name and vanishes by itself. Raises LedgerError where that fails."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        advice = "make room, or check who owns the folder; nobody was asked or mailed"
        what = f"{folder} cannot be written to, or has no room for a night: {error.strerror}"
        raise LedgerError(what, advice) from error
