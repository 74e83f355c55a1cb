"""An ISV's campaign: the customers' administrators are asked first."""

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from campaign import explaining, forgetting, nightly, orders, previewing
from campaign.errors import ExitCode, TemplateError, UsageError
from campaign.ledger import Bounce, open_ledger
from campaign.model import Action, Reason
from campaign.night import Night
from campaign.sandbox import Organization
from campaign.sandbox.accounts import json_answer
from campaign.showing import nights
from campaign.showing.page import as_text
from tests.world import CLIENT_ID, SCOPES, World, user_id

ACME, BETA = "acme.example", "beta.example"


def rows(*groups: tuple[str, Iterable[int]]) -> list[dict[str, str]]:
    """People by the domain of their address."""
    return [{"user_id": user_id(n), "email": f"p{n}@{domain}"} for domain, numbers in groups for n in numbers]


def customers(world: World, *lines: str, header: str = "customer,admin_email,domains") -> None:
    """Write customers.csv, and name it in campaign.toml."""
    (world.folder / "customers.csv").write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    world.keys["customers"] = {**world.keys.get("customers", {}), "file": "customers.csv"}


def consent_for_all(world: World, domain: str) -> None:
    """Let the organization that has claimed a domain consent for all its users."""
    world.accounts.add_organization(Organization(domain, (domain,), ()))
    world.accounts._organizations.consent(domain, CLIENT_ID, SCOPES)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Ten people at Acme, five at Beta and two elsewhere; nobody has consented."""
    with World(tmp_path) as world:
        world.roster(rows((ACME, range(1, 11)), (BETA, range(11, 16)), ("elsewhere.example", (16, 17))))
        customers(world, f"Acme Ltd,admin@{ACME},{ACME}", f"Beta,admin@{BETA},{BETA}")
        yield world


def asked(night: Night) -> list[str]:
    return [decision.user.email for decision in night.asking if decision.action is Action.ASKED]


def test_administrators_are_asked_first_and_their_users_left_alone(world: World) -> None:
    night = world.night(approve=4)

    assert world.mailed() == [f"admin@{ACME}", f"admin@{BETA}", "p16@elsewhere.example", "p17@elsewhere.example"]
    assert night.exit_code == 0
    reasons = {decision.user.user_id: decision.reason for decision in night.decisions}
    assert {reasons[user_id(n)] for n in range(1, 16)} == {Reason.WAITING}


def test_after_the_days_who_still_lacks_it_is_asked_and_a_customer_whose_users_turned_is_done(world: World) -> None:
    world.night(approve=4)
    consent_for_all(world, ACME)
    mailed = []
    for _ in range(8):
        world.days_pass()
        before = len(world.mailed())
        world.night()
        mailed.append(sorted(world.mailed()[before:]))
    beta = sorted(f"p{n}@{BETA}" for n in range(11, 16))
    elsewhere = ["p16@elsewhere.example", "p17@elsewhere.example"]

    assert mailed == [[], [], [f"admin@{BETA}", *elsewhere], [], [], [], beta, []]


def test_the_approval_counts_the_mails_to_administrators(world: World) -> None:
    night = world.night(approve=3)

    assert (night.planned, night.exit_code, world.mailed()) == (4, ExitCode.STOPPED, [])


def test_administrators_come_first_where_not_everybody_can_be_mailed(world: World) -> None:
    world.roster(rows(("elsewhere.example", [16, 17]), (ACME, [1]), (BETA, [11])))
    world.keys["policy"] = {"max_per_run": 2}
    world.night(approve=2)

    assert world.mailed() == [f"admin@{ACME}", f"admin@{BETA}"]


def test_a_customer_without_users_is_not_written_to_and_one_with_closed_users_neither(world: World) -> None:
    people = rows((ACME, [1]), (BETA, [2]))
    world.roster([people[0], {**people[1], "status": "Closed"}])
    night = world.night(approve=1)

    assert world.mailed() == [f"admin@{ACME}"]
    assert [one.detail for one in night.customer_figures] == ["", "no users in the roster"]


def test_no_answer_about_its_users_is_no_reason_to_write_to_an_administrator(world: World) -> None:
    world.keys["guards"] = {"max_error_share": 1.0}
    world.roster(rows((ACME, range(1, 11)), (BETA, [11, 12])))  # so few that nobody takes it for an outage
    for number in (11, 12):
        world.accounts.faults.answers[user_id(number)] = json_answer(503)
    night = world.night(approve=9)

    assert f"admin@{BETA}" not in world.mailed()
    assert {d.user.name: d.reason for d in night.asking} == {"Acme Ltd": Reason.SENT, "Beta": Reason.NO_ANSWER}


def test_nobody_of_a_customer_whose_row_cannot_be_used_is_mailed_and_it_is_told_once(world: World) -> None:
    customers(world, f"Acme Ltd,nonsense,{ACME}", f"Beta,admin@{BETA},{BETA}")
    first = world.night(approve=9)
    world.days_pass(30)
    second = world.night(approve=9)

    assert not [address for address in world.mailed() if address.endswith(ACME)]
    assert (first.exit_code, second.exit_code) == (ExitCode.ATTENTION, ExitCode.DONE)
    assert first.attention == [f"{world.folder}/customers.csv:2: admin_email is not a usable address: " + MISSING_AT]


MISSING_AT = "An email address must have an @-sign"


def test_users_do_not_wait_for_an_administrator_whose_address_is_refused(world: World) -> None:
    world.relay.at("RCPT", "550 5.1.1 no such user", recipient=f"admin@{BETA}")
    first = world.night(approve=4)
    world.days_pass()
    world.night()

    assert (first.exit_code, "admin@beta.example: the relay refused" in first.attention[0]) == (ExitCode.ATTENTION, True)
    assert sorted(world.mailed()[3:]) == sorted(f"p{n}@{BETA}" for n in range(11, 16))


def test_users_are_left_alone_from_when_a_refused_address_of_their_administrator_is_corrected(world: World) -> None:
    world.relay.at("RCPT", "550 5.1.1 no such user", recipient=f"admin@{BETA}")
    world.night(approve=4)
    customers(world, f"Acme Ltd,admin@{ACME},{ACME}", f"Beta,it@{BETA},{BETA}")
    to_beta = []
    for _ in range(2):
        world.days_pass(8)
        before = len(world.mailed())
        world.night(approve=99)
        to_beta.append([address for address in world.mailed()[before:] if address.endswith(BETA)])

    assert to_beta[0] == [f"it@{BETA}"]
    assert sorted(to_beta[1]) == sorted([f"it@{BETA}", *(f"p{n}@{BETA}" for n in range(11, 16))])


def test_users_do_not_wait_for_an_administrator_who_is_not_written_to_any_more(world: World) -> None:
    world.keys["policy"] = {"remind_after_days": []}
    world.relay.at("RCPT", "550 5.1.1 no such user", recipient=f"admin@{BETA}")
    world.night(approve=4)
    customers(world, f"Acme Ltd,admin@{ACME},{ACME}", f"Beta,it@{BETA},{BETA}")
    world.days_pass(8)
    before = len(world.mailed())
    world.night(approve=99)

    assert sorted(a for a in world.mailed()[before:] if a.endswith(BETA)) == sorted(f"p{n}@{BETA}" for n in range(11, 16))


def test_users_do_not_wait_for_an_administrator_whose_mail_came_back(world: World) -> None:
    world.night(approve=4)
    message_id = message_id_to(world, f"admin@{BETA}")
    with open_ledger(world.config()) as ledger:
        letter = ledger.letters([message_id])[message_id]
        ledger.returned([Bounce(letter, "5.1.1", permanent=True, detail="5.1.1 gone")], world.now)
    world.days_pass()
    world.night()

    assert letter.user_id == "customer:beta"
    assert sorted(world.mailed()[4:]) == sorted(f"p{n}@{BETA}" for n in range(11, 16))


def test_who_is_not_to_be_contacted_is_not_as_an_administrator_and_users_do_not_wait(world: World) -> None:
    orders.suppress(world.config(), "customer:BETA", "left the company", None, world.now)  # before the first night
    world.night(approve=9)
    orders.unsuppress(world.config(), f"admin@{BETA}", world.now)
    world.days_pass()
    world.night()

    assert world.mailed()[0] == f"admin@{ACME}"
    assert {*world.mailed()[1:8]} == {*(f"p{n}@{BETA}" for n in range(11, 16)), *(f"p{n}@elsewhere.example" for n in (16, 17))}
    assert world.mailed()[8:] == [f"admin@{BETA}"]


def test_a_deferred_mail_to_an_administrator_is_tried_again_as_the_same_and_users_wait(world: World) -> None:
    world.relay.at("dot", "store 450 4.2.0 later", message=1)
    world.night(approve=4)
    world.days_pass()
    world.night()
    to_acme = [message.data for message in world.relay.accepted if message.recipient == f"admin@{ACME}"]

    assert len(to_acme) == 2
    assert len({re.search(r"Message-ID: (.*)", data)[1] for data in to_acme}) == 1  # type: ignore[index]
    assert not [address for address in world.mailed() if re.match(rf"p\d+@{ACME}", address)]


def test_an_administrator_whose_mail_may_have_arrived_is_not_sent_it_again(world: World) -> None:
    world.relay.at("dot", "store drop", message=1)
    world.night(approve=4)
    world.relay.heal()
    for _ in range(2):
        world.days_pass()
        world.night()

    assert world.mailed().count(f"admin@{ACME}") == 1


def test_one_address_that_administers_two_customers_is_mailed_once_and_the_others_users_wait(world: World) -> None:
    customers(world, f"Acme Ltd,admin@{ACME},{ACME}", f"Beta,Admin@{ACME.upper()},{BETA}")
    night = world.night(approve=9)
    world.days_pass(3)
    world.night()
    administrators = [address for address in world.mailed() if address.lower().startswith("admin@")]

    assert {d.user.name: d.reason for d in night.asking} == {"Acme Ltd": Reason.SENT, "Beta": Reason.SAME_ADDRESS}
    assert len(administrators) == 2
    assert not [address for address in world.mailed() if address.endswith(f"@{BETA}")]


def test_an_administrator_who_is_also_a_user_gets_one_mail_at_a_time(world: World) -> None:
    customers(world, f"Acme Ltd,p1@{ACME},{ACME}", f"Beta,admin@{BETA},{BETA}")
    world.roster(rows((ACME, [1, 2])))
    start, mailed = world.now, {}
    for day in (0, 3, 6, 7, 9, 10):
        world.now = start + timedelta(days=day)
        night = world.night(approve=99)
        mailed[day] = [d.user.user_id for d in (*night.asking, *night.decisions) if d.action and d.user.email == f"p1@{ACME}"]

    assert [(day, whom) for day, whom in mailed.items() if whom] == [
        (0, ["customer:acme ltd"]),
        (3, ["customer:acme ltd"]),
        (7, [user_id(1)]),  # its users' time has come
        (10, ["customer:acme ltd"]),
    ]


def test_users_who_consented_by_themselves_do_not_make_a_customer_done_until_they_are_most(world: World) -> None:
    world.night(approve=4)
    world.consent(1, 2, 3, 4, 5)
    world.days_pass()
    half = {d.user.name: d.reason for d in world.night().asking}
    world.consent(6)
    world.days_pass()
    most = {d.user.name: d.reason for d in world.night().asking}

    assert (half["Acme Ltd"], most["Acme Ltd"]) == (Reason.WAITING, Reason.GRANTED)


def test_consents_of_before_say_nothing_of_the_administrator(world: World) -> None:
    world.consent(*range(1, 10))
    night = world.night(approve=4)

    assert asked(night) == [f"admin@{ACME}", f"admin@{BETA}"]


def test_a_customer_that_was_done_and_is_not_is_no_revocation(world: World) -> None:
    world.consent(*range(1, 11))
    world.night(approve=9)
    world.roster(rows((ACME, range(1, 12)), (BETA, range(12, 16)), ("elsewhere.example", (16, 17))))
    world.days_pass()
    night = world.night(approve=9)

    assert (night.exit_code, night.attention) == (ExitCode.DONE, [])
    assert asked(night) == [f"admin@{ACME}"]


def test_a_plan_shows_each_customer_and_changes_nothing(world: World) -> None:
    said = as_text(nights.plan(world.plan()))

    assert re.search(r"ask +admin@acme\.example +Acme Ltd", said)
    assert re.search(r"Acme Ltd +10 users +0 granted +10 lacking .* users left alone until 2026-11-30", said)
    assert re.search(r"\(none\) +2 users", said)
    assert not (world.folder / "ledger.sqlite3").exists()


def test_scripts_get_each_customer_in_figures(world: World) -> None:
    world.night(approve=4)
    consent_for_all(world, ACME)
    world.days_pass()
    found = {one["customer"]: one for one in world.night().as_json()["customers"]}

    assert (found["Acme Ltd"]["granted"], found["Acme Ltd"]["reason"], found["Acme Ltd"]["messages"]) == (10, "granted", 1)
    assert (found["Beta"]["lacking"], found["Beta"]["users_wait_until"]) == (5, "2026-11-30T02:00:00Z")
    assert found[""]["users"] == 2


def test_without_customers_there_are_none_in_it(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.roster([1])

        assert "customers" not in world.night().as_json()


def test_the_report_says_until_when_users_are_left_alone(world: World) -> None:
    world.night(approve=4)
    row = world.report()[user_id(1)]
    nightly.rewrite_report(world.config(), world.means())

    assert (row["reason"], row["next_action"], row["next_due"]) == ("waiting", "invite", "2026-11-30T02:00:00Z")
    assert world.report()[user_id(1)] == row


def test_explain_tells_a_user_that_the_administrator_is_asked_first(world: World) -> None:
    world.night(approve=4)
    story = explaining.explain(world.config(), user_id(1), world.now)
    said = story.as_text()

    assert (
        "A user of Acme Ltd, whose administrator is admin@acme.example: of its 10 users 0 are granted and 10 lack consent."
        in said
    )
    assert "because the administrator of Acme Ltd is asked first, and has until then" in said
    assert story.as_json()["next_due"] == "2026-11-30T02:00:00Z"


def test_explain_tells_of_a_customer(world: World) -> None:
    world.night(approve=4)
    story = explaining.explain(world.config(), f"admin@{ACME}", world.now)
    said = story.as_text()

    assert story.as_json()["user_id"] == "customer:acme ltd"
    assert "Administrator of Acme Ltd: of its 10 users 0 are granted and 10 lack consent." in said
    assert "the invitation (message 1) was sent to admin@acme.example" in said
    assert "says again that a user of this customer lacks consent" in said


def test_the_mail_to_an_administrator_can_be_looked_at(world: World) -> None:
    for meant in ("acme ltd", f"ADMIN@{ACME}", "customer:acme ltd"):
        said = previewing.text(previewing.preview(world.config(), meant, "administrator", world.now))

        assert "admin_consent_scope=signature%20impersonation" in said
    with pytest.raises(UsageError, match="no user 'Nobody'"):
        previewing.preview(world.config(), "Nobody", "administrator", world.now)


@pytest.mark.parametrize(
    ("shown", "fault"), [("consent_url", "the consent URL must stand"), ("reply_to", "the consent URL must stand")]
)
def test_it_must_show_the_administrators_link(world: World, shown: str, fault: str) -> None:
    folder = world.folder / "words" / "administrator"
    folder.mkdir(parents=True)
    (folder / "body.txt").write_text(f"{{{{ {shown} }}}}\n")
    world.keys["templates"] = {"directory": "words"}

    with pytest.raises(TemplateError, match=fault):
        world.night()
    (folder / "body.txt").write_text("{{ admin_consent_url }}\n{{ consent_url }}\n")
    with pytest.raises(TemplateError, match="is not the consent URL"):
        world.night()
    assert world.mailed() == []


def test_the_mail_names_the_domains_and_greets_nobody_by_the_customers_name(world: World) -> None:
    customers(world, f"Booking.com,admin@{ACME},{ACME}")  # a name that mail clients would make a link of
    world.night(approve=99)
    data = world.relay.accepted[0].data

    assert f"\n  - @{ACME}\n" in data.replace("\r\n", "\n")
    assert "Booking.com" not in data.partition("\r\n\r\n")[2]


def test_a_customer_can_be_forgotten(world: World) -> None:
    world.night(approve=4)
    forgetting.forget(world.config(), "customer:acme ltd", world.now)
    world.days_pass(3)
    night = world.night()

    assert world.mailed().count(f"admin@{ACME}") == 1
    assert night.exit_code == ExitCode.DONE
    assert f"admin@{ACME}".encode() not in (world.folder / "ledger.sqlite3").read_bytes()


def message_id_to(world: World, recipient: str) -> str:
    data = next(message.data for message in world.relay.accepted if message.recipient == recipient)
    return str(re.findall(r"Message-ID: (<.*>)", data)[0])
