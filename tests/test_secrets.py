"""Planted secrets are looked for in all that a run prints, writes, logs and passes on, also where it is refused or breaks off.

The runs are processes of their own. What is looked for: the private key, every assertion that was signed, every access token
that was handed out, the relay's password or OAuth token, and the URL of the ping; whole, in part and encoded.
"""

import base64
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from campaign.crash import told
from campaign.sandbox import CannedAnswer
from tests.commands import ROOT, Result, command
from tests.fakes import Relay
from tests.planted import Watcher, Wiretap, found, of_key
from tests.test_kills import wait_until
from tests.token_server import TokenServer, service_account_file
from tests.world import World, email, pem, private_key, user_id

MAILBOX = "contracts@example.com"
PASSWORD = "Planted/Pass+word='of \"the\" relay'~7f3c529d1e4b"
OAUTH_TOKEN = "ya29.Planted-OAuth_token/of+the~relay.a0AfH6SMBx93Jq1LkZ"
TOKEN = "eyJ0eXAiOiJNVCJ9.UGxhbnRlZC1hY2Nlc3MtdG9rZW4.Vq8s-Planted_signature-Zt4Kd"
PING = "http://127.0.0.1:1/5f6b1c0e-7d21-planted-ping-4e88-9a7d3c52f0b1"
GIVEN = {"campaign.toml", "private.pem", "smtp-password", "google.json", "token-server-ca.pem", "fault.py"}
BY_PASSWORD: dict[str, dict[str, Any]] = {
    "mail": {"auth": "password", "username": MAILBOX},
    "mail.password": {
        "command": ["sh", "-c", "cat /proc/$$/environ /proc/$$/cmdline > child; umask >> child; cat smtp-password"]
    },
}


@dataclass
class Stage:
    """A campaign of three people, one of whom has consented, in which every secret is a planted one."""

    world: World
    tap: Wiretap
    tokens: TokenServer
    planted: dict[str, bytes] = field(default_factory=dict)

    def run(self, *arguments: object, before: tuple[str, ...] = (), **environ: str) -> Result:
        """A command as a process, watched, with all that makes Python talk more."""
        done = subprocess.run(
            [*before, *self.program, *map(str, arguments)],
            cwd=self.world.folder,
            env=self.environment | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    @property
    def program(self) -> list[str]:
        """The program; with a fault planted in a library if there is one."""
        fault = self.world.folder / "fault.py"
        return [sys.executable, *([str(fault)] if fault.exists() else ["-m", "campaign"])]

    @property
    def environment(self) -> dict[str, str]:
        """What surrounds it: the ping's URL is configured here."""
        talkative = {"PYTHONDEVMODE": "1", "PYTHONFAULTHANDLER": "1", "PYTHONWARNINGS": "ignore"}
        ping = {"CAMPAIGN_MONITORING_HEALTHCHECK_URL": PING}
        return {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.world.folder / "tmp"), **talkative, **ping}

    def sign_in(self, how: str) -> None:
        """Let the relay be reached with a password or with an OAuth token."""
        if how == "password":
            self.world.keys |= {table: {**keys} for table, keys in BY_PASSWORD.items()}
            self.world.relay.login = (MAILBOX, PASSWORD)
        else:
            self.world.keys["mail"] = {"auth": "google", "username": MAILBOX}
            self.world.keys["mail.google"] = {"service_account_file": "google.json", "ca_file": str(self.tokens.ca_file)}
            self.world.relay.login, self.world.relay.mechanisms = (MAILBOX, OAUTH_TOKEN), "PLAIN XOAUTH2"
        self.world.config()

    def secrets(self) -> dict[str, bytes]:
        """All that must be nowhere."""
        signed = [asked.fields["assertion"].encode() for asked in self.tokens.asked]
        overheard = {**self.tap.secrets(), **{f"assertion to Google {n}": one for n, one in enumerate(signed)}}
        return {**self.planted, **of_key(private_key()), **overheard}

    def leaks(self, *said: Result, seen: Watcher | None = None) -> set[tuple[str, str]]:
        """Which secret is where."""
        streams = {f"{n} {name}": getattr(one, name).encode() for n, one in enumerate(said) for name in ("stdout", "stderr")}
        mails = {f"mail {n}": repr(message).encode() for n, message in enumerate(self.world.relay.accepted)}
        left = {str(path): path.read_bytes() for path in self.left()}
        return found(self.secrets(), {**streams, **mails, **left, **(seen.files if seen else {})})

    def left(self) -> list[Path]:
        """Every file that was not there before."""
        return [path for path in self.world.folder.rglob("*") if path.is_file() and path.name not in GIVEN]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        world = stack.enter_context(World(tmp_path / "work", live=True, relay=Relay(mechanisms="PLAIN LOGIN")))
        tap = stack.enter_context(Wiretap(int(world.accounts.url.rpartition(":")[2])))
        tokens = stack.enter_context(TokenServer(world.folder))
        tokens.answers += [(200, {"access_token": OAUTH_TOKEN, "token_type": "Bearer", "expires_in": 3599})] * 9
        service_account_file(world.folder / "google.json", tokens.token_uri)
        (world.folder / "smtp-password").write_text(PASSWORD, encoding="utf-8")
        (world.folder / "smtp-password").chmod(0o600)
        (world.folder / "tmp").mkdir()
        world.keys = {
            "docusign": {"account_server": f"http://127.0.0.1:{tap.port}"},
            "report": {"formats": ["csv", "xlsx"]},
            "monitoring": {"log_file": "campaign.log", "metrics_file": "campaign.prom"},
        }
        world.roster([{"user_id": user_id(n), "email": email(n), "name": f"Person {n}"} for n in (1, 2, 3)])
        world.consent(3)
        texts = {"password": PASSWORD, "OAuth token": OAUTH_TOKEN, "a strange token": TOKEN, "ping": PING.rpartition("/")[2]}
        yield Stage(world, tap, tokens, {name: text.encode() for name, text in texts.items()})


