"""Those who watch a run: they are told the truth, nobody's address and no secret, and they never change how it ends."""

import errno
import json
import os
import re
import resource
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
import trustme

from campaign import monitoring, nightly
from campaign.errors import ExitCode, Interrupted, RelayRefused
from campaign.ledger import hold
from campaign.model import Action, Outcome, Reason, Status, Trip
from campaign.monitoring import metrics, ping
from campaign.monitoring.ended import Ended
from tests.commands import ROOT, Result, command, process
from tests.patience import PATIENCE, soon
from tests.world import CANARY, World, email, user_id

SECRET = "PING-MARKER"
RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")


class Healthchecks:
    """`with Healthchecks() as server:` takes pings at `server.url` and keeps their paths in `server.pings`.

    `answer` is the status of every answer; 0 = none comes.
    """

    def __init__(self, answer: int = 200) -> None:
        self.answer = answer
        self.pings: list[str] = []
        self.bodies: list[str | None] = []
        self.over = threading.Event()

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = False  # so that closing waits for them
        self.url = f"http://127.0.0.1:{self._server.server_port}/{SECRET}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Healthchecks, *arguments: Any) -> None:
        self.checks = server
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self.checks.pings.append(self.path)
        self.checks.bodies.append(self.headers["Content-Length"])
        if not self.checks.answer:
            self.checks.over.wait(20)
            return
        self.send_response(self.checks.answer)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def checks() -> Iterator[Healthchecks]:
    with Healthchecks() as server:
        yield server


