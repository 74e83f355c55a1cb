"""The report as a page: its figures are those of the CSV, and it says in words what they mean."""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from campaign.report import Background, Row, write
from tests.made_up import MadeUp, example
from tests.test_report import AT


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