# --- nights and commands that end as they should


@pytest.mark.promise(14)
@pytest.mark.parametrize("how", ["password", "token"])
def test_a_good_night_shows_no_secret_anywhere(how: str, stage: Stage) -> None:
    stage.sign_in(how)
    with Watcher(stage.world.folder, stage.world.folder / "reports", stage.world.folder / "reports" / "history") as seen:
        done = stage.run("run", "--approve", 9, "-vv")
    kinds = {name.rpartition(" ")[0] for name in stage.secrets()}

    assert (done.exit_code, len(stage.world.mailed())) == (0, 2), done.stderr
    assert {"assertion", "token"} <= kinds, "the wiretap heard nothing"
    assert ("assertion to Google" in kinds) == (how == "token")
    assert {"ledger.sqlite3-journal"} <= {*seen.files}
    assert stage.leaks(done, seen=seen) == set()
    assert {"report.csv", "report.xlsx", "campaign.log", "campaign.prom", "ledger.sqlite3"} <= {p.name for p in stage.left()}
    assert list((stage.world.folder / "tmp").iterdir()) == []


COMMANDS: dict[str, tuple[object, ...]] = {
    "doctor": ("doctor", "--mail-to", "me@example.com"),
    "plan": ("plan", "--out", "plan.csv"),
    "preview": ("preview", email(1), "--to", "me@example.com", "--out", "mail.eml"),
    "explain": ("explain", email(1), "--json"),
    "report": ("report",),
}


@pytest.mark.promise(14)
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_shows_a_secret(name: str, stage: Stage) -> None:
    stage.sign_in("password")
    if name in {"explain", "report"}:
        stage.world.keys["mail"] = {**stage.world.keys["mail"], "auth": "none"}
        stage.world.relay.login = None
        stage.world.night(9)
    done = stage.run(*COMMANDS[name])

    assert done.exit_code == 0, done.stderr
    assert done.stdout
    assert stage.leaks(done) == set()


