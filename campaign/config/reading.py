"""From the file and the environment to a Config, or to one sentence that says which line is wrong."""

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from campaign.config.complaints import Places, explained
from campaign.config.environment import override
from campaign.config.schema import Config
from campaign.config.shape import tables
from campaign.errors import ConfigError


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read `path`, let `CAMPAIGN_<SECTION>_<KEY>` of `environ` override scalar keys, and check everything.

    Raises ConfigError with file:line (or the variable's name), the key and what it should be.
    """
    text = _text(path)
    given = _parsed(text, path)
    places = Places(path, text, override(given, environ))
    try:
        return Config.model_validate(_with_all_sections(given), context={"folder": path.absolute().parent, "environ": environ})
    except ValidationError as error:
        raise explained(error.errors(include_url=False), places) from None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data, mode = file.read(), os.fstat(file.fileno()).st_mode
    except FileNotFoundError as error:
        advice = "name it with --config, or lay out a working folder with: campaign init DIR"
        raise ConfigError(f"{path} does not exist", advice) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", "name the configuration with --config FILE") from error
    if stat.S_ISREG(mode) and mode & stat.S_IWOTH:  # a command that gives a password, and where the link leads, stand in it
        raise ConfigError(f"{path} can be changed by everybody (mode {stat.S_IMODE(mode):04o})", f"chmod o-w {path}")
    if not data.strip():
        raise ConfigError(f"{path} is empty", "`campaign init DIR` writes a commented example")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: a byte here is not UTF-8", "save the file as UTF-8") from error


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        what, _, place = str(error).removesuffix(")").partition(" (at ")
        line = re.match(r"line (\d+)", place)
        where = f"{path}:{line[1] if line else text.rstrip().count(chr(10)) + 1}"
        if what == "Cannot overwrite a value":
            raise ConfigError(f"{where}: this key was given before", "keep one of the two") from error
        advice = "correct that line; values need quotes unless they are numbers, dates, lists or true/false"
        raise ConfigError(f"{where}: {what}", advice) from error


def _with_all_sections(given: dict[str, Any]) -> dict[str, Any]:
    """Sections that are left out are read too: only so do their default paths start at the file's folder."""
    return {name: {} for name, kind in tables()} | given
