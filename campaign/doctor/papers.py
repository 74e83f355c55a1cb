"""What a night is given and what can be said of it without any network: configuration, key, roster, templates."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from campaign.config import Config
from campaign.config.complaints import near
from campaign.config.values import is_loopback
from campaign.customers import grouped
from campaign.doctor.steps import attempt, not_checked, reading
from campaign.docusign import Signer, load_key
from campaign.docusign.scopes import KNOWN
from campaign.errors import Interrupted, RosterError, TemplateError
from campaign.given import Means, composer, doubts
from campaign.message import Composer
from campaign.model import ESCALATION, Check, Grade, Reject, Roster, User, printable, zone_called
from campaign.rehearsing import too_many
from campaign.roster import read_customers, read_roster

_LEFT_OUT = "correct these rows, or the template; a night goes on without them"
_LOOKS_LIKE_SPAM = "write this plainly: filters count it against a mail, and people were taught to distrust it"
_MOST_SHOWN = 4  # rejected rows
_RESERVED = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|test|invalid)$")  # RFC 2606


def configuration(config: Config, environ: Mapping[str, str]) -> Iterator[Check]:
    """Whether the parts of the configuration agree."""
    yield _campaign(config, environ)
    yield _environment(config)
    yield _scopes(config)
    yield _redirect_uri(config)


def key(config: Config) -> tuple[Check, Signer | None]:
    """Read the private key, and show the fingerprint of its public half; and what signs with it, if it could be read."""
    return reading("private key", partial(_key, config))


def people(config: Config, means: Means) -> Iterator[Check]:
    """Read the roster, and compose every message that its users may get."""
    read, users = reading("roster", partial(_roster, config))
    yield read
    if config.customers.file:
        yield attempt("customers", partial(_customers, config, users or ()))
    yield attempt("templates", partial(_templates, config, means, users)) if users else not_checked(["templates"])


def _campaign(config: Config, environ: Mapping[str, str]) -> Check:
    what, found = "configuration", f"the campaign {config.name} in {config.folder}"
    if variables := sorted(name for name in environ if name.startswith("CAMPAIGN_")):
        advice = "cron and systemd start a night with an environment of their own: set the same there, or write it into the file"
        return Check(what, Grade.DOUBT, f"{found}, with {', '.join(variables)} of this environment", advice)
    return Check(what, Grade.GOOD, found)


def _environment(config: Config) -> Check:
    """Another account server than the environment's is for trying out, with mail that stays on this machine."""
    docusign = config.docusign
    found = f"{docusign.environment}, which is {docusign.audience}"
    if docusign.account_server is None:
        return Check("environment", Grade.GOOD, found)
    found += f"; {docusign.server} is asked in its place"
    if docusign.environment == "demo" and is_loopback(config.mail.host):
        return Check("environment", Grade.GOOD, found)
    advice = "remove [docusign] account_server: the link in every mail would lead the reader to a server on this machine"
    return Check("environment", Grade.DOUBT, found, advice)


def _scopes(config: Config) -> Check:
    unknown = [f"{scope} is not among Docusign's{near(scope, KNOWN)}" for scope in config.docusign.scopes if scope not in KNOWN]
    if unknown:
        advice = "Docusign drops a scope that it does not know from every consent, and calls each consent lacking ever after"
        return Check("scopes", Grade.DOUBT, ", ".join(unknown), advice)
    return Check("scopes", Grade.GOOD, f"all known: {config.docusign.scope}")


def _redirect_uri(config: Config) -> Check:
    uri = config.docusign.redirect_uri
    if doubts := list(_doubts_about(uri, on_trial=config.docusign.account_server is not None)):
        advice = "set [docusign] redirect_uri to a page that everybody can open, to the letter as registered"
        return Check("redirect URI", Grade.DOUBT, f"{uri} {' and '.join(doubts)}", advice)
    return Check("redirect URI", Grade.GOOD, uri)


def _doubts_about(uri: str, *, on_trial: bool) -> Iterator[str]:
    """Source: developers.docusign.com/platform/auth/consent (an exact match, without wildcards or parameters)."""
    parts = urlsplit(uri)
    host = parts.hostname or ""
    if is_loopback(host) and not on_trial:
        yield "leads each reader to the reader's own machine"
    if _RESERVED.search(host):
        yield "is on a host that stands for a real one in examples"
    if set("*{}<>") & set(uri):
        yield "holds a placeholder, which Docusign takes as it is written"
    if parts.query:
        yield "holds a query, which works only if it is registered with that very query"


def _key(config: Config) -> tuple[Check, Signer]:
    path = config.docusign.private_key_file
    private = load_key(path)
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    found = f"{path} holds an RSA key of {private.key_size} bits; SHA-256 of its public key: {hashlib.sha256(public).hexdigest()}"
    return Check("private key", Grade.GOOD, found), Signer(config.docusign, private)


