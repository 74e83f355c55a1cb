"""Rates: never more than so many in any window of so many seconds, and a pause when the other side asks for one."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable


class Pace:
    """Says when its callers, of any number of threads, may go on.

    `limits` are pairs (count, seconds); a count of 0 sets no limit. The windows slide: there is no edge to burst at.
    `past` are the seconds since each turn that was taken before, the oldest first.
    """

    def __init__(
        self, *limits: tuple[int, float], past: Iterable[float] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        began = [clock() - ago for ago in past]
        self._windows = [(deque(began, maxlen=count), seconds) for count, seconds in limits if count]
        self._clock = clock
        self._lock = threading.Lock()
        self._held_until = float("-inf")

    def wait(self, stop: threading.Event) -> bool:
        """Wait for this caller's turn. False, at once, when `stop` is set: then the caller must not go on."""
        while not stop.is_set():
            left = self.take()
            if left <= 0:
                return True
            stop.wait(left)
        return False

    def take(self) -> float:
        """Take this instant, if it is free, and return 0; otherwise return the seconds until one may be free.

        Nothing is promised for later: a turn that were given out in advance could meet others after a `hold`.
        """
        with self._lock:
            now = self._clock()
            left = self._left(now)
            if not left:
                for taken, _ in self._windows:
                    taken.append(now)
            return left

    def left(self) -> float:
        """The seconds until this instant's caller may go on, for those who only watch: it takes nothing."""
        with self._lock:
            return self._left(self._clock())

    def _left(self, now: float) -> float:
        full = (taken[0] + seconds for taken, seconds in self._windows if len(taken) == taken.maxlen)
        return max(self._held_until, *full, now) - now

    def hold(self, seconds: float) -> None:
        """Let nobody go on for so many seconds, also those who already wait."""
        with self._lock:
            self._held_until = max(self._held_until, self._clock() + seconds)
