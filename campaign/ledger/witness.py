"""The witness outside the database: it tells a first run from a lost ledger, and today's ledger from an old copy."""

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from campaign.errors import LedgerError
from campaign.files import replaced
from campaign.ledger.place import refuse_link


@dataclass(frozen=True, slots=True)
class Witness:
    """What the ledger was when this campaign last wrote it, on this machine."""

    campaign: str
    ledger_id: str
    generation: int
    host: str
    file: int = 0  # the ledger's inode number, which a copy does not share; 0 where there is none, or it was not noted yet


def read_witness(path: Path) -> Witness | None:
    """The witness at `path`, None if there is none. Raises LedgerError for one that cannot be read."""
    refuse_link(path)
    try:
        return Witness(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise LedgerError(f"{path} cannot be read: {why}", "restore it with its ledger, or run: campaign adopt") from error


def write_witness(path: Path, witness: Witness) -> None:
    """Replace the witness in one step. Raises LedgerError."""
    try:
        with replaced(path) as draft:
            draft.write_text(json.dumps(asdict(witness)), encoding="utf-8")
    except OSError as error:
        raise LedgerError(f"{path} cannot be written: {error.strerror}", "check the disk and the folder's owner") from error


def this_host() -> str:
    """A mark of this machine that gives nothing away about it."""
    try:
        name = Path("/etc/machine-id").read_text(encoding="utf-8").strip()
    except OSError:
        name = ""
    return hashlib.sha256((name or platform.node()).encode()).hexdigest()[:16]
