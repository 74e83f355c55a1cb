"""Cases of trouble from end to end, with real sockets, signals, disks and processes: those that no other file shows whole."""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from email import message_from_string
from email.policy import default
from pathlib import Path

import pytest

from campaign import given, nightly
from campaign.errors import ExitCode, LedgerError
from campaign.sandbox import CannedAnswer
from tests.commands import ROOT, Result, command
from tests.fakes import Relay
from tests.patience import soon
from tests.test_kills import ended, run, slots, started, taken, wait_until, world_of
from tests.world import World, email, private_key, user_id


@pytest.fixture
def world(quick_path: Path) -> Iterator[World]:
    with World(quick_path / "work") as world:
        yield world


def reasons(world: World) -> dict[str, str]:
    """What the report gives as the reason, by address."""
    return {row["email"]: row["reason"] for row in world.report().values()}


def campaign(world: World, *arguments: object) -> Result:
    """A command of this world's campaign."""
    return command(*arguments, "--config", world.folder / "campaign.toml")


# --- the order of a night, and its repetition


@pytest.mark.promise(5)
def test_nobody_is_written_to_before_everybody_was_asked(world: World) -> None:
    world.roster(range(40))
    asked = []
    world.relay.take = lambda message: asked.append((message.recipient, len(world.accounts.requests)))  # type: ignore[method-assign]
    world.night(approve=40)

    assert {recipient for recipient, _ in asked} == {email(n) for n in range(40)}
    assert {requests for _, requests in asked} == {1 + 40}


@pytest.mark.promise(10)
@pytest.mark.case(21)
def test_twenty_runs_in_one_day_mail_each_user_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "load_key", lambda _: private_key())  # reading it takes longer than the rest of a night
    world.roster(range(3))
    world.night(approve=3)
    world.days_pass(3)
    codes = set()
    for _ in range(20):
        codes.add(world.night(approve=3).exit_code)
        world.days_pass(1 / 24)

    assert codes == {ExitCode.DONE}
    assert sorted(world.mailed()) == sorted([email(n) for n in range(3)] * 2)


@pytest.mark.promise(6, 10)
def test_after_weeks_without_a_run_there_is_no_burst(world: World) -> None:
    world.keys = {"policy": {"max_per_run": 2}}
    world.roster(range(4))
    for _ in range(2):
        world.night(approve=2)
    world.days_pass(60)
    nights = []
    for _ in range(4):
        before = len(world.mailed())
        world.night(approve=1000)
        nights.append(world.mailed()[before:])
        world.days_pass(1)

    assert [len(mailed) for mailed in nights] == [2, 2, 0, 0]
    assert sorted(nights[0] + nights[1]) == [email(n) for n in range(4)]


# --- the roster


@pytest.mark.case(13)
def test_an_address_that_the_relay_cannot_take_is_reported_and_the_night_goes_on(tmp_path: Path) -> None:
    addresses = {1: "anne@bücher.example", 2: "zoë@example.com", 3: email(3)}
    with World(tmp_path, relay=Relay(offers=("8BITMIME",))) as world:
        world.roster({"user_id": user_id(n), "email": address} for n, address in addresses.items())
        night = world.night(approve=3)

        assert night.exit_code == ExitCode.ATTENTION
        assert world.mailed() == ["anne@xn--bcher-kva.example", email(3)]
        assert reasons(world) == {addresses[1]: "sent", addresses[2]: "undeliverable", addresses[3]: "sent"}


@pytest.mark.promise(6)
@pytest.mark.case(35)
def test_one_address_however_it_is_written_is_mailed_once(world: World) -> None:
    written = ["Ann@example.com", "ann@EXAMPLE.com", "zoë@example.com", "zoe\u0308@example.com", email(5)]
    world.roster({"user_id": user_id(n), "email": address} for n, address in enumerate(written))
    night = world.night(approve=5)

    assert night.exit_code == ExitCode.DONE
    assert [row["reason"] for row in world.report().values()] == ["sent", "same_address", "sent", "same_address", "sent"]
    assert len(world.mailed()) == 3


