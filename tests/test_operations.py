"""The jobs that `campaign init` writes, in real life: run by cron, and by a systemd of the test's own, with all its walls up."""

import getpass
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from campaign.errors import UsageError
from campaign.layout import lay_out
from tests.fakes import Relay
from tests.world import World, email, user_id

BARE = {"HOME": "/", "LOGNAME": getpass.getuser(), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}  # all that cron gives: crontab(5)
HARD = 'Zoë\'s 100 %h "${HOME}" night'  # a folder whose name means something to sh, cron and systemd
NEW = {11: "Zoë Müller", 12: "山田 花子"}  # who joins an approved campaign


def lacking(*tools: str, root: bool = False) -> str:
    """Why a test cannot run here, if so. Where nothing may be skipped it runs, and fails."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/lib/systemd"
    missing = [tool for tool in tools if not shutil.which(tool, path=path)]
    if root and os.geteuid() != 0:
        missing.append("root")
    elif root and not _may_unshare():
        missing.append("leave to make namespaces")
    return f"needs {', '.join(missing)}" if missing and os.environ.get("CI") != "true" else ""


@cache
def _may_unshare() -> bool:
    tried = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"], check=False, capture_output=True)
    return tried.returncode == 0


def needs(*tools: str, root: bool = False) -> pytest.MarkDecorator:
    """Skip a test, with the reason, where these are missing."""
    return pytest.mark.skipif(bool(why := lacking(*tools, root=root)), reason=why or "it runs")


@dataclass(frozen=True, slots=True)
class Jobs:
    """The three files that stand in a campaign's folder."""

    crontab: Path
    service: Path
    timer: Path

    @property
    def line(self) -> str:
        """The one line of the crontab that is no comment."""
        [line] = [line for line in self.crontab.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        return line

    def value(self, key: str) -> str:
        """The only value of a key of the service."""
        [value] = re.findall(rf"^{key}=(.*)$", self.service.read_text(encoding="utf-8"), re.MULTILINE)
        return str(value)


def jobs_of(folder: Path) -> Jobs:
    """Lay out a folder, and find the jobs in it."""
    paths = {path.suffix or path.name: path for path, _ in lay_out(folder)}
    return Jobs(paths["crontab"], paths[".service"], paths[".timer"])


@contextmanager
def approved(folder: Path, relay: Relay | None = None) -> Iterator[World]:
    """A campaign in real time that has had its first night; since then `NEW` people have joined who lack consent."""
    with World(folder, live=True, relay=relay or Relay()) as world:
        world.roster(range(1, 11))
        assert world.night(approve=10).exit_code == 0
        people = {number: f"Person {number}" for number in range(1, 11)} | NEW
        world.roster([{"user_id": user_id(number), "email": email(number), "name": name} for number, name in people.items()])
        world.relay.accepted.clear()
        yield world


def joined() -> list[str]:
    """Who should be mailed by the first job of an approved campaign."""
    return [email(number) for number in NEW]


def wait_until(happened: Callable[[], object], seconds: float) -> None:
    """Wait for something that takes a while."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


# --- what is written


def test_each_job_is_named_after_its_folder(tmp_path: Path) -> None:
    def names(folder: str) -> list[str]:
        jobs = jobs_of(tmp_path / folder)
        return [jobs.crontab.name, jobs.service.name, jobs.timer.name]

    assert names("campaign") == ["crontab", "campaign.service", "campaign.timer"]
    assert names("contract-sender") == ["crontab", "campaign-contract-sender.service", "campaign-contract-sender.timer"]
    assert names(HARD)[1:] == ["campaign-Zo-s-100-h-HOME-night.service", "campaign-Zo-s-100-h-HOME-night.timer"]
    assert names("山田")[1:] == ["campaign.service", "campaign.timer"]


def test_the_jobs_name_the_folder_whole_the_user_and_this_very_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = jobs_of(Path("work"))
    [program, *arguments] = shlex.split(jobs.line.partition("  ")[2])

    assert arguments == ["run", "--config", str(tmp_path / "work" / "campaign.toml")]
    assert (Path(program).parent, os.access(program, os.X_OK)) == (Path(sys.executable).parent, True)
    assert jobs.value("ExecStart") == ":" + " ".join([program, *arguments])
    assert jobs.value("User") == pwd.getpwuid(os.geteuid()).pw_name
    assert jobs.value("ReadWritePaths") == str(tmp_path / "work")


def test_homes_stay_readable_only_where_the_campaign_lies_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "bin" / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr("campaign.layout.__file__", str(tmp_path / "layout.py"))
    monkeypatch.setattr("campaign.layout.shipped", lambda folder: Path(__file__).parent.parent / folder)
    hidden = jobs_of(tmp_path / "hidden")
    monkeypatch.setattr("campaign.layout._HOMES", (str(tmp_path),))
    readable = jobs_of(tmp_path / "readable")

    assert (hidden.value("ProtectHome"), readable.value("ProtectHome")) == ("true", "read-only")
    assert f":{python} -m campaign run" in f":{hidden.value('ExecStart').removeprefix(':')}"


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x1bb", "a\\b", "a\udcffb"], ids=ascii)
def test_a_folder_that_no_job_can_name_is_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has a control character or a backslash in its name") as refused:
        list(lay_out(tmp_path / name))

    assert str(refused.value).isprintable()
    assert list(tmp_path.iterdir()) == []


# --- what systemd thinks of them


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What systemd-analyze says, without asking the systemd of this machine."""
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@needs("systemd-analyze")
@pytest.mark.parametrize("name", ["campaign", HARD])
def test_systemd_finds_nothing_to_say_about_the_units(name: str, tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path / name)
    said = analyze("verify", jobs.service, jobs.timer)
    jobs.service.write_text(jobs.service.read_text(encoding="utf-8").replace("PrivateTmp", "PrivateTemp"), encoding="utf-8")

    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    assert "PrivateTemp" in analyze("verify", jobs.service).stderr  # it would have said so


@needs("systemd-analyze")
def test_the_service_is_walled_in_as_far_as_systemd_can_tell(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path / "campaign")
    judged = analyze("security", "--offline=true", "--threshold=20", jobs.service)

    assert judged.returncode == 0, judged.stdout


@needs("systemd-analyze")
def test_the_timer_comes_every_night_at_a_quarter_past_two_utc(tmp_path: Path) -> None:
    [when] = re.findall(r"^OnCalendar=(.*)$", jobs_of(tmp_path / "campaign").timer.read_text(encoding="utf-8"), re.MULTILINE)
    told = analyze("calendar", "--base-time=2026-03-28 12:00:00 UTC", "--iterations=3", when).stdout

    assert re.findall(r"(\S+ \d\d:\d\d:\d\d UTC)$", told, re.MULTILINE)[-3:] == [
        f"2026-03-{day} 02:15:00 UTC" for day in (29, 30, 31)
    ]


# --- the commands in a bare environment


def test_the_line_of_the_crontab_runs_a_night_in_crons_bare_environment(tmp_path: Path) -> None:
    with approved(tmp_path / HARD) as world:
        line = jobs_of(world.folder).line
        assert line.startswith("15 2 * * *  ")
        assert not re.search(r"(?<!\\)%", line)  # there cron would end the command
        command = ["/bin/sh", "-c", line.partition("  ")[2].replace(r"\%", "%")]
        done = [subprocess.run(command, cwd="/", env=BARE, capture_output=True, timeout=60, check=False) for _ in range(2)]

        assert [(night.returncode, night.stdout, night.stderr) for night in done] == [(0, b"", b"")] * 2
        assert world.mailed() == joined()
        assert world.report()[user_id(12)]["name"] == "山田 花子"


def test_the_command_of_the_service_runs_a_night_in_a_bare_environment(tmp_path: Path) -> None:
    with approved(tmp_path / HARD) as world:
        words = shlex.split(jobs_of(world.folder).value("ExecStart").removeprefix(":").replace("%%", "%"))
        done = subprocess.run(words, cwd="/", env={"PATH": "/usr/bin:/bin"}, capture_output=True, timeout=60, check=False)

        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert world.mailed() == joined()


# --- a real systemd

_BOOT = """
set -e
mkdir "$CELL"
echo $$ > "$CELL/cgroup.procs"   # a systemd moves all that share its control group
exec unshare --mount --pid --fork --kill-child --mount-proc --uts --ipc --cgroup sh -ec '
    mount --make-rshared /   # of this namespace: systemd hands on its mounts to its services
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /var/lib/systemd
    mkdir -p /run/lock /var/lib/systemd/timers
    touch -d "2 days ago" "/var/lib/systemd/timers/stamp-$TIMER"
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mount --bind /proc/sys /proc/sys
    mount -o remount,ro,bind /proc/sys
    exec env -i container=test SYSTEMD_UNIT_PATH="$UNITS" SYSTEMD_GENERATOR_PATH= SYSTEMD_ENVIRONMENT_GENERATOR_PATH= \
        /lib/systemd/systemd --unit=night.target --log-target=null --show-status=no
'
"""
_STUB = "[Unit]\nDescription=Stands in for systemd's own\nDefaultDependencies=no\n"


def night_by_systemd(world: World, *settings: str, helper: str = "") -> tuple[str, str]:
    """Start a systemd, in namespaces of its own, that has missed a night: how the service ended, and what it printed.

    The units are those that `init` writes. They are told in addition where to leave what is seen here, to wait for no
    random delay, and `settings` of [Service]. `helper` is a command that runs beside the service.
    """
    jobs, outside = jobs_of(world.folder), world.folder.parent
    units = outside / "units"
    for unit in (jobs.service, jobs.timer):
        (units / f"{unit.name}.d").mkdir(parents=True)
        shutil.copy(unit, units)
    for name in ("sysinit", "basic", "shutdown", "network-online"):
        (units / f"{name}.target").write_text(_STUB)
    (units / "night.target").write_text(f"{_STUB}Wants={jobs.timer.name} {'helper.service' if helper else ''}\n")
    (units / "helper.service").write_text(f"[Service]\nType=oneshot\nExecStart={helper}\n")
    (units / f"{jobs.timer.name}.d" / "seen.conf").write_text("[Timer]\nRandomizedDelaySec=0\n")
    seen = [
        "[Unit]\nSuccessAction=exit-force\nFailureAction=exit-force",
        f"[Service]\nStandardOutput=append:{outside}/said\nStandardError=append:{outside}/said",
        f"ExecStopPost=+/bin/sh -c 'echo $SERVICE_RESULT $EXIT_STATUS > {outside}/ended'",
    ]
    (units / f"{jobs.service.name}.d" / "seen.conf").write_text("\n".join([*seen, *settings]) + "\n")
    _boot(units, jobs.timer.name)
    return (outside / "ended").read_text().strip(), (outside / "said").read_text(encoding="utf-8")


def _boot(units: Path, timer: str) -> None:
    """Let systemd run until it ends itself. Its control group goes with it."""
    [place, *_] = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"]
    cell = Path(place) / units.parent.name
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "CELL": str(cell), "UNITS": str(units), "TIMER": timer}
    try:
        done = subprocess.run(["sh", "-c", _BOOT], env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert (units.parent / "ended").exists(), done.stdout + done.stderr
    finally:
        if cell.exists():
            wait_until(lambda: "populated 0" in (cell / "cgroup.events").read_text(), seconds=10)  # also where it was killed
            for group in sorted((path for path in cell.rglob("*") if path.is_dir()), reverse=True):
                group.rmdir()
            cell.rmdir()


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that a service with a /tmp of its own can see."""
    with TemporaryDirectory(prefix="campaign-test-", dir="/srv") as folder:
        yield Path(folder)


needs_systemd = needs("systemd", "unshare", root=True)


@needs_systemd
def test_systemd_makes_up_for_a_missed_night_behind_all_its_walls(outside: Path) -> None:
    with approved(outside / HARD) as world:
        ended = night_by_systemd(world)

        assert ended == ("success 0", "")
        assert world.mailed() == joined()
        assert world.report()[user_id(11)]["action"] == "invited"


@needs_systemd
def test_the_walls_stand_and_the_night_does_not_mind(outside: Path) -> None:
    with approved(outside / "work") as world:
        world.keys = {"monitoring": {"metrics_file": f"{outside}/elsewhere.prom", "log_file": "campaign.log"}}
        world.config()
        ended, said = night_by_systemd(world, "ExecStartPre=grep -E ^(CapEff|NoNewPrivs|Seccomp): /proc/self/status")

        assert ended == "success 0"
        assert said.startswith("CapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\ncampaign: ")
        assert re.search(r"elsewhere\.prom.*Read-only file system", said)
        assert world.mailed() == joined()
        assert "run_finished" in (world.folder / "campaign.log").read_text(encoding="utf-8")


@needs_systemd
def test_a_night_that_is_stopped_by_a_guard_shows_as_failed(outside: Path) -> None:
    with approved(outside / "work") as world:
        (world.folder / "STOP").touch()
        ended, said = night_by_systemd(world)

        assert ended == "exit-code 4"
        assert f"{world.folder}/STOP exists" in said
        assert world.mailed() == []


@pytest.mark.promise(19)
@needs_systemd
def test_systemctl_stop_settles_the_message_in_flight_and_is_no_failure(outside: Path) -> None:
    with approved(outside / "work", Relay(log=outside / "relay.log")) as world:
        (outside / "relay.log").unlink()
        world.relay.at("dot", "delay 1")
        stop = "systemctl stop --no-block campaign-work.service"
        ended, _ = night_by_systemd(
            world, helper=f"/bin/sh -c 'until [ -s {outside}/relay.log ]; do sleep 0.05; done; exec {stop}'"
        )

        assert ended == "success 143"
        assert world.mailed() == joined()[:1]
        assert [world.report()[user_id(number)]["last_outcome"] for number in NEW] == ["accepted", ""]


@needs_systemd
def test_systemd_hands_over_the_password_of_the_relay(outside: Path) -> None:
    (outside / "smtp-password").write_text("päss")
    with approved(outside / "work") as world:
        world.keys = {
            "mail": {"auth": "password", "username": "campaign"},
            "mail.password": {"credential": "smtp"},
        }
        world.config()
        world.relay.login = ("campaign", "päss")
        ended = night_by_systemd(world, f"LoadCredential=smtp:{outside}/smtp-password")

        assert ended == ("success 0", "")
        assert world.mailed() == joined()


# --- a real cron

_CRON = """
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /etc/cron.d
mount -t tmpfs -o mode=1730,gid=crontab tmpfs /var/spool/cron/crontabs
mount --bind /dev/null /etc/crontab
mount --bind "$SENDMAIL" /usr/sbin/sendmail
sh -c "$INSTALL"
exec env -i /usr/sbin/cron -f
"""


def installing(jobs: Jobs) -> str:
    """The command by which the crontab says it is turned on, once its time is every minute."""
    text = jobs.crontab.read_text(encoding="utf-8")
    assert text.count("15 2 * * *") == 1
    jobs.crontab.write_text(text.replace("15 2 * * *", "* * * * *"), encoding="utf-8")
    [command] = re.findall(r"^# +(\(crontab -l.*)$", text, re.MULTILINE)
    return str(command)


@contextmanager
def cron(install: str, letters: Path) -> Iterator[subprocess.Popen[str]]:
    """A cron with no job but those that a command installs, which hands what it mails to a sendmail of the test's own."""
    sendmail = letters.with_name("sendmail")
    sendmail.write_text(f"#!/bin/sh\ncat >> {letters}\necho =END= >> {letters}\n")
    sendmail.chmod(0o755)
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SENDMAIL": str(sendmail), "INSTALL": install}
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", _CRON]
    with subprocess.Popen(words, env=environ, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def nights(world: World) -> int:
    """How many runs have left a report."""
    return len(list((world.folder / "reports" / "history").glob("*.csv")))


@pytest.mark.promise(20)
@pytest.mark.long
@pytest.mark.timeout(400)
@needs("cron", "crontab", "sendmail", "unshare", root=True)
def test_cron_runs_a_night_and_has_nothing_to_mail_but_what_a_person_must_know(tmp_path: Path) -> None:
    letters = tmp_path / "letters"
    letters.touch()
    unfinished = jobs_of(tmp_path / "unfinished")  # it has no private key yet, so each of its nights complains
    with approved(tmp_path / HARD) as world:
        both = f"{installing(jobs_of(world.folder))}; {installing(unfinished)}"
        with cron(both, letters) as running:
            wait_until(lambda: running.poll() or (nights(world) == 3 and letters.read_text().count("=END=") == 2), seconds=150)
            assert running.poll() is None, running.stderr and running.stderr.read()
        told = letters.read_text().split("=END=\n")[:-1]

        assert world.mailed() == joined()  # by the first of cron's two nights
        assert world.report()[user_id(12)]["name"] == "山田 花子"
        assert all("private.pem cannot be read: No such file or directory" in letter for letter in told)
        assert all(re.search(r"^Subject: Cron .*/unfinished/campaign\.toml$", letter, re.MULTILINE) for letter in told)
