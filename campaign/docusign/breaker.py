"""The circuit breaker towards Docusign: when nobody gets a usable answer any more, nobody is asked for a while."""

import random
import threading
import time
from collections.abc import Callable, Iterable
from enum import Enum, auto

from campaign.model import Finding, Status

_IN_A_ROW = 5  # users without a usable answer: then the fault is not theirs
_SPREAD = 0.75, 1.25  # times a pause: so that not all of Docusign's customers come back at the same instant
_GLANCE = 0.1  # seconds after which those who cannot know how long they wait look again


class State(Enum):
    """Who may ask."""

    CLOSED = auto()  # everybody
    OPEN = auto()  # nobody, until the pause is over
    HALF_OPEN = auto()  # one user, on trial
    SPENT = auto()  # nobody any more


class Breaker:
    """Says when its callers, of any number of threads, may ask, by what became of those who did.

    Five users in a row without a usable answer open the circuit for the first of `pauses` (seconds, each a little longer or
    shorter by chance). After it one user is asked, on trial: an answer closes the circuit, none opens it for the next
    pause. When the trial after the last pause fails, it is spent.
    """

    def __init__(
        self,
        pauses: tuple[float, ...],
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.state = State.CLOSED
        self._pauses = pauses
        self._clock = clock
        self._chance = chance
        self._lock = threading.Lock()
        self._silent: dict[str, str] = {}  # users in a row without a usable answer, and what went wrong
        self._missed: dict[str, None] = {}  # users whose silence is the outage's, in order
        self._asked_again: set[str] = set()
        self._paused: list[float] = []  # seconds, since the circuit was closed
        self._until = 0.0  # the end of the last pause
        self._trial: str | None = None

    def wait(self, user_id: str, stop: threading.Event) -> bool:
        """Wait for this user's turn. False, at once, when `stop` is set: then the user must not be asked."""
        while not stop.is_set():
            left = self.take(user_id)
            if not left:
                return True
            stop.wait(left)
        return False

    def take(self, user_id: str) -> float:
        """Take this user's turn, if it is free, and return 0; otherwise return the seconds after which to ask again."""
        with self._lock:
            if self.state is State.OPEN and self._clock() >= self._until:
                self.state, self._trial = State.HALF_OPEN, user_id
            if self.state is State.CLOSED or user_id == self._trial:
                return 0
            return max(self._until - self._clock(), _GLANCE)

    def note(self, finding: Finding) -> None:
        """Learn what became of a user's turn."""
        with self._lock:
            if self.state is State.CLOSED or finding.user_id == self._trial:
                self._heed(finding)
            elif finding.status is Status.UNKNOWN:  # it was on its way when the circuit opened
                self._missed[finding.user_id] = None

    def missed(self) -> list[str]:
        """The users, each told once, who got no answer because nobody did. When they are asked again they open no circuit."""
        with self._lock:
            missed, self._missed = self._missed, {}
            self._asked_again.update(missed)
            return list(missed)

    @property
    def figures(self) -> str:
        """What was seen since the circuit was last closed, in words."""
        pauses = f", also after {len(self._paused)} pauses of {sum(self._paused):.0f} s in all" if self._paused else ""
        return f"{len(self._silent)} users in a row got no usable answer{pauses}; the last: {[*self._silent.values()][-1]}"

    def _heed(self, finding: Finding) -> None:
        on_trial = self.state is State.HALF_OPEN
        if finding.status is not Status.UNKNOWN:
            self._close()
        elif on_trial or finding.user_id not in self._asked_again:
            self._silent.pop(finding.user_id, None)
            self._silent[finding.user_id] = finding.detail
            if on_trial:
                self._open([finding.user_id])
            elif len(self._silent) >= _IN_A_ROW:
                self._open(self._silent)

    def _close(self) -> None:
        self.state, self._trial = State.CLOSED, None
        self._silent.clear()
        self._paused.clear()

    def _open(self, missed: Iterable[str]) -> None:
        self._trial = None
        self._missed.update(dict.fromkeys(missed))
        if len(self._paused) == len(self._pauses):
            self.state = State.SPENT
            return
        self.state = State.OPEN
        self._paused.append(self._pauses[len(self._paused)] * self._chance(*_SPREAD))
        self._until = self._clock() + self._paused[-1]
