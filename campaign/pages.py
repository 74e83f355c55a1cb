"""Writes the static pages into a folder that a web server shows, and knows again which of the files there are its own."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from campaign.config import Config
from campaign.errors import UsageError
from campaign.files import replaced
from campaign.given import composer

_MARK = re.compile(r"(?s)(.*)<!-- written by campaign pages, sha256 ([0-9a-f]{64}) -->\n")
_READABLE = 0o644  # for the web server, which is another user


def pages(config: Config) -> dict[str, str]:
    """The pages of a campaign by the names of their files. Raises TemplateError, ConfigError."""
    return dict(composer(config).pages())


def write(config: Config, folder: Path) -> Iterator[tuple[Path, bool]]:
    """Write the pages, each in one step, and remove those that an earlier call has written and that there are no more.

    Yields each file and whether it was written. Only files are touched that this has written and nobody has changed since: where
    another stands in the way nothing is written at all, and UsageError is raised. Raises OSError for a bad place.
    """
    contents = {folder / name: page for name, page in pages(config).items()}
    foreign = [path for path in contents if (path.exists() or path.is_symlink()) and not _is_own(path)]
    if foreign:
        what = f"{', '.join(map(str, foreign))}: not written by this program, or changed since; nothing was written"
        raise UsageError(what, "move it away, or choose another folder; words of your own belong into the templates")
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    for path, page in contents.items():
        with replaced(path, _READABLE) as draft:
            draft.write_text(_marked(page), encoding="utf-8")
        yield path, True
    for path in sorted(folder.glob("information.*.html")):
        if path not in contents and _is_own(path):
            path.unlink()
            yield path, False


def _marked(page: str) -> str:
    return f"{page}<!-- written by campaign pages, sha256 {_digest(page)} -->\n"


def _is_own(path: Path) -> bool:
    """Whether a file is as this program has written it."""
    if path.is_symlink() or not path.is_file():
        return False
    found = _MARK.fullmatch(path.read_bytes().decode("utf-8", "replace"))
    return found is not None and found[2] == _digest(found[1])


def _digest(page: str) -> str:
    return hashlib.sha256(page.encode()).hexdigest()
