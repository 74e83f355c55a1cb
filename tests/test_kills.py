"""The real program as a process that dies: at any instant, at each write of its ledger, on a full disk; and that is told to stop.

The relay accepts before it answers and syncs its log first, so whatever it took is known, whoever dies.
"""

import csv
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import campaign
from tests.fakes import Accepted, Relay
from tests.postgres_server import Keys, PostgresServer
from tests.world import World, email, rows

PEOPLE = range(1, 4)
SOON = 60  # seconds for what takes about one where nobody else needs the machine
PARTS = 8  # of a sweep, for as many processors
WRITES = ("pwrite64", "fdatasync", "fsync", "write", "sendfile", "rename", "unlink", "mkdir", "chmod", "fchmod")
FAULTS = {
    "ENOSPC": ("pwrite64", "write", "sendfile", "rename", "mkdir"),
    "EIO": ("pwrite64", "fdatasync", "fsync", "write", "sendfile", "rename", "unlink", "chmod", "fchmod"),
}
# What may fail without harm: the sync of the folder in SQLite, a folder that exists already, a copy that has another way.
FORGIVEN = {"fdatasync", "mkdir", "sendfile"}


@contextmanager
def world_of(folder: Path, people: range = PEOPLE, ledger: Keys | None = None) -> Iterator[World]:
    """A world in real time whose people all lack consent."""
    folder.mkdir(exist_ok=True)
    with World(folder, live=True, relay=Relay(log=folder / "relay.log"), ledger=ledger or {}) as world:
        world.roster(people)
        world.config()
        yield world


def started(world: World, *before: str) -> subprocess.Popen[str]:
    """The program, perhaps under another's eyes."""
    command = [*before, sys.executable, "-m", "campaign", "run", "--approve", "1000", "--config", "campaign.toml"]
    environment = {**os.environ, "PYTHONPATH": str(Path(campaign.__file__).parent.parent)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=world.folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """How it ended: its exit code and what it complained of."""
    _, complaint = process.communicate(timeout=2 * SOON)
    return process.returncode, complaint


def run(world: World, *before: str) -> tuple[int, str]:
    """One whole run."""
    with started(world, *before) as process:
        return ended(process)


def wait_until(happened: Callable[[], Any]) -> None:
    """Wait for something that takes a moment."""
    deadline = time.monotonic() + SOON
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)


def slots(world: World) -> list[dict[str, Any]]:
    """What the ledger holds of messages, in the order in which they were begun."""
    return sorted(rows(world.config(), "slots"), key=lambda slot: str(slot["tried_at"]))


def taken(world: World) -> list[tuple[str, str]]:
    """The Message-ID and recipient of everything that the relay took."""
    log = world.folder / "relay.log"
    messages = Relay.logged(log) if log.exists() else []
    return [(message.data.partition("\r\nMessage-ID: ")[2].partition("\r\n")[0], message.recipient) for message in messages]


def judge(world: World, people: range = PEOPLE) -> Counter[str]:
    """Assert that everybody was mailed once, or is reported unknown, and nobody twice; count how it went."""
    took, kept = taken(world), {slot["recipient"]: slot for slot in slots(world)}
    assert max(Counter(message_id for message_id, _ in took).values(), default=0) <= 1
    assert max(Counter(recipient for _, recipient in took).values(), default=0) <= 1
    assert {email(number) for number in people} == {*kept}
    assert {slot["outcome"] for slot in kept.values()} <= {"accepted", "unknown"}
    assert all(kept[recipient]["message_id"] == message_id for message_id, recipient in took)
    accepted = {recipient for recipient, slot in kept.items() if slot["outcome"] == "accepted"}
    assert accepted <= {recipient for _, recipient in took}
    with (world.folder / "reports" / "report.csv").open(encoding="utf-8", newline="") as file:
        told = {row["email"]: row["last_outcome"] for row in csv.DictReader(file)}
    assert told == {recipient: slot["outcome"] for recipient, slot in kept.items()}
    return Counter(delivered=len(took), unknown=len(kept) - len(accepted), unknown_but_arrived=len(took) - len(accepted))


# --- killed at any instant


def kill_again_and_again(world: World, people: range, chance: Random, most: int) -> int:
    """Kill run after run at random instants, half of them in the middle of mailing; the number of kills that met a live run."""
    kills = 0
    for _ in range(most):
        before = len(world.relay.accepted)
        if before == len(people):
            break
        with started(world) as process:
            if chance.random() < 0.8:
                more = chance.randint(0, 5)
                wait_until(lambda: len(world.relay.accepted) > before + more or process.poll() is not None)  # noqa: B023  # used at once
                time.sleep(chance.uniform(0, 0.06))
            else:
                time.sleep(chance.uniform(0, 1))
            process.kill()
            kills += ended(process)[0] == -signal.SIGKILL
    return kills


