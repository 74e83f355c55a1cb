"""Where a secret is read from; never the secret itself."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from campaign.config.values import LocatedPath
from campaign.errors import ConfigError
from campaign.files import read_private

_PATIENCE = 60  # seconds that a command may take

_Word = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A table of campaign.toml: every key known, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Secret(Section):
    """Where a secret is read from, exactly one of four places; never the secret itself."""

    file: LocatedPath | None = None
    env: _Word | None = None
    command: Annotated[tuple[_Word, ...], Field(min_length=1)] | None = None
    credential: Annotated[str, Field(pattern=r"^[^/]+$")] | None = None  # a name within $CREDENTIALS_DIRECTORY

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("give exactly one of file, env, command, credential")
        return self

    def read(self, environ: Mapping[str, str]) -> SecretStr:
        """Fetch the secret, without its final line end. Raises ConfigError, which never holds it."""
        text = self._text(environ).rstrip("\r\n")
        if not text or not text.isprintable():
            what = "holds more than one line, or control characters" if text else "is empty"
            raise ConfigError(f"the secret from {self.source} {what}", "put the secret alone on one line")
        return SecretStr(text)

    @property
    def source(self) -> str:
        """The place in words, for messages."""
        key, value = next((key, getattr(self, key)) for key in sorted(self.model_fields_set))
        return f"{key} {value[0] if key == 'command' else value}"

    def _text(self, environ: Mapping[str, str]) -> str:
        try:
            return self._bytes(environ).decode()
        except KeyError as error:
            needed = f"campaign.toml reads the secret from {self.source}; set it, or name another place there"
            raise ConfigError(f"the environment variable {error.args[0]} is not set", needed) from None
        except (OSError, UnicodeDecodeError, subprocess.SubprocessError) as error:
            what = f"the secret from {self.source} cannot be read: {_fault(error)}"
            raise ConfigError(what, "correct the place that campaign.toml names for it") from None

    def _bytes(self, environ: Mapping[str, str]) -> bytes:
        if self.env:
            return environ[self.env].encode()
        if self.command:
            return _output(self.command, environ)
        if self.credential:
            return (Path(environ["CREDENTIALS_DIRECTORY"]) / self.credential).read_bytes()
        return read_private(self.file or Path())


def _output(command: tuple[str, ...], environ: Mapping[str, str]) -> bytes:
    """What the operator's own command prints; it gets to see nothing that configures this program, such as the ping URL."""
    around = {name: value for name, value in environ.items() if not name.startswith("CAMPAIGN_")}
    return subprocess.run(  # noqa: S603
        command, check=True, capture_output=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL, env=around
    ).stdout


def _fault(error: Exception) -> str:
    """What went wrong, without what was read or printed."""
    match error:
        case OSError():
            return str(error.strerror)
        case subprocess.CalledProcessError():
            return f"it ended with exit code {error.returncode}"
        case subprocess.TimeoutExpired():
            return f"it took more than {_PATIENCE} seconds"
    return "it is not UTF-8"