ROSTER = f"user_id,email,name\n{user_id(1)},{email(1)},Zoë\n{user_id(2)},{email(2)},山田\n"
WESTERN = ROSTER.replace("山田", "Müßig")


@pytest.mark.promise(12)
@pytest.mark.case(32)
@pytest.mark.parametrize(
    "content",
    [
        ROSTER.encode("utf-8-sig"),
        ROSTER.encode("utf-16"),
        ROSTER.replace(",", ";").encode(),
        ROSTER.replace(",", "\t").encode(),
        ROSTER.replace("\n", "\r\n").encode() + b"\r\n,,\r\n\r\n",
    ],
    ids=["with a BOM", "UTF-16", "semicolons", "tabs", "CRLF and blank lines at the end"],
)
def test_a_roster_is_read_rightly_down_to_the_mail(world: World, content: bytes) -> None:
    world.roster([1, 2])
    (world.folder / "roster.csv").write_bytes(content)
    night = world.night(approve=2)
    names = [row["name"] for row in world.report().values()]
    greeted = [message_from_string(message.data, policy=default)["To"].addresses[0] for message in world.relay.accepted]

    assert night.exit_code == ExitCode.DONE
    assert names == [address.display_name for address in greeted] == ["Zoë", "山田"]
    assert [address.addr_spec for address in greeted] == [email(1), email(2)]


@pytest.mark.promise(12)
@pytest.mark.case(32)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (WESTERN.encode("cp1252"), "roster.csv:2: a byte here is no UTF-8"),
        (ROSTER.encode("utf-16-le"), "roster.csv:2: a byte here is no UTF-8"),
        (ROSTER.replace("\n", "\r").encode(), "roster.csv:1: a carriage return stands alone"),
    ],
    ids=["cp1252", "UTF-16 without its mark", "CR"],
)
def test_a_roster_that_could_be_misread_is_refused(world: World, content: bytes, said: str) -> None:
    world.config()
    (world.folder / "roster.csv").write_bytes(content)
    done = campaign(world, "run", "--approve", 2)

    assert (done.exit_code, world.accounts.requests) == (ExitCode.USAGE, [])
    assert said in done.stderr


@pytest.mark.case(36)
@pytest.mark.parametrize("people", [range(4), range(8, 28)], ids=["half of them gone", "twice as many"])
def test_a_roster_that_changed_greatly_mails_nobody_until_it_is_approved(world: World, people: range) -> None:
    world.roster(range(10))
    world.night(approve=10)
    world.roster(people)
    world.days_pass(3)
    stopped, before = world.night(), len(world.mailed())
    approved = world.night(approve=len(people))

    assert (stopped.exit_code, before) == (ExitCode.STOPPED, 10)
    assert "roster_change" in {trip.guard for trip in stopped.trips}
    assert (approved.exit_code, len(world.mailed())) == (ExitCode.DONE, 10 + len(people))


def a_gigabyte(path: Path) -> None:
    """Good rows, and then as many as one likes: a hole in the file stands for them, so that nobody has to write them."""
    path.write_text("user_id,email,name\n" + f"{user_id(1)},{email(1)},Ann\n" * 1_000, encoding="utf-8")
    os.truncate(path, 1_000_000_000)


def a_huge_field(path: Path) -> None:
    path.write_text(f"user_id,email,name\n{user_id(1)},{email(1)},{'x' * 200_000}\n", encoding="utf-8")


def a_row_too_many(path: Path) -> None:
    path.write_text("user_id,email\n" + f"{user_id(1)},{email(1)}\n" * 10_001, encoding="utf-8")


# Started by a small process: a child counts the memory that its parent had (getrusage(2)), and this one's is large. What a
# process has read includes what its children had (proc_pid_io(5)).
MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
with open("/proc/self/io") as figures:
    read = figures.readline().split()[1]
