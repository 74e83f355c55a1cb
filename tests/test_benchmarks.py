"""The benchmark runs, and shows every figure beside its yardstick. How quick anything is, no test says."""

import subprocess
import sys

import pytest

from tests.benchmarks.figures import CPU, Figure, Work, figures
from tests.benchmarks.growth import _power
from tests.benchmarks.measuring import Sample
from tests.benchmarks.table import markdown, rows
from tests.commands import ROOT

pytestmark = pytest.mark.long


def work(name: str) -> Work:
    """Work that is never done: its samples are given."""
    return Work(lambda: Sample(1), (name,))


OURS, THEIRS = work("ours"), work("theirs")


def cells(figure: Figure, ours: list[float], theirs: list[float]) -> tuple[str, ...]:
    """The figure's row, by the processor time (s) of each round."""
    samples = {OURS: [Sample(1000, cpu=cpu) for cpu in ours], THEIRS: [Sample(1000, cpu=cpu) for cpu in theirs]}
    (row,) = rows([figure], samples)
    return row


@pytest.mark.timeout(600)
def test_every_figure_is_measured_beside_its_yardstick() -> None:
    words = [sys.executable, "-m", "tests.benchmarks", "--scale", "0", "--rounds", "1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    shown = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line.startswith("| ")]

    assert done.returncode == 0, done.stderr
    assert [(f"{figure.what}: {figure.metric.name}", figure.named) for figure in figures(0)] == [(r[0], r[2]) for r in shown[2:]]
    assert all(" × (" in row[4] for row in shown[2:])


def test_a_figure_is_the_median_and_its_ratio_is_that_of_the_same_round() -> None:
    row = cells(Figure("a row", CPU, OURS, THEIRS, "pandas", at_most=5), [3, 4, 20], [1, 2, 4])

    assert row == ("a row: processor time", "4 ms", "pandas", "2 ms", "3 × (2–5)", "≤ 5 ×")


@pytest.mark.parametrize(
    ("aim", "shown"),
    [
        ({"at_most": 2}, "≤ 2 ×: missed"),
        ({"at_least": 2}, "≥ 2 ×"),
        ({"at_least": 4}, "≥ 4 ×: missed"),
        ({"value_at_most": 3}, "≤ 3 ms"),
        ({"value_at_most": 2}, "≤ 2 ms: missed"),
        ({}, ""),
    ],
)
def test_an_aim_that_is_missed_says_so(aim: dict[str, float], shown: str) -> None:
    assert cells(Figure("a row", CPU, OURS, THEIRS, "pandas", **aim), [3], [1])[-1] == shown


def test_the_table_is_markdown_with_a_line_beneath_its_header() -> None:
    assert markdown([("1", "two")], ("a", "b")) == "| a | b   |\n| - | --- |\n| 1 | two |"


def test_growth_is_told_as_a_power_of_the_number_of_users() -> None:
    def grows(power: float) -> str:
        return _power([Sample(users, cpu=users**power) for users in (1_000, 10_000, 100_000)], lambda sample: sample.cpu)

    assert (grows(0), grows(1), grows(1.5)) == ("users^0.00", "users^1.00", "users^1.50")
    assert _power([Sample(1_000, cpu=1)], lambda sample: sample.cpu) == ""
