"""What an operator orders for one user, one message or the whole ledger. Each is on record with its reason and time."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from campaign.config import Config
from campaign.errors import RosterError, UsageError
from campaign.explaining import in_roster, one_of
from campaign.ledger import Ledger, examine, hold, open_ledger, witness_of
from campaign.ledger.masking import is_masked
from campaign.ledger.opening import look
from campaign.ledger.records import Figures
from campaign.ledger.witness import Witness
from campaign.model import Outcome, User, stamp


def suppress(config: Config, user: str, reason: str, until: datetime | None, now: datetime) -> str:
    """Let nobody contact this user, who may also be new in the roster; return the user id, or `user` where that is masked.

    A later order takes the place of an earlier one. Raises UsageError for an unknown user, no reason, or a past day.
    """
    if not reason.strip():
        raise UsageError("a reason is needed", "say why, for whoever asks later: --reason TEXT")
    if until and until <= now:
        raise UsageError(f"{until:%Y-%m-%d} is past", "give the first day that may mail again: --until YYYY-MM-DD")
    with ledger_of(config) as ledger:
        user_id = whom(config, ledger, user, now)
        ledger.suppress(user_id, reason.strip(), until, now)
    return _shown(user_id, user)


def unsuppress(config: Config, user: str, now: datetime, reason: str = "") -> str:
    """Let this user be contacted again, also where the address was refused; return what `suppress` does. Raises UsageError."""
    with ledger_of(config) as ledger:
        user_id = one_of(ledger.find(user), user)
        ledger.unsuppress(user_id, reason.strip(), now)
    return _shown(user_id, user)


def resolve(config: Config, message_id: str, *, arrived: bool, now: datetime, reason: str = "") -> str:
    """Settle a message whose fate is unknown; return its Message-ID in full. One that was lost is tried again in its slot.

    Raises UsageError for any other message.
    """
    wanted = f"<{message_id.strip().strip('<>')}>"
    with ledger_of(config) as ledger:
        if not ledger.resolve(wanted, Outcome.ACCEPTED if arrived else Outcome.DEFERRED, reason.strip(), now):
            raise UsageError(
                f"there is no message {wanted} of unknown fate", "campaign explain USER shows the messages of a user"
            )
    return wanted


@dataclass(frozen=True, slots=True)
class Found:
    """What `adopt` would accept: what is wrong ("" if nothing is), and how far ledger, witness and last report have got."""

    wrong: str
    place: str
    ledger: Figures | None
    witness: Witness | None
    report: Path
    reported: int | None  # messages that the last report counts

    def as_text(self) -> str:
        """Everything in a few lines, the conclusion last."""
        lines = [f"{self.place}: {_so_far(self.ledger)}", f"its witness: {_seen(self.witness)}"]
        lines += [f"{self.report}: counts {self.reported} messages to the users in it"] if self.reported is not None else []
        return "found: " + "\n       ".join([*lines, self.wrong])

    def as_json(self) -> dict[str, Any]:
        """The same for scripts."""
        ledger = self.ledger and asdict(self.ledger) | {"last_run": self.ledger.last_run and stamp(self.ledger.last_run.started)}
        seen = self.witness and {"generation": self.witness.generation}
        return {"found": self.wrong, "ledger": ledger, "witness": seen, "reported_messages": self.reported}


def found(config: Config, now: datetime) -> Found:
    """Look at the ledger before it is adopted. Changes nothing; raises LedgerError for one that cannot be adopted."""
    wrong = examine(config, now)
    report = config.report.directory / "report.csv"
    return Found(wrong, config.ledger_name, *look(config), report, _counted(report))


def _so_far(ledger: Figures | None) -> str:
    if ledger is None:
        return "there is nothing; adopting it begins anew, and everybody who lacks consent would be invited again"
    last = ledger.last_run
    run = f"the last run on {last.started:%Y-%m-%d %H:%M} UTC" if last else "no run yet"
    return f"generation {ledger.generation}, {run}, {ledger.users} users, {ledger.messages} messages"


def _seen(witness: Witness | None) -> str:
    return f"generation {witness.generation} (it counts up with every run and every order)" if witness else "none"


def _counted(report: Path) -> int | None:
    """How many messages went to the users of the last report; None where it cannot be said."""
    try:
        with report.open(encoding="utf-8", newline="") as file:
            by_user = {row["user_id"]: int(row["messages"]) for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None
    return sum(by_user.values())


def whom(config: Config, ledger: Ledger, user: str, now: datetime) -> str:
    """The id of the user who is meant, or a mask; one whom only the roster knows is made known to the ledger.

    Raises UsageError where nobody is meant, or several.
    """
    known = ledger.find(user)
    if any(map(is_masked, known)):
        return one_of(known, user)
    shown = _in_roster(config, user, needed=not known)
    user_id = one_of([*dict.fromkeys([*known, *shown])], user)
    if user_id not in known:
        ledger.join(shown[user_id], ledger.standings(), now)
    return one_of(ledger.find(user_id), user)


def _in_roster(config: Config, user: str, *, needed: bool) -> dict[str, User]:
    """The users of the roster who are meant, by id. One that cannot be read stops an order only where it is `needed`."""
    try:
        return {one.user_id: one for one in in_roster(config, user) if isinstance(one, User)}
    except RosterError:
        if needed:
            raise
        return {}


def _shown(user_id: str, typed: str) -> str:
    """A user id, or in the place of a mask what the operator typed."""
    return typed if is_masked(user_id) else user_id


@contextmanager
def ledger_of(config: Config) -> Iterator[Ledger]:
    """The ledger, for a change between runs. Raises Busy, LedgerError."""
    with hold(config) as lock, open_ledger(config, lock) as ledger:
        yield ledger
        witness_of(config, ledger)