def test_the_search_finds_what_is_there(stage: Stage) -> None:
    stage.sign_in("password")
    stage.run("plan")
    for name, secret in stage.secrets().items():
        half = secret[len(secret) // 2 :][:30]
        shown = {
            "as it is": half,
            "base64": base64.b64encode(b"x" + half),
            "hex": half.hex().encode(),
            "repr": repr(half).encode(),
        }

        assert {place for _, place in found({name: secret}, shown)} == {*shown}, name


# --- nights that are refused


def another_key(stage: Stage) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    stage.planted |= {f"another {name}": secret for name, secret in of_key(key).items()}
    (stage.world.folder / "private.pem").write_bytes(pem(key))


def answer(status: int, **fields: str) -> Any:
    """Let the account server answer everybody with a token where none belongs."""
    body = ("{" + ", ".join(f'"{key}": "{value}"' for key, value in fields.items()) + "}").encode()
    location = {"Location": f"http://127.0.0.1:1/{TOKEN}"}
    return lambda stage: setattr(stage.world.accounts.faults, "answer_all", CannedAnswer(status, body, location))


def repeat(share: float) -> Any:
    """Let the relay repeat what it was sent at AUTH, or the first part of it."""
    plain = base64.b64encode(f"\0{MAILBOX}\0{PASSWORD}".encode()).decode()
    word = base64.b64encode(PASSWORD.encode()).decode()
    quoted = f"{plain[: int(len(plain) * share)]} {word[: int(len(word) * share)]} {PASSWORD[: int(len(PASSWORD) * share)]}"
    return lambda stage: stage.world.relay.at("AUTH", f"535 5.7.8 no such password: {quoted}")


REFUSED: dict[str, Any] = {
    "a key that Docusign does not know": another_key,
    "a relay that is not there": lambda stage: stage.world.keys["mail"].update(port=1),
    "a wrong password": lambda stage: setattr(stage.world.relay, "login", (MAILBOX, "another")),
}
REPEATED: dict[str, Any] = {
    "a token that is no Bearer's": answer(200, access_token=TOKEN, token_type="Application"),
    "a token in an error": answer(400, error=TOKEN, error_description=TOKEN),
    "a token in a refusal": answer(400, error="invalid_grant", error_description=f"no_valid_keys {TOKEN}"),
    "a token in a redirect": answer(302, access_token=TOKEN),
    "a wrong password, repeated": repeat(1),
    "a wrong password, repeated in part": repeat(0.6),
    "a connection that is lost at AUTH": lambda stage: stage.world.relay.at("AUTH", "drop"),
}


@pytest.mark.promise(14)
@pytest.mark.long
@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_night_shows_no_secret(case: str, stage: Stage) -> None:
    stage.sign_in("password")
    REFUSED[case](stage)
    stage.world.config()
    done = stage.run("run", "--approve", 9, "-v")

    assert done.exit_code in {4, 5}, done.stderr
    assert "Traceback" not in done.stderr
    assert stage.leaks(done) == set()


@pytest.mark.promise(14)
@pytest.mark.long
@pytest.mark.parametrize("case", REPEATED)
def test_who_repeats_a_secret_cannot_have_it_shown(case: str, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.sign_in("password")
    REPEATED[case](stage)
    monkeypatch.chdir(stage.world.folder)
    monkeypatch.setenv("CAMPAIGN_MONITORING_HEALTHCHECK_URL", PING)
    done = command("run", "--approve", 9, "-v")

    assert done.exit_code in {4, 5}, done.stderr
    assert stage.leaks(done) == set()


@pytest.mark.promise(14)
def test_a_relay_that_repeats_an_oauth_token_cannot_show_it(stage: Stage) -> None:
    stage.sign_in("token")
    said = base64.b64encode(f'{{"status":"400","token":"{OAUTH_TOKEN[:40]}"}}'.encode()).decode()
    stage.world.relay.login = (MAILBOX, "another")
    stage.world.relay.at("challenge", f"334 {said}").at("refusal", f"535 5.7.3 {OAUTH_TOKEN} {OAUTH_TOKEN[:30]}")
    done = stage.run("run", "--approve", 9, "-v")

    assert done.exit_code == 5, done.stderr
    assert '"token":"***"' in done.stderr
    assert stage.leaks(done) == set()


# --- crashes: what is raised quotes the secret in its text, its notes, its cause and its local variables


FAULT = """
import logging, socket, sys
from pathlib import Path
SECRET = Path("private.pem").read_text() + Path("smtp-password").read_text()
def burst(kind, given):
    text = f"cannot work on {given!r} with {SECRET}"
    error = kind(text)
    error.add_note(text)
    logging.getLogger("library").error(text)
    try:
        raise LookupError(text)
    except LookupError as cause:
        raise error from cause
class Panic(BaseException): ...
class Doomed:
    def __del__(self): burst(ValueError, self.__dict__)
"""
START = """
from campaign.cli import main
main()
"""
SIGNING = """
from jwt.algorithms import RSAAlgorithm
def sign_badly(self, message, key): burst(ValueError, message)
RSAAlgorithm.sign = sign_badly
"""
PROBING = """
from requests.adapters import HTTPAdapter
def send_badly(self, request, **_): burst(RuntimeError, request.body)
HTTPAdapter.send = send_badly
"""
AUTHENTICATING = """
good = socket.socket.send
def send_badly(self, data, *flags):
    if bytes(data).startswith(b"AUTH"):
        burst(RuntimeError, bytes(data))
    return good(self, data, *flags)
socket.socket.send = send_badly
"""
REPORTING = """
from xlsxwriter import Workbook
def close_badly(self): burst(RuntimeError, self.__dict__)
Workbook.close = close_badly
"""
DYING = """
from xlsxwriter import Workbook
good = Workbook.close
def close_with_a_doomed_one(self):
    Doomed()
    good(self)
Workbook.close = close_with_a_doomed_one
"""

CRASHES: dict[str, tuple[str, str, int, str]] = {  # how one signs in, the fault, how it ends, what the traceback shows
    "signing": ("password", SIGNING, 1, "in sign_badly"),
    "panicking while signing": ("password", SIGNING.replace("ValueError", "Panic"), 1, "in sign_badly"),
    "probing": ("password", PROBING, 1, "in send_badly"),
    "signing in with a password": ("password", AUTHENTICATING, 1, "in send_badly"),
    "signing in with a token": ("token", AUTHENTICATING, 1, "in send_badly"),
    "reporting": ("password", REPORTING, 1, "in close_badly"),
    "panicking while reporting": ("password", REPORTING.replace("RuntimeError", "Panic"), 1, "in close_badly"),
    "clearing up": ("password", DYING, 0, "in __del__"),
}


def plant(stage: Stage, fault: str) -> None:
    (stage.world.folder / "fault.py").write_text(FAULT + fault + START, encoding="utf-8")


@pytest.mark.promise(14)
@pytest.mark.parametrize("where", CRASHES)
def test_a_crash_tells_where_it_was_and_shows_no_secret(where: str, stage: Stage) -> None:
    how, fault, exit_code, frame = CRASHES[where]
    stage.sign_in(how)
    plant(stage, fault)
    done = stage.run("run", "--approve", 9, "-vv")

    assert done.exit_code == exit_code, done.stderr
    assert "campaign: a bug: " in done.stderr
    assert "          report it" in done.stderr
    assert "LookupError\n" in done.stderr
    assert frame in done.stderr
    assert stage.leaks(done) == set()


@pytest.mark.promise(14)
@pytest.mark.parametrize(("command", "how"), [("run", "password"), ("doctor", "password"), ("doctor", "token")])
def test_a_connection_that_breaks_at_auth_and_quotes_what_was_sent_shows_no_secret(command: str, how: str, stage: Stage) -> None:
    stage.sign_in(how)
    fault = AUTHENTICATING.replace(
        "burst(RuntimeError, bytes(data))", 'raise ConnectionResetError(f"cannot send {bytes(data)!r}")'
    )
    plant(stage, fault)
    done = stage.run(command, *(["--approve", 9] if command == "run" else []))

    assert done.exit_code == 5, done.stderr
    assert "cannot send b'AUTH" in done.stdout + done.stderr, "the fault was not met"
    assert stage.leaks(done) == set()


def fail(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """The error as it is when it was raised from another."""
    try:
        raise error from cause  # noqa: TRY301  # so it gets its traceback
    except BaseException as raised:  # noqa: BLE001  # any
        return raised


@pytest.mark.promise(14)
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError(PASSWORD), "ValueError"),
        (KeyError(PASSWORD), "KeyError"),
        (PermissionError(13, PASSWORD, PASSWORD), "PermissionError (EACCES)"),
        (OSError([PASSWORD], PASSWORD), "OSError"),
        (OSError(99999, PASSWORD), "OSError"),
        (subprocess.CalledProcessError(3, PASSWORD, PASSWORD), "subprocess.CalledProcessError"),
        (UnicodeDecodeError("utf-8", PASSWORD.encode(), 3, 9, PASSWORD), "UnicodeDecodeError"),
        (ModuleNotFoundError(PASSWORD, name="aiosmtpd"), "ModuleNotFoundError (aiosmtpd)"),
        (AttributeError(PASSWORD, name="sned"), "AttributeError (sned)"),
        (BaseExceptionGroup(PASSWORD, [KeyboardInterrupt(PASSWORD)]), "BaseExceptionGroup"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_of_a_bug_is_told_what_cannot_be_a_secret(error: BaseException, kind: str) -> None:
    text = told(fail(error))

    assert text.startswith(f"a bug: {kind} in {__file__}, line ")
    assert text.endswith(f"\n{kind}")
    assert ", in fail\n" in text
    assert found({"password": PASSWORD.encode()}, {"told": text.encode()}) == set()


@pytest.mark.promise(14)
def test_of_a_chain_every_link_is_told_once_the_first_first() -> None:
    first = fail(LookupError(PASSWORD))
    last = fail(ValueError(PASSWORD), fail(TypeError(PASSWORD), first))
    first.__context__ = last
    lines = told(last).splitlines()

    assert [line for line in lines if line.endswith("Error")] == ["LookupError", "TypeError", "ValueError"]


# --- children, memory and files


@pytest.mark.promise(14)
def test_a_command_that_is_asked_for_the_password_learns_no_other_secret(stage: Stage) -> None:
    stage.sign_in("password")
    done = stage.run("preview", email(1), "--to", "me@example.com", KEPT="this")
    child = (stage.world.folder / "child").read_text(encoding="utf-8")

    assert done.exit_code == 0, done.stderr
    assert "KEPT=this" in child
    assert "CAMPAIGN_" not in child
    assert child.endswith("0077\n")
    assert stage.leaks(done) == set()


# Who started the tests in the background has SIGQUIT ignored, and so would have whatever they start.
UNLIMITED = ("env", "--default-signal=QUIT", "sh", "-c", 'ulimit -S -c "$(ulimit -H -c)"; exec "$@"', "sh")


@pytest.mark.promise(14)
@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGQUIT])
def test_a_process_that_is_killed_while_it_mails_leaves_no_core(number: signal.Signals, stage: Stage) -> None:
    stage.sign_in("password")
    stage.world.relay.at("dot", "store hang")
    command = [*UNLIMITED, *stage.program, "run", "--approve", "9"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=stage.world.folder, env=stage.environment, stdout=pipe, stderr=pipe) as process:
        wait_until(lambda: stage.world.relay.accepted)
        limits = Path(f"/proc/{process.pid}/limits").read_text(encoding="ascii")
        process.send_signal(number)
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        stdout, stderr = process.communicate()
    said = Result(process.returncode, stdout.decode(), stderr.decode())

    assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]
    assert ended
    assert (ended.si_code, ended.si_status) == (os.CLD_KILLED, number)
    assert not [path for path in stage.left() if "core" in path.name]
    assert stage.leaks(said) == set()


