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
        ended = [clock() - ago for ago in past]
        self._windows = [(deque(ended, maxlen=count), seconds) for count, seconds in limits if count]
        self._under_way = 0
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
            left = self._left()
            if not left:
                self._note_end()
            return left

    def begin(self) -> float:
        """Begin a turn that lasts until `end`, if one is free, as `take` does.

        It counts all the while and a window longer: the other side may count it whenever it likes. Where only the end of another
        can make room, infinity is returned.
        """
        with self._lock:
            left = self._left()
            if not left:
                self._under_way += 1
            return left

    def end(self) -> None:
        """End a turn that was begun."""
        with self._lock:
            self._under_way -= 1
            self._note_end()

    def left(self) -> float:
        """The seconds until this instant's caller may go on, for those who only watch: it takes nothing."""
        with self._lock:
            return self._left()

    def hold(self, seconds: float) -> None:
        """Let nobody go on for so many seconds, also those who already wait."""
        with self._lock:
            self._held_until = max(self._held_until, self._clock() + seconds)

    def _left(self) -> float:
        now = self._clock()
        return max(self._held_until, *(self._free_at(ended, seconds) for ended, seconds in self._windows), now) - now

    def _note_end(self) -> None:
        now = self._clock()
        for ended, _ in self._windows:
            ended.append(now)

    def _free_at(self, ended: deque[float], seconds: float) -> float:
        """When a window has room for one more."""
        room = (ended.maxlen or 0) - self._under_way
        if room <= 0:
            return float("inf")
        return ended[-room] + seconds if len(ended) >= room else float("-inf")
