"""One user, one mail: what the templates rendered, audited, under the headers that such a mail needs (RFC 5322)."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import css_inline

from campaign.errors import ConfigError, TemplateError
from campaign.message.lint import Rules, Violation, audit_html, audit_line, audit_text
from campaign.message.templates import KINDS, PARTS, Templates, folders
from campaign.message.wire import CONTROL, MAILBOX, MESSAGE_ID, WIRE, WIRE_UTF8, Mailbox, one_line, part, put, unstructured
from campaign.model import ESCALATION, User

_SUBJECT_LIMIT = 150
_NAME_LIMIT = 100  # nobody is called that: a longer name is left out
_TAGS = 2_000  # css-inline overruns its stack somewhere beyond 10,000 nested ones
_URL = re.compile(r"[!#-;=?-~]{1,900}")
_LIKE_A_LINK = re.compile(r"[@/]|\w\.\w\w")
_INLINER = css_inline.CSSInliner(keep_style_tags=True, keep_link_tags=True, load_remote_stylesheets=False)
_LINT_ADVICE = "a mail that asks for a login must be above suspicion; allow an https link of your own with {# allow: https://… #}"

# What Docusign's scopes allow, in words for people who are asked to allow it.
_MEANINGS = {
    "signature": "prepare documents, send them for signature, and follow what becomes of them",
    "impersonation": "act in your name, also while you are not logged in",
    "click.manage": "manage click-through agreements",
    "click.send": "send click-through agreements",
    "aow_manage": "manage and start workflows",
    "webforms_read": "read web forms",
    "webforms_instance_read": "read what was entered in web forms",
    "webforms_instance_write": "start and fill in web forms",
    "organization_read": "read the data of your organization",
    "account_read": "read the settings of your organization's accounts",
    "account_write": "change the settings of your organization's accounts",
    "user_read": "read the list of your organization's users",
    "user_write": "change your organization's users",
    "group_read": "read your organization's groups",
    "permission_read": "read your organization's permission profiles",
}


class Scope(NamedTuple):
    """A scope, and what it allows in plain words."""

    name: str
    meaning: str


class Composer:
    """Writes the mails of one campaign: "invite" is the first to a user, "reminder" every later one, "escalation" the manager's.

    `directory` may hold any of `subject.txt`, `body.txt`, `body.html` in `invite/`, `reminder/` and `escalation/`; what it lacks
    is taken from the shipped templates. A mail to a user must show the consent URL. Every mail may show it, that server's root
    and its page of connected apps; a template allows another https link with `{# allow: https://… #}`.
    Raises TemplateError, which names file and line, and ConfigError.
    """

    def __init__(  # noqa: PLR0913  # the facts of a campaign
        self,
        *,
        directory: Path | None,
        application: str,
        sender: str,
        reply_to: str,
        consent_url: str,
        scopes: Sequence[str],
        account_host: str,
    ) -> None:
        server = _server(consent_url, account_host)
        self._sender = Mailbox.read(sender, "mail.from")
        self._reply_to = Mailbox.read(reply_to, "mail.reply_to") if reply_to else None
        self._answers = (self._reply_to or self._sender).address
        facts = {
            "application": application,
            "sender": self._sender.name or self._sender.address,
            "reply_to": self._answers,
            "consent_url": consent_url,
            "account_host": account_host,
            "account_server": server,
            "scopes": tuple(Scope(scope, _MEANINGS.get(scope, f'use what Docusign calls "{scope}"')) for scope in scopes),
        }
        self._templates = Templates(folders(directory), facts)
        links = frozenset({f"{server}/", f"{server}/me/appconsent"}) | self._templates.declared_links()
        rules = Rules(consent_url, links, self._answers, self._templates.contain)
        self._rules = {kind: replace(rules, asks=kind != _kind(ESCALATION)) for kind in KINDS}

    def check(self, user: User, step: int, *, first_sent: datetime | None = None, messages: int = 0) -> None:
        """Render and audit all that `compose` would send. Raises TemplateError naming the template, its line, and the user."""
        self._write(user, step, first_sent, messages)

    def compose(  # noqa: PLR0913  # the facts of a message
        self,
        user: User,
        step: int,
        *,
        message_id: str,
        date: datetime,
        first_sent: datetime | None = None,
        messages: int = 0,
        eight_bit: bool = False,
    ) -> EmailMessage:
        """Write the `step`-th message to `user`, or the ESCALATION to the manager; the same arguments give the same message.

        `first_sent` is shown in the time zone it has; `messages` is how many the user has had so far. `eight_bit` says that the
        relay takes a text part beyond ASCII as it is (8BITMIME, RFC 6152), with the consent URL in one piece.
        Raises TemplateError as `check` does, and ValueError for a Message-ID or a recipient that is none.
        """
        subject, text, html = self._write(user, step, first_sent, messages)
        to = _recipient(user, step)
        message = EmailMessage(policy=WIRE if to.address.isascii() else WIRE_UTF8)
        for name, value in self._headers(to, subject, message_id, date):
            put(message, name, value)
        boundary = hashlib.sha256(message_id.encode()).hexdigest()[:40]
        message["Content-Type"] = f'multipart/alternative; boundary="=_{boundary}"'
        plain = part("plain", text, eight_bit=eight_bit)
        if plain["Content-Transfer-Encoding"] == "8bit":  # then so is the whole (RFC 2045, 6.4)
            put(message, "Content-Transfer-Encoding", "8bit")
        message.set_payload([plain, part("html", html)])
        return message

    def _write(self, user: User, step: int, first_sent: datetime | None, messages: int) -> tuple[str, str, str]:
        """Give subject, text and HTML."""
        kind = _kind(step)
        values = {**_about(user, step), "first_sent": first_sent, "messages": messages}
        try:
            subject, text, html = (self._templates.render(f"{kind}/{part}", values) for part in PARTS)
            return self._subject(kind, subject), self._text(kind, text), self._html(kind, html)
        except TemplateError as error:
            raise TemplateError(f"{error} (for {user.email}, line {user.line} of the roster)", error.advice) from error

    def _subject(self, kind: str, rendered: str) -> str:
        subject = rendered.strip()
        if not 0 < len(subject) <= _SUBJECT_LIMIT or CONTROL.search(subject):
            where = self._templates.place(f"{kind}/subject.txt")
            raise TemplateError(f"{where}: the subject must be one line of at most {_SUBJECT_LIMIT} characters")
        self._refuse(f"{kind}/subject.txt", audit_line(subject, self._rules[kind]))
        return subject

    def _text(self, kind: str, rendered: str) -> str:
        self._refuse(f"{kind}/body.txt", audit_text(rendered, self._rules[kind]))
        return rendered

    def _html(self, kind: str, rendered: str) -> str:
        """Move the CSS to where mail clients heed it, and audit what comes of it: that is what is sent."""
        name = f"{kind}/body.html"
        if rendered.count("<") > _TAGS:
            raise TemplateError(f"{self._templates.place(name)}: more than {_TAGS} tags")
        try:
            html = _INLINER.inline(rendered) + "\n"
        except ValueError as error:
            raise TemplateError(f"{self._templates.place(name)}: the CSS cannot be read: {error}") from error
        self._refuse(name, audit_html(html, self._rules[kind]))
        return html

    def _refuse(self, name: str, violations: Iterator[Violation]) -> None:
        """Raise TemplateError for the first violation, if there is one."""
        for violation in violations:
            where = self._templates.place(name, violation.needle)
            raise TemplateError(f"{where}: {violation.what}", _LINT_ADVICE)

    def _headers(self, to: Mailbox, subject: str, message_id: str, date: datetime) -> Iterator[tuple[str, str]]:
        if not MESSAGE_ID.fullmatch(message_id) or not MAILBOX.fullmatch(to.address):
            raise ValueError(f"not a Message-ID and a recipient: {message_id!r}, {to.address!r}")
        yield "From", self._sender.header()
        yield "To", to.header()
        if self._reply_to:
            yield "Reply-To", self._reply_to.header()
        yield "Subject", unstructured(subject)
        yield "Date", format_datetime(date)
        yield "Message-ID", message_id
        yield "Auto-Submitted", "auto-generated"
        yield "X-Auto-Response-Suppress", "OOF, AutoReply"  # not All: that would suppress the bounces too
        yield "MIME-Version", "1.0"


def _server(consent_url: str, account_host: str) -> str:
    """Give the origin of the consent URL. Raises ConfigError unless it is that of Docusign, or of a sandbox on this machine."""
    url = urlsplit(consent_url)
    ours = (url.scheme, url.netloc) == ("https", account_host)
    sandbox = url.scheme in {"http", "https"} and url.hostname in {"127.0.0.1", "::1", "localhost"} and not url.username
    if not (ours or sandbox) or not _URL.fullmatch(consent_url):
        raise ConfigError(f"the consent URL {consent_url!r} is not one of https://{account_host}/")
    return f"{url.scheme}://{url.netloc}"


def _kind(step: int) -> str:
    """Give the folder of the templates for that step."""
    return {ESCALATION: "escalation", 1: "invite"}.get(step, "reminder")


def _recipient(user: User, step: int) -> Mailbox:
    """Give whom the message goes to. The manager's name is not known."""
    return Mailbox("", user.manager_email) if step == ESCALATION else Mailbox(_full_name(user), user.recipient)


def _about(user: User, step: int) -> dict[str, object]:
    """Give what a template knows of the user. A manager is not greeted by the user's name."""
    name = _shown_name(user)
    greeting = "" if step == ESCALATION else name
    return {"user": user, "row": user.row, "full_name": name, "greeting_name": greeting, "step": step}


def _full_name(user: User) -> str:
    """Give the user's name for the To header; nothing where the roster has none, or something that is no name."""
    name = one_line(user.name or f"{user.first_name} {user.last_name}")
    return name if len(name) <= _NAME_LIMIT else ""


def _shown_name(user: User) -> str:
    """Give the name that the text may show; nothing where a mail client would make a link or an address of it."""
    name = _full_name(user)
    return "" if _LIKE_A_LINK.search(name) else name