print(read, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


@pytest.mark.promise(16)
@pytest.mark.case(34)
@pytest.mark.parametrize(
    ("make", "max_rows", "said"),
    [
        (a_gigabyte, 1_000_000, "roster.csv: a file of 1,000 MB, too large for 1,000,000 rows"),
        (a_huge_field, 1_000_000, "roster.csv:2: a field is too long"),
        (a_row_too_many, 10_000, "roster.csv:10002: more than 10,000 rows"),
    ],
)
def test_a_roster_of_any_size_is_refused_before_much_is_read_and_in_little_memory(
    world: World, make: Callable[[Path], None], max_rows: int, said: str
) -> None:
    world.keys = {"roster": {"max_rows": max_rows}}
    world.config()
    make(world.folder / "roster.csv")
    around = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", MEASURED, sys.executable, "-m", "campaign", "run"]
    done = subprocess.run(words, cwd=world.folder, env=around, capture_output=True, text=True, check=False)
    read, memory = map(int, done.stdout.split())

    assert done.returncode == ExitCode.USAGE, done.stderr
    assert said in done.stderr
    assert read < 200_000_000  # bytes, with the start of the program
    assert memory < 200_000  # KiB
    assert world.accounts.requests == []


# --- Docusign


@pytest.mark.case(24)
def test_who_is_asked_to_wait_for_an_hour_asks_nobody_else_and_mails_nobody(world: World) -> None:
    world.keys = {"docusign": {"concurrency": 1}}
    world.roster(range(20))
    world.accounts.faults.answers = {user_id(9): CannedAnswer(429, b"", {"Retry-After": "3600"})}
    night = world.night(approve=20)

    assert (night.exit_code, world.mailed()) == (ExitCode.REFUSED, [])
    assert "3600 s" in str(night.problems[0])
    assert len(world.accounts.requests) == 1 + 10
    assert [row["status"] for row in world.report().values()] == ["consent_required"] * 9 + ["not_probed"] * 11
    assert set(reasons(world).values()) == {"stopped"}


@pytest.mark.promise(4)
@pytest.mark.case(28)
@pytest.mark.parametrize(("minutes", "words"), [(10, "600 s ahead of"), (-10, "600 s behind")])
def test_a_clock_that_is_ten_minutes_off_is_named_and_nobody_is_mailed(world: World, minutes: int, words: str) -> None:
    world.roster([1, 2])
    means = replace(world.means(), clock=lambda: world.now + timedelta(minutes=minutes))
    night = nightly.run(world.config(), means, 2)

    assert (night.exit_code, world.mailed()) == (ExitCode.REFUSED, [])
    assert words in str(night.problems[0])
    assert "clock" in night.problems[0].advice


def without_network(world: World, hosts: str) -> list[str]:
    """A command that has no network but loopback, and asks for names as /etc/nsswitch.conf with these `hosts` says."""
    names = world.folder / "nsswitch.conf"
    names.write_text(f"hosts: {hosts}\n", encoding="utf-8")
    script = f'mount --bind {names} /etc/nsswitch.conf && exec "$0" "$@"'
    command = ["unshare", "--net", "--mount", "sh", "-c", script]
    _must_work([*command, "true"])
    return command


def _must_work(words: list[str]) -> None:
    """Skip where this machine may not do so much, except where nothing may be skipped."""
    if shutil.which(words[0]) and subprocess.run(words, check=False, capture_output=True).returncode == 0:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"needs root and: {' '.join(words)}")
    pytest.skip(f"needs root and: {' '.join(words)}")


@pytest.mark.case(23)
@pytest.mark.long
@pytest.mark.parametrize("hosts", ["files dns", "files"])
def test_without_names_nobody_is_asked_or_mailed(tmp_path: Path, hosts: str) -> None:
    """No DNS server answers (EAI_AGAIN), or none knows such a name: EAI_NONAME, as after NXDOMAIN."""
    with world_of(tmp_path) as world:
        settings = world.folder / "campaign.toml"
        lines = settings.read_text(encoding="utf-8").splitlines(keepends=True)
        settings.write_text("".join(line for line in lines if not line.startswith("account_server")), encoding="utf-8")
        with soon():
            code, complaint = run(world, *without_network(world, hosts))

        assert (code, world.mailed()) == (ExitCode.REFUSED, []), complaint
        assert re.search(r"account-d\.docusign\.com.*host name not found", complaint)
        assert {row["reason"] for row in world.report().values()} == {"stopped"}


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port where every attempt to connect is left without any answer: its queue is full, and Linux drops what does not fit."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@pytest.mark.case(23)
@pytest.mark.long
def test_a_network_that_swallows_everything_ends_the_night_in_bounded_time(world: World, black_hole: int) -> None:
    world.keys = {"docusign": {"account_server": f"http://127.0.0.1:{black_hole}", "timeout": 0.5}}
    world.roster(range(3))
    with soon():
        night = world.night(approve=3)

    assert (night.exit_code, world.mailed()) == (ExitCode.REFUSED, [])
    assert "timed out" in str(night.problems[0])
    assert set(reasons(world).values()) == {"stopped"}


