"""What an operator orders for one user or one message: suppress, unsuppress, resolve. Each is on record with its time."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from campaign.config import Config
from campaign.errors import UsageError
from campaign.explaining import one_of
from campaign.ledger import Ledger, RunLock, open_ledger, witness_of
from campaign.model import Outcome


def suppress(config: Config, user: str, reason: str, until: datetime | None, now: datetime) -> str:
    """Let nobody contact this user; return the user id. Raises UsageError for an unknown user, or no reason."""
    if not reason.strip():
        raise UsageError("a reason is needed", "say why, for whoever asks later: --reason TEXT")
    with _ledger(config) as ledger:
        user_id = one_of(ledger.find(user), user)
        ledger.suppress(user_id, reason.strip(), until, now)
    return user_id


def unsuppress(config: Config, user: str, now: datetime) -> str:
    """Let this user be contacted again, also where the address was refused; return the user id. Raises UsageError."""
    with _ledger(config) as ledger:
        user_id = one_of(ledger.find(user), user)
        ledger.unsuppress(user_id, now)
    return user_id


def resolve(config: Config, message_id: str, *, arrived: bool, now: datetime) -> None:
    """Settle a message whose fate is unknown. One that was lost is tried again in its slot; raises UsageError for any other."""
    wanted = f"<{message_id.strip('<>')}>"
    with _ledger(config) as ledger:
        if not ledger.resolve(wanted, Outcome.ACCEPTED if arrived else Outcome.DEFERRED, now):
            raise UsageError(
                f"there is no message {wanted} of unknown fate", "campaign explain USER shows the messages of a user"
            )


@contextmanager
def _ledger(config: Config) -> Iterator[Ledger]:
    """The ledger, for a change between runs."""
    with RunLock(config.lock_file), open_ledger(config) as ledger:
        yield ledger
        witness_of(config, ledger)
