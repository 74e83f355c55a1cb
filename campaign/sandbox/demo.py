"""The whole job in a minute: several nights over real sockets, with an invented Docusign and invented people.

The nights go through the same code as `campaign run`; only the clock is moved, through the argument that the code has for it.
"""

import csv
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

from campaign import nightly
from campaign.config import Config, load
from campaign.docusign import load_key
from campaign.errors import UsageError
from campaign.files import shipped
from campaign.given import Means
from campaign.model import Action, User
from campaign.night import Night
from campaign.roster import read
from campaign.sandbox import Person, Sandbox
from campaign.sandbox.serving import consent_canaries, people_of, write_key
from campaign.showing import nights
from campaign.showing.page import Line, Page, Tone
from campaign.stopping import Stop

Show = Callable[[Page], None]

_CLIENT_ID = "5c1b2a3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
_CANARY = "0a7f3c52-9d1e-4b86-a2f4-6c8d5e7b9031"

_CONFIG = """\
name = "demo"

[docusign]
environment = "demo"
client_id = "{client_id}"
private_key_file = "private.pem"
redirect_uri = "{url}/thanks"
canary = ["{canary}"]
account_server = "{url}"
verify_granted_days = 1   # so that the story's revocation is found on the next night

[roster]
file = "roster.csv"

[mail]
host = "127.0.0.1"
port = {smtp_port}
security = "none"
from = "Contract Sender <contracts@example.com>"
reply_to = "helpdesk@example.com"
per_minute = 0            # nobody's relay is spared here
"""


def tell_story(directory: Path, users: int, now: Callable[[], datetime], show: Show, program: str = "campaign") -> None:
    """Run the demo and leave its mails, reports and ledger in `directory`. Raises UsageError where that is in use."""
    if directory.exists() and any(directory.iterdir()):
        raise UsageError(f"{directory} is not empty", "name another folder: campaign demo --directory DIR")
    directory.mkdir(parents=True, exist_ok=True)
    write_key(directory / "private.pem")
    _write_roster(directory / "roster.csv", users)
    clock = _Clock(now)
    key = load_key(directory / "private.pem").public_key()
    world = Sandbox(
        [],
        client_id=_CLIENT_ID,
        application_name="Contract Sender",
        public_keys=[key],
        redirect_uris=[],
        folder=directory / "mails",
        clock=lambda: clock().timestamp(),
    )
    with world:
        config = _configure(directory, world)
        _populate(world, config)
        _Story(config, world, clock, show).tell()
    somebody = read(config.roster.file).users[0].email
    left = f"""\
mails:   {directory / "mails"}   (open one; its link led to the sandbox, which has ended)
report:  {directory / "reports" / "report.xlsx"}   (and report.html, report.csv, and one copy for each night in history)
ask it:  {program} explain {somebody} --config {directory / "campaign.toml"}"""
    show([Line(), *(Line(line, Tone.COMMAND) for line in left.splitlines())])


@dataclass
class _Clock:
    """The real time, moved forward by whole days."""

    now: Callable[[], datetime]
    ahead: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return self.now() + self.ahead


@dataclass
class _Story:
    config: Config
    world: Sandbox
    clock: _Clock
    show: Show

    def tell(self) -> None:
        """Night one, with and without approval; consents; two more nights with reminders and a revocation."""
        self._say("NIGHT 1. The first night that would mail needs an approval, and says so:")
        refused = self._night(approved=None)
        self._say("", f"The plan is right, so it is approved: campaign run --approve {refused.planned}")
        first = self._night(approved=refused.planned)
        mailed = [d.user for d in first.decisions if d.action is Action.INVITED]
        third = max(1, len(mailed) // 3)
        self._consent(mailed[:third])
        self._say("", f"{third} people open their link and accept.")
        self._days_pass(3, "NIGHT 2, three days later. Whoever has consented is left alone, the others are reminded:")
        self._night()
        self._consent(mailed[third : 2 * third])
        self._revoke(mailed[0])
        self._say("", f"{third} more accept; {mailed[0].name or mailed[0].email} takes the consent back.")
        self._days_pass(7, "NIGHT 3, a week later. The revocation is found, the last third gets a second reminder:")
        self._night()

    def _night(self, approved: int | None = None) -> Night:
        night = nightly.run(self.config, Means(self.clock, Stop(), {}), approved)
        problems = [Line(f"campaign: {problem}", Tone.DOUBT) for problem in night.problems]
        news = [Line(f"new: {line}", Tone.DOUBT) for line in night.attention]
        self.show([Line(), *nights.night(night), *problems, *news, Line(f"exit code {int(night.exit_code)}")])
        return night

    def _days_pass(self, days: int, heading: str) -> None:
        self.clock.ahead += timedelta(days=days)
        self._say("", heading)

    def _say(self, *lines: str) -> None:
        self.show([Line(line, Tone.HEAD) for line in lines])

    def _consent(self, users: Sequence[User]) -> None:
        for user in users:
            self.world.accounts.consent(user.user_id, _CLIENT_ID, self.config.docusign.scopes)

    def _revoke(self, user: User) -> None:
        self.world.accounts.revoke(user.user_id, _CLIENT_ID)


def _configure(directory: Path, world: Sandbox) -> Config:
    path = directory / "campaign.toml"
    text = _CONFIG.format(client_id=_CLIENT_ID, canary=_CANARY, url=world.accounts.url, smtp_port=world.mail.port)
    path.write_text(text, encoding="utf-8")
    return load(path, {})


def _populate(world: Sandbox, config: Config) -> None:
    users = read(config.roster.file).users
    for person in people_of(config, users):
        world.accounts.add_person(Person(*person))
    consent_canaries(world, config)


def _write_roster(path: Path, users: int) -> None:
    """The first rows of the example roster, and invented people where more are wanted."""
    with (shipped("data") / "roster.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *islice(_people(header, rows), users)])


def _people(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
    yield from rows
    number = len(rows)
    while True:
        number += 1
        known = {"user_id": str(uuid.uuid4()), "email": f"person{number}@example.com", "name": f"Person {number}"}
        yield [known.get(column, "") for column in header]
