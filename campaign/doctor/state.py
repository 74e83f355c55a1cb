"""What a night writes to, and what the last one left there: folders, disk, lock, ledger. Nothing is changed by looking."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

from campaign import report
from campaign.config import Config
from campaign.doctor import database
from campaign.doctor.steps import attempt, in_turn
from campaign.given import Means
from campaign.ledger import OVERDUE, is_older, place, read_ledger, trust
from campaign.ledger.lock import FileLock
from campaign.ledger.opening import store_of
from campaign.model import Check, Grade
from campaign.stopping import stop_if_asked

_LITTLE = 100 << 20  # bytes of free space that leave no room for a long campaign
_MOUNTS = Path("/proc/self/mountinfo")

# Where a lock may not hold or a commit may not last, so that two runs could mail at once (sqlite.org/howtocorrupt.html).
_SHARED = re.compile(r"nfs\d?|cifs|smb\w*|ncpfs|afs|9p|virtiofs|ceph|glusterfs|lustre|gpfs|beegfs|fuse\..*")
_FLEETING = {"tmpfs", "ramfs"}


def state(config: Config, means: Means) -> Iterator[Check]:
    """Whether a night that starts now could begin, remember, and report."""
    yield attempt("STOP file", partial(_stop_file, config, means))
    yield attempt("report folder", partial(_report_folder, config))
    place = database.steps(config, means) if config.ledger.server else _file(config)
    yield from in_turn({**place, "ledger": partial(_ledger, config), "last run": partial(_last_run, config, means)})


def _file(config: Config) -> dict[str, Callable[[], Check]]:
    """What is looked at where the ledger is a file."""
    return {
        "state folder": partial(_state_folder, config),
        "disk": lambda: disk(config.ledger_file.parent, _mounts()),
        "lock": partial(_lock, config.lock_file),
    }


def disk(folder: Path, mounts: str) -> Check:
    """On what kind of file system a folder lies, by the text of /proc/self/mountinfo (proc(5)), and how much room is left."""
    there = _existing(folder)
    kind, free = _kind(there, mounts), os.statvfs(there)
    left = free.f_bavail * free.f_frsize
    found = f"{folder} is on {kind or 'a file system that cannot be told here'}, with {left >> 20} MiB left"
    if _SHARED.fullmatch(kind):
        why = "shared with other machines, where a lock may not hold and a ledger may be damaged"
        return Check("disk", Grade.DOUBT, f"{found}: {why}", "let [ledger] url name a file on a disk of this machine")
    if kind in _FLEETING:
        advice = "let [ledger] url name a file on a disk of this machine"
        return Check("disk", Grade.DOUBT, f"{found}: with the next reboot the ledger is gone", advice)
    if left < _LITTLE:
        return Check("disk", Grade.DOUBT, found, "make room: a night stops at the first write that fails")
    return Check("disk", Grade.GOOD, found)


def _stop_file(config: Config, means: Means) -> Check:
    stop_if_asked(means.stop, config.stop_file)
    return Check("STOP file", Grade.GOOD, f"{config.stop_file} is not there")


def _report_folder(config: Config) -> Check:
    folder = config.report.directory
    report.check(folder)
    for each in (folder, folder / "history"):
        place.make_sure_of_room(_existing(each))
    return _writable("report folder", folder)


def _state_folder(config: Config) -> Check:
    folder = config.ledger_file.parent
    if _existing(folder) == folder:
        place.check(config.ledger_file)
    else:
        place.make_sure_of_room(_existing(folder))
    return _writable("state folder", folder)


def _writable(what: str, folder: Path) -> Check:
    """A folder that takes what a night writes, or will where it is made."""
    if _existing(folder) != folder:
        return Check(what, Grade.GOOD, f"{folder} does not exist yet; the first night makes it")
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & stat.S_IWOTH:
        found = f"{folder} can be written to by everybody on this machine (mode {mode:04o})"
        return Check(what, Grade.DOUBT, found, f"chmod o-w {folder}")
    return Check(what, Grade.GOOD, f"{folder} can be written to")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists and may be looked at."""
    return next(each for each in (folder, *folder.parents) if os.access(each, os.F_OK))


def _mounts() -> str:
    """Nothing on a system without Linux's /proc."""
    with suppress(OSError):
        return os.fsdecode(_MOUNTS.read_bytes())
    return ""


def _kind(folder: Path, mounts: str) -> str:
    """The kind of the file system that is mounted nearest above a folder; of several at one place the last is seen."""
    here, found = folder.resolve(), (0, "")
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4]))
        if here.is_relative_to(point) and len(point.parts) >= found[0]:
            found = len(point.parts), after.split()[0]
    return found[1]


def _lock(path: Path) -> Check:
    """Take the lock for a moment, if there is a file to lock: the first run makes it."""
    if os.path.lexists(path):
        with FileLock(path):
            pass
    return Check("lock", Grade.GOOD, f"no run holds {path}")


def _ledger(config: Config) -> Check:
    name = config.ledger_name
    with read_ledger(config) as ledger:
        if ledger is None:
            there = "holds nothing of this campaign" if config.ledger.server else "does not exist"
            return Check("ledger", Grade.GOOD, f"{name} {there} yet; the first night makes it")
    if is_older(config):
        advice = "the next night brings it up to date; the program that wrote it will refuse it then"
        return Check("ledger", Grade.DOUBT, f"{name} was written by an earlier version of this program", advice)
    mode = 0 if config.ledger.server else stat.S_IMODE(config.ledger_file.stat().st_mode)
    if mode & 0o077:
        return Check("ledger", Grade.DOUBT, f"{name} can be read by others (mode {mode:04o})", f"chmod 600 {name}")
    return Check("ledger", Grade.GOOD, f"{name} is {_as_it_was(config)}")


def _as_it_was(config: Config) -> str:
    """What is known of the ledger: of a file all, of a database what this host's witness can tell."""
    if config.ledger.server is None:
        return "whole, and the one that this campaign last wrote"
    known = store_of(config).witness.exists()
    return "not behind the one that this host last saw" if known else "there; this host has not seen it before"


def _last_run(config: Config, means: Means) -> Check:
    now = means.clock()
    with read_ledger(config) as ledger:
        last = ledger.last_run() if ledger else None
    if last is None:
        advice = "look at the plan (campaign plan) and at a message (campaign preview USER), then: campaign run --approve N"
        return Check("last run", Grade.DOUBT, "there was none yet", advice)
    trust(last, now)
    found = f"{last:%Y-%m-%d %H:%M} UTC, {(now - last) / timedelta(hours=1):.0f} hours ago"
    if now - last > OVERDUE:
        return Check("last run", Grade.DOUBT, found, "see whether cron or the timer still starts it every night, and its log")
    return Check("last run", Grade.GOOD, found)
