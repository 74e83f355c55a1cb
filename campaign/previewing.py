"""The exact message that a user would get, to look at or to send to oneself."""

from collections.abc import Callable
from datetime import datetime
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import TypeAlias, cast

from email_validator import EmailNotValidError, validate_email

from campaign.config import Config
from campaign.customers import Administrator
from campaign.errors import RelayRefused, UsageError
from campaign.explaining import one_of
from campaign.files import replaced
from campaign.given import Means, composer, mailer, message_id
from campaign.message import Composer, chain, freeze, mark_as_test
from campaign.model import ESCALATION, Outcome, User, address_key
from campaign.roster import read_customers, read_roster

Preview: TypeAlias = Callable[..., EmailMessage]  # `preview(eight_bit=True)`: the message for a relay that takes such
_STEPS = {"invite": 1, "reminder": 2, "later-reminder": 3, "escalation": ESCALATION, "administrator": 1}


def preview(config: Config, user: str, template: str, now: datetime, locale: str = "") -> Preview:
    """Check that the message can be composed, in another language if `locale` says so, and give what composes it.

    For the template "administrator", `user` means a customer: its id, its name, or its administrator's address. Nothing is
    recorded. Raises UsageError for an unknown user, template or language, and for an escalation where the roster
    names no manager.
    """
    if template not in _STEPS:
        raise UsageError(f"there is no template {template!r}", f"give one of: {', '.join(_STEPS)}")
    step, found = _STEPS[template], _administrator(config, user) if template == "administrator" else _user(config, user)
    if step == ESCALATION and not found.manager_email:
        raise UsageError(f"the roster names no manager of {found.email}", "fill in manager_email, or choose another user")
    messages = config.policy.escalate_after if step == ESCALATION else step - 1
    of = composer(config)
    if locale:
        found = _reading(found, locale, of, step)
    of.check(found, step, first_sent=now, messages=messages)
    return partial(of.compose, found, step, message_id=message_id(config, step), date=now, first_sent=now, messages=messages)


def text(preview: Preview) -> str:
    """Headers that a reader sees, and the text part."""
    message = preview()
    headers = "\n".join(f"{name}: {message[name]}" for name in ("From", "To", "Reply-To", "Subject", "Date") if message[name])
    return f"{headers}\n\n{_part(message, 'plain')}"


def save(preview: Preview, path: Path) -> None:
    """Write `.eml`, `.html` or `.txt`, by the file's ending. Raises UsageError for any other, OSError for a bad place."""
    contents = {
        ".eml": lambda: freeze(preview(eight_bit=True)),  # nearly every relay offers 8BITMIME
        ".html": lambda: _part(preview(), "html").encode(),
        ".txt": lambda: text(preview).encode(),
    }
    if path.suffix not in contents:
        raise UsageError(f"{path} should end in .eml, .html or .txt", "the ending says what is written")
    with replaced(path) as draft:
        draft.write_bytes(contents[path.suffix]())


def send_test(config: Config, means: Means, preview: Preview, to: str) -> str:
    """Send the message to another address, marked as a test; return what the relay said. Nothing is recorded.

    Raises UsageError for an address that must not be mailed, RelayRefused or RelayUnreachable where it was not accepted.
    """
    recipient = _recipient(config, to)
    relay = mailer(config, means)
    try:
        relay.ready()
        message = preview(eight_bit=relay.eight_bit)
        mark_as_test(message, recipient)
        delivery = relay.send(freeze(message), recipient)
    finally:
        relay.close()
    if delivery.outcome is not Outcome.ACCEPTED:
        what = f"{config.mail.host}:{config.mail.port} did not accept the test to {to}: {delivery.outcome}: {delivery.reply}"
        raise RelayRefused(what, "look into the relay's log, or try again later")
    return f"sent to {to} as a test: {delivery.reply}"


def _user(config: Config, user: str) -> User:
    """Whom a user id or an address means. Raises UsageError where it is nobody, or several."""
    users = {u.user_id: u for u in read_roster(config).users}
    wanted = address_key(user)
    return users[one_of([u.user_id for u in users.values() if wanted in {u.user_id, u.address}], user)]


def _reading(user: User, locale: str, of: Composer, step: int) -> User:
    """The user with another locale. Raises UsageError where there is no mail in its language."""
    reader = user._replace(locale=locale)
    if of.language(reader, step) not in chain(locale):
        raise UsageError(f"there is no such mail in {locale!r}", f"give one of: {', '.join(sorted(of.languages))}")
    return reader


def _administrator(config: Config, wanted: str) -> Administrator:
    """The customer that is meant. Raises UsageError where it is none, several, or one whose row cannot be used."""
    key = address_key(wanted)
    known = {one.user_id: one for one in read_customers(config)}
    meant = [one for one in known.values() if key in {one.user_id, address_key(one.name), one.address}]
    found = known[one_of([one.user_id for one in meant], wanted)]
    if found.fault:
        raise UsageError(f"{config.customers.file}:{found.line}: {found.fault}", "correct that row")
    return found


def _recipient(config: Config, to: str) -> str:
    """The address as it goes on the wire. Raises UsageError where it is none, or allowed_domains leaves it out."""
    try:
        checked = validate_email(to, check_deliverability=False, test_environment=True, allow_smtputf8=False)
    except EmailNotValidError as error:
        raise UsageError(f"{to!r} is not an e-mail address: {error}", "give one plain address, such as me@example.com") from error
    allowed = {domain.lower() for domain in config.mail.allowed_domains}
    if allowed and not allowed & {str(checked.ascii_domain), checked.domain}:
        raise UsageError(f"[mail] allowed_domains does not allow {to}", f"give an address of: {', '.join(sorted(allowed))}")
    return str(checked.ascii_email)


def _part(message: EmailMessage, kind: str) -> str:
    body = cast("EmailMessage", message.get_body((kind,)))
    return str(body.get_content())