@pytest.mark.promise(14)
def test_no_other_process_may_read_the_memory_and_children_leave_no_core_either(stage: Stage) -> None:
    code = """
import ctypes, subprocess, sys
from campaign.cli import main
sys.argv = ["campaign", "--version"]
try: main()
except SystemExit: pass
print(ctypes.CDLL(None).prctl(3), subprocess.run(["sh", "-c", "ulimit -H -c"], capture_output=True, text=True).stdout)
"""
    said = subprocess.run(
        [*UNLIMITED, sys.executable, "-c", code], env=stage.environment, capture_output=True, text=True, check=True
    )

    assert said.stdout.splitlines()[1] == "0 0"


@pytest.mark.promise(18)
@pytest.mark.case(42)
def test_all_that_is_written_is_for_its_owner_alone_whatever_the_umask(stage: Stage) -> None:
    stage.sign_in("password")
    open_to_all = ("sh", "-c", 'umask 0; exec "$@"', "sh")
    before = set(stage.world.folder.rglob("*"))
    with Watcher(stage.world.folder, stage.world.folder / "reports", stage.world.folder / "reports" / "history") as seen:
        for arguments in (("run", "--approve", 9), ("plan", "--out", "plan.csv"), ("preview", email(1), "--out", "mail.eml")):
            assert stage.run(*arguments, before=open_to_all).exit_code == 0
    made = set(stage.world.folder.rglob("*")) - before
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made}

    assert modes.pop("campaign.prom") == 0o644, "what monitoring reads holds nothing personal"
    assert {"reports", "history", "plan.csv", "mail.eml", "ledger.sqlite3.witness", "ledger.sqlite3.lock", "campaign.log"} <= {
        *modes
    }
    assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}
    assert {name: mode for name, mode in seen.modes.items() if mode & 0o077} == {}
    assert "ledger.sqlite3-journal" in seen.modes
