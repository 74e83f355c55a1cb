"""Every promise holds in every random night, and the judge of them finds each planted fault."""

import re
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from campaign import given
from tests.postgres_server import PostgresServer
from tests.random_nights.faults import FAULTS, Plant, probe_between_mails, remind_without_end, send_unknown_again
from tests.random_nights.faults_of_customers import CUSTOMERS_FAULTS
from tests.random_nights.life import has_customers, live
from tests.world import private_key

LIVES = 60
ALL_FAULTS = FAULTS | CUSTOMERS_FAULTS


@pytest.fixture(autouse=True)
def _what_only_takes_time_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "load_key", lambda _: private_key())  # reading it takes longer than the rest of a night


@pytest.mark.promise(1, 2, 3, 4, 5, 6, 8, 19)
@pytest.mark.parametrize("seed", range(4))
def test_every_promise_holds_in_every_random_night(seed: int, tmp_path: Path) -> None:
    live(seed, tmp_path)


@pytest.mark.promise(1, 2, 3, 4, 5, 6, 8, 19)
@pytest.mark.long
@pytest.mark.parametrize("seed", range(4, 84))
def test_every_promise_holds_in_many_more_random_nights(seed: int, tmp_path: Path) -> None:
    live(seed, tmp_path)


@pytest.mark.promise(1, 2, 3, 4, 5, 6, 8, 19)
@pytest.mark.postgres
@pytest.mark.long
@pytest.mark.parametrize("seed", range(1000, 1012))
def test_every_promise_holds_in_random_nights_where_the_ledger_is_on_a_server(
    seed: int, tmp_path: Path, postgres: PostgresServer
) -> None:
    live(seed, tmp_path, postgres.keys(postgres.database()))


def found(plant: Plant, patch: pytest.MonkeyPatch, folder: Path) -> tuple[int, str]:
    """How many lives it takes until the judge finds the fault, and what it says then; (0, "") if it never does."""
    plant(patch)
    seeds = filter(has_customers, count()) if plant in CUSTOMERS_FAULTS else count()
    for number, seed in enumerate(islice(seeds, LIVES), 1):
        try:
            live(seed, folder / str(seed))
        except AssertionError as broken:
            return number, str(broken)
    return 0, ""


def plants() -> Iterator[Any]:
    """All faults; those that take many seeds only where there is time."""
    quick = {probe_between_mails, send_unknown_again, remind_without_end}
    for plant in ALL_FAULTS:
        yield pytest.param(plant, id=plant.__name__, marks=[] if plant in quick else [pytest.mark.long])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("plant", [*plants()])
def test_planted_faults_are_caught(plant: Plant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lives, said = found(plant, monkeypatch, tmp_path)

    print(f"{plant.__name__}: {lives} lives: {said}")  # noqa: T201  # shown by -rP
    assert re.search(ALL_FAULTS[plant], said), f"after {lives or LIVES} lives the judge said: {said or 'nothing'}"
