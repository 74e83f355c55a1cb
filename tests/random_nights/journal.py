"""The journal: what truly happened, in its order, and what one run was given and left behind."""

import json
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email import message_from_string
from email.policy import default
from typing import Any

from campaign.sandbox.accounts import TokenRequest
from tests.fakes import Accepted, Relay, _Conversation
from tests.random_nights.customers import Customer

LINK = re.compile(r"/oauth/auth\?[^\s\"<]*?(admin_consent_scope=|(?=[\s\"<]))")
DOMAIN = re.compile(r"^  - @(\S+)\s*$", re.MULTILINE)
WHOSE = {True: "administrator", False: "user"}


@dataclass(frozen=True, slots=True)
class Step:
    """The relay is about to answer at this phase."""

    phase: str
    recipient: str
    connection: int
    answer: str  # "": the usual one


@dataclass(frozen=True, slots=True)
class Dot:
    """A whole message has come to the relay, which answers thus; "" is the usual 250."""

    at: datetime
    recipient: str
    person: str
    message_id: str
    date: str
    answer: str
    link: str  # whose it shows, "user" or "administrator"

    @classmethod
    def of(cls, at: datetime, message: Accepted, answer: str, customers: Sequence[Customer]) -> "Dot":
        letter = message_from_string(message.data, policy=default)
        text = "\n".join(part.get_content() for part in letter.walk() if part.get_content_maintype() == "text")
        link = " and ".join(sorted({WHOSE[bool(admins)] for admins in LINK.findall(text)}))
        named = {*DOMAIN.findall(text)}  # by those is told which customer is meant: an administrator is not called by name
        asked = next((customer.key for customer in customers if {*customer.domains} == named), "")
        person = letter["To"].addresses[0].display_name or asked
        return cls(at, message.recipient, person, letter["Message-ID"], letter["Date"], answer, link)

    @property
    def address(self) -> str:
        return self.recipient.casefold()

    @property
    def step(self) -> int:
        return int(self.message_id.split(".")[1])

    @property
    def kept(self) -> bool:
        return not self.answer or self.answer.startswith(("store", "2"))

    @property
    def ambiguous(self) -> bool:
        """Whether the program got no readable yes or no."""
        return self.answer.removeprefix("store ")[:1] not in {"", "2", "4", "5"}

    @property
    def may_have_arrived(self) -> bool:
        return self.kept or self.ambiguous


class Telling(list[Any]):
    """A list that also tells the journal what is appended."""

    def __init__(self, journal: list[Any]) -> None:
        super().__init__()
        self.journal = journal

    def append(self, item: Any) -> None:  # whatever the list holds
        super().append(item)
        self.journal.append(item)


class WatchedRelay(Relay):
    """Does what `script` says at a phase, for one recipient or ("") for all, and tells the journal."""

    def __init__(self, journal: list[Any], clock: Callable[[], datetime]) -> None:
        super().__init__()
        self.journal, self.clock = journal, clock
        self.script: dict[tuple[str, str], str] = {}
        self.customers: Sequence[Customer] = ()  # whose administrators' mails are recognised

    def action(self, phase: str, talk: _Conversation) -> str:
        action = self._scripted(phase, talk.recipient)
        self.journal.append(Step(phase, talk.recipient, talk.number, action))
        return f"store {action}" if phase == "dot" and action and not action.startswith("store ") else action

    def take(self, message: Accepted) -> None:
        """Come here with every whole message; keep those that the script does not lose."""
        dot = Dot.of(self.clock(), message, self._scripted("dot", message.recipient), self.customers)
        self.journal.append(dot)
        if dot.kept:
            super().take(message)

    def come_to_rest(self) -> None:
        """Wait until what a dead program left on the wire has been read."""
        with socket.create_connection(("127.0.0.1", self.port)) as own:
            own.recv(1)  # connections are taken in turn: whoever came before is being served by now
        for talk in self._talks:
            talk.join(10)
        self.journal[:] = [entry for entry in self.journal if getattr(entry, "connection", 0) != self.connections]

    def _scripted(self, phase: str, recipient: str) -> str:
        return self.script.get((phase, recipient)) or self.script.get((phase, ""), "")


@dataclass(slots=True)
class Run:
    """What one run was given and what came of it."""

    at: datetime
    approved: int | None
    roster: list[dict[str, str]]
    scope: str  # that the configuration asks for
    customers: Sequence[Customer] = ()
    must_be_refused: bool = False  # for the customers' file
    stopped_at: int | None = None  # in the journal
    journal: list[Any] = field(default_factory=list)
    exit_code: int | None = None  # None: it was killed
    report: list[dict[str, str]] = field(default_factory=list)
    slots: list[dict[str, Any]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)  # that scripts get of each customer

    @property
    def killed(self) -> bool:
        return self.exit_code is None

    @property
    def users(self) -> set[str]:
        return {row["user_id"] for row in self.roster if "@" in row["email"] and row["status"] != "Closed"}

    @property
    def addresses(self) -> list[str]:
        return [row["email"] for row in self.roster] + [customer.admin_email for customer in self.customers]

    @property
    def dots(self) -> list[Dot]:
        return [entry for entry in self.journal if isinstance(entry, Dot)]

    @property
    def called_relay(self) -> bool:
        return any(isinstance(entry, Step) for entry in self.journal)

    def customer(self, key: str) -> Customer:
        return next(customer for customer in self.customers if customer.key == key)

    def customer_of(self, address: str) -> Customer | None:
        domain = address.rpartition("@")[2].lower()
        return next((customer for customer in self.customers if domain in customer.domains), None)

    def users_of(self, customer: Customer) -> set[str]:
        return {row["user_id"] for row in self.roster if customer.has(row)}

    def last_answers(self, until: int | None = None) -> dict[str, str]:
        """By user id: what Docusign's last answer in this run, until then, meant."""
        return {e.user_id: meaning(e) for e in self.journal[:until] if isinstance(e, TokenRequest)}


def meaning(request: TokenRequest) -> str:
    """What the contract says of an answer."""
    if request.status == 200 and not request.body:
        return "granted"
    try:
        content = json.loads(request.body)
    except ValueError:
        return "unknown"
    if request.status == 400 and content.get("error") == "consent_required":
        return "consent_required"
    no_such_user = content.get("error_description") in {"user_not_found", "invalid_subject"}
    return "user_not_found" if request.status == 400 and no_such_user else "unknown"
