"""How time and memory grow with the number of users: each stage at several sizes, and the power of the size that they follow."""

import sys
from collections.abc import Callable, Sequence
from math import log
from statistics import linear_regression

from tests.benchmarks import ours
from tests.benchmarks.measuring import Sample, measured
from tests.benchmarks.scene import Scene
from tests.benchmarks.table import markdown

STAGES: dict[str, Callable[[Scene, int], Sample]] = {
    "roster": ours.roster,
    "ledger: all enrolled, noted, loaded": ours.ledger,
    "plan": ours.planning,
    "report.csv": ours.csv_report,
    "report.xlsx": ours.xlsx_report,
    "a quiet night": ours.quiet_night,
}
_COSTLY = 0.05  # seconds of processor time, below which a start-up hides the growth


def grown(sizes: Sequence[int], scene: Scene, only: str = "") -> str:
    """Processor time and memory at each size as a table, of stages whose name holds `only`; an exponent of 1 is linear."""
    header = ("", *(f"{size:,} users" for size in sizes), "time grows as", "memory grows as")
    return markdown([_row(name, stage, sizes, scene) for name, stage in STAGES.items() if only in name], header)


def _row(name: str, stage: Callable[[Scene, int], Sample], sizes: Sequence[int], scene: Scene) -> tuple[str, ...]:
    samples, cells = [], []
    for size in sizes:
        samples.append(sample := measured(stage, scene, size))
        cells.append(f"{sample.cpu:.2f} s, {sample.grown:.0f} MB")
        sys.stderr.write(f"{name}: {size:,} users in {cells[-1]}\n")  # a million take minutes
    costly = [sample for sample in samples if sample.cpu >= _COSTLY]
    return (name, *cells, _power(costly, lambda sample: sample.cpu), _power(costly, lambda sample: max(1.0, sample.grown)))


def _power(samples: Sequence[Sample], of: Callable[[Sample], float]) -> str:
    """The exponent by least squares on logarithms; nothing where there are too few to tell."""
    if len(samples) < 2:  # a line needs two points
        return ""
    slope, _ = linear_regression([log(sample.units) for sample in samples], [log(of(sample)) for sample in samples])
    return f"users^{slope:.2f}"
