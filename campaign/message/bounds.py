"""How much time, memory and text a template may take: more than any mail needs, and far less than the machine has."""

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIMIT = 256 * 1024  # of a template, of a part, of any one value: characters, items or bits
_SECONDS = 2.0  # of processor time for one part; the shipped ones take less than a millisecond
_HEADROOM = 512 * 1024 * 1024  # bytes of memory that rendering may take beyond what is in use
_USED = Path("/proc/self/statm")  # its first number: pages of address space
_PAGE = resource.getpagesize()


class TooMuch(Exception):
    """A template took more time or wrote more text than any mail needs."""


@contextmanager
def bounded() -> Iterator[None]:
    """Bound processor time and memory of what follows. Only the main thread can: elsewhere the bounds on output remain.

    Processor time, not the clock: a busy machine is no fault of the template, and SIGALRM stays free. Raises TooMuch and
    MemoryError.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limits = [limit for limit in (_address_space() + _HEADROOM, soft, hard) if limit != resource.RLIM_INFINITY]
    handler = signal.signal(signal.SIGVTALRM, _interrupt)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
        signal.setitimer(signal.ITIMER_VIRTUAL, _SECONDS, 0.1)  # again and again: a destructor may swallow the first
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, handler)


def _interrupt(*_: object) -> None:
    raise TooMuch(f"takes longer than {_SECONDS:.0f} seconds")


def _address_space() -> int:
    """Give the bytes of address space in use."""
    with _USED.open("rb", buffering=0) as file:
        return int(file.read(20).split()[0]) * _PAGE