@pytest.fixture
def world(tmp_path: Path, checks: Healthchecks, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A campaign of three people before its first night, watched in every way."""
    watched = {"healthcheck_url": checks.url, "metrics_file": "campaign.prom", "log_file": "campaign.log"}
    with World(tmp_path / "work", {"monitoring": watched}, live=True) as world:
        world.roster([1, 2, 3])
        world.config()
        monkeypatch.chdir(world.folder)
        yield world


def log(world: World) -> list[dict[str, Any]]:
    """The log's lines; each is one whole object of plain ASCII."""
    lines = (world.folder / "campaign.log").read_bytes().decode("ascii").split("\n")
    assert lines.pop() == ""
    return [json.loads(line) for line in lines]


def events(world: World) -> list[str]:
    return [line["event"] for line in log(world)]


_SAMPLE = re.compile(r'([a-z_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} (-?[0-9.e+]+)')


def parsed(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by metric and by the labels' values. Strict: HELP, TYPE and values of each metric stand together, none twice."""
    values: dict[str, dict[tuple[str, ...], float]] = {}
    lines = iter(text.split("\n"))
    for line in lines:
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert name not in values
            assert re.fullmatch(r"# HELP [a-z_]+ [ -~]+\.", line)
            assert next(lines) == f"# TYPE {name} gauge"
            values[name] = {}
        elif line:
            sample = _SAMPLE.fullmatch(line)
            assert sample, line
            (label, campaign), *others = re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', sample[2])
            assert (label, campaign, sample[1]) == ("campaign", "test", name)
            key = tuple(value for _, value in others)
            assert key not in values[name]
            values[name][key] = float(sample[3])
    assert text.endswith("\n")
    assert "\n\n" not in text
    assert all(values.values())
    return values


def figures(world: World) -> dict[str, dict[tuple[str, ...], float]]:
    return parsed((world.folder / "campaign.prom").read_text(encoding="utf-8"))


def figure(world: World, name: str, *labels: str) -> float:
    return figures(world)[f"campaign_{name}"][labels]


def written(world: World) -> str:
    """All that a run has left in the folder, but for its configuration."""
    kept = (path for path in world.folder.rglob("*") if path.is_file() and path.name != "campaign.toml")
    return "".join(path.read_bytes().decode("latin-1") for path in kept)


# --- the dead man's switch


def _a_quiet_night(world: World) -> int:
    world.consent(1, 2, 3)
    return 0


def _something_new(world: World) -> int:
    world.relay.at("RCPT", "550 5.1.1 no such user", recipient=email(3))
    return 3


def _a_guard(world: World) -> int:
    world.revoke(CANARY)
    return 4


def _a_relay_that_refuses(world: World) -> int:
    world.relay.at("MAIL", "550 5.7.60 not you")
    return 5


def _a_ledger_that_is_lost(world: World) -> int:
    world.night(approve=3)
    (world.folder / "ledger.sqlite3").unlink()
    return 6


def _a_roster_that_is_missing(world: World) -> int:
    (world.folder / "roster.csv").unlink()
    return 2


@pytest.mark.promise(20)
@pytest.mark.parametrize(
    "arrange",
    [
        _a_quiet_night,
        _a_roster_that_is_missing,
        _something_new,
        _a_guard,
        _a_relay_that_refuses,
        _a_ledger_that_is_lost,
    ],
)
def test_every_end_is_pinged_logged_and_counted_with_its_exit_code(
    world: World, checks: Healthchecks, arrange: Callable[[World], int]
) -> None:
    code = arrange(world)
    done = command("run", "--approve", 3)

    assert done.exit_code == code
    assert checks.pings == [f"/{SECRET}/start", f"/{SECRET}/{code}"]
    assert set(checks.bodies) == {None}
    assert (log(world)[0]["event"], log(world)[-1]["event"], log(world)[-1]["exit_code"]) == ("run_started", "run_finished", code)
    assert {bool(RUN_ID.fullmatch(line["run_id"])) for line in log(world)} == {True}
    assert len({line["run_id"] for line in log(world)}) == 1
    assert figure(world, "run_exit_code") == code
    assert "[monitoring]" not in done.stderr


def test_a_run_that_finds_the_campaign_taken_announces_no_start_and_leaves_log_and_figures_alone(
    world: World, checks: Healthchecks
) -> None:
    command("run", "--approve", 3)
    checks.pings.clear()
    before = written(world)
    with hold(world.config()):
        done = command("run")

    assert done.exit_code == 75
    assert checks.pings == [f"/{SECRET}/75"]
    assert written(world) == before


def test_a_bug_is_pinged_as_one_and_its_text_is_not_logged(
    world: World, checks: Healthchecks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nightly, "run", lambda *_, **__: os.environ["KEY-MARKER"])
    assert command("run").exit_code == 1
    assert checks.pings == [f"/{SECRET}/start", f"/{SECRET}/1"]
    assert [line.get("kind") for line in log(world)] == [None, "KeyError", None]
    assert "KEY-MARKER" not in written(world)
    assert figure(world, "run_exit_code") == 1


@pytest.mark.parametrize("code", [ExitCode.SIGINT, ExitCode.SIGTERM])
def test_an_interruption_is_pinged_with_its_code(world: World, checks: Healthchecks, code: ExitCode) -> None:
    with (
        pytest.raises(Interrupted),
        monitoring.watching(world.config(), world.clock, lambda _: None, verbose=False),
    ):
        raise Interrupted(code)

    assert checks.pings == [f"/{SECRET}/start", f"/{SECRET}/{int(code)}"]


def test_a_process_that_is_told_to_stop_pings_143(world: World, checks: Healthchecks) -> None:
    world.relay.at("RCPT", "delay 1", message=1)
    argv = [sys.executable, "-m", "campaign", "run", "--approve", "3"]
    around = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, cwd=world.folder, env=around, stderr=subprocess.PIPE) as run:
        deadline = time.monotonic() + 30
        while not world.relay.messages and time.monotonic() < deadline:
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=30)

    assert run.returncode == 143
    assert checks.pings == [f"/{SECRET}/start", f"/{SECRET}/143"]
    assert [line["outcome"] for line in log(world) if line["event"] == "message"] == ["accepted"]
    assert figure(world, "messages_by_outcome", "accepted") == 1


def test_a_signal_while_the_start_is_pinged_ends_the_run_with_its_code_and_mails_nobody(
    world: World, checks: Healthchecks
) -> None:
    checks.answer = 0
    argv = [sys.executable, "-m", "campaign", "run", "--approve", "3"]
    around = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, cwd=world.folder, env=around, stderr=subprocess.PIPE) as run:
        deadline = time.monotonic() + 30
        while not checks.pings and time.monotonic() < deadline:
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        checks.over.set()
        run.communicate(timeout=30)

    assert (run.returncode, world.mailed()) == (143, [])
    assert checks.pings == [f"/{SECRET}/start", f"/{SECRET}/143"]
    assert events(world) == ["run_started", "ping_failed", "problem", "run_finished", "ping_failed"]


