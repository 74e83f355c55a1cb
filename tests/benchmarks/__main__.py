"""Measures everything round after round, so that each figure meets its yardstick under the same weather, and prints a table."""

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks import growth, table
from tests.benchmarks.figures import DELAY, REPLY, Figure, Work, figures
from tests.benchmarks.measuring import Sample, measured
from tests.benchmarks.ours import settle
from tests.benchmarks.scene import Scene
from tests.benchmarks.servers import serving


def main(argv: list[str] | None = None) -> None:
    """Parse, measure, print."""
    asked = _parser().parse_args(argv)
    machine, began = table.machine(), time.monotonic()
    with (
        TemporaryDirectory(prefix="campaign-benchmark-", dir=asked.directory) as folder,
        serving(Path(folder), (0, 0.1, DELAY), (0, REPLY)) as place,
    ):
        scene = Scene(Path(folder), place)
        scene.prepare()
        lines = growth.grown(asked.growth, scene, asked.only) if asked.growth else _compared(scene, asked)
    sys.stdout.write(
        f"{machine}; {'' if asked.growth else f'{asked.rounds} rounds '}in {time.monotonic() - began:.0f} s\n\n{lines}\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--scale", type=float, default=1, help="0.1: a tenth of the work, for a first look")
    parser.add_argument("--only", default="", help="only figures whose name holds this text")
    parser.add_argument("--growth", metavar="USERS", type=int, nargs="+", help="instead: time and memory for so many users")
    parser.add_argument("--directory", type=Path, help="a folder on the disk to measure, if not that of temporary files")
    return parser


def _compared(scene: Scene, asked: argparse.Namespace) -> str:
    wanted = [figure for figure in figures(asked.scale) if asked.only in figure.what]
    _lay_out(scene)
    samples: dict[Work, list[Sample]] = defaultdict(list)
    for number in range(asked.rounds):
        for work in _works(wanted):
            sys.stderr.write(f"round {number + 1}: {work.do.__module__.rpartition('.')[2]}.{work.do.__name__}{work.given}\n")
            samples[work].append(measured(work.do, scene, *work.given))
    return table.markdown(table.rows(wanted, samples))


def _lay_out(scene: Scene) -> None:
    """A campaign with a ledger in the scene's own folder, for the commands that are started there."""
    settle(scene.config(100, scene.folder))


def _works(wanted: list[Figure]) -> list[Work]:
    """Each piece of work once, yardsticks beside what they are for."""
    return list(dict.fromkeys(work for figure in wanted for work in (figure.ours, figure.yardstick)))


if __name__ == "__main__":
    main()
