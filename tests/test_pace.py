"""No window of time ever holds more than its limit, however turns and pauses fall."""

import sys
import threading
import time
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from campaign.pace import Pace
from tests.patience import soon


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeWait(threading.Event):
    """An event on which waiting moves the clock, which is written down."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0)
        self.clock.now += timeout or 0
        return self.is_set()


def taken(pace: Pace, clock: Callable[[], float], turns: int) -> list[float]:
    """When a caller that is always ready gets its turns."""
    stop = FakeWait(clock) if isinstance(clock, FakeClock) else threading.Event()
    return [clock() for _ in range(turns) if pace.wait(stop)]


def test_a_burst_goes_on_at_once_and_the_next_waits_for_the_window_to_slide() -> None:
    clock = FakeClock()

    assert taken(Pace((3, 30), clock=clock), clock, 7) == [1000] * 3 + [1030] * 3 + [1060]


def test_the_window_slides_so_that_no_burst_fits_across_an_edge() -> None:
    clock = FakeClock()
    pace = Pace((2, 30), clock=clock)
    times = taken(pace, clock, 1)
    clock.now = 1029
    times += taken(pace, clock, 3)

    assert times == [1000, 1029, 1030, 1059]


def test_the_tighter_of_two_limits_decides() -> None:
    clock = FakeClock()

    assert taken(Pace((2, 30), (3, 3600), clock=clock), clock, 5) == [1000, 1000, 1030, 4600, 4600]


def test_a_limit_of_0_is_none() -> None:
    clock = FakeClock()

    assert taken(Pace((0, 30), clock=clock), clock, 1000) == [1000] * 1000


def test_what_lasts_counts_until_a_window_after_its_end() -> None:
    clock = FakeClock()
    pace = Pace((2, 30), clock=clock)
    begun = [pace.begin(), pace.begin()]
    clock.now += 100  # the other side may count both only now
    full = pace.begin()
    pace.end()
    clock.now += 10
    pace.end()
    left = pace.begin()
    clock.now += 20

    assert (begun, full, left) == ([0, 0], float("inf"), 20)
    assert [pace.begin(), pace.begin()] == [0, 10]


def test_what_was_taken_before_counts_as_what_has_ended() -> None:
    clock = FakeClock()

    assert taken(Pace((2, 30), past=[29, 10], clock=clock), clock, 3) == [1001, 1020, 1031]


def test_a_pause_holds_also_those_who_are_within_their_limit() -> None:
    clock = FakeClock()
    pace = Pace((3, 30), clock=clock)
    pace.hold(60)
    pace.hold(5)  # a shorter one does not shorten it

    assert taken(pace, clock, 1) == [1060]


def test_a_pause_holds_also_those_who_already_wait() -> None:
    pace = Pace((1, 0.2))
    pace.wait(threading.Event())
    went = list[float]()
    began = time.monotonic()
    waiting = threading.Thread(target=lambda: went.extend(taken(pace, time.monotonic, 1)))
    waiting.start()
    pace.hold(0.5)
    waiting.join()

    assert went[0] - began >= 0.5


def test_whoever_is_stopped_while_waiting_does_not_go_on() -> None:
    pace = Pace((1, 3600))
    stop = threading.Event()
    pace.wait(stop)
    said = list[bool]()
    waiting = threading.Thread(target=lambda: said.append(pace.wait(stop)))
    with soon():
        waiting.start()
        stop.set()
        waiting.join()

    assert said == [False]


def test_whoever_was_stopped_before_does_not_go_on_although_it_would_be_free() -> None:
    stop = threading.Event()
    stop.set()

    assert not Pace().wait(stop)


def test_waiting_is_not_done_in_a_busy_loop() -> None:
    clock = FakeClock()
    stop = FakeWait(clock)
    pace = Pace((1, 30), clock=clock)
    for _ in range(3):
        pace.wait(stop)

    assert stop.waits == [30, 30]


def test_threads_together_keep_the_limit() -> None:
    def go() -> None:
        together.wait()
        for pace in paces:
            free.append(pace.take() <= 0)

    paces = [Pace((5, 3600)) for _ in range(2000)]
    together, free = threading.Barrier(8), list[bool]()
    threads = [threading.Thread(target=go) for _ in range(8)]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual)

    assert sum(free) == 5 * len(paces)


class Crowd:
    """Callers that come, wait, go on and are done as the clock moves, under a pace; `went` is from when to when each one did."""

    def __init__(self, limits: list[tuple[int, int]]) -> None:
        self.clock = FakeClock()
        self.pace = Pace(*limits, clock=self.clock)
        self.waiting = 0
        self.busy = list[float]()
        self.went = list[tuple[float, float]]()
        self.holds = list[tuple[float, float]]()

    def come(self, callers: int) -> None:
        self.waiting += callers
        self.go_on()

    def hold(self, seconds: int) -> None:
        self.pace.hold(seconds)
        self.holds.append((self.clock.now, self.clock.now + seconds))

    def time_passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.now += 1
            self.go_on()

    def go_on(self) -> None:
        while self.waiting and self.pace.begin() <= 0:
            self.waiting -= 1
            self.busy.append(self.clock.now)

    def done(self, turns: int) -> None:
        for began in self.busy[:turns]:
            self.pace.end()
            self.went.append((began, self.clock.now))
        del self.busy[:turns]
        self.go_on()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.integers(1, 20)),
        st.tuples(st.just("hold"), st.integers(0, 40)),
        st.tuples(st.just("done"), st.integers(1, 10)),
        st.tuples(st.just("time_passes"), st.integers(1, 40)),
    ),
    max_size=30,
)
LIMITS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 30)), min_size=1, max_size=2)


@given(LIMITS, STEPS)
@settings(deadline=None)
def test_no_window_ever_holds_more_than_its_limit_and_no_pause_any(
    limits: list[tuple[int, int]], steps: list[tuple[str, int]]
) -> None:
    crowd = Crowd(limits)
    for name, number in steps:
        getattr(crowd, name)(number)
    crowd.waiting = 0
    crowd.done(len(crowd.busy))

    for count, seconds in limits:
        for began, _ in crowd.went:  # whenever the other side counts a turn: no window holds too many
            assert sum(other <= began < ended + seconds for other, ended in crowd.went) <= count
    for begin, end in crowd.holds:
        assert not any(begin < at < end for at, _ in crowd.went)


@given(LIMITS, st.integers(1, 40))
@settings(deadline=None)
def test_everybody_gets_a_turn_as_soon_as_the_limits_allow(limits: list[tuple[int, int]], callers: int) -> None:
    crowd = Crowd(limits)
    crowd.come(callers)
    crowd.done(callers)
    for _ in range(max(seconds * (callers // count + 1) for count, seconds in limits) * len(limits)):
        crowd.time_passes(1)
        crowd.done(callers)

    assert crowd.waiting == 0
