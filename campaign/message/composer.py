"""One user, one mail: what the templates rendered, audited, under the headers that such a mail needs (RFC 5322)."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import css_inline

from campaign.customers import Administrator
from campaign.errors import ConfigError, TemplateError
from campaign.message import pages
from campaign.message.doubts import doubts
from campaign.message.folders import folders
from campaign.message.kinds import KINDS, PARTS, full_name, kind_of, shown
from campaign.message.languages import DEFAULT, reader
from campaign.message.lint import Pages, Rules, Violation, audit_line, audit_text
from campaign.message.templates import Templates
from campaign.message.wire import CONTROL, MAILBOX, MESSAGE_ID, WIRE, WIRE_UTF8, Mailbox, describe, part, put, unstructured
from campaign.model import User, zone_called

_SUBJECT_LIMIT = 150
_KEPT = 1_000  # messages that are not rendered again once they were checked: 10 MB at most, of what is usual
_TAGS = 2_000  # css-inline overruns its stack somewhere beyond 10,000 nested ones
_URL = re.compile(r"[!#-;=?-~]{1,900}")
_INLINER = css_inline.CSSInliner(keep_style_tags=True, keep_link_tags=True, load_remote_stylesheets=False)
_LINT_ADVICE = "a mail that asks for a login must be above suspicion; allow an https link of your own with {# allow: https://… #}"


class Scope(NamedTuple):
    """A scope, and what it allows in plain words."""

    name: str
    meaning: str


class Composer:
    """Writes the mails of one campaign: "invite" is the first to a user, "reminder" every later one, "escalation" the manager's.

    Each is written in the language of the user's `locale`, else in `language`. `directory` may hold any of the templates that
    ship, and others in their place for one language (`invite/de/body.txt`); what it lacks is taken from those that ship.
    A mail to a user must show the consent URL, one to the administrator of a customer that for administrators, and neither may
    show the other's. Every mail may show that server's root and its page of connected apps; a template allows another https link
    with `{# allow: https://… #}`.
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
        admin_consent_url: str,
        scopes: Sequence[str],
        account_host: str,
        language: str = DEFAULT,
    ) -> None:
        server = _server(consent_url, account_host)
        self._sender = Mailbox.read(sender, "mail.from")
        self._reply_to = Mailbox.read(reply_to, "mail.reply_to") if reply_to else None
        facts = {
            "application": application,
            "sender": self._sender.name or self._sender.address,
            "reply_to": (self._reply_to or self._sender).address,
            "consent_url": consent_url,
            "admin_consent_url": admin_consent_url,
            "account_host": account_host,
            "account_server": server,
        }
        self._consent_url = consent_url
        self._templates = Templates(folders(directory), facts, {**dict.fromkeys(KINDS, PARTS), pages.PAGES: pages.PARTS})
        self._default = self._available(language)
        self._asked_for = scopes
        self._scopes = {tag: self._explained(tag, of_many=False) for tag in self.languages}
        self._rules = self._all_rules(facts, links=frozenset({f"{server}/", f"{server}/me/appconsent"}))
        self._pages: dict[str, Pages] = {}  # by template
        self._checked: dict[tuple[object, ...], tuple[str, str, str]] = {}  # and not composed yet

    @property
    def languages(self) -> frozenset[str]:
        """Every language that there is a mail in."""
        return frozenset().union(*self._templates.languages.values())

    def language(self, user: User, step: int) -> str:
        """Say in which language the `step`-th message to `user` is written. The manager is written to in the user's."""
        name = kind_of(user, step).name
        return self._templates.language(name, user.locale) or self._templates.language(name, self._default) or DEFAULT

    def pages(self) -> Iterator[tuple[str, str]]:
        """Write the static pages, each with the name of its file. Raises TemplateError."""
        return pages.pages(self._templates, self._scopes, self._default, self._consent_url)

    def _available(self, language: str) -> str:
        if not all(language in known for known in self._templates.languages.values()):
            known = ", ".join(sorted(self.languages))
            raise ConfigError(f"[templates] language is {language}, and not all mails are there in it", f"choose one of: {known}")
        return language

    def _explained(self, language: str, *, of_many: bool) -> tuple[Scope, ...]:
        return tuple(Scope(scope, self._templates.scope(scope, language, of_many=of_many)) for scope in self._asked_for)

    def _all_rules(self, facts: Mapping[str, str], links: frozenset[str]) -> dict[str, Rules]:
        """What may stand in each kind of mail."""
        links |= self._templates.declared_links()
        written, answers = self._templates.contain, facts["reply_to"]
        return {
            name: Rules(facts[kind.link or "consent_url"], links, answers, written, asks=bool(kind.link))
            for name, kind in KINDS.items()
        }

    def check(self, user: User, step: int, *, first_sent: datetime | None = None, messages: int = 0) -> None:
        """Render and audit all that `compose` would send. Raises TemplateError naming the template, its line, and the user."""
        written = self._write(user, step, first_sent, messages)
        if len(self._checked) < _KEPT:
            self._checked[user, step, first_sent, messages] = written

    def doubts(self, user: User, step: int, *, first_sent: datetime | None = None, messages: int = 0) -> list[str]:
        """Check, and tell what looks like spam in this mail though nothing refuses it, each with file and line."""
        folder = f"{kind_of(user, step).name}/{self.language(user, step)}"
        found = doubts(*self._write(user, step, first_sent, messages))
        return [f"{self._templates.place(f'{folder}/{part}', doubt.needle)}: {doubt.what}" for part, doubt in found]

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
        checked = self._checked.pop((user, step, first_sent, messages), None)
        subject, text, html = checked or self._write(user, step, first_sent, messages)
        to = kind_of(user, step).addressee(user)
        message = EmailMessage(policy=WIRE if to.address.isascii() else WIRE_UTF8)
        for name, value in self._headers(to, subject, message_id, date):
            put(message, name, value)
        boundary = hashlib.sha256(message_id.encode()).hexdigest()[:40]
        plain = part("plain", text, eight_bit=eight_bit)
        encoding = "8bit" if plain["Content-Transfer-Encoding"] == "8bit" else ""  # as its part (RFC 2045, 6.4)
        describe(message, f'multipart/alternative;\r\n boundary="=_{boundary}"', encoding)
        message.set_payload([plain, part("html", html)])
        return message

    def _write(self, user: User, step: int, first_sent: datetime | None, messages: int) -> tuple[str, str, str]:
        """Give subject, text and HTML."""
        language = self.language(user, step)
        folder = f"{kind_of(user, step).name}/{language}"
        values = {**_about(user, step), **self._telling(user, language, first_sent), "messages": messages}
        try:
            subject, text, html = (self._templates.render(f"{folder}/{part}", values) for part in PARTS)
            return self._subject(folder, subject), self._text(folder, text), self._html(folder, html)
        except TemplateError as error:
            file = "customers' file" if isinstance(user, Administrator) else "roster"
            raise TemplateError(f"{error} (for {user.email}, line {user.line} of the {file})", error.advice) from error

    def _telling(self, user: User, language: str, first_sent: datetime | None) -> dict[str, object]:
        """Give what depends on the language and the place of the reader."""
        to, zone = reader(user.locale, language), zone_called(user.timezone)
        return {
            "reader": to,
            "language": language,
            "direction": to.direction,
            # An administrator consents for all users; only few are written to.
            "scopes": self._explained(language, of_many=True) if isinstance(user, Administrator) else self._scopes[language],
            "first_sent": first_sent.astimezone(zone) if first_sent and zone else first_sent,
        }

    def _subject(self, folder: str, rendered: str) -> str:
        subject, name = rendered.strip(), f"{folder}/subject.txt"
        if not 0 < len(subject) <= _SUBJECT_LIMIT or CONTROL.search(subject):
            what = f"the subject must be one line of at most {_SUBJECT_LIMIT} characters"
            raise TemplateError(f"{self._templates.place(name)}: {what}")
        self._refuse(name, audit_line(subject, self._rules_of(name)))
        return subject

    def _text(self, folder: str, rendered: str) -> str:
        name = f"{folder}/body.txt"
        self._refuse(name, audit_text(rendered, self._rules_of(name)))
        return rendered

    def _html(self, folder: str, rendered: str) -> str:
        """Move the CSS to where mail clients heed it, and audit what comes of it: that is what is sent."""
        name = f"{folder}/body.html"
        if rendered.count("<") > _TAGS:
            raise TemplateError(f"{self._templates.place(name)}: more than {_TAGS} tags")
        try:
            html = _INLINER.inline(rendered) + "\n"
        except ValueError as error:
            raise TemplateError(f"{self._templates.place(name)}: the CSS cannot be read: {error}") from error
        if name not in self._pages:
            self._pages[name] = Pages(self._rules_of(name))
        self._refuse(name, self._pages[name].audit(html))
        return html

    def _rules_of(self, name: str) -> Rules:
        return self._rules[name.partition("/")[0]]

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


def _about(user: User, step: int) -> dict[str, object]:
    """Give what a template knows of the user. Neither a manager nor an administrator is greeted by the name that the file has."""
    greeting, name = shown(kind_of(user, step).addressee(user).name), shown(full_name(user))
    of_customer = {"customer": name, "domains": user.domains} if isinstance(user, Administrator) else {}
    return {"user": user, "row": user.row, "full_name": name, "greeting_name": greeting, "step": step, **of_customer}
