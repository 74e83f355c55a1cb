"""A mailer with short times for a relay on loopback, and a message for it."""

from typing import Any

from campaign.mailer import Mailer, Route
from campaign.model import Delivery
from tests.fakes import Relay

FROM = "contracts@example.com"
TO = "ann@example.com"
MESSAGE = b"Subject: Consent\r\n\r\nPlease.\r\n"
LOGIN = ("contracts", "pa$$wörd")

_OF_THE_MAILER = {"recycle_after", "idle", "back_off", "stop"}


def mailer_to(relay: Relay, **changes: Any) -> Mailer:
    """To be closed in the end; `changes` are of the route or of the mailer."""
    route: dict[str, Any] = {"host": "127.0.0.1", "security": "none", "timeout": 0.5, "final_timeout": 0.5}
    route |= {key: value for key, value in changes.items() if key not in _OF_THE_MAILER}
    own: dict[str, Any] = {"back_off": (0.01, 0.01)} | {key: changes[key] for key in _OF_THE_MAILER & set(changes)}
    return Mailer(Route(port=relay.port, **route), FROM, **own)


def send_one(mailer: Mailer, recipient: str = TO, data: bytes = MESSAGE) -> Delivery:
    mailer.ready()
    return mailer.send(data, recipient)


def verbs(relay: Relay) -> list[str]:
    return [command.split()[0].upper() for _, command in relay.commands]