# --- signals and death


@pytest.mark.promise(19)
@pytest.mark.case(15)
def test_sigterm_while_users_are_asked_mails_nobody_and_reports_what_was_found(tmp_path: Path) -> None:
    with world_of(tmp_path, range(12)) as world:
        world.accounts.faults.latency = 0.25
        with started(world) as process:
            wait_until(lambda: len(world.accounts.requests) > 1)
            process.terminate()
            code, complaint = ended(process)
        rows = world.report().values()

        assert code == ExitCode.SIGTERM, complaint
        assert (taken(world), slots(world), world.relay.connections) == ([], [], 0)
        assert len(rows) == 12
        assert {row["status"] for row in rows} == {"consent_required", "not_probed"}
        assert {row["reason"] for row in rows} == {"stopped"}


@pytest.mark.promise(2)
@pytest.mark.case(17)
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once_and_the_message_in_flight_is_unknown(first: signal.Signals, tmp_path: Path) -> None:
    with world_of(tmp_path) as world:
        world.keys = {"mail": {"final_timeout": 600}}
        world.config()
        world.relay.at("dot", "store hang", message=1)
        with soon(), started(world) as process:
            wait_until(lambda: world.relay.accepted)
            process.send_signal(first)
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            code, _ = ended(process)
        left = [slot["outcome"] for slot in slots(world)]
        night = world.night(1000)

        assert code in {-signal.SIGINT, ExitCode.SIGINT}  # a shell shows both as 130
        assert left == ["sending"]
        assert night.exit_code == ExitCode.ATTENTION
        assert sorted(slot["outcome"] for slot in slots(world)) == ["accepted", "accepted", "unknown"]
        assert sorted(recipient for _, recipient in taken(world)) == [email(1), email(2), email(3)]


@pytest.mark.promise(7, 8)
@pytest.mark.case(19)
def test_after_a_reboot_the_next_run_starts_as_ever(tmp_path: Path) -> None:
    with world_of(tmp_path) as world:
        world.relay.at("dot", "store hang", message=1)
        with started(world) as process:
            wait_until(lambda: world.relay.accepted)
            process.kill()
            ended(process)
        lock = world.folder / "ledger.sqlite3.lock"
        assert lock.exists()
        lock.write_text(f"{process.pid}\n", encoding="ascii")
        code, complaint = run(world)

        assert code == ExitCode.ATTENTION
        assert complaint.count("campaign: new: ") == 1
        assert sorted(recipient for _, recipient in taken(world)) == [email(1), email(2), email(3)]


# --- places and disks


