"""Nights with smtp-sink as the relay, which is quick enough for volume and can be told to misbehave."""

from collections import Counter
from pathlib import Path

import pytest

from campaign.errors import ExitCode
from tests.mail_stack import SmtpSink, needs_smtp_sink
from tests.world import World, email, user_id

pytestmark = [pytest.mark.postfix, needs_smtp_sink]

PEOPLE = range(6)
MANY = range(1000)


def world_of(folder: Path, sink: SmtpSink, **mail: object) -> World:
    """A world with this sink as its relay."""
    return World(folder, keys={"mail": {"port": sink.port, "per_day": 0, **mail}, "policy": {"max_per_run": len(MANY)}})


def outcomes(world: World) -> list[str]:
    """What the report says became of everybody's last message, in the roster's order."""
    return [row["last_outcome"] for row in world.report().values()]


@pytest.mark.promise(1)
@pytest.mark.parametrize("connections", [pytest.param(1, marks=pytest.mark.long), 4])
def test_a_thousand_messages_arrive_once_each(quick_path: Path, connections: int) -> None:
    with SmtpSink() as sink, world_of(quick_path, sink, connections=connections) as world:
        world.roster(MANY)
        night = world.night(approve=len(MANY))

        assert night.exit_code == ExitCode.DONE
        assert Counter(outcomes(world)) == {"accepted": len(MANY)}
        assert Counter(message.recipient for message in sink.came) == dict.fromkeys(map(email, MANY), 1)
        assert len({message.message_id for message in sink.came}) == len(MANY)
        assert len(MANY) / 50 <= sink.connections() <= len(MANY) / 50 + connections  # 50 messages over each


@pytest.mark.case(14)
@pytest.mark.parametrize("options", ["-e", "-8", "-N", "-a", "-f EHLO", "-q QUIT", "-f QUIT"])
def test_a_relay_that_can_do_little_gets_every_message(tmp_path: Path, options: str) -> None:
    with SmtpSink(*options.split()) as sink, world_of(tmp_path, sink) as world:
        world.roster({"user_id": user_id(n), "email": email(n), "name": "Zoë"} for n in PEOPLE)
        night = world.night(approve=len(PEOPLE))

        assert night.exit_code == ExitCode.DONE
        assert sorted(message.recipient for message in sink.came) == [*map(email, PEOPLE)]
        assert sink.connections() == 1


@pytest.mark.case(6)
@pytest.mark.parametrize("fault", ["-r", "-q", "-Q"])
@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
def test_three_in_a_row_that_are_put_off_or_dropped_before_the_dot_stop_the_run(tmp_path: Path, fault: str, command: str) -> None:
    with SmtpSink(fault, command) as sink, world_of(tmp_path, sink) as world:
        world.roster(PEOPLE)
        refused = world.night(approve=len(PEOPLE))
        before, connections, seen = outcomes(world), sink.connections(), sink.came
        world.days_pass()
        with SmtpSink() as good:
            world.keys["mail"]["port"] = good.port
            night = world.night(approve=len(PEOPLE))
            came = good.came

    assert refused.exit_code == ExitCode.REFUSED
    assert "deferred 3 messages in a row" in str(refused.problems[0])
    assert before == ["deferred"] * 3 + [""] * 3
    assert (seen, connections) == ([], 3)
    assert night.exit_code == ExitCode.DONE
    assert sorted(message.recipient for message in came) == [*map(email, PEOPLE)]


@pytest.mark.parametrize("fault", ["-r", "-Q"])
def test_what_is_put_off_at_the_dot_comes_again_with_the_same_message_id(tmp_path: Path, fault: str) -> None:
    with SmtpSink(fault, ".") as sink, world_of(tmp_path, sink) as world:
        world.roster(PEOPLE)
        refused = world.night(approve=len(PEOPLE))
        before = {message.recipient: message.message_id for message in sink.came}
        world.days_pass()
        with SmtpSink() as good:
            world.keys["mail"]["port"] = good.port
            night = world.night(approve=len(PEOPLE))
            after = {message.recipient: message.message_id for message in good.came}

    assert (refused.exit_code, night.exit_code) == (ExitCode.REFUSED, ExitCode.DONE)
    assert [*sorted(before)] == [*map(email, range(3))]
    assert [*sorted(after)] == [*map(email, PEOPLE)]
    assert before.items() <= after.items()


@pytest.mark.parametrize("command", ["CONNECT", "EHLO,HELO", "MAIL", "RCPT", "DATA", "."])
def test_a_no_that_blames_nobody_stops_the_run_at_once_and_uses_up_nothing(tmp_path: Path, command: str) -> None:
    with SmtpSink("-f", command) as sink, world_of(tmp_path, sink) as world:
        world.roster(PEOPLE)
        refused = world.night(approve=len(PEOPLE))
        before, connections = outcomes(world), sink.connections()
        world.days_pass()
        with SmtpSink() as good:
            world.keys["mail"]["port"] = good.port
            night = world.night(approve=len(PEOPLE))
            came = good.came

    assert refused.exit_code == ExitCode.REFUSED
    assert "500 5.3.0" in str(refused.problems[0])
    assert before == [""] * len(PEOPLE)
    assert connections == 1
    assert night.exit_code == ExitCode.DONE
    assert sorted(message.recipient for message in came) == [*map(email, PEOPLE)]


def test_recipients_that_are_all_unknown_are_each_asked_once(tmp_path: Path) -> None:
    with SmtpSink("-f", "RCPT", "-B", "550 5.1.1 no such user") as sink, world_of(tmp_path, sink) as world:
        world.roster(PEOPLE)
        first, connections = world.night(approve=len(PEOPLE)), sink.connections()
        world.days_pass(3)
        second = world.night(approve=len(PEOPLE))

        assert (first.exit_code, second.exit_code) == (ExitCode.ATTENTION, ExitCode.DONE)
        assert outcomes(world) == ["rejected"] * len(PEOPLE)
        assert sink.connections() == connections == len(PEOPLE)


@pytest.mark.promise(2)
@pytest.mark.parametrize("options", ["-q .", "-W .:2"])
def test_after_the_dot_no_answer_is_unknown_and_never_sent_again_in_its_slot(tmp_path: Path, options: str) -> None:
    people = range(2)
    with SmtpSink(*options.split()) as sink, world_of(tmp_path, sink, final_timeout=1) as world:
        world.roster(people)
        first, came = world.night(approve=2), sink.came
        world.days_pass()
        with SmtpSink() as good:
            world.keys["mail"]["port"] = good.port
            second, before = world.night(approve=2), outcomes(world)
            world.days_pass(2)
            third, reminded = world.night(approve=2), good.came

    assert (first.exit_code, second.exit_code, third.exit_code) == (ExitCode.ATTENTION, ExitCode.DONE, ExitCode.DONE)
    assert sorted(message.recipient for message in came) == [*map(email, people)]
    assert before == ["unknown"] * 2
    assert sorted(message.recipient for message in reminded) == [*map(email, people)]
    assert {message.message_id for message in came}.isdisjoint(message.message_id for message in reminded)


def test_a_relay_that_hangs_up_on_everybody_is_tried_three_times_with_pauses(tmp_path: Path) -> None:
    with SmtpSink("-q", "CONNECT") as sink, world_of(tmp_path, sink) as world:
        world.roster(PEOPLE)
        night = world.night(approve=len(PEOPLE))

        assert night.exit_code == ExitCode.REFUSED
        assert outcomes(world) == [""] * len(PEOPLE)
        assert sink.connections() == 3
