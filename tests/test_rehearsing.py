"""A row for which no message can be written is set aside and holds up nobody; a broken template mails nobody."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from campaign.errors import CampaignError, ExitCode, TemplateError
from campaign.explaining import explain
from tests.world import World, email, user_id

SHARE = "A {{ 10 // (row['share'] | int) }}th of the work"  # cannot be written where the row says 0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world whose invitations tell of a share."""
    with World(tmp_path, keys={"templates": {"directory": "words"}}) as world:
        write(world, "invite", SHARE)
        yield world


def write(world: World, kind: str, subject: str) -> None:
    folder = world.folder / "words" / kind
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "subject.txt").write_text(subject)


def people(*shares: int, **more: str) -> list[Mapping[str, Any]]:
    """A row for each share, numbered from 1."""
    return [{"user_id": user_id(n), "email": email(n), "share": share, **more} for n, share in enumerate(shares, 1)]


@pytest.mark.promise(12)
@pytest.mark.parametrize("bad", [1, 2, 5])
def test_one_row_holds_up_nobody_and_is_told_with_its_line_and_reason(world: World, bad: int) -> None:
    world.roster(people(*(int(n != bad) for n in range(1, 6))))
    first = world.night(approve=5)
    rows = world.report()
    world.days_pass()
    second = world.night()

    assert sorted(world.mailed()) == sorted(email(n) for n in range(1, 6) if n != bad)
    assert (first.exit_code, second.exit_code) == (ExitCode.ATTENTION, ExitCode.DONE)  # it is news only once
    assert first.planned == 4
    (told,) = first.attention
    assert f"roster.csv:{bad + 1}: no message can be written for this row: " in told
    assert "invite/subject.txt:1: " in told
    row = rows[user_id(bad)]
    assert (row["reason"], row["status"], row["messages"], row["action"]) == ("invalid_row", "consent_required", "0", "")
    assert "invite/subject.txt:1: " in row["detail"]
    assert second.counts()["reason"]["invalid_row"] == 1


def test_once_the_row_is_corrected_its_message_goes_out(world: World) -> None:
    world.roster(people(1, 0))
    world.night(approve=2)
    world.roster(people(1, 1))
    world.days_pass()
    night = world.night()

    assert night.exit_code == ExitCode.DONE
    assert world.mailed() == [email(1), email(2)]
    assert world.report()[user_id(2)]["detail"] == ""


def test_a_link_in_a_name_costs_that_row_alone(tmp_path: Path) -> None:
    with World(tmp_path, keys={"templates": {"directory": "words"}}) as world:
        write(world, "invite", "Consent for {{ user.department }}")
        world.roster(
            {"user_id": user_id(n), "email": email(n), "department": d} for n, d in [(1, "https://evil.test"), (2, "IT")]
        )
        night = world.night(approve=2)

        assert night.exit_code == ExitCode.ATTENTION
        assert world.mailed() == [email(2)]
        assert "is not the consent URL" in world.report()[user_id(1)]["detail"]


def test_a_row_that_is_set_aside_leaves_its_place_in_the_run_to_the_next(world: World) -> None:
    world.keys["policy"] = {"max_per_run": 1}
    world.roster(people(0, 0, 1, 1))
    night = world.night(approve=4)

    assert (night.exit_code, night.planned) == (ExitCode.ATTENTION, 1)
    assert world.mailed() == [email(3)]
    assert world.report()[user_id(4)]["reason"] == "run_full"


@pytest.mark.parametrize("shares", [(0,), (0, 0, 0, 0), (0, 0, 0, 0, 1), (*([1] * 20), 0, 0, 0, 0)])
def test_a_template_that_fails_for_more_than_a_few_or_for_everybody_mails_nobody(world: World, shares: tuple[int, ...]) -> None:
    world.roster(people(*shares))
    problems: list[CampaignError] = []
    try:
        problems = world.night(approve=100).problems
    except TemplateError as error:
        problems = [error]

    assert world.mailed() == []
    assert [type(problem) for problem in problems] == [TemplateError]
    assert problems[0].exit_code == ExitCode.USAGE


@pytest.mark.parametrize(("others_too", "code"), [(True, ExitCode.USAGE), (False, ExitCode.ATTENTION)])
def test_whether_it_is_the_template_is_tried_on_others_where_nobody_else_is_mailed(
    world: World, code: ExitCode, *, others_too: bool
) -> None:
    write(world, "invite", "Consent")
    write(world, "reminder", "{% if step == 4 %}" + SHARE + "{% else %}Consent{% endif %}")
    world.keys["policy"] = {"remind_after_days": [3, 3, 3]}
    world.roster(people(0, *([0 if others_too else 1] * 5)))
    world.consent(*range(2, 7))
    nights = [world.night(approve=1)]
    for _ in range(3):
        world.days_pass(3)
        nights.append(world.night())

    assert [night.exit_code for night in nights] == [*[ExitCode.DONE] * 3, code]
    assert world.mailed() == [email(1)] * 3


def test_a_message_to_a_manager_that_cannot_be_written_leaves_all_others_as_they_are(world: World) -> None:
    write(world, "invite", "Consent")
    write(world, "reminder", "Consent")
    write(world, "escalation", SHARE)
    world.keys["policy"] = {"escalate_after": 1, "remind_after_days": [3, 3]}
    rows = people(1, 0, 1)
    world.roster({**row, "manager_email": f"boss{n}@example.com"} for n, row in enumerate(rows, 1))
    world.night(approve=3)
    world.relay.accepted.clear()
    world.days_pass(3)
    night = world.night()

    assert night.exit_code == ExitCode.ATTENTION
    assert sorted(world.mailed()) == sorted([*map(email, (1, 2, 3)), "boss1@example.com", "boss3@example.com"])
    assert world.report()[user_id(2)]["reason"] == "sent"


def test_the_help_desk_is_told_what_is_wrong_with_the_row(world: World) -> None:
    world.roster(people(1, 0))
    world.night(approve=2)
    story = str(explain(world.config(), user_id(2), world.now).as_json())

    assert "No message before the row in the roster can be used: no message can be written for this row: " in story
    assert "invite/subject.txt:1: " in story


def test_a_plan_shows_the_row_too(world: World) -> None:
    world.roster(people(1, 0))
    plan = world.plan()

    assert (plan.planned, [reject.line for reject in plan.rejects]) == (1, [3])
    assert world.mailed() == []