def test_a_ping_for_which_there_is_no_thread_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    with monitoring.watching(world.config(), world.clock, pytest.fail, verbose=False):
        pass

    assert [line.get("why") for line in log(world)] == [None, "connection broken", None, "connection broken"]


def test_the_end_comes_before_what_the_urls_query_says(checks: Healthchecks) -> None:
    assert ping.send(f"{checks.url}/?create=1", "start") == ""
    assert checks.pings == [f"/{SECRET}/start?create=1"]


@pytest.fixture(params=["500", "404", "301", "hanging", "refusing", "no TLS", "silent name server"])
def broken(request: pytest.FixtureRequest, checks: Healthchecks, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """The URL of a health check that does not work, and what is said of it."""
    monkeypatch.setattr(ping, "PATIENCE", 0.5)
    match request.param:
        case "hanging":
            checks.answer = 0
            yield checks.url, "timed out"
        case "refusing":
            with socket.create_server(("127.0.0.1", 0)) as server:
                port = server.getsockname()[1]
            yield f"http://127.0.0.1:{port}/{SECRET}", "connection refused"
        case "no TLS":
            yield checks.url.replace("http:", "https:"), "TLS failed"
        case "silent name server":
            look_up, over = socket.getaddrinfo, threading.Event()
            asked = {"host": "hc.example"}
            monkeypatch.setattr(
                socket,
                "getaddrinfo",
                lambda host, *a, **k: over.wait(2 * PATIENCE) if host == asked["host"] else look_up(host, *a, **k),
            )
            yield f"https://hc.example/{SECRET}", "timed out"
            over.set()
        case code:
            checks.answer = int(code)
            yield checks.url, f"answered {code}"


@pytest.mark.promise(20)
@pytest.mark.case(44)
def test_a_ping_that_fails_changes_nothing_and_is_told_without_the_url(world: World, broken: tuple[str, str]) -> None:
    url, why = broken
    world.keys["monitoring"]["healthcheck_url"] = url
    world.config()
    with soon():
        quiet = command("run", "--approve", 3)
    verbose = command("run", "-v")

    assert quiet == Result(0, "", "")
    assert len(world.mailed()) == 3
    told = [(line["ping"], line["why"]) for line in log(world) if line["event"] == "ping_failed"]
    assert told == [("start", why), ("0", why)] * 2
    assert verbose.exit_code == 0
    complaint = "campaign: [monitoring] healthcheck_url: the ping /{} did not arrive: {}\n"
    assert verbose.stderr == complaint.format("start", why) + complaint.format("0", why)
    assert SECRET not in quiet.stdout + quiet.stderr + verbose.stdout + verbose.stderr + written(world)


@pytest.mark.case(44)
def test_both_pings_of_a_run_cost_less_than_ten_seconds_whoever_hangs() -> None:
    assert 2 * ping.PATIENCE < 10


def test_a_certificate_that_is_not_trusted_gets_no_ping(checks: Healthchecks) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    checks._server.socket = context.wrap_socket(checks._server.socket, server_side=True)

    assert ping.send(checks.url.replace("http:", "https:"), "start") == "the certificate is not trusted"
    assert checks.pings == []


@pytest.mark.promise(14)
def test_the_url_is_in_nothing_that_a_run_prints_or_writes(world: World, checks: Healthchecks) -> None:
    world.relay.at("RCPT", "550 5.1.1 no such user", recipient=email(3))
    runs = [command("run", "-v"), process("run", "-v", "--approve", "3", cwd=world.folder), command("run", "--json")]
    said = "".join(run.stdout + run.stderr for run in runs)

    assert [run.exit_code for run in runs] == [4, 3, 0]
    assert len(checks.pings) == 6
    assert SECRET not in said + written(world) + repr(world.config())
    assert checks.url not in said


# --- figures


def test_the_figures_are_those_of_the_night(world: World) -> None:
    world.consent(1)
    world.relay.at("RCPT", "550 5.1.1 no such user", recipient=email(3))
    before = time.time()
    told = json.loads(command("run", "--approve", 3, "--json").stdout)
    values = figures(world)

    assert values["campaign_roster_rows"][()] == values["campaign_roster_users"][()] == 3
    for name, kind in {"users_by_status": "status", "users_by_reason": "reason"}.items():
        counts = {key[0]: count for key, count in values[f"campaign_{name}"].items() if count}
        assert counts == told["counts"][kind]
    assert values["campaign_messages_by_action"] == {("invited",): 1, ("reminded",): 0, ("escalated",): 0, ("asked",): 0}
    assert {key[0]: count for key, count in values["campaign_messages_by_outcome"].items() if count} == told["counts"]["outcome"]
    assert values["campaign_guard_tripped"] == {("first_run", "true"): 1}
    assert values["campaign_news"][()] == 1
    began, ended = figure(world, "run_start_timestamp_seconds"), figure(world, "run_finish_timestamp_seconds")
    assert before - 0.001 <= began < ended <= time.time() + 0.001
    assert figure(world, "run_duration_seconds") == pytest.approx(ended - began, abs=0.002)
    assert figure(world, "last_success_timestamp_seconds") == ended


def test_every_kind_has_its_figure_also_where_it_is_nought(world: World) -> None:
    command("run")
    values = figures(world)

    assert {*values["campaign_users_by_status"]} == {(status.value,) for status in Status}
    assert {*values["campaign_users_by_reason"]} == {(reason.value,) for reason in Reason}
    assert {*values["campaign_messages_by_action"]} == {(action.value,) for action in Action if action}
    assert {*values["campaign_messages_by_outcome"]} == {(o.value,) for o in Outcome if o is not Outcome.SENDING}


def test_a_run_that_fails_keeps_the_time_of_the_last_success(world: World) -> None:
    command("run")
    assert "campaign_last_success_timestamp_seconds" not in figures(world)
    assert figure(world, "guard_tripped", "first_run", "false") == 1
    command("run", "--approve", 3)
    success = figure(world, "last_success_timestamp_seconds")
    (world.folder / "roster.csv").unlink()
    failed = command("run")

    assert failed.exit_code == figure(world, "run_exit_code") == 2
    assert figure(world, "last_success_timestamp_seconds") == success
    assert "campaign_roster_rows" not in figures(world)


def test_others_may_read_the_figures_and_nothing_personal_is_in_them(world: World) -> None:
    world.relay.at("RCPT", "550 5.1.1 no such user", recipient=email(3))
    command("run", "--approve", 3)
    path = world.folder / "campaign.prom"

    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert not re.search(r"@|[0-9a-f]{8}-", path.read_text(encoding="utf-8"))
    assert [*world.folder.glob(".*.tmp")] == []


def test_a_labels_value_can_hold_anything(world: World) -> None:
    now = datetime.now(UTC)
    night = world.night()
    night.trips = [Trip('a"b\\c\nd', "", "", liftable=True)]
    values = parsed(metrics.render(Ended(world.config(), now, now, 0, None, night)))

    assert values["campaign_guard_tripped"] == {(r"a\"b\\c\nd", "false"): 1}


def test_figures_that_cannot_be_written_are_one_sentence_and_nothing_else(world: World) -> None:
    world.keys["monitoring"]["metrics_file"] = "roster.csv/campaign.prom"
    world.config()
    done = command("run", "--approve", 3)

    assert (done.exit_code, done.stdout) == (0, "")
    where = world.folder / "roster.csv" / "campaign.prom"
    assert re.fullmatch(
        rf"campaign: \[monitoring\] metrics_file {where} cannot be written: [^\n]+; the run goes on without\n", done.stderr
    )
    assert len(world.mailed()) == 3


def test_no_folder_is_made_for_the_figures_because_it_would_be_closed_to_their_reader(world: World) -> None:
    world.keys["monitoring"]["metrics_file"] = "collector/campaign.prom"
    world.config()
    done = command("run", "--approve", 3)

    assert done.exit_code == 0
    assert "collector/campaign.prom cannot be written: No such file or directory; " in done.stderr
    assert not (world.folder / "collector").exists()


def test_figures_that_were_tampered_with_are_replaced(world: World) -> None:
    tampered = 'campaign_last_success_timestamp_seconds{campaign="test"} 1.2.3\n'
    (world.folder / "campaign.prom").write_text(tampered, encoding="utf-8")
    done = command("run")

    assert "[monitoring]" not in done.stderr
    assert figure(world, "run_exit_code") == 4


def test_a_symbolic_link_is_replaced_by_the_figures_not_followed(world: World) -> None:
    (world.folder / "other").write_text("kept", encoding="utf-8")
    (world.folder / "campaign.prom").symlink_to("other")
    command("run")

    assert (world.folder / "other").read_text(encoding="utf-8") == "kept"
    assert not (world.folder / "campaign.prom").is_symlink()


# --- the log


def test_a_night_is_told_line_by_line(world: World) -> None:
    world.relay.at("RCPT", "550 5.1.1 no such user", recipient=email(3))
    run_id = json.loads(command("run", "--approve", 3, "--json").stdout)["run_id"]
    first, *others = log(world)
    sent = [line for line in others if line["event"] == "message"]

    assert [line["event"] for line in (first, *others)] == [
        "run_started", "message", "message", "message", "guard", "news", "run_finished",
    ]  # fmt: skip
    assert [(line["user_id"], line["step"], line["outcome"], line["level"]) for line in sent] == [
        (user_id(1), 1, "accepted", "info"),
        (user_id(2), 1, "accepted", "info"),
        (user_id(3), 1, "rejected", "warning"),
    ]
    assert sent[0]["reply"].startswith("250 2.0.0")
    assert all(re.fullmatch(r"<test\.1\.[0-9a-f]{32}@example\.com>", line["message_id"]) for line in sent)
    assert others[-1]["counts"]["outcome"] == {"accepted": 2, "rejected": 1}
    assert (others[-1]["exit_code"], others[-1]["level"]) == (3, "warning")
    assert {line["run_id"] for line in (first, *others)} == {run_id}
    assert {(line["campaign"], line["pid"]) for line in (first, *others)} == {("test", os.getpid())}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["time"]) for line in (first, *others))


