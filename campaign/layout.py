"""Lays out a working folder from the files that ship with the program."""

from collections.abc import Iterator
from pathlib import Path

from campaign.errors import UsageError
from campaign.files import shipped


def lay_out(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Copy campaign.toml, roster.csv and the templates; yield each path and whether it was written. Overwrites nothing.

    Raises UsageError where the folder cannot be written.
    """
    sources = {folder / name: shipped("data") / name for name in ("campaign.toml", "roster.csv")}
    templates = shipped("templates")
    for source in sorted(path for path in templates.rglob("*") if path.is_file()):
        sources[folder / "templates" / source.relative_to(templates)] = source
    for target, source in sources.items():
        yield target, _copied(source, target)


def _copied(source: Path, target: Path) -> bool:
    if target.exists() or target.is_symlink():
        return False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(source.read_bytes())
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}", "choose a folder that you may write to") from error
    return True
