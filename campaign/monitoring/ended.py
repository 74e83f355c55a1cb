"""A run that has ended, however it ended: what all who watch are told from."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from campaign.config import Config
from campaign.errors import ExitCode
from campaign.night import Night


@dataclass(frozen=True, slots=True)
class Ended:
    """One run: when, with which exit code, and as much of its record as there is."""

    config: Config
    started: datetime
    finished: datetime
    exit_code: int
    error: BaseException | None  # what it raised; many a one raises only its exit code
    night: Night | None  # None where the run raised before it had a record to give

    @classmethod
    def by(cls, error: BaseException | None, config: Config, night: Night | None, started: datetime, finished: datetime) -> Self:
        """The end that an exception brings: its `exit_code`, or that of a bug where it has none."""
        code = getattr(error, "exit_code", ExitCode.BUG) if error else ExitCode.DONE
        return cls(config, started, finished, int(code), error, night)

    @property
    def seconds(self) -> float:
        """How long it took, by the clock."""
        return (self.finished - self.started).total_seconds()

    @property
    def succeeded(self) -> bool:
        """Whether the night's work was done, also where something new needs a person."""
        return self.exit_code in {ExitCode.DONE, ExitCode.ATTENTION}