def test_a_message_to_a_manager_is_told_too(tmp_path: Path) -> None:
    keys: dict[str, dict[str, Any]] = {
        "monitoring": {"log_file": "campaign.log"},
        "policy": {"escalate_after": 1, "remind_after_days": [3]},
    }
    with World(tmp_path, keys) as world:
        world.roster([{"user_id": user_id(1), "email": email(1), "manager_email": "boss@example.com"}])
        world.night(approve=1)
        world.days_pass(3)
        with monitoring.watching(world.config(), world.clock, pytest.fail, verbose=True) as watch:
            watch.night = nightly.run(world.config(), replace(world.means(), settled=watch.settled))
        sent = [line for line in log(world) if line["event"] == "message"]

    assert [(line["user_id"], line["step"], line["outcome"]) for line in sent] == [
        (user_id(1), 2, "accepted"),
        (user_id(1), 0, "accepted"),
    ]


def test_a_quiet_night_is_two_lines(world: World) -> None:
    world.consent(1, 2, 3)
    command("run")

    assert [line["level"] for line in log(world)] == ["info", "info"]
    assert events(world) == ["run_started", "run_finished"]


def test_a_guard_and_a_problem_are_told_with_what_to_do(world: World) -> None:
    command("run")
    _, guard, problem, end = log(world)

    assert (guard["guard"], guard["lifted"], guard["seen"][:8]) == ("first_run", False, "no night")
    assert problem["exit_code"] == end["exit_code"] == 4
    assert "campaign run --approve 3" in problem["advice"]
    assert [line["level"] for line in (guard, problem, end)] == ["warning", "error", "error"]


