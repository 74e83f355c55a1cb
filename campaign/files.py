"""Files that ship with the program, files that nobody else may read, and files that are replaced in one step."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from campaign.errors import ConfigError

_LARGEST_SECRET = 1 << 16  # bytes


def shipped(folder: str) -> Path:
    """`templates` or `data`: inside the package in a wheel, beside it in a checkout."""
    packaged = Path(__file__).parent / folder
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / folder


def read_private(path: Path) -> bytes:
    """Read a key or a password. Raises ConfigError where others could read it too, or where it is no plain file.

    The open descriptor is judged, not the name: nobody can exchange the file in between. A FIFO does not hang.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise ConfigError(f"{path} is a symbolic link", "name the file itself") from error
        advice = "check the path in campaign.toml, and who owns the file"
        raise ConfigError(f"{path} cannot be read: {error.strerror}", advice) from error
    try:
        _refuse_unless_private(path, os.fstat(descriptor))
        return os.read(descriptor, _LARGEST_SECRET)
    finally:
        os.close(descriptor)


def _refuse_unless_private(path: Path, about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise ConfigError(f"{path} is not a plain file", "name the file that holds the secret")
    if about.st_uid not in {0, os.geteuid()}:
        raise ConfigError(f"{path} belongs to another user", f"chown it to the user who runs this program: chown $USER {path}")
    if about.st_mode & 0o077:
        raise ConfigError(f"{path} can be read by others (mode {stat.S_IMODE(about.st_mode):04o})", f"chmod 600 {path}")


def open_to_all(folder: Path) -> bool:
    """Whether everybody could replace what lies there: all may write to the folder, and it is not sticky as /tmp is."""
    try:
        mode = folder.stat().st_mode
    except OSError:  # it is not there, or cannot be looked at: whoever writes to it is told
        return False
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


@contextmanager
def replaced(path: Path, mode: int = 0o600) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on leaving, what was written there takes its place, whole or not at all.

    Raises OSError; then `path` is as it was and the temporary file is gone. A symlink at `path` is replaced, not followed.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    draft = Path(name)
    try:
        yield draft
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.chmod(mode)
        draft.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut: without this only the file's bytes are safe, not its name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
