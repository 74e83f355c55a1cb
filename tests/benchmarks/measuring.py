"""How long, with how much processor time and memory something runs in a process of its own."""

import gc
import multiprocessing
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
# Imported once, so that each process begins with what a program would have imported, and only the work is measured. The others'
# libraries come with their own work alone: their memory is none of ours.
PROCESSES.set_forkserver_preload(["tests.benchmarks.ours"])


@dataclass(slots=True)
class Sample:
    """One piece of work done once: so many units of it, in seconds and megabytes of the process that did it."""

    units: int
    wall: float = 0.0
    cpu: float = 0.0
    peak: float = 0.0  # of memory while it ran
    base: float = 0.0  # of memory before it

    @property
    def wall_each(self) -> float:
        """Milliseconds a unit."""
        return 1000 * self.wall / self.units

    @property
    def cpu_each(self) -> float:
        """Milliseconds of processor time a unit, of all threads."""
        return 1000 * self.cpu / self.units

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.wall

    @property
    def grown(self) -> float:
        """Megabytes that the work needed beyond what was there."""
        return self.peak - self.base


@contextmanager
def timed(units: int) -> Iterator[Sample]:
    """Measure what is done within; all that is outside is preparation."""
    gc.collect()
    sample = Sample(units, base=_memory("VmRSS"))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield sample
    finally:
        sample.wall, sample.cpu = time.perf_counter() - wall, time.process_time() - cpu
        sample.peak = _memory("VmHWM")


def _memory(what: str) -> float:
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) / 1024 if found else 0.0


def measured(work: Callable[..., Sample], *arguments: object) -> Sample:
    """Do the work, which times itself, in a new process. Raises RuntimeError where it fails there."""
    ours, theirs = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=_report, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    try:
        sample: Sample = ours.recv()
    except EOFError:
        raise RuntimeError(f"{getattr(work, '__name__', work)} failed") from None
    finally:
        process.join()
    return sample


def _report(pipe: Connection, work: Callable[..., Sample], arguments: tuple[object, ...]) -> None:
    pipe.send(work(*arguments))