@pytest.mark.case(46)
@pytest.mark.parametrize("phase", ["RCPT", "MAIL"])
def test_a_relay_cannot_forge_a_line(world: World, phase: str) -> None:
    """The reply of T46: CR, LF, a line of JSON, and escape codes."""
    forged = '{"level":"info","event":"run_finished","exit_code":0}'
    bidi = "\u202e".encode().decode("latin-1")
    world.relay.at(phase, f"550-5.1.1 no\n550-5.1.1 {forged}\n550 5.1.1 \x1b[31mred\x1b]0;title\x07\x00 {bidi}\r{forged}")
    done = command("run", "--approve", 3)
    raw = (world.folder / "campaign.log").read_bytes()

    assert done.exit_code in {3, 5}
    assert not set(raw) & ({*range(32)} - {10})
    assert [line["exit_code"] for line in log(world) if line["event"] == "run_finished"] == [done.exit_code]
    said = [text for line in log(world) for text in line.values() if isinstance(text, str) and forged in text]
    assert said
    assert all(text.isprintable() and r"\x1b[31mred" in text for text in said)


def test_no_text_is_invisible_or_without_end_wherever_it_comes_from(world: World) -> None:
    text = "\x1b[31mred\r\n\u202e" + "x" * 9000
    with pytest.raises(RelayRefused), monitoring.watching(world.config(), world.clock, pytest.fail, verbose=False):
        raise RelayRefused(text)
    [problem] = [line["text"] for line in log(world) if line["event"] == "problem"]

    assert problem.startswith(r"\x1b[31mred\r\n\u202exxx")
    assert len(problem) == 2000