def _roster(config: Config) -> tuple[Check, tuple[User, ...]]:
    roster, file = read_roster(config), config.roster.file
    if not roster.users:
        raise RosterError(f"{file}: no row can be used: {_some(roster.rejects)}", "export it again")
    closed = sum(user.closed for user in roster.users)
    found = f"{file} has {len(roster.rows)} rows and {len(roster.users)} users{f', {closed} of them closed' if closed else ''}"
    doubts = dict(_doubts_about_rows(config, roster))
    grade = Grade.DOUBT if doubts else Grade.GOOD
    return Check("roster", grade, "; ".join([found, *doubts]), "; ".join(doubts.values())), roster.users


def _customers(config: Config, users: Sequence[User]) -> Check:
    """Read the customers' file, and say whose users are in the roster."""
    customers = grouped(read_customers(config), users, {})
    taken = sum(len(customer.users) for customer in customers)
    found = f"{config.customers.file} has {len(customers)} customers, with {taken} users of the roster"
    doubts = [f"line {c.administrator.line}: {c.administrator.fault}" for c in customers if c.administrator.fault]
    doubts += [f"line {c.administrator.line}: no users in the roster" for c in customers if not c.users]
    shown = "; ".join(
        [found, *doubts[:_MOST_SHOWN], *([f"and {len(doubts) - _MOST_SHOWN} more"] if doubts[_MOST_SHOWN:] else [])]
    )
    advice = "correct these rows: nobody of a customer whose row cannot be used is mailed before"
    return Check("customers", Grade.DOUBT if doubts else Grade.GOOD, shown, advice if doubts else "")


def _doubts_about_rows(config: Config, roster: Roster) -> Iterator[tuple[str, str]]:
    """What is wrong with some of the rows, and what to do about it."""
    if rejects := roster.rejects:
        found = f"{len(rejects)} of the rows cannot be used: {_some(rejects)}"
        yield found, "correct these rows; a night goes on without them"
    zones = [(line, who.timezone) for line, who in roster.rows if isinstance(who, User) and who.timezone]
    if nowhere := [(line, name) for line, name in zones if not zone_called(name)]:
        line, name = nowhere[0]
        found = f'{len(nowhere)} of the rows have a time zone that is not understood, the first: line {line}: "{printable(name)}"'
        yield found, f"call time zones Europe/Berlin, America/New_York; for these rows {config.policy.timezone} is taken"


def _some(rejects: Sequence[Reject]) -> str:
    shown = "; ".join(f"line {reject.line}: {reject.reason}" for reject in rejects[:_MOST_SHOWN])
    return shown + (f"; and {len(rejects) - _MOST_SHOWN} more" if len(rejects) > _MOST_SHOWN else "")


def _templates(config: Config, means: Means, users: Sequence[User]) -> Check:
    """Compose and audit, and throw away. As in a night, a template is bad that fails for many, or for everybody."""
    of, count, failures = composer(config), sum(1 for _ in _messages(config, users)), list[TemplateError]()
    for error in _composed(config, of, means, users):
        failures += [error] if error else []
        if error and too_many(len(failures), count):
            raise error
    found = f"{count - len(failures)} messages to {len(users)} users could be composed with {_words(config)}"
    told = [found, *map(str, failures[:_MOST_SHOWN]), *(spam := doubts(config, of, users, means.clock()))]
    advice = [*([_LEFT_OUT] if failures else []), *([_LOOKS_LIKE_SPAM] if spam else [])]
    return Check("templates", Grade.DOUBT if advice else Grade.GOOD, "; ".join(told), "; ".join(advice))


def _words(config: Config) -> str:
    return str(config.templates.directory or "those that ship")


def _composed(config: Config, of: Composer, means: Means, users: Sequence[User]) -> Iterator[TemplateError | None]:
    """What is wrong with each message, if anything."""
    for user, step in _messages(config, users):
        if means.stop.is_set():
            raise Interrupted(means.stop.exit_code)
        messages = config.policy.escalate_after if step == ESCALATION else step - 1
        try:
            of.check(user, step, first_sent=means.clock(), messages=messages)
        except TemplateError as error:
            yield error
        else:
            yield None


def _messages(config: Config, users: Sequence[User]) -> Iterator[tuple[User, int]]:
    """Everybody's invitation, first reminder and escalation, the first user's further reminders, and administrators' mails.

    The closed get none.
    """
    escalates, reminders = config.policy.escalate_after > 0, len(config.policy.remind_after_days)
    first = users[0]
    for user in users:
        if user is first or not user.closed:
            yield from ((user, step) for step in (1, 2))
        if escalates and (user is first or (user.manager_email and not user.closed)):
            yield user, ESCALATION
    yield from ((first, step) for step in range(3, reminders + 2))
    yield from ((one, step) for one in read_customers(config) if not one.fault for step in (1, 2))
