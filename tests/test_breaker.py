"""The circuit breaker: whom it lets through, whatever becomes of those who asked."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign.docusign.breaker import Breaker, State
from campaign.model import Finding, Status
from tests.patience import PATIENCE, soon
from tests.test_pace import FakeClock


def as_it_is(_low: float, _high: float) -> float:
    return 1.0


def answer(user_id: str) -> Finding:
    return Finding(user_id, Status.CONSENT_REQUIRED)


def silence(user_id: str, detail: str = "timed out") -> Finding:
    return Finding(user_id, Status.UNKNOWN, detail)


def opened(clock: FakeClock, *pauses: float) -> Breaker:
    """A breaker whose circuit five users have just opened."""
    breaker = Breaker(pauses, clock, as_it_is)
    for user in "abcde":
        assert breaker.take(user) == 0
        breaker.note(silence(user))
    return breaker


def on_trial(clock: FakeClock, breaker: Breaker, user: str) -> None:
    clock.now += breaker.take(user)
    assert breaker.take(user) == 0


def test_the_fifth_user_in_a_row_without_an_answer_opens_the_circuit() -> None:
    breaker = Breaker((30,), FakeClock(), as_it_is)
    states = []
    for user in ["a", "b", "c", "d", "e"]:
        breaker.note(silence(user))
        states.append(breaker.state)

    assert states == [State.CLOSED] * 4 + [State.OPEN]


@pytest.mark.parametrize("status", [Status.GRANTED, Status.CONSENT_REQUIRED, Status.USER_NOT_FOUND])
def test_any_answer_begins_the_row_anew(status: Status) -> None:
    breaker = Breaker((30,), FakeClock(), as_it_is)
    for number in range(40):
        breaker.note(silence(f"user{number}") if number % 5 else Finding(f"user{number}", status))

    assert breaker.state is State.CLOSED


def test_while_it_is_open_nobody_gets_a_turn() -> None:
    clock = FakeClock()
    breaker = opened(clock, 30)
    waits = [breaker.take("f"), breaker.take("g")]
    clock.now += 29

    assert waits == [30, 30]
    assert breaker.take("f") == 1


def test_after_the_pause_exactly_one_user_is_asked() -> None:
    clock = FakeClock()
    breaker = opened(clock, 30)
    clock.now += 30
    first, second, again = breaker.take("f"), breaker.take("g"), breaker.take("f")

    assert (first, again) == (0, 0)
    assert second > 0


def test_an_answer_to_that_one_lets_everybody_go_on() -> None:
    clock = FakeClock()
    breaker = opened(clock, 30)
    on_trial(clock, breaker, "f")
    breaker.note(answer("f"))

    assert breaker.state is State.CLOSED
    assert breaker.take("g") == breaker.take("h") == 0


def test_no_answer_to_that_one_means_the_next_and_longer_pause() -> None:
    clock = FakeClock()
    breaker = opened(clock, 30, 60, 120)
    pauses = []
    for user in "fg":
        on_trial(clock, breaker, user)
        breaker.note(silence(user))
        pauses.append(breaker.take("z"))

    assert pauses == [60, 120]


def test_after_the_last_pause_in_vain_nobody_is_asked_any_more_and_the_figures_are_told() -> None:
    clock = FakeClock()
    breaker = opened(clock, 30, 60, 120)
    for user in "fgh":
        on_trial(clock, breaker, user)
        breaker.note(silence(user, "connection refused"))
    clock.now += 100_000

    assert breaker.state is State.SPENT
    assert breaker.take("i") > 0
    assert breaker.figures == (
        "8 users in a row got no usable answer, also after 3 pauses of 210 s in all; the last: connection refused"
    )


def test_a_second_outage_has_all_its_pauses_again() -> None:
    clock = FakeClock()
    breaker = opened(clock, 30, 60)
    on_trial(clock, breaker, "f")
    breaker.note(answer("f"))
    for user in "ghijk":
        breaker.note(silence(user))

    assert breaker.take("l") == 30
    assert breaker.figures.startswith("5 users in a row")


def test_what_was_on_its_way_when_the_circuit_opened_decides_nothing() -> None:
    clock = FakeClock()
    breaker = opened(clock, 30, 60)
    breaker.note(answer("late"))
    breaker.note(silence("later"))
    before = breaker.take("f")
    on_trial(clock, breaker, "f")
    breaker.note(answer("latest"))
    breaker.note(silence("last"))

    assert before == 30
    assert breaker.state is State.HALF_OPEN


def test_it_tells_once_whose_silence_was_the_outages() -> None:
    clock = FakeClock()
    breaker = Breaker((30, 60), clock, as_it_is)
    for user in "xy":
        breaker.note(silence(user))
    breaker.note(answer("z"))
    for user in "abcde":
        breaker.note(silence(user))
    breaker.note(silence("on its way"))
    before = breaker.missed()
    on_trial(clock, breaker, "f")
    breaker.note(silence("f"))

    assert before == [*"abcde", "on its way"]
    assert breaker.missed() == ["f"]
    assert breaker.missed() == []


def test_who_is_asked_again_after_an_outage_opens_no_circuit() -> None:
    clock = FakeClock()
    breaker = opened(clock, 30)
    on_trial(clock, breaker, "f")
    breaker.note(answer("f"))
    for user in breaker.missed():
        breaker.note(silence(user))

    assert breaker.state is State.CLOSED
    assert breaker.missed() == []


def test_a_pause_is_longer_or_shorter_by_chance_but_never_by_more_than_a_quarter() -> None:
    pauses = []
    for _ in range(200):
        breaker = Breaker((100,), FakeClock())
        for user in "abcde":
            breaker.note(silence(user))
        pauses.append(breaker.take("f"))

    assert 75 <= min(pauses) < 85
    assert 115 < max(pauses) <= 125


def test_stop_ends_every_wait_at_once() -> None:
    stop = threading.Event()
    breaker = opened(FakeClock(), 2 * PATIENCE)
    timer = threading.Timer(0.1, stop.set)
    timer.start()
    with soon():
        may_ask = breaker.wait("f", stop)
    timer.join()

    assert not may_ask


@given(st.lists(st.tuples(st.sampled_from("abcdefghijkl"), st.booleans(), st.sampled_from([0, 1, 5, 30, 200])), max_size=80))
def test_never_are_two_on_trial_whatever_happens(story: list[tuple[str, bool, int]]) -> None:
    clock = FakeClock()
    breaker = Breaker((30, 60), clock, as_it_is)
    asked: dict[str, bool] = {}  # who is on the way, and whether on trial
    for user, answered, seconds in story:
        clock.now += seconds
        if user in asked:
            del asked[user]
            breaker.note(answer(user) if answered else silence(user))
        elif not breaker.take(user):
            asked[user] = breaker.state is not State.CLOSED

        assert sum(asked.values()) <= 1
        assert breaker.state is not State.SPENT or not any(asked.values())


class SlowClock(FakeClock):
    """A clock that takes long enough to read for others to come in between."""

    def __call__(self) -> float:
        time.sleep(0.01)
        return super().__call__()


def test_of_many_threads_one_alone_gets_the_trial() -> None:
    clock = SlowClock()
    breaker = opened(clock, 30)
    clock.now += 30
    ready = threading.Barrier(8)

    def come(name: str) -> bool:
        ready.wait()
        return breaker.take(name) == 0

    with ThreadPoolExecutor(8) as threads:
        through = list(threads.map(come, "fghijklm"))

    assert through.count(True) == 1
