"""The exact message that a user would get, to look at or to send to oneself."""

from datetime import datetime
from email.message import EmailMessage
from pathlib import Path
from typing import cast

from email_validator import EmailNotValidError, validate_email

from campaign.config import Config
from campaign.errors import RelayRefused, UsageError
from campaign.explaining import one_of
from campaign.files import replaced
from campaign.given import Means, composer, mailer, message_id, read_roster
from campaign.message import freeze
from campaign.model import Outcome, address_key

_STEPS = {"invite": 1, "reminder": 2}


def preview(config: Config, user: str, template: str, now: datetime) -> EmailMessage:
    """Compose without recording anything. Raises UsageError for an unknown user or template."""
    if template not in _STEPS:
        raise UsageError(f"there is no template {template!r}", f"give one of: {', '.join(_STEPS)}")
    users = {u.user_id: u for u in read_roster(config).users}
    wanted = address_key(user)
    found = users[one_of([u.user_id for u in users.values() if wanted in {u.user_id, u.address}], user)]
    step = _STEPS[template]
    return composer(config).compose(found, step, message_id=message_id(config, step), date=now, first_sent=now)


def text(message: EmailMessage) -> str:
    """Headers that a reader sees, and the text part."""
    headers = "\n".join(f"{name}: {message[name]}" for name in ("From", "To", "Reply-To", "Subject", "Date") if message[name])
    return f"{headers}\n\n{_part(message, 'plain')}"


def save(message: EmailMessage, path: Path) -> None:
    """Write `.eml`, `.html` or `.txt`, by the file's ending. Raises UsageError for any other, OSError for a bad place."""
    contents = {
        ".eml": lambda: freeze(message),
        ".html": lambda: _part(message, "html").encode(),
        ".txt": lambda: text(message).encode(),
    }
    if path.suffix not in contents:
        raise UsageError(f"{path} should end in .eml, .html or .txt", "the ending says what is written")
    with replaced(path) as draft:
        draft.write_bytes(contents[path.suffix]())


def send_test(config: Config, means: Means, message: EmailMessage, to: str) -> str:
    """Send the message to another address, marked as a test; return what the relay said. Nothing is recorded.

    Raises UsageError for an address that must not be mailed, RelayRefused or RelayUnreachable where it was not accepted.
    """
    recipient = _recipient(config, to)
    message.replace_header("Subject", f"[Test] {message['Subject']}")
    message.replace_header("To", recipient)
    relay = mailer(config, means)
    try:
        relay.ready()
        delivery = relay.send(freeze(message), recipient)
    finally:
        relay.close()
    if delivery.outcome is not Outcome.ACCEPTED:
        what = f"{config.mail.host}:{config.mail.port} did not accept the test to {to}: {delivery.outcome}: {delivery.reply}"
        raise RelayRefused(what, "look into the relay's log, or try again later")
    return f"sent to {to} as a test: {delivery.reply}"


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
