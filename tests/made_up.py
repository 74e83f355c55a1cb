"""Made-up campaigns: what rows and background a report would have after so many nights, if people did as they are told here."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from random import Random

from campaign.errors import ExitCode
from campaign.model import User
from campaign.report import Background, Change, Limit, Row, Run

FIRST = datetime(2026, 11, 2, 2, 0, tzinfo=UTC)
DOMAINS = ("example.com", "example.com", "example.com", "example.org", "sales.example.net", "münchen.example")
DEPARTMENTS = ("Sales", "Legal", "Finance", "Human Resources", "Research and Development", "")
LOCALES = ("en-US", "de-DE", "fr-FR", "pt-BR", "ja-JP", "")


@dataclass
class Person:
    """One user of a made-up campaign."""

    number: int
    joined: int  # the night
    messages: int = 0
    sent: list[int] = field(default_factory=list)  # the nights
    granted: int | None = None  # the night on which the consent was found
    odd: str = ""  # a reason that keeps this one out


@dataclass
class MadeUp:
    """`MadeUp(users=3000).play(20)`: one night a day. `shares` are, by message, those that consent on the first day after it."""

    users: int = 3000
    waits: tuple[int, ...] = (3, 7, 14)
    per_night: int = 300
    shares: Sequence[float] = (0.22, 0.12, 0.06, 0.02)
    decay: float = 0.55  # from day to day
    seed: int = 1

    def __post_init__(self) -> None:
        self.random = Random(self.seed)  # noqa: S311  # nothing is kept secret by it
        self.people = [Person(number, 0) for number in range(self.users)]
        for person in self.people:
            person.odd = self.random.choices(
                ("", "undeliverable", "user_not_found", "suppressed", "closed", "no_answer", "invalid_row"),
                (950, 12, 8, 5, 15, 4, 6),
            )[0]
            if not person.odd and self.random.random() < 0.08:
                person.granted = 0
        self.nights = 0
        self.runs: list[Run] = []

    def play(self, nights: int) -> "MadeUp":
        """Let so many nights pass."""
        for _ in range(nights):
            self._night(self.nights)
            self.nights += 1
        return self

    def _night(self, night: int) -> None:
        for person in self._open():
            if person.messages and self.random.random() < self._chance(person, night):
                person.granted = night
        due = sorted((p for p in self._open() if self._is_due(p, night)), key=lambda p: (p.sent[-1] if p.sent else -99, p.number))
        for person in due[: self.per_night]:
            person.messages += 1
            person.sent.append(night)
        counted = [p for p in self.people if p.odd not in {"closed", "invalid_row"}]
        mailed = min(len(due), self.per_night)
        self.runs.append(
            Run(
                started=FIRST + timedelta(days=night),
                finished=FIRST + timedelta(days=night, minutes=12),
                exit_code=ExitCode.DONE if night % 5 else ExitCode.ATTENTION,
                users=len(counted),
                consented=sum(p.granted is not None for p in counted),
                lacking=len(self._open()),
                no_answer=sum(p.odd == "no_answer" for p in counted),
                mailed=mailed,
                outcome={"accepted": mailed},
            )
        )

    def _open(self) -> list[Person]:
        return [p for p in self.people if p.granted is None and not p.odd]

    def _chance(self, person: Person, night: int) -> float:
        days = night - person.sent[-1] - 1
        return self.shares[min(person.messages, len(self.shares)) - 1] * self.decay ** max(0, days)

    def _is_due(self, person: Person, night: int) -> bool:
        if not person.messages:
            return True
        return person.messages <= len(self.waits) and night - person.sent[-1] >= self.waits[person.messages - 1]

    @property
    def consented(self) -> int:
        """How many users have consented."""
        return sum(p.granted is not None and p.odd not in {"closed", "invalid_row"} for p in self.people)

    # --- what the report is given

    def rows(self) -> list[Row]:
        """The rows of the report."""
        return [self._row(person) for person in self.people]

    def background(self) -> Background:
        """What the report tells beside them."""
        return Background(
            campaign="contract-sender",
            users={user.user_id: user for user in map(self._user, self.people)},
            runs=self.runs,
            since=self.runs[-2].finished if len(self.runs) > 1 else None,
            changes=[
                Change("consent granted", sum(p.granted == self.nights - 1 for p in self.people), ["person7@example.com"]),
                Change("new in the roster", 0),
            ],
            limits=[Limit("[policy] max_per_run", f"{self.per_night}", "messages in one run; the rest comes the next night")],
            waits=self.waits,
            capacity=self._capacity,
        )

    def _capacity(self, _day: date) -> int:
        return self.per_night

    def _user(self, person: Person) -> User:
        n = person.number
        department, locale = DEPARTMENTS[n % 13 % len(DEPARTMENTS)], LOCALES[n % 17 % len(LOCALES)]
        email = self._email(person)
        return User(self._id(person), email, email, n + 2, name=f"Person {n}", department=department, locale=locale)

    def _id(self, person: Person) -> str:
        return f"{person.number:08x}-0000-4000-8000-000000000000"

    def _email(self, person: Person) -> str:
        return f"person{person.number}@{DOMAINS[person.number % 7 % len(DOMAINS)]}"

    def _row(self, person: Person) -> Row:
        last = FIRST + timedelta(days=self.nights - 1, minutes=1)
        sent = [FIRST + timedelta(days=night, minutes=5) for night in person.sent]
        row = Row(
            user_id=self._id(person),
            email=self._email(person),
            name=f"Person {person.number}",
            status="consent_required",
            action="",
            reason="waiting" if person.messages <= len(self.waits) else "cap_reached",
            messages=person.messages,
            first_sent=sent[0] if sent else None,
            last_sent=sent[-1] if sent else None,
            last_outcome="accepted" if sent else "",
            last_probed=last,
            granted_at=None,
            next_action="remind" if person.messages <= len(self.waits) else "",
            next_due=last + timedelta(days=2) if person.messages <= len(self.waits) else None,
            detail="consent_required",
            line=person.number + 2,
        )
        if person.odd:
            status = {
                "user_not_found": "user_not_found",
                "no_answer": "unknown",
                "closed": "not_probed",
                "invalid_row": "rejected",
            }
            row = row._replace(status=status.get(person.odd, row.status), reason=person.odd, next_action="", next_due=None)
            return row._replace(last_probed=None) if person.odd in {"closed", "invalid_row"} else row
        if person.granted is None:
            return row
        at = FIRST + timedelta(days=person.granted, minutes=1)
        return row._replace(
            status="granted", reason="granted", granted_at=at, next_action="", next_due=None, detail="", last_probed=at
        )


def example(**changes: object) -> MadeUp:
    """Three thousand users after twenty nights."""
    return replace(MadeUp(), **changes).play(20)  # type: ignore[arg-type]
