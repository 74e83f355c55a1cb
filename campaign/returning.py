"""Takes back what came back: reads a mailbox for delivery failures of our messages, and marks the addresses that are to blame.

A report is a piece of mail that anybody can send. It counts only by the Message-ID of ours that it returns, which nobody can
guess; it can only ever keep us from mailing; and a flood of them changes nothing until somebody has looked.
"""

import shlex
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from campaign import bounces
from campaign.config import Config
from campaign.errors import ExitCode, GuardTripped, UsageError
from campaign.ledger import Bounce, Ledger, Letter, hold, open_ledger, witness_of
from campaign.model import ESCALATION, address_key, printable
from campaign.sasl import tokens
from campaign.tls import verifying_context

_AT_ONCE = 200  # messages of the mailbox
_SHARE = 0.10  # of all messages ever sent: more addresses than that do not die between two readings

_Mailbox: TypeAlias = Callable[[datetime | None], Generator[bytes, None, None]]


@dataclass(frozen=True, slots=True)
class Returned:
    """What one reading of a mailbox brought."""

    read: int  # messages
    ours: int  # of these, reports that a message of ours failed
    known: int  # messages of ours that came back, and were noted before
    new: tuple[Bounce, ...]

    @property
    def exit_code(self) -> ExitCode:
        """What is new needs a person."""
        return ExitCode.ATTENTION if self.new else ExitCode.DONE

    @property
    def lines(self) -> list[str]:
        """Each message that came back and was not known to, for people."""
        return [_line(bounce) for bounce in self.new]

    @property
    def summary(self) -> str:
        """All of it in one line."""
        undeliverable = sum(bounce.blames_user for bounce in self.new)
        return (
            f"messages read: {self.read}, about messages of this campaign: {self.ours}; addresses newly undeliverable: "
            f"{undeliverable}, other new failures: {len(self.new) - undeliverable}, known before: {self.known}"
        )

    def as_json(self) -> dict[str, Any]:
        """The same for scripts."""
        return {
            "read": self.read,
            "not_ours": self.read - self.ours,
            "known": self.known,
            "undeliverable": [_as_json(bounce) for bounce in self.new if bounce.blames_user],
            "bounced": [_as_json(bounce) for bounce in self.new if not bounce.blames_user],
            "exit_code": self.exit_code,
        }


def take_back(  # noqa: PLR0913  # they are the command's own
    config: Config, environ: Mapping[str, str], *, maildir: Path | None, imap: str | None, approved: int | None, now: datetime
) -> Returned:
    """Read a maildir, or a mailbox by its IMAP URL, and note what came back; of what was noted before, nothing.

    Raises UsageError, RelayRefused and RelayUnreachable (the IMAP server), GuardTripped for more new permanent failures than
    are likely, LedgerError, Busy. Then nothing was noted.
    """
    mailbox = _mailbox(config, environ, maildir, imap)
    with hold(config) as lock, open_ledger(config, lock) as ledger:
        standings = ledger.standings().values()
        with closing(mailbox(min((s.first_sent for s in standings if s.first_sent), default=None))) as messages:
            returned = _match(messages, ledger)
        if returned.new:
            _refuse_a_flood(config, returned.new, sum(s.messages for s in standings), approved, _option(maildir, imap))
            ledger.returned(returned.new, now)
            witness_of(config, ledger)
    return returned


def _mailbox(config: Config, environ: Mapping[str, str], maildir: Path | None, imap: str | None) -> _Mailbox:
    """The way to the mailbox's messages since a day."""
    if maildir and not imap:
        return lambda _: bounces.from_maildir(maildir)
    if not imap or maildir:
        raise UsageError("one mailbox is needed", "give either --maildir DIR or --imap URL")
    place = bounces.Place.of(imap, config.mail.username)
    context = verifying_context("mail", config.mail.ca_file)
    return partial(bounces.by_imap, place, _login(config, environ), context, config.mail.timeout)


def _login(config: Config, environ: Mapping[str, str]) -> bounces.Login:
    """The credentials of the relay: with the same account, its mailbox is read. Raises ConfigError, RelayRefused."""
    mail = config.mail
    if mail.auth == "password" and mail.password:
        return bounces.Login(password=mail.password.read(environ).get_secret_value())
    source = tokens(mail, environ)
    if source is None:
        raise UsageError(
            'a mailbox needs a sign-in, and [mail] auth is "none"',
            "set [mail] auth, username and what belongs to it, or read a maildir: campaign bounces --maildir DIR",
        )
    return bounces.Login(token=source(fresh=False))


def _match(messages: Iterable[bytes], ledger: Ledger) -> Returned:
    """The gravest failure of each message of ours, as far as it is news."""
    read = ours = 0
    came_back: set[str] = set()
    new: dict[str, Bounce] = {}
    reports = map(bounces.read, messages)
    while batch := list(islice(reports, _AT_ONCE)):
        letters = ledger.letters(failure.message_id for report in batch for failure in report)
        read += len(batch)
        ours += sum(any(failure.message_id in letters for failure in report) for report in batch)
        came_back |= letters.keys()
        for failure in (failure for report in batch for failure in report if failure.message_id in letters):
            bounce = _bounce(failure, letters[failure.message_id])
            noted = new[failure.message_id].code if failure.message_id in new else bounce.letter.bounced
            if not noted or (bounce.permanent and not bounces.blames_address(noted)):
                new[failure.message_id] = bounce
    return Returned(read, ours, len(came_back) - len(new), tuple(new.values()))


def _bounce(failure: bounces.Failure, letter: Letter) -> Bounce:
    """Where a mailbox passes its mail on, the copy may fail while the message itself arrived: that blames nobody here."""
    told = f"{failure.status} {failure.said}".rstrip()
    if failure.recipients & {letter.address, address_key(letter.recipient)}:
        return Bounce(letter, failure.status, bounces.blames_address(failure.status), told)
    elsewhere = printable(", ".join(sorted(failure.recipients))) or "an address that is not named"
    return Bounce(letter, f"{failure.status} elsewhere", permanent=False, detail=f"for {elsewhere}: {told}")


def _refuse_a_flood(config: Config, new: Iterable[Bounce], sent: int, approved: int | None, option: str) -> None:
    """Raise GuardTripped for more than are likely."""
    marked = sum(bounce.blames_user for bounce in new)
    if marked <= max(config.guards.max_bounces, _SHARE * sent, approved or 0):
        return
    raise GuardTripped(
        f"{marked} addresses would become undeliverable at once; [guards] max_bounces = {config.guards.max_bounces}, and "
        f"{sent} messages were ever sent: a relay or a roster is wrong, or somebody forges delivery failures; nothing was noted",
        f"look at some of them first; to let them through: campaign bounces {option} --approve {marked}",
    )


def _option(maildir: Path | None, imap: str | None) -> str:
    return f"--maildir {shlex.quote(str(maildir))}" if maildir else f"--imap {shlex.quote(imap or '')}"


def _line(bounce: Bounce) -> str:
    letter = bounce.letter
    to = printable(letter.recipient) + (f", the manager of {printable(letter.email)}" if letter.step == ESCALATION else "")
    then = "not mailed again until the roster shows another address" if bounce.blames_user else "somebody should look"
    return f"a message to {to} came back ({bounce.detail}): {then}"


def _as_json(bounce: Bounce) -> dict[str, Any]:
    letter = bounce.letter
    about = {"user_id": letter.user_id, "email": letter.email, "recipient": letter.recipient}
    return about | {"message_id": letter.message_id, "code": bounce.code, "detail": bounce.detail}
