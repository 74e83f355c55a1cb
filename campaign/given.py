"""What a night is given: everything that can be read and checked before the network is touched."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import islice
from urllib.parse import urlsplit

from campaign import sasl
from campaign.config import Config
from campaign.customers import Administrator
from campaign.docusign import Signer, admin_consent_url, consent_url, load_key
from campaign.errors import RosterError, TemplateError
from campaign.mailer import Mailer, Route
from campaign.message import Composer, new_message_id
from campaign.model import ESCALATION, Delivery, Roster, Slot, User
from campaign.roster import read_customers, read_roster
from campaign.stopping import Stop

_SAMPLE = 4  # users; a template that fails for each of them is broken

Progress = Callable[[str, int, int], None]  # stage, done, total
Waiting = Callable[[str, str], None]  # stage, what it waits for in words; nothing when it goes on
Settled = Callable[[Slot, Delivery], None]  # a message, and what became of it


def unwatched(_stage: str, *_: object) -> None:
    """The progress, or the waiting, that nobody watches."""


def unheard(_slot: Slot, _delivery: Delivery) -> None:
    """The outcomes that nobody wants to hear of at once."""


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a night waits, in seconds, where that may help; each time it helps nothing, the next in turn."""

    probe: tuple[float, ...] = (1, 2)  # before a user is asked again whose answer may be transient
    outage: tuple[float, ...] = (30, 60, 120)  # while Docusign gives nobody a usable answer
    connect: tuple[float, ...] = (1, 5)  # before the relay is called again
    slower: tuple[float, ...] = (60, 180, 360)  # when the relay wants us to slow down
    room: float = 1800  # at most, for one of yesterday's messages to leave room in per_day
    burst: float = 30  # for Docusign's limit on bursts to be over: developers.docusign.com/platform/resource-limits


@dataclass(frozen=True, slots=True)
class Means:
    """What a night needs from outside: the time, the environment, how it is stopped, and who watches."""

    clock: Callable[[], datetime]
    stop: Stop
    environ: Mapping[str, str] = field(repr=False)
    progress: Progress = unwatched
    waiting: Waiting = unwatched
    settled: Settled = unheard
    waits: Waits = Waits()


@dataclass(frozen=True, slots=True)
class Given:
    """The roster, and the tools made from the configuration."""

    roster: Roster
    signer: Signer
    composer: Composer
    mailers: tuple[Mailer, ...]  # one for each connection
    doubts: tuple[str, ...] = ()  # what in the mails looks like spam, with file and line
    administrators: tuple[Administrator, ...] = ()  # of an ISV's customers


def prepare(config: Config, means: Means) -> Given:
    """Read roster, key, templates and password. Raises ConfigError, RosterError or TemplateError; nothing was attempted then."""
    signer = Signer(config.docusign, load_key(config.docusign.private_key_file))
    connections = mailers(config, means, config.mail.connections)
    given = Given(read_roster(config), signer, composer(config), connections, administrators=read_customers(config))
    if not given.roster.users:
        first = given.roster.rejects[0]
        raise RosterError(
            f"{config.roster.file}:{first.line}: {first.reason}; no other row can be used either", "export it again"
        )
    administrators = [one for one in given.administrators if not one.fault]
    told = [doubts(config, given.composer, people, means.clock()) for people in (given.roster.users, administrators)]
    return replace(given, doubts=tuple(dict.fromkeys(doubt for doubts in told for doubt in doubts)))


def doubts(config: Config, of: Composer, users: Sequence[User], now: datetime) -> list[str]:
    """Compose every kind of mail for somebody of each language, and tell what looks like spam. Raises TemplateError."""
    reminders = range(2, len(config.policy.remind_after_days) + 2)
    steps = [1, *list(reminders)[:2], *([ESCALATION] if config.policy.escalate_after else [])]
    readers = {user.locale: user for user in reversed(users)}
    found = {(of.language(user, step), step): user for user in readers.values() for step in steps}
    told = [for_somebody(of, step, now, [user, *reading_as(user, users)]) for (_, step), user in found.items()]
    return list(dict.fromkeys(doubt for doubts in told for doubt in doubts))


def for_somebody(of: Composer, step: int, now: datetime, users: Iterable[User]) -> list[str]:
    """What looks like spam in the mail to the first of these users for whom it can be written: one row may spoil it.

    Raises the first one's TemplateError where it can be written for none of them.
    """
    failures: list[TemplateError] = []
    for user in users:
        try:
            return of.doubts(user, step, first_sent=now, messages=max(step - 1, 1))
        except TemplateError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return []


def reading_as(user: User, others: Iterable[User]) -> list[User]:
    """A few other users, each as if written to in this one's language."""
    return [other._replace(locale=user.locale) for other in islice(others, _SAMPLE) if other.user_id != user.user_id]


def message_id(config: Config, step: int) -> str:
    """A new Message-ID for a `step`-th message of this campaign, in the sender's domain."""
    return new_message_id(config.name, step, config.mail.sender_address.rpartition("@")[2])


def composer(config: Config) -> Composer:
    """The composer of this campaign's messages. Raises TemplateError."""
    return Composer(
        directory=config.templates.directory,
        application=config.mail.sender_name,
        sender=config.mail.sender,
        reply_to=config.mail.reply_to,
        consent_url=consent_url(config.docusign),
        admin_consent_url=admin_consent_url(config.docusign),
        scopes=config.docusign.scopes,
        account_host=urlsplit(config.docusign.server).netloc,
        language=config.templates.language,
    )


def mailer(config: Config, means: Means) -> Mailer:
    """One way to the relay. Raises ConfigError where a secret or a CA file cannot be read."""
    return mailers(config, means, 1)[0]


def mailers(config: Config, means: Means, connections: int) -> tuple[Mailer, ...]:
    """So many ways to the relay. Raises ConfigError where a secret or a CA file cannot be read."""
    way = route(config, means)
    make = partial(Mailer, way, config.mail.sender_address, back_off=means.waits.connect, stop=means.stop)
    return tuple(make() for _ in range(connections))


def route(config: Config, means: Means) -> Route:
    """How the relay is reached, and who signs in. Raises ConfigError where a secret cannot be read."""
    mail = config.mail
    password = mail.password.read(means.environ) if mail.auth == "password" and mail.password else None
    tokens = sasl.tokens(mail, means.environ)
    return Route(
        host=mail.host,
        port=mail.port,
        security=mail.security,
        helo_name=mail.helo_name,
        username=mail.username if mail.auth != "none" else "",
        password=password.get_secret_value if password else str,
        tokens=tokens,
        ca_file=mail.ca_file,
        timeout=mail.timeout,
        final_timeout=mail.final_timeout,
    )
