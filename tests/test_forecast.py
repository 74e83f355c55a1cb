"""What is to be expected: within its range as often as it says, and nothing where too little is known."""

from datetime import date, timedelta

import pytest

from campaign.report.forecast import Course, Forecast, Silence, forecast, wilson
from campaign.report.page import Page
from campaign.report.steps import steps, useless
from campaign.report.tally import State, Tally, state
from tests.made_up import MadeUp, example
from tests.test_report import AT, row

START = date(2026, 11, 23)


def tally_of(made: MadeUp) -> Tally:
    tally = Tally(made.background())
    for each in made.rows():
        tally.add(each)
    return tally


def course(days: dict[tuple[int, int, bool], int], *, unmailed: int = 0, a_day: int = 300) -> Course:
    return Course(START, 0, days, unmailed, waits=(3, 7), final_wait=7, capacity=lambda _: a_day)


# The forecast


def test_what_comes_lies_within_the_range_in_eight_of_ten_campaigns_at_least() -> None:
    within = []
    for seed in range(30):
        made = MadeUp(users=600, seed=seed).play(12)
        expected = Page(tally_of(made)).forecast
        assert isinstance(expected, Forecast)
        made.play(len(expected.path) - 1)
        within.append(expected.path[-1].low <= made.consented <= expected.path[-1].high)

    assert sum(within) >= 24


def test_the_range_is_narrow_enough_to_be_of_use() -> None:
    expected = Page(tally_of(MadeUp(users=3000).play(25))).forecast

    assert isinstance(expected, Forecast)
    assert expected.path[-1].high - expected.path[-1].low < 0.15 * 3000


def test_it_ends_when_the_last_message_has_had_its_time() -> None:
    first = {(1, 1, True): 20, (1, 1, False): 60}

    expected = forecast(course(first))

    assert isinstance(expected, Forecast)
    assert expected.end == START + timedelta(days=2 + 7 + 7)
    assert expected.ended


def test_who_was_not_mailed_yet_waits_for_room() -> None:
    days = {(1, 1, True): 20, (1, 1, False): 60}
    at_once, slowly = forecast(course(days, unmailed=100)), forecast(course(days, unmailed=100, a_day=10))

    assert isinstance(at_once, Forecast)
    assert isinstance(slowly, Forecast)
    assert slowly.end > at_once.end + timedelta(days=7)


def test_without_room_there_is_no_end_in_sight() -> None:
    made = MadeUp(users=200).play(4)
    made.per_night = 0

    assert "take more than a year" in Page(tally_of(made)).outlook


@pytest.mark.parametrize(
    ("days", "unmailed"), [({}, 50), ({(1, 1, True): 4, (1, 1, False): 60}, 0), ({(1, 1, True): 9, (1, 0, False): 500}, 0)]
)
def test_too_little_data_is_said_and_not_guessed_from(days: dict[tuple[int, int, bool], int], unmailed: int) -> None:
    found = forecast(course(days, unmailed=unmailed))

    assert isinstance(found, Silence)
    assert "too little is known yet" in found.why


def test_where_no_message_is_under_way_nothing_is_foretold() -> None:
    found = forecast(course({(3, 30, False): 100, (1, 1, True): 50}))

    assert isinstance(found, Silence)
    assert "no message is under way" in found.why


def test_nobody_who_consented_is_lost_and_nobody_is_made_up() -> None:
    tally = tally_of(example())
    expected = Page(tally).forecast

    assert isinstance(expected, Forecast)
    assert expected.path[0].middle == tally.states[State.CONSENTED]
    most = tally.states[State.CONSENTED] + tally.states[State.ASKED] + tally.states[State.SILENT]
    assert all(at.low <= at.middle <= at.high <= most for at in expected.path)
    assert [at.middle for at in expected.path] == sorted(at.middle for at in expected.path)


def test_a_message_that_nobody_has_had_long_enough_may_do_anything_between_nothing_and_the_one_before() -> None:
    expected = forecast(course({(1, 1, True): 200, (1, 2, True): 100, (1, 2, False): 400}))

    assert isinstance(expected, Forecast)
    assert expected.unseen == 2
    assert expected.path[-1].high - expected.path[-1].low > 100


def test_wilsons_interval_is_that_of_the_books() -> None:
    found = wilson(10, 100)

    assert [found.low, found.middle, found.high] == pytest.approx([0.0552, 0.1, 0.1744], abs=1e-4)
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)


# What each message brings


def test_only_those_who_have_had_the_whole_wait_are_judged() -> None:
    """Of a message that went out yesterday only the quick have answered; to count these alone would praise it."""
    for seed in range(5):
        made = MadeUp(users=3000, per_night=100, seed=seed).play(15)
        first, *_ = steps(tally_of(made))
        chance = 1 - (1 - 0.22) * (1 - 0.22 * 0.55) * (1 - 0.22 * 0.55**2)

        assert first.ripe < first.sent
        assert first.share.low <= chance + 0.03
        assert abs(first.share.middle - chance) < 0.05


def test_it_says_which_message_no_longer_helps() -> None:
    found = list(steps(tally_of(MadeUp(users=3000, per_night=3000, shares=(0.3, 0.2, 0.01, 0.0)).play(60))))

    assert [step.verdict for step in found] == ["helps", "helps", "no longer helps", "no longer helps"]
    assert useless(found) == found[2]


def test_it_says_where_too_few_are_known() -> None:
    found = list(steps(tally_of(MadeUp(users=25).play(60))))

    assert {step.verdict for step in found} == {"too few to tell"}


# Where a user stands


@pytest.mark.parametrize(
    ("reason", "status", "granted", "probed", "expected"),
    [
        ("granted", "granted", True, True, State.CONSENTED),
        ("granted", "not_probed", True, True, State.CONSENTED),
        ("no_answer", "unknown", True, True, State.CONSENTED),
        ("user_not_found", "user_not_found", True, True, State.BARRED),
        ("closed", "not_probed", True, True, State.CLOSED),
        ("invalid_row", "rejected", False, False, State.UNUSABLE),
        ("sent", "consent_required", False, True, State.ASKED),
        ("cap_reached", "consent_required", False, True, State.SILENT),
        ("suppressed", "consent_required", False, True, State.BARRED),
        ("no_answer", "unknown", False, True, State.UNCLEAR),
        ("stopped", "not_probed", False, False, State.UNCLEAR),
        ("", "not_probed", False, False, State.UNCLEAR),
    ],
)
def test_where_a_user_stands_follows_from_the_row(reason: str, status: str, granted: bool, probed: bool, expected: State) -> None:
    assert state(reason, status, AT if granted else None, AT if probed else None) is expected


def test_a_user_in_several_rows_counts_once_and_a_rejected_row_for_itself() -> None:
    made = MadeUp(users=3)
    tally = Tally(made.background())
    first = made.rows()[0]._replace(reason="granted", status="granted", granted_at=AT)
    for each in (first, first._replace(line=9), row(user_id=first.user_id, reason="invalid_row", status="rejected", line=10)):
        tally.add(each)

    assert (tally.rows, tally.total, dict(tally.states)) == (3, 1, {State.CONSENTED: 1, State.UNUSABLE: 1})
