"""Where the program speaks may be closed, full or gone: the night is the same, and its exit code honest."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from campaign.cli.outside import on_signals
from campaign.errors import ExitCode
from tests.commands import ROOT
from tests.patience import PATIENCE
from tests.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, live=True) as world:
        world.roster(range(3))
        world.config()
        yield world


def by_shell(world: World, redirected: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program with its output led elsewhere by a shell."""
    words = [sys.executable, "-m", "campaign", *arguments]
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", *words],
        cwd=world.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.promise(20)
@pytest.mark.parametrize("redirected", ["2> /dev/full", "> /dev/full 2>&1", ">&- 2>&-", "2>&-"])
def test_a_night_that_cannot_speak_ends_as_it_would_have(redirected: str, world: World) -> None:
    done = by_shell(world, redirected, "run")

    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.STOPPED, "", "")
    assert len(world.report()) == 3
    with closing(sqlite3.connect(world.folder / "ledger.sqlite3")) as ledger:
        assert [*ledger.execute("PRAGMA integrity_check")] == [("ok",)]


@pytest.mark.parametrize("arguments", [("plan",), ("run", "--json"), ("link",)])
def test_a_result_that_cannot_be_written_is_an_error_of_the_disk_and_no_bug(arguments: tuple[str, ...], world: World) -> None:
    done = by_shell(world, "> /dev/full", *arguments)

    assert done.returncode == ExitCode.LEDGER
    assert "campaign: stdout cannot be written to: No space left on device\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_who_has_had_enough_changes_nothing(world: World) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "campaign", "plan"]
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(
            words,
            cwd=world.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
        )

    assert (done.returncode, done.stderr) == (ExitCode.DONE, b"")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, ExitCode.SIGINT), (signal.SIGTERM, ExitCode.SIGTERM)])
def test_a_command_that_is_interrupted_says_so_in_one_sentence(number: signal.Signals, code: ExitCode, tmp_path: Path) -> None:
    settings = tmp_path / "campaign.toml"
    os.mkfifo(settings)
    words = [sys.executable, "-m", "campaign", "report", "--config", str(settings)]
    around = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, env=around, stderr=subprocess.PIPE, text=True) as process:
        writing = opened_for(settings)
        time.sleep(0.3)  # until it reads: Python heeds what comes just before a system call only after that
        process.send_signal(number)
        _, complaint = process.communicate(timeout=PATIENCE)
        os.close(writing)

    assert process.returncode == code
    assert complaint == f"campaign: stopped by {number.name}\n          what was not finished is as it was\n"


def test_an_interrupt_while_the_program_is_still_loading_ends_it_without_a_word(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    (tmp_path / "typer.py").write_text(f"import time, pathlib\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(60)\n")
    around = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with subprocess.Popen([sys.executable, "-m", "campaign", "--help"], env=around, stderr=subprocess.PIPE) as process:
        while not begun.exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=PATIENCE)

    assert (process.returncode, complaint) == (-signal.SIGINT, b"")


def opened_for(fifo: Path) -> int:
    """A FIFO opened for writing, as soon as somebody reads it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError):
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        assert time.monotonic() < deadline, "nobody reads it"
        time.sleep(0.01)


@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.SIG_DFL], ids=["with nohup", "without"])
def test_the_end_of_the_terminal_is_a_signal_unless_it_is_not_to_matter(before: signal.Handlers) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    asked: list[ExitCode] = []
    try:
        signal.signal(signal.SIGHUP, before)
        on_signals(asked.append)
        signal.raise_signal(signal.SIGHUP) if before is signal.SIG_DFL else signal.raise_signal(signal.SIGTERM)
        after = {signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    assert asked == [ExitCode.SIGTERM]
    assert after == {signal.SIG_DFL}
