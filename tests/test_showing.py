"""What people see: pages in plain text and on a terminal, which say the same."""

import io
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from campaign import nightly
from campaign.errors import ExitCode
from campaign.sandbox import json_answer
from campaign.showing.page import Line, Table, Tone, as_text, spaced
from campaign.showing.terminal import show
from campaign.stopping import Stop
from tests.commands import ROOT
from tests.world import World, email, user_id

PEOPLE = Table(("n", "whom", "why"), [(5, "ada@example.com", "one\ntwo"), (12, "b@example.com", "three")], heading="people")


def on_a_terminal(*arguments: object, cwd: Path, **environ: str) -> str:
    """What `campaign …` shows on a terminal of 100 columns, both streams together."""
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "campaign", *map(str, arguments)]
    around = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100", **environ}
    with subprocess.Popen(argv, cwd=cwd, env=around, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while part := _read(ours):
            shown += part
        process.wait(60)
    os.close(ours)
    return shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the last process on the other side has closed it
        return b""


def test_plain_text_aligns_columns_and_lets_several_lines_stand_below_one_another() -> None:
    assert as_text([Line("head", Tone.HEAD), PEOPLE]).splitlines() == [
        "head",
        "people:",
        "   5  ada@example.com  one",
        "                       two",
        "  12  b@example.com    three",
    ]


def test_parts_that_hold_nothing_leave_no_gap() -> None:
    assert as_text(spaced([], [Line("a")], [], [Line("b")])) == "a\n\nb"


def test_an_empty_table_shows_nothing_anywhere() -> None:
    file = io.StringIO()
    show([Table(("a",), [], heading="nothing")], file)

    assert (as_text([Table(("a",), [], heading="nothing")]), file.getvalue()) == ("", "")


def test_what_is_foreign_is_no_markup() -> None:
    file = io.StringIO()
    show([Line("[red]a[/red]"), Table(("x",), [("[link=https://evil.example]b[/link]",)], heading="[bold]c", more="[/d]")], file)

    assert all(text in file.getvalue() for text in ("[red]a[/red]", "[link=https://evil.example]b[/link]", "[bold]c", "[/d]"))


@pytest.fixture
def world(tmp_path: Path) -> "World":
    return World(tmp_path / "work", live=True)


def test_a_plan_on_a_terminal_has_tables_and_says_who_is_left_alone_and_why(world: World) -> None:
    with world:
        world.roster([{"user_id": user_id(n), "email": email(n), "name": f"Person {n}", "status": "Active"} for n in (1, 2, 3)])
        world.consent(3)
        world.config()
        shown = on_a_terminal("plan", cwd=world.folder)
        plain = on_a_terminal("plan", cwd=world.folder, NO_COLOR="1")

    assert re.search(r"would be mailed.*invite.*person1@example\.com.*Person 1", shown, re.DOTALL)
    assert re.search(r"would not be mailed.*granted.*person3@example\.com", shown, re.DOTALL)
    assert "\x1b[1;36mto run this night: campaign run --approve 2\x1b[0m" in shown
    assert "36m" not in plain
    assert "to run this night: campaign run --approve 2" in plain


def test_a_night_on_a_terminal_says_what_it_waits_for(world: World) -> None:
    with world:
        world.roster([1, 2])
        world.accounts.faults.latency = 1.0
        world.keys["mail"] = {"per_minute": 20}
        world.config()
        shown = on_a_terminal("run", "--approve", 2, cwd=world.folder)

    assert "Docusign's answers" in shown
    assert "2 message(s) sent" in shown


def waits_of_a_night(world: World) -> set[str]:
    """What a night of eight people and no approval is waiting for, in turn."""
    told: set[str] = set()
    waits = replace(world.waits, outage=(1.0,))
    nightly.run(world.config(), replace(world.means(), waits=waits, waiting=lambda _, what: told.add(what)), 8)
    return told


def test_an_outage_is_named(tmp_path: Path) -> None:
    with World(tmp_path / "work") as world:
        world.roster(range(1, 9))
        world.accounts.faults.answers = {user_id(n): json_answer(500) for n in range(1, 9)}

        assert "Docusign gives no usable answers: nobody is asked for a while" in waits_of_a_night(world)


def test_the_pace_of_the_relay_is_named(tmp_path: Path) -> None:
    told: list[str] = []
    stop = Stop()

    def hear(_: str, what: str) -> None:
        told.append(what)
        if "pace" in what:
            stop.ask(ExitCode.SIGTERM)  # a minute is long

    with World(tmp_path / "work", keys={"mail": {"per_minute": 1}}, stop=stop) as world:
        world.roster([1, 2])
        nightly.run(world.config(), replace(world.means(), waiting=hear), 2)

        assert told[-2] == "127.0.0.1"
        assert re.fullmatch(r"the pace of per_minute and per_day: (59|60) s", told[-1])
        assert len(world.mailed()) == 1
