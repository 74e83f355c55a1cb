"""A whole night through a real relay: Postfix, with STARTTLS verified and a sign-in that Dovecot checks."""

import email
import email.policy
from pathlib import Path

import pytest

from campaign.docusign import consent_url
from campaign.errors import ExitCode
from tests.mail_stack import SENDER, MailStack, needs_mail_stack
from tests.nasty import NASTY, write_templates
from tests.world import World, user_id
from tests.world import email as address

pytestmark = [pytest.mark.postfix, needs_mail_stack]


def test_a_night_through_postfix(mail_stack: MailStack, tmp_path: Path) -> None:
    mail_stack.refuse({address(1): "550 5.1.1 user unknown", address(2): "450 4.2.0 greylisted"})
    with World(tmp_path, keys=mail_stack.keys(tmp_path)) as world:
        people = [{"user_id": user_id(n), "email": address(n), "name": f"Zoë “Q” O'Neil, Jr. {n}"} for n in range(12)]
        world.roster(people)
        night = world.night(approve=12)
        rows = world.report()
    arrived = {message.recipient: message.data for message in mail_stack.arrived()}
    shown = email.message_from_bytes(arrived[address(5)], policy=email.policy.default)

    assert night.exit_code == ExitCode.ATTENTION
    assert sorted(arrived) == sorted(address(n) for n in range(12) if n not in {1, 2})
    assert (rows[user_id(1)]["last_outcome"], rows[user_id(1)]["reason"]) == ("rejected", "undeliverable")
    assert (rows[user_id(2)]["last_outcome"], rows[user_id(2)]["reason"]) == ("deferred", "waiting")
    assert shown["To"].addresses[0].display_name == "Zoë “Q” O'Neil, Jr. 5"
    assert "ESMTPSA" in shown["Received"]  # so Postfix itself says: by ESMTP, under TLS, signed in
    assert mail_stack.logged(f"sasl_method=PLAIN, sasl_username={SENDER}") == len(arrived)


@pytest.mark.promise(15)
def test_a_certificate_that_is_not_trusted_is_refused(mail_stack: MailStack, tmp_path: Path) -> None:
    keys = mail_stack.keys(tmp_path)
    del keys["mail"]["ca_file"]
    with World(tmp_path, keys=keys) as world:
        world.roster([5])
        night = world.night(approve=1)

    assert night.exit_code == ExitCode.REFUSED
    assert "certificate" in str(night.problems[0])
    assert mail_stack.arrived() == []
    assert mail_stack.logged("sasl_") == 0


@pytest.mark.case(11, 12)
def test_nasty_mails_arrive_to_the_letter(mail_stack: MailStack, tmp_path: Path) -> None:
    keys = mail_stack.keys(tmp_path) | {"templates": {"directory": str(write_templates(tmp_path / "templates"))}}
    with World(tmp_path, keys=keys) as world:
        world.roster(nasty.user(number) for number, nasty in enumerate(NASTY, 1))
        night = world.night(approve=len(NASTY))
        url = consent_url(world.config().docusign)
    arrived = {message.recipient: message.data for message in mail_stack.arrived()}
    read = {recipient: email.message_from_bytes(data, policy=email.policy.default) for recipient, data in arrived.items()}
    texts = {recipient: text.get_content() for recipient, message in read.items() if (text := message.get_body(["plain"]))}
    sent = {address(number): nasty for number, nasty in enumerate(NASTY, 1) if not nasty.refused}

    assert night.exit_code == ExitCode.ATTENTION  # for the rows that are rejected
    assert len(mail_stack.arrived()) == len(sent)
    assert texts == {recipient: nasty.text(url) for recipient, nasty in sent.items()}
    assert {recipient: message["To"].addresses[0].display_name for recipient, message in read.items()} == {
        recipient: nasty.person for recipient, nasty in sent.items()
    }
    assert not any(b"\r" in data or max(map(len, data.split(b"\n"))) > 998 for data in arrived.values())