def survive_random_kills(folder: Path, seed: int, people: range, most: int, ledger: Keys | None = None) -> Counter[str]:
    with world_of(folder, people, ledger) as world:
        world.relay.at("dot", "delay 0.05")  # so that even a quick run lives longer than the wait for its end
        kills = kill_again_and_again(world, people, Random(seed), most)  # noqa: S311  # luck, not secrecy
        code, complaint = run(world)
        counts = judge(world, people)

        assert code in {0, 3}, complaint
        assert kills
        return counts + Counter(kills=kills)


@pytest.mark.promise(1, 8)
def test_no_kill_at_any_instant_doubles_or_loses_a_message(tmp_path: Path) -> None:
    survive_random_kills(tmp_path, 0, range(1, 16), 6)


@pytest.mark.promise(1, 8)
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(1, 13))
def test_no_kill_at_very_many_instants_doubles_or_loses_a_message(seed: int, tmp_path: Path) -> None:
    print(survive_random_kills(tmp_path, seed, range(1, 41), 25))  # noqa: T201  # shown by -rP


@pytest.mark.promise(1, 8)
@pytest.mark.postgres
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(6))
def test_no_kill_doubles_or_loses_a_message_where_the_ledger_is_on_a_server(
    seed: int, tmp_path: Path, postgres: PostgresServer
) -> None:
    print(survive_random_kills(tmp_path, seed, range(1, 41), 25, postgres.keys(postgres.database())))  # noqa: T201  # shown by -rP


# --- killed at each write


@cache
def strace() -> str:
    """The tool that makes a chosen system call fatal. Skips without it, except where nothing may be skipped."""
    found = shutil.which("strace")
    if found and subprocess.run([found, "-qq", "-o", os.devnull, "true"], check=False, capture_output=True).returncode == 0:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail("strace is missing or may not trace")
    pytest.skip("strace is missing or may not trace")


@cache
def calls(name: str) -> int:
    """How often one whole run makes this system call."""
    with TemporaryDirectory() as folder, world_of(Path(folder)) as world:
        log = world.folder / "strace.log"
        code, complaint = run(world, strace(), "-f", "-qq", "-o", str(log), "-e", f"trace={name}")

        assert code == 0, complaint
        return log.read_text(encoding="utf-8").count(f" {name}(")


def die_at(folder: Path, name: str, number: int) -> Counter[str]:
    """Kill a run just before its so-many-th system call of that name, and run again."""
    with world_of(folder) as world:
        inject = f"inject={name}:signal=SIGKILL:when={number}"
        code, complaint = run(world, strace(), "-f", "-qq", "-o", os.devnull, "-e", f"trace={name}", "-e", inject)
        assert code == -signal.SIGKILL, complaint
        night = world.night(1000)
        counts = judge(world)

        assert night.exit_code in {0, 3}, f"{name} {number}: {night.problems}"
        return counts + Counter(kills=1)


@pytest.mark.promise(8)
@pytest.mark.parametrize(("name", "number"), [("pwrite64", 9), ("rename", 1), ("unlink", 2)])
def test_a_kill_while_the_ledger_is_made_needs_no_repair(name: str, number: int, tmp_path: Path) -> None:
    die_at(tmp_path, name, number)


@pytest.mark.promise(1, 8)
@pytest.mark.parametrize(("name", "number"), [("unlink", 10), ("unlink", 13), ("rename", 2)])
def test_a_kill_at_a_commit_doubles_and_loses_no_message(name: str, number: int, tmp_path: Path) -> None:
    die_at(tmp_path, name, number)


