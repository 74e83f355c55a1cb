"""The report as a page: its figures are those of the CSV, and it says in words what they mean."""

import csv
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from campaign import nightly
from campaign.errors import ExitCode
from campaign.model import User
from campaign.report import Background, Change, Limit, Remark, Row, Run, Section, write
from tests.made_up import MadeUp, example
from tests.test_report import AT, HOSTILE, row
from tests.world import World


@dataclass
class Table:
    """A table of the page: its id or key, its caption, and the text of its cells, the header's first."""

    name: str
    rows: list[list[str]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """Reads the page as a program would: tables, sections, and all text that is shown."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables: list[Table] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._within: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self._within.append(tag)
        if tag == "table":
            self.tables.append(Table(found.get("id") or found.get("data-key") or ""))
        elif tag == "tr":
            self.tables[-1].rows.append([])
            self.tables[-1].keys.append(found.get("data-key") or "")
        elif tag in {"td", "th"}:
            self.tables[-1].rows[-1].append("")
        elif tag == "p":
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._within and self._within.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self._within:
            return
        if {"td", "th"} & set(self._within):
            self.tables[-1].rows[-1][-1] += data
        elif self.texts:
            self.texts[-1] += data

    def table(self, name: str) -> list[list[str]]:
        """The rows of a table, but for its header."""
        (found,) = [table for table in self.tables if table.name == name]
        return found.rows[1:]

    def figures(self, name: str) -> dict[str, int]:
        """The second column of a table by its keys, or by its first column."""
        (found,) = [table for table in self.tables if table.name == name]
        lines = zip(found.keys, found.rows, strict=True)
        return {key or cells[0]: number(cells[1]) for key, cells in list(lines)[1:]}

    @property
    def said(self) -> str:
        """All paragraphs."""
        return "\n".join(" ".join(text.split()) for text in self.texts)


def number(text: str) -> int:
    return int(text.replace(",", ""))


def written(folder: Path, rows: Iterator[Row] | list[Row], background: Background) -> tuple[list[dict[str, str]], Page]:
    """The CSV and the page of these rows."""
    current, page, _ = write(iter(rows), folder, formats=["csv", "html"], mode=0o600, at=AT, background=background)
    with current.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)), Page(page)


def state_of(line: dict[str, str]) -> str:
    """Where a user stands, as the README has it, from the CSV alone."""
    if line["reason"] in {"closed", "invalid_row"}:
        return {"closed": "closed", "invalid_row": "unusable"}[line["reason"]]
    if line["granted_at"] and line["status"] != "user_not_found":
        return "consented"
    barred = {"undeliverable", "suppressed", "user_not_found", "domain_not_allowed"}
    states = {"cap_reached": "silent", "no_answer": "unclear"} | dict.fromkeys(barred, "barred")
    if not line["last_probed"] and line["reason"] not in states:
        return "unclear"
    return states.get(line["reason"], "asked")


# Figures


def test_every_figure_of_the_page_is_that_of_the_csv(tmp_path: Path) -> None:
    made = example()
    lines, page = written(tmp_path, made.rows(), made.background())

    states = Counter(map(state_of, lines))
    users = [line for line in lines if state_of(line) not in {"closed", "unusable"}]
    consented = [line for line in users if state_of(line) == "consented"]
    assert page.figures("states") == {"silent": 0} | dict(states)
    assert page.figures("reasons-table") == Counter(line["reason"] for line in lines)
    assert f"{len(consented):,} of {len(users):,} users" in page.said
    for name, group_of in groupings(made).items():
        everybody, granted = (Counter(group_of[line["user_id"]] for line in some) for some in (users, consented))
        told = {cells[0]: (number(cells[1]), number(cells[2]), number(cells[3])) for cells in page.table(name)}
        assert told == {
            group or "(none given)": (count, granted[group], count - granted[group]) for group, count in everybody.items()
        }
    steps = {key: [number(cell) for cell in cells[1:4]] for key, cells in keyed(page, "steps-table")}
    assert steps == {
        str(k): [
            sum(int(line["messages"]) >= k for line in users),
            sum(int(line["messages"]) == k for line in consented),
            sum(int(line["messages"]) == k and state_of(line) == "asked" for line in users),
        ]
        for k in (1, 2, 3, 4)
    }
    assert number(page.table("nights")[0][2]) == len(consented)


def keyed(page: Page, name: str) -> list[tuple[str, list[str]]]:
    (found,) = [table for table in page.tables if table.name == name]
    return list(zip(found.keys, found.rows, strict=True))[1:]


def groupings(made: MadeUp) -> dict[str, dict[str, str]]:
    users = made.background().users
    return {
        "e-mail domain": {key: user.email.rpartition("@")[2] for key, user in users.items()},
        "department": {key: user.department for key, user in users.items()},
        "locale": {key: user.locale for key, user in users.items()},
    }


def test_every_night_counts_as_the_csv_of_that_night(tmp_path: Path) -> None:
    """Real nights: what the ledger noted of each is what its CSV said, and a report that is written again says the same."""
    with World(tmp_path, {"report": {"formats": ["csv", "html"]}, "docusign": {"verify_granted_days": 1}}) as world:
        world.roster(range(1, 13))
        world.night(approve=12)
        world.consent(1, 2, 3)
        world.days_pass()
        world.night()
        world.revoke(1)
        world.consent(4, 5)
        world.roster(range(2, 14))
        world.days_pass()
        world.night(approve=12)
        reports = world.folder / "reports"
        first = (reports / "report.html").read_text(encoding="utf-8")
        nightly.rewrite_report(world.config(), world.means())
        page = Page(reports / "report.html")

    told = {cells[0]: number(cells[2]) for cells in page.table("nights")}
    assert page.source == first
    assert told == {path.name[:10]: consented_in(path) for path in (reports / "history").iterdir()}
    changed = page.figures("changes-table")
    assert [changed[what] for what in ("consent granted", "new in the roster", "not in the roster any more")] == [2, 1, 1]
    assert f"{consented_in(reports / 'report.csv')} of 12 users" in page.said


def consented_in(path: Path) -> int:
    with path.open(encoding="utf-8", newline="") as file:
        return sum(state_of(line) == "consented" for line in csv.DictReader(file))


def test_a_ledger_of_an_earlier_version_still_gives_a_report(tmp_path: Path) -> None:
    noted = {"rows": 2, "users": 2, "status": {"granted": 1}, "reason": {"granted": 1}}
    with World(tmp_path, {"report": {"formats": ["html"]}}) as world:
        world.roster([1, 2])
        world.consent(1)
        world.night(approve=2)
        with closing(sqlite3.connect(world.folder / "ledger.sqlite3")) as database, database:
            database.execute("UPDATE runs SET counts = ?", (json.dumps(noted),))
        world.days_pass()
        world.night()
        page = Page(world.folder / "reports" / "report.html")

    assert [cells[:3] for cells in page.table("nights")] == [["2026-11-24", "2", "1"], ["2026-11-23", "2", "1"]]


def test_a_run_that_was_stopped_says_so_first_and_gives_the_command(tmp_path: Path) -> None:
    with World(tmp_path, {"report": {"formats": ["html"]}}) as world:
        world.roster([1, 2])
        world.night()
        page = Page(world.folder / "reports" / "report.html")

    assert "was stopped by a guard, a missing approval or the STOP file (first_run)" in page.said
    assert "campaign run --approve 2" in page.source


# What needs a person


def test_each_matter_is_told_with_its_count_its_command_and_a_few_names(tmp_path: Path) -> None:
    made = example()
    lines, page = written(tmp_path, made.rows(), made.background())

    for reason, words in (
        ("undeliverable", "have an address that takes no mail"),
        ("user_not_found", "are not known to Docusign"),
    ):
        concerned = [line for line in lines if line["reason"] == reason]
        assert f"{len(concerned)} {words}" in page.said
        assert concerned[0]["email"] in page.said
        assert f"{len(concerned) - 5} more" in page.said
    assert re.search(r"campaign unsuppress [0-9a-f-]{36}<", page.source)


def test_where_nothing_is_amiss_it_says_so(tmp_path: Path) -> None:
    _, page = written(tmp_path, [row()], Background())

    assert "Nothing. The campaign goes on by itself." in page.said
    assert "All 1 users have consented." in page.said


def test_an_empty_roster_has_a_report(tmp_path: Path) -> None:
    _, page = written(tmp_path, [], Background())

    assert "There is nobody in the roster who could be asked." in page.said


# Size, hostility, whereabouts


def test_a_hundred_thousand_groups_are_a_few_lines_and_add_up(tmp_path: Path) -> None:
    many = 3000
    users = {f"u{n}": User(f"u{n}", f"a@d{n}.example", f"a@d{n}.example", n, department=f"D{n % 40}") for n in range(many)}
    rows = [row(user_id=user.user_id, email=user.email, line=user.line) for user in users.values()]
    _, page = written(tmp_path, rows, Background(users=users))

    for name, groups in (("e-mail domain", many), ("department", 40)):
        told = page.table(name)
        assert len(told) == 13
        assert told[-1][0] == f"{groups - 12:,} others"
        assert sum(number(cells[1]) for cells in told) == many
    assert len(page.source) < 100_000


def test_a_hundred_thousand_users_and_a_year_of_nights_take_less_than_a_megabyte(tmp_path: Path) -> None:
    nights = [Run(AT + timedelta(n), AT, ExitCode.DONE, 100_000, n, 1, 1, 1, {}) for n in range(365)]
    rows = (row(user_id=str(n), email=f"@d{n // 10}.example", line=n) for n in range(100_000))
    page, _ = write(rows, tmp_path, formats=["html"], mode=0o600, at=AT, background=Background(runs=nights))

    assert page.stat().st_size < 1_000_000


def hostile() -> tuple[list[Row], Background]:
    """Hostile text in every place that a roster, a ledger, a relay or another part of the program can fill."""
    texts = [*HOSTILE, "<script>alert(1)</script>", '"><img src="http://127.0.0.1/x">', "</style><b>", "{{ 7 * 7 }}{% raw %}"]
    texts = [text for text in texts if len(text) < 1000]
    users = {
        f"id{n}": User(f"id{n}", text, text, n, name=text, department=text, locale=text) for n, text in enumerate(texts, start=2)
    }
    reasons = ["cap_reached", "undeliverable", "invalid_row", "unresolved"]
    rows = [
        row(
            user_id=u.user_id, email=u.email, name=u.name, detail=u.name, reason=reasons[u.line % 4], granted_at=None, line=u.line
        )
        for u in users.values()
    ]
    nasty = texts[-3]
    run = Run(AT, AT, ExitCode.STOPPED, 1, 1, 1, 1, 1, {}, guards=[nasty], approvable=1)
    about = Background(
        campaign=nasty, users=users, runs=[run], since=AT, changes=[Change(text, 1, [text]) for text in texts],
        limits=[Limit(text, text, text) for text in texts], remarks=[Remark(text, text, text) for text in texts],
        sections=[Section(nasty, [nasty], [nasty, nasty], [[nasty, nasty]])],
    )  # fmt: skip
    return rows, about


@pytest.mark.promise(18)
def test_hostile_text_is_text_in_every_place(tmp_path: Path) -> None:
    rows, about = hostile()
    _, page = written(tmp_path, rows, about)
    _, plain = written(tmp_path / "plain", [row()], replace(about, remarks=(), sections=(), campaign="plain"))

    allowed = {tag for tag, _ in plain.tags} | {"ul", "li", "code", "span", "br", "p"}
    assert {tag for tag, _ in page.tags} <= allowed
    assert not [found for _, found in page.tags if {"src", "href", "onerror", "onload"} & set(found)]
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x00-\x08]", page.source)
    assert "{{ 7 * 7 }}" in page.source.replace("&#39;", "'")
    assert "<script>alert(1)</script>" in "".join(cell for table in page.tables for cells in table.rows for cell in cells)


def test_equal_rows_and_background_give_an_equal_page(tmp_path: Path) -> None:
    one, other = (
        written(tmp_path / name, MadeUp(users=300).play(8).rows(), MadeUp(users=300).play(8).background()) for name in "ab"
    )

    assert one[1].source == other[1].source
