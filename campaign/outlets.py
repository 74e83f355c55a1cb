"""Where the program speaks: stdout and stderr, which may be closed, on a full disk, or a terminal that is gone."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO, cast

_LAST = 2  # the number of stderr


class Outlet:
    """A text stream that falls silent at the first write that fails, and remembers why.

    A reader who has had enough (`| head`) is no failure.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._silent = False
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or say nothing any more."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, or say nothing any more."""
        self._attempt(self._stream.flush)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever else a stream has
        return getattr(self._stream, name)

    def _attempt(self, work: Callable[[], object]) -> None:
        if self._silent:
            return
        try:
            work()
        except OSError as error:
            self._silent = True
            self.failure = None if isinstance(error, BrokenPipeError) else error


def take_over() -> Outlet:
    """Let stdout and stderr be outlets; give that of stdout. One that was closed leads nowhere.

    What is opened later gets the number of no closed one: SQLite's file as number 2 would be written to as stderr
    (https://sqlite.org/howtocorrupt.html).
    """
    while (spare := os.open(os.devnull, os.O_RDWR)) <= _LAST:
        pass
    os.close(spare)
    stdout, stderr = (Outlet(stream or open(os.devnull, "w", encoding="utf-8")) for stream in _streams())  # noqa: PTH123, SIM115
    for stream in (stdout, stderr):
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # cron's locale may not know the names of the world
    sys.stdout, sys.stderr = cast("TextIO", stdout), cast("TextIO", stderr)
    return stdout


def _streams() -> tuple[TextIO | None, TextIO | None]:
    return sys.stdout, sys.stderr