@pytest.mark.case(42)
@pytest.mark.parametrize(("name", "mode", "advice"), [(".", 0o777, "chmod o-w"), ("ledger.sqlite3", 0o644, "chmod 600")])
def test_what_others_could_read_or_replace_stops_the_run_before_anybody_is_asked(
    world: World, name: str, mode: int, advice: str
) -> None:
    world.roster([1])
    world.night(approve=1)
    asked = len(world.accounts.requests)
    (world.folder / name).chmod(mode)
    done = campaign(world, "run")

    assert (done.exit_code, len(world.accounts.requests)) == (ExitCode.LEDGER, asked)
    assert advice in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    _must_work(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "none", str(folder)])
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> Path:
    """Leave no room on the disk of this folder."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        while room := os.statvfs(folder).f_bavail * os.statvfs(folder).f_bsize:
            file.write(bytes(room))
    return path


@pytest.mark.promise(3)
def test_where_an_outcome_cannot_be_noted_no_other_message_goes_out(world: World) -> None:
    """The disk fails once, when the first outcome is to be noted: that is when the night next looks at its clock."""
    world.roster(range(3))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    seen: list[int] = []

    def clock() -> datetime:
        seen.append(len(world.relay.accepted))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0 if seen.count(1) == 1 and seen[-1] == 1 else soft, hard))
        return world.now

    try:
        with pytest.raises(LedgerError):
            nightly.run(world.config(), replace(world.means(), clock=clock), 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    mailed = world.mailed()
    world.days_pass(1)
    night = world.night()

    assert mailed == [email(0)]
    assert night.exit_code == ExitCode.ATTENTION
    assert world.mailed() == [email(0), email(1), email(2)]
    assert reasons(world) == {email(0): "unresolved", email(1): "sent", email(2): "sent"}


@pytest.mark.case(43)
def test_a_disk_that_is_full_stops_the_run_before_anybody_is_asked(small_disk: Path) -> None:
    with World(small_disk) as world:
        world.roster([1, 2])
        world.config()
        fill(small_disk)
        done = campaign(world, "run", "--approve", 2)

        assert done.exit_code == ExitCode.LEDGER, done.stderr
        assert "No space left on device" in done.stderr
        assert (world.accounts.requests, world.mailed()) == ([], [])


def a_full_disk(reports: Path) -> Callable[[], object]:
    return fill(reports).unlink


def a_disk_for_reading_only(reports: Path) -> Callable[[], object]:
    subprocess.run(["mount", "-o", "remount,ro", reports], check=True)
    return lambda: subprocess.run(["mount", "-o", "remount,rw", reports], check=True)


@pytest.mark.promise(18)
@pytest.mark.case(41)
@pytest.mark.parametrize("spoil", [a_full_disk, a_disk_for_reading_only])
def test_without_room_for_the_report_the_old_one_stays_and_the_ledger_is_right(
    world: World, small_disk: Path, spoil: Callable[[Path], Callable[[], object]]
) -> None:
    world.keys = {"report": {"directory": str(small_disk), "formats": ["csv", "xlsx"]}}
    world.roster([1, 2])
    world.night(approve=2)
    before = {path.name: path.read_bytes() for path in small_disk.iterdir() if path.is_file()}
    mend = spoil(small_disk)
    world.days_pass(3)
    night = world.night()
    after = {name: (small_disk / name).read_bytes() for name in before}
    drafts = [*small_disk.rglob("*.tmp")]
    mend()
    nightly.rewrite_report(world.config(), world.means())
    rows = (small_disk / "report.csv").read_text(encoding="utf-8").splitlines()[1:]

    assert night.exit_code == ExitCode.LEDGER
    assert (after, drafts) == (before, [])
    assert len(world.mailed()) == 4
    assert [",2,2026-11-23T02:00:00Z,2026-11-26T02:00:00Z,accepted," in row for row in rows] == [True, True]


@pytest.mark.promise(18)
@pytest.mark.case(41)
def test_whoever_has_the_report_open_keeps_the_old_one_and_a_link_leads_nowhere(world: World, tmp_path: Path) -> None:
    world.roster([1])
    world.night(approve=1)
    report, precious = world.folder / "reports" / "report.csv", tmp_path / "precious"
    precious.write_text("as it was", encoding="utf-8")
    with report.open(encoding="utf-8") as reader:
        half = reader.read(100)
        whole = report.read_text(encoding="utf-8")
        world.days_pass(1)
        night = world.night()
        rest = reader.read()
    report.unlink()
    report.symlink_to(precious)
    again = world.night()

    assert (night.exit_code, again.exit_code) == (ExitCode.DONE, ExitCode.DONE)
    assert half + rest == whole
    assert precious.read_text(encoding="utf-8") == "as it was"
    assert not report.is_symlink()
    assert set(reasons(world).values()) == {"waiting"}
