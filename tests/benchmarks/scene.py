"""What ours and the others are given alike: people, a key, a roster, a message, and the places of the servers."""

import csv
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from campaign.config import Config, load
from campaign.given import composer
from campaign.model import Roster, Standing, Status
from campaign.roster import read_roster
from tests.benchmarks.servers import Place, user_of
from tests.world import CLIENT_ID, pem, toml

CANARY = user_of(9)
FIRST = 20  # the number of the first person on a roster
NOW = datetime.now(UTC).replace(microsecond=0)
FIRST_NAME = f"Zoë Person{FIRST}"
SENDER = "Contract Sender <contracts@example.com>"


@dataclass(frozen=True)
class Scene:
    """A folder with a key, and the servers."""

    folder: Path
    place: Place

    def prepare(self) -> None:
        """Write the key."""
        self.key_file.write_bytes(pem())
        self.key_file.chmod(0o600)

    @property
    def key_file(self) -> Path:
        """The private key."""
        return self.folder / "private.pem"

    def roster(self, rows: int) -> Path:
        """A roster of so many rows, like Docusign's own export; written once."""
        path = self.folder / f"roster-{rows}.csv"
        if not path.exists():
            with path.open("w", encoding="utf-8", newline="") as file:
                table = csv.writer(file)
                table.writerow(["APIUserName", "UserEmail", "FirstName", "LastName", "Status", "Department", "Country", "Added"])
                table.writerows(_row(number) for number in range(FIRST, FIRST + rows))
        return path

    def config(self, rows: int, folder: Path, *, delay: float = 0, reply_delay: float = 0, **docusign: Any) -> Config:
        """The configuration of a campaign in `folder`; nothing in it slows the program down."""
        tables: dict[str, dict[str, Any]] = {
            "docusign": {
                "environment": "demo",
                "client_id": CLIENT_ID,
                "private_key_file": str(self.key_file),
                "redirect_uri": "https://intranet.example.com/thanks.html",
                "canary": [CANARY],
                "account_server": f"https://127.0.0.1:{self.place.accounts[delay]}",
                "ca_file": str(self.place.authorities),
                "probes_per_hour": 0,
                "probe_burst": 100_000_000,
                **docusign,
            },
            "roster": {"file": str(self.roster(rows)), "max_rows": 2_000_000},
            "mail": {
                "host": "127.0.0.1",
                "port": self.place.relays[reply_delay],
                "ca_file": str(self.place.authorities),
                "from": SENDER,
                "reply_to": "helpdesk@example.com",
                "per_minute": 0,
                "per_day": 0,
            },
            "policy": {"max_per_run": 100_000_000},
        }
        folder.mkdir(exist_ok=True)
        path = folder / "campaign.toml"
        path.write_text(toml(tables, "benchmark"), encoding="utf-8")
        return load(path, {})

    def invitation(self) -> EmailMessage:
        """The first person's invitation, as the program writes it."""
        config = self.config(10, self.folder / "any")
        return composer(config).compose(read(config).users[0], 1, message_id="<1@example.com>", date=NOW)


def read(config: Config) -> Roster:
    """The roster of a configuration."""
    return read_roster(config)


def address_of(number: int) -> str:
    """The address of the person with this number."""
    return f"person.{number}@dept{number % 40}.example.com"


def _row(number: int) -> tuple[object, ...]:
    name, country = ("Zoë", "Ångström-Müller", "Łukasz", "Li")[number % 4], ("DE", "FR", "PL", "CN", "US")[number % 5]
    return (
        user_of(number),
        address_of(number),
        name,
        f"Person{number}",
        "Active",
        f"Department {number % 40}",
        country,
        "2026-03-04",
    )


def granted(user_id: str, email: str) -> Standing:
    """The standing of a user who consented a while ago."""
    return Standing(
        user_id,
        email,
        status=Status.GRANTED,
        found=Status.GRANTED,
        last_probed=NOW,
        granted_at=NOW,
        verified_at=NOW,
        reason="granted",
    )
