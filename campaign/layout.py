"""Lays out a working folder from the files that ship with the program, with the jobs that run it every night."""

import os
import pwd
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from campaign.errors import UsageError
from campaign.files import shipped
from campaign.model import printable

_OURS = {"report.html"}  # templates of which nobody has one of their own
_HOMES = ("/home", "/root", "/run/user")  # what ProtectHome= hides: systemd.exec(5)


def lay_out(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Write campaign.toml, roster.csv, the templates, a crontab, a systemd service and its timer; overwrite nothing.

    Yields each path and whether it was written. The jobs hold the absolute paths of the folder and of this very program.
    Raises UsageError where the folder cannot be written, or where a path cannot stand in a job; then nothing was written.
    """
    contents = {name: (shipped("data") / name).read_bytes() for name in ("campaign.toml", "roster.csv")}
    templates = shipped("templates")
    for source in sorted(path for path in templates.rglob("*") if path.is_file() and path.name not in _OURS):
        contents[f"templates/{source.relative_to(templates)}"] = source.read_bytes()
    contents |= _jobs(folder.resolve())
    for name, content in contents.items():
        yield folder / name, _written(folder / name, content)


def _written(target: Path, content: bytes) -> bool:
    if target.exists() or target.is_symlink():
        return False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}", "choose a folder that you may write to") from error
    return True


def _jobs(folder: Path) -> dict[str, bytes]:
    """The crontab and the units, filled in, by the names they get in this folder."""
    unit = _unit_name(folder)
    names = {"crontab": "crontab", f"{unit}.service": "systemd/campaign.service", f"{unit}.timer": "systemd/campaign.timer"}
    argv = [*_program(), "run", "--config", str(folder / "campaign.toml")]
    for path in argv:
        _refuse_if_unwritable(path)
    values = {
        "unit": unit,
        "user": _user(),
        "folder": str(folder),
        "folder_value": _specifier_free(str(folder)),
        "folder_path": _quoted(str(folder)),
        "files": shlex.join(str(folder / f"{unit}.{kind}") for kind in ("service", "timer")),
        "crontab": shlex.quote(str(folder / "crontab")),
        "documentation": _specifier_free((folder / "campaign.toml").as_uri()),
        "command": ":" + " ".join(_quoted(word) for word in argv),  # the colon: a $ is a $
        "cron_command": shlex.join(argv).replace("%", r"\%"),  # a bare % ends the command: crontab(5)
        "home": _protect_home(folder),
    }
    return {name: (shipped("data") / source).read_text("utf-8").format_map(values).encode() for name, source in names.items()}


def _program() -> list[str]:
    """The words that start this program from anywhere: its script beside the interpreter, or the interpreter with its module."""
    script = shutil.which("campaign", path=Path(sys.executable).parent)
    return [script] if script else [sys.executable, "-m", "campaign"]


def _unit_name(folder: Path) -> str:
    """`campaign`, with the folder's name unless that begins so itself: several campaigns on one machine differ by it."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.name).strip("-.")[:100]
    return name if name.startswith("campaign") else f"campaign-{name}".rstrip("-")


def _user() -> str:
    """The name of who runs this, or the number of somebody who has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _refuse_if_unwritable(path: str) -> None:
    """Raise UsageError for what cron and systemd understand differently, or not at all, however it is quoted."""
    if re.search(r"[\x00-\x1f\x7f\\\ud800-\udfff]", path):
        what = f"{printable(path)} has a control character or a backslash in its name, which cron and systemd cannot be told"
        raise UsageError(what, "choose another folder")


def _specifier_free(text: str) -> str:
    """Text for a systemd unit, which would take `%h` for the home folder: systemd.unit(5)."""
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """One word of a systemd command or list, if need be in quotes: systemd.syntax(7)."""
    text = _specifier_free(word)
    return text if re.fullmatch(r"[\w@%+=:,./-]+", text) else '"' + text.replace('"', r"\"") + '"'


def _protect_home(folder: Path) -> str:
    """`true` hides all homes; `read-only` leaves them to be read, where the campaign or the program itself lies in one."""
    needed = [folder, *(Path(place).resolve() for place in (sys.executable, sys.prefix, __file__))]
    return "read-only" if any(path.is_relative_to(home) for path in needed for home in _HOMES) else "true"
