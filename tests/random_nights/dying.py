"""Sudden death, and a life without waiting."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from sqlalchemy import Engine, event

from campaign.stopping import Stop


class Killed(BaseException):
    """The program dies here."""


@contextmanager
def dying(module: str, lines: int) -> Iterator[None]:
    """Let the program die at the so-many-th line that it executes of one of its modules.

    What is committed stays, a transaction that is open is rolled back, and nothing is written after death.
    """
    dead = False

    def line(_: FrameType, what: str, __: object) -> Any:  # a trace function
        nonlocal lines, dead
        lines -= what == "line"
        if not lines:
            dead = True
            raise Killed
        return line

    def call(frame: FrameType, _: str, __: object) -> Any:
        # The frame of the whole night holds the lock: a line of its `with` is no place to die without releasing it.
        return line if frame.f_code.co_filename.endswith(module) and frame.f_code.co_name != "run" else None

    def refuse(_: object) -> None:
        if dead:
            raise Killed

    event.listen(Engine, "begin", refuse)
    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)
        event.remove(Engine, "begin", refuse)


class Hurried(Stop):
    """Waits for nothing, so that the program's pauses take no time."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002  # the signature is Event's
        return self.is_set()