@pytest.mark.promise(1, 8)
@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", WRITES)
def test_a_kill_at_each_write_in_turn_doubles_and_loses_no_message(name: str, part: int, tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    for number in range(1 + part, calls(name) + 1, PARTS):
        counts += die_at(tmp_path / str(number), name, number)

    print("swept:", name, dict(counts))  # noqa: T201  # shown by -rP


@pytest.mark.promise(8)
def test_two_kills_between_ledger_and_witness_need_no_repair(tmp_path: Path) -> None:
    with world_of(tmp_path) as world:
        world.night(1000)
        for _ in range(2):
            # The witness is renamed into place right after the commit that it attests.
            inject = ("-e", "trace=rename", "-e", "inject=rename:signal=SIGKILL:when=1")
            assert run(world, strace(), "-f", "-qq", "-o", os.devnull, *inject)[0] == -signal.SIGKILL
        night = world.night()

        assert night.exit_code == 0
        assert judge(world)["delivered"] == len(PEOPLE)


# --- a disk that is full or broken


def fail_at(folder: Path, fault: str) -> int:
    """Let a run meet a fault of the disk, then run again; the exit code of the first."""
    with world_of(folder) as world:
        name = fault.partition(":")[0]
        tool = (strace(), "-f", "--seccomp-bpf", "-qq", "-o", os.devnull, "-e", f"trace={name}", "-e", f"inject={fault}")
        code, complaint = run(world, *tool)
        begun = [slot["outcome"] for slot in slots(world)]
        known = {slot["message_id"] for slot in slots(world)}
        assert "sending" not in begun[:-1], "it went on after a message whose outcome could not be noted"
        assert {message_id for message_id, _ in taken(world)} <= known
        night = world.night(1000)
        judge(world)

        assert "Traceback" not in complaint
        assert night.exit_code in {0, 3}, f"{fault}: {night.problems}"
        return code


@pytest.mark.promise(3)
@pytest.mark.parametrize("fault", ["pwrite64:error=ENOSPC:when=150", "pwrite64:error=ENOSPC:when=180+", "fsync:error=EIO:when=3"])
def test_a_full_or_broken_disk_stops_the_sending_and_needs_no_repair(fault: str, tmp_path: Path) -> None:
    assert fail_at(tmp_path, fault) == 6


@pytest.mark.promise(3)
@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("fault", [f"{name}:error={error}" for error, names in FAULTS.items() for name in names])
def test_a_disk_that_fails_at_any_write_stops_the_sending(fault: str, part: int, tmp_path: Path) -> None:
    codes: Counter[int] = Counter()
    name = fault.partition(":")[0]
    full = "ENOSPC" in fault
    for number in range(1 + part, calls(name) + 1, PARTS):
        if name == "pwrite64" and full == bool(number // PARTS % 2):  # the commonest call: one of the two errors each time
            continue
        codes[fail_at(tmp_path / str(number), f"{fault}:when={number}")] += 1

    print("swept:", fault, dict(codes))  # noqa: T201  # shown by -rP
    assert codes.keys() <= ({6, 0} if name in FORGIVEN else {6})


@pytest.mark.promise(3)
@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("fault", ["pwrite64:error=ENOSPC", "fdatasync:error=EIO", "fsync:error=EIO"])
def test_a_disk_that_fails_for_good_stops_the_sending(fault: str, part: int, tmp_path: Path) -> None:
    name = fault.partition(":")[0]
    for number in range(1 + part * 5, calls(name) + 1, PARTS * 5):
        assert fail_at(tmp_path / str(number), f"{fault}:when={number}+") in ({6, 0} if name in FORGIVEN else {6})


# --- told to stop, or two at once


@pytest.mark.promise(19)
@pytest.mark.case(16)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_settles_the_message_in_flight_and_sends_no_other(number: signal.Signals, tmp_path: Path) -> None:
    with world_of(tmp_path) as world:
        world.relay.at("dot", "delay 2")
        with started(world) as process:
            wait_until(lambda: world.relay.accepted)
            process.send_signal(number)
            code, _ = ended(process)

        assert code == 143
        assert [slot["outcome"] for slot in slots(world)] == ["accepted"]
        assert len(taken(world)) == 1


@pytest.mark.promise(7)
@pytest.mark.case(18)
def test_a_second_run_goes_away_at_once_and_touches_nothing(tmp_path: Path) -> None:
    with world_of(tmp_path) as world:
        world.keys = {"mail": {"final_timeout": 600}}
        world.config()
        second_is_gone = threading.Event()

        def take(message: Accepted) -> None:
            Relay.take(world.relay, message)
            second_is_gone.wait()

        world.relay.take = take  # type: ignore[method-assign]
        with started(world) as process:
            wait_until(lambda: world.relay.accepted)
            before, asked = files(world), len(world.accounts.requests)
            second, complaint = run(world)
            after = files(world)
            second_is_gone.set()
            first = ended(process)

        assert second == 75, complaint
        assert before == after
        assert asked == len(world.accounts.requests)
        assert first == (0, "")
        assert judge(world)["delivered"] == len(PEOPLE)


def files(world: World) -> dict[Path, tuple[int, bytes]]:
    """Every file of the campaign, its time and its content."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in world.folder.rglob("*") if path.is_file()}


@pytest.mark.promise(19)
@pytest.mark.case(20)
def test_a_stop_file_made_in_the_middle_lets_no_other_mail_out(tmp_path: Path) -> None:
    with world_of(tmp_path) as world:
        world.relay.at("dot", "delay 1", message=1)
        with started(world) as process:
            wait_until(lambda: world.relay.accepted)
            (world.folder / "STOP").touch()
            stopped, _ = ended(process)
        mailed = len(taken(world))
        (world.folder / "STOP").unlink()
        again, complaint = run(world)

        assert (stopped, mailed) == (4, 1)
        assert again == 0, complaint
        assert judge(world) == Counter(delivered=len(PEOPLE))
