"""The figures as a table, and the machine that they are of."""

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from tests.benchmarks.figures import Figure, Metric, Work
from tests.benchmarks.measuring import Sample

HEADER = ("", "campaign", "yardstick", "", "ratio", "aim")
Samples = Mapping[Work, Sequence[Sample]]


def rows(figures: Iterable[Figure], samples: Samples) -> list[tuple[str, ...]]:
    """A row for each figure: medians over the rounds, with the least and the most of the ratio within one round."""
    return [_row(figure, samples[figure.ours], samples[figure.yardstick]) for figure in figures]


def _row(figure: Figure, ours: Sequence[Sample], theirs: Sequence[Sample]) -> tuple[str, ...]:
    of = figure.metric.of
    ratios = [of(one) / of(other) for one, other in zip(ours, theirs, strict=True)]
    value = median(map(of, ours))
    return (
        f"{figure.what}: {figure.metric.name}",
        _shown(figure.metric, value),
        figure.named,
        _shown(figure.metric, median(map(of, theirs))),
        f"{_figure(median(ratios))} × ({_figure(min(ratios))}–{_figure(max(ratios))})",
        _aim(figure, median(ratios), value),
    )


def _aim(figure: Figure, ratio: float, value: float) -> str:
    if figure.at_most is not None:
        return _verdict(f"≤ {_figure(figure.at_most)} ×", ratio <= figure.at_most)
    if figure.at_least is not None:
        return _verdict(f"≥ {_figure(figure.at_least)} ×", ratio >= figure.at_least)
    if figure.value_at_most is not None:
        return _verdict(f"≤ {_shown(figure.metric, figure.value_at_most)}", value <= figure.value_at_most)
    return ""


def _verdict(aim: str, is_met: bool) -> str:
    return aim if is_met else f"{aim}: missed"


def _shown(metric: Metric, value: float) -> str:
    return f"{_figure(value)} {metric.unit}".rstrip()


def _figure(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def markdown(table: Sequence[tuple[str, ...]], header: tuple[str, ...] = HEADER) -> str:
    """A table as Markdown, padded so that it can be read as it is."""
    widths = [max(len(row[column]) for row in (header, *table)) for column in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (header, *table)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine() -> str:
    """What was measured on."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    model = found[1].strip() if found else platform.machine()
    versions = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, {versions}, {datetime.now(UTC):%Y-%m-%d}, load {os.getloadavg()[0]:.1f} before"
