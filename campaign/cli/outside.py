"""What the commands take from outside: the time, the environment, signals, files to write to."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from campaign.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from campaign.config import Config
    from campaign.given import Means
    from campaign.stopping import Stop


def program() -> str:
    """How the user called this program, to be called so again."""
    return "python -m campaign" if sys.argv[0].endswith("__main__.py") else sys.argv[0]


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)


def load(path: Path) -> "Config":
    """The configuration of this file and of the environment. Raises ConfigError."""
    from campaign.config import load

    return load(path, os.environ)


def means() -> "Means":
    """What a night needs from outside; from now on signals ask it to end."""
    from campaign.given import Means

    return Means(now, stop_on_signals(), os.environ)


def stop_on_signals() -> "Stop":
    """Signals ask the run to end after the message in flight; a second one, of whatever kind, ends it at once."""
    from campaign.stopping import Stop

    stop = Stop()
    on_signals(stop.ask)
    return stop


def on_signals(then: Callable[[ExitCode], object]) -> None:
    """Do this at SIGINT, SIGTERM or the end of the terminal, unless that is not to matter (nohup); the next signal kills."""
    hang_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    numbers = (signal.SIGINT, signal.SIGTERM, *hang_up)

    def heed(number: int, _: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        then(ExitCode.SIGINT if number == signal.SIGINT else ExitCode.SIGTERM)

    for number in numbers:
        signal.signal(number, heed)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise UsageError where a file that the command names cannot be written."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", "choose a place that you may write to") from error