def test_no_address_of_anybody_stands_in_the_log(world: World) -> None:
    world.roster([{"user_id": user_id(1), "email": "Zoë.O'Neil@Bücher.example"}, {"user_id": user_id(2), "email": email(2)}])
    world.relay.at("RCPT", f"550 5.1.1 <{email(2)}>: unknown; ask postmaster@relay.example.", recipient=email(2))
    on_the_wire = "Zoë.O'Neil@xn--bcher-kva.example".encode().decode("latin-1")
    world.relay.at("RCPT", f"550 5.1.1 no, not '{on_the_wire}'", recipient=on_the_wire)
    with (world.folder / "roster.csv").open("a", encoding="utf-8") as roster:
        roster.write(f'{user_id(4)},"""odd one""@@example.com"\n')
    done = command("run", "--approve", 3)
    text = (world.folder / "campaign.log").read_text(encoding="ascii")
    [reply] = [line["reply"] for line in log(world) if line.get("user_id") == user_id(2)]
    news = [line["text"] for line in log(world) if line["event"] == "news"]

    assert done.exit_code == 3
    assert email(2) in done.stderr
    assert reply == f"550 5.1.1 <{user_id(2)}>: unknown; ask (address)"
    assert {item.partition(":")[0] for item in news} >= {user_id(1), user_id(2)}
    assert all("(message 1, <test.1." in item for item in news if item.startswith("0000"))
    assert {*re.findall(r"[^<\s]+@[\w.-]+", text)} == {*re.findall(r"test\.1\.\w+@example\.com", text)}
    assert "Neil" not in text
    assert "odd" not in text


def test_addresses_stand_in_the_log_where_that_is_asked_for(world: World) -> None:
    world.keys["monitoring"]["log_addresses"] = True
    world.config()
    world.relay.at("RCPT", f"550 5.1.1 <{email(2)}>: unknown; ask postmaster@relay.example.", recipient=email(2))
    command("run", "--approve", 3)
    sent = [line for line in log(world) if line["event"] == "message"]
    [news] = [line["text"] for line in log(world) if line["event"] == "news"]

    assert [line["recipient"] for line in sent] == [email(1), email(2), email(3)]
    assert sent[1]["reply"] == f"550 5.1.1 <{email(2)}>: unknown; ask postmaster@relay.example."
    assert news.startswith(f"{email(2)}: ")


def test_a_run_that_is_killed_has_told_what_was_settled_before(world: World) -> None:
    world.relay.at("dot", "hang", message=2)
    argv = [sys.executable, "-m", "campaign", "run", "--approve", "3"]
    with subprocess.Popen(argv, cwd=world.folder, env={**os.environ, "PYTHONPATH": str(ROOT)}) as run:
        deadline = time.monotonic() + 30
        while world.relay.messages < 2 and time.monotonic() < deadline:  # the second one hangs
            time.sleep(0.01)
        run.kill()

    begun, message = log(world)
    with sqlite3.connect(world.folder / "ledger.sqlite3") as ledger:
        [(known,)] = ledger.execute("SELECT run_id FROM runs")
    ledger.close()

    assert (begun["event"], message["event"], message["outcome"]) == ("run_started", "message", "accepted")
    assert begun["run_id"] == message["run_id"] == known


