"""A memory for plans: knows what the ledger knows, and keeps what it learns to itself."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from campaign.ledger.book import Ledger
from campaign.ledger.learning import learn
from campaign.ledger.records import Passed
from campaign.model import Finding, Standing, User


class Memory(Protocol):
    """What deciding about a night asks of a memory; the ledger has it, and so has Scratch."""

    def standings(self) -> dict[str, Standing]: ...
    def enrol(self, roster: Sequence[User], known: Mapping[str, Standing], now: datetime) -> Mapping[str, Standing]: ...
    def note(self, findings: Iterable[Finding], known: Mapping[str, Standing], now: datetime) -> dict[str, Standing]: ...
    def last_mailed(self) -> dict[str, tuple[datetime, str]]: ...
    def mailed_since(self, instant: datetime) -> list[datetime]: ...
    def refused(self) -> set[str]: ...
    def last_passed(self) -> Passed: ...
    def last_run(self) -> datetime | None: ...


class Scratch:
    """Reads a ledger, or none; writes nothing anywhere. `scope` is what is asked for now."""

    def __init__(self, ledger: Ledger | None, scope: str) -> None:
        self._ledger = ledger
        self._scope = scope
        self._learnt: dict[str, Standing] = {}

    def standings(self) -> dict[str, Standing]:
        """Everybody's standing, without the findings of earlier runs: only tonight's count."""
        remembered = self._ledger.standings() if self._ledger else {}
        return {user_id: s._replace(found="", detail="") for user_id, s in remembered.items()} | self._learnt

    def enrol(self, roster: Sequence[User], known: Mapping[str, Standing], now: datetime) -> Mapping[str, Standing]:  # noqa: ARG002  # as the ledger's
        """Make room for new users, and recognise those whose personal data were removed; return everybody's standing."""
        if self._ledger and self._ledger.meet(roster):
            known = self.standings()
        self._learnt |= {user.user_id: Standing(user.user_id, user.email) for user in roster if user.user_id not in known}
        return {**known, **self._learnt}

    def note(self, findings: Iterable[Finding], known: Mapping[str, Standing], now: datetime) -> dict[str, Standing]:
        """Keep what a batch of probes found; return the standings of these users."""
        learnt = {f.user_id: learn(known[f.user_id], f, now, self._scope) for f in findings if f.user_id in known}
        self._learnt |= learnt
        return learnt

    def last_mailed(self) -> dict[str, tuple[datetime, str]]:
        """When each address was last mailed, as the ledger has it."""
        return self._ledger.last_mailed() if self._ledger else {}

    def mailed_since(self, instant: datetime) -> list[datetime]:
        """How many messages went out since then, as the ledger has it."""
        return self._ledger.mailed_since(instant) if self._ledger else []

    def refused(self) -> set[str]:
        """Whose last message the relay refused, as the ledger has it."""
        return self._ledger.refused() if self._ledger else set()

    def last_passed(self) -> Passed:
        """The night that was last let through to mail, as the ledger has it."""
        return self._ledger.last_passed() if self._ledger else Passed()

    def last_run(self) -> datetime | None:
        """When a run last began or ended, as the ledger has it."""
        return self._ledger.last_run() if self._ledger else None
