"""What SpamAssassin, with Debian's rules and without any network, makes of every mail in every language."""

import email.policy
import os
import re
import shutil
import subprocess
from email.message import EmailMessage
from html import escape
from pathlib import Path

import pytest

from campaign.model import ESCALATION
from tests.browser import missing
from tests.test_message import URL, body, composer, parsed, user, wire

pytestmark = pytest.mark.long

SHORT = "http://bit.ly/3xYzAbC"
PIXEL = '<img src="http://track.example.net/open.gif?u=7" width="1" height="1" alt="">'
MAILS = [(language, step) for language in ("en", "de", "fr", "es", "pt", "ja") for step in (1, 2, 3, ESCALATION)]


def scores(messages: list[bytes], folder: Path) -> list[float]:
    """The score of each message; all in one process, which takes seconds to start."""
    if not shutil.which("spamassassin"):
        missing("spamassassin")
    files = [folder / f"{number}.eml" for number in range(len(messages))]
    for file, message in zip(files, messages, strict=True):
        file.write_bytes(message)
    around = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(["spamassassin", "-L", "-t", "-x", *files], capture_output=True, env=around, check=True)
    return [float(score) for score in re.findall(rb"^Content analysis details: +\((-?[\d.]+) points", done.stdout, re.MULTILINE)]


def tracked(message: EmailMessage) -> bytes:
    """The same text as a tracker sends it: a pixel, and behind the visible address a shortened link."""
    page = body(message, "html")
    link, hidden = f'href="{escape(URL)}"', f'href="{SHORT}"'
    changed = (
        page.replace(link, hidden)
        if link in page
        else page.replace("</main>", f"<a {hidden}>https://account.docusign.com/</a></main>")
    )
    new = EmailMessage(policy=email.policy.SMTP)
    for name in ("From", "To", "Subject", "Date", "Message-ID"):
        new[name] = str(message[name])
    new.set_content(body(message, "plain").replace(URL, SHORT))
    new.add_alternative(changed.replace("</main>", f"{PIXEL}</main>"), subtype="html")
    return new.as_bytes()


@pytest.mark.spamassassin
@pytest.mark.timeout(600)
def test_every_mail_scores_next_to_nothing_and_less_than_if_it_were_tracked(tmp_path: Path) -> None:
    of = composer()
    readers = {language: user("Ada Lovelace", locale=language, manager_email="boss@example.com") for language, _ in MAILS}
    frozen = [wire(of, readers[language], step, messages=3, eight_bit=True) for language, step in MAILS]
    found = scores([*frozen, *(tracked(parsed(message)) for message in frozen)], tmp_path)
    plain, with_tracking = found[: len(MAILS)], found[len(MAILS) :]

    assert len(found) == 2 * len(MAILS)
    assert [mail for mail, score in zip(MAILS, plain, strict=True) if score >= 1.0] == []
    assert [mail for mail, one, other in zip(MAILS, plain, with_tracking, strict=True) if one >= other] == []