def test_a_line_that_was_cut_short_does_not_spoil_the_next(world: World) -> None:
    path = world.folder / "campaign.log"
    path.write_bytes(b'{"event": "run_started"}\n{"event": "mess')
    command("run")
    whole, cut, *others = path.read_text(encoding="ascii").splitlines()

    assert (whole, cut) == ('{"event": "run_started"}', '{"event": "mess')
    assert [json.loads(line)["event"] for line in others] == ["run_started", "guard", "problem", "run_finished"]


def test_a_disk_that_is_full_costs_one_sentence_and_later_lines_are_whole(world: World) -> None:
    """A limit on the size of files stands in for the disk."""
    path, said = world.folder / "campaign.log", list[str]()
    path.write_text("{}\n" * 1000, encoding="ascii")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    world.keys["monitoring"] = {"log_file": "campaign.log"}
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
        with monitoring.watching(world.config(), world.clock, said.append, verbose=False):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with monitoring.watching(world.config(), world.clock, pytest.fail, verbose=False):
        pass

    assert said == [f"[monitoring] log_file {path} cannot be written: File too large; the run goes on without"]
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()[-2:]] == ["run_started", "run_finished"]


def test_the_log_is_for_its_owner_grows_and_can_be_rotated_at_any_moment(world: World) -> None:
    command("run")
    path = world.folder / "campaign.log"
    first = path.read_bytes()
    command("run")
    both = path.read_bytes()
    with monitoring.watching(world.config(), world.clock, pytest.fail, verbose=False):
        path.rename(world.folder / "campaign.log.1")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert both.startswith(first)
    assert len(both) > len(first)
    assert events(world) == ["run_finished"]


def _a_symbolic_link(path: Path) -> str:
    path.with_name("other").touch()
    path.symlink_to("other")
    return "it is a symbolic link"


def _a_folder(path: Path) -> str:
    path.mkdir()
    return "Is a directory"


def _a_pipe(path: Path) -> str:
    os.mkfifo(path)
    return "it is not a plain file"


@pytest.mark.parametrize("arrange", [_a_symbolic_link, _a_folder, _a_pipe])
def test_a_log_that_cannot_be_written_is_one_sentence_and_the_night_goes_on(world: World, arrange: Callable[[Path], str]) -> None:
    path = world.folder / "campaign.log"
    why = arrange(path)
    done = command("run", "--approve", 3)

    said = f"campaign: [monitoring] log_file {path} cannot be written: {why}; the run goes on without\n"
    assert done == Result(0, "", said)
    assert len(world.mailed()) == 3
    assert not (world.folder / "other").exists() or (world.folder / "other").read_bytes() == b""


def test_a_device_is_no_log(world: World) -> None:
    world.keys["monitoring"]["log_file"] = "/dev/full"
    world.config()

    assert "log_file /dev/full cannot be written: it is not a plain file" in command("run", "--approve", 3).stderr


@pytest.mark.usefixtures("world")
def test_a_fault_of_who_watches_is_not_one_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "render", lambda *_: os.environ["NO-SUCH-THING"])
    done = command("run", "--approve", 3)

    assert done.exit_code == 0
    assert re.fullmatch(
        r"campaign: \[monitoring\] metrics_file \S+ was not written, which is a bug: KeyError; [^\n]+\n", done.stderr
    )


def test_a_complaint_that_cannot_be_printed_is_left_unsaid(world: World) -> None:
    def full(_: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (world.folder / "campaign.log").mkdir()
    with monitoring.watching(world.config(), world.clock, full, verbose=True) as watch:
        watch.night = world.night(approve=3)

    assert len(world.mailed()) == 3


# --- unwatched


def test_who_is_not_asked_to_watch_does_not(world: World, checks: Healthchecks) -> None:
    world.keys.clear()
    world.config()
    command("run", "--approve", 3)

    assert checks.pings == []
    assert [*world.folder.glob("campaign.[pl]*")] == []


def test_nothing_but_a_run_is_watched(world: World, checks: Healthchecks) -> None:
    for words in (["plan"], ["link"], ["preview", user_id(1)]):
        command(*words)

    assert checks.pings == []
    assert [*world.folder.glob("campaign.[pl]*")] == []
