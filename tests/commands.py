"""Commands as a user gives them: in this process, which is quick, or in one of their own, which is the real thing."""

import io
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import typer.main

from campaign.cli import app, main

ROOT = Path(__file__).parent.parent


def _leaves(group: Any, *names: str) -> Iterator[tuple[str, Any]]:
    """The commands of a group, and of the groups within, by their full names."""
    for name, one in group.commands.items():
        yield from _leaves(one, *names, name) if hasattr(one, "commands") else [(" ".join((*names, name)), one)]


COMMANDS: dict[str, Any] = dict(_leaves(typer.main.get_command(app)))


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended and what it said."""

    exit_code: int
    stdout: str
    stderr: str


def command(*arguments: object) -> Result:
    """`campaign …` through its real entry, in this process; what it does to the process is undone."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n") for _ in range(2))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    umask = os.umask(0o022)
    argv = ["campaign", *map(str, arguments)]
    hooks = patch.object(sys, "unraisablehook", sys.unraisablehook), patch.object(threading, "excepthook", threading.excepthook)
    try:
        with patch.object(sys, "argv", argv), hooks[0], hooks[1], redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code
    finally:
        os.umask(umask)
        logging.disable(logging.NOTSET)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert isinstance(code, int)
    return Result(code, _said(out), _said(err))


def process(*arguments: object, cwd: Path = ROOT, **environ: str) -> Result:
    """`python -m campaign …` in a process of its own."""
    argv = [sys.executable, "-m", "campaign", *map(str, arguments)]
    around = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    done = subprocess.run(argv, cwd=cwd, env=around, capture_output=True, timeout=110, stdin=subprocess.DEVNULL, check=False)
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def _said(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()
