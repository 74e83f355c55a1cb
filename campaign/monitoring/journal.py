"""The log: one JSON object a line, which no foreign text can break or forge, and in which nobody's address stands."""

import errno
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path

from campaign.config import Config
from campaign.errors import CampaignError, ExitCode, LedgerError
from campaign.ledger import Event, read_ledger
from campaign.model import ESCALATION, Outcome, Reason, address_key, printable, stamp
from campaign.monitoring.ended import Ended
from campaign.night import Night

_MOST = 2000  # characters of one text
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ADDRESS = re.compile(r"""(?:"[^"]*"|[^\s<>()\[\]",;:@]+)@[^\s<>()\[\]"',;:@]+""")
_MESSAGE = re.compile(r"message (?:to the manager|(\d+)), (<[^>]*>): (.*)", re.DOTALL)  # as the ledger tells of one
_OF_A_MESSAGE = {Reason.SENT, Reason.UNRESOLVED, Reason.WAITING, Reason.UNDELIVERABLE}  # what can become of one


def append(path: Path, lines: Iterable[str]) -> None:
    """Add lines to the file, which is opened anew each time, so that it can be rotated at any moment. Raises OSError.

    A new file is for its owner alone. A symbolic link is not followed, and a FIFO does not hang.
    """
    text = "".join(f"{line}\n" for line in lines)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link")
    descriptor = os.open(path, _FLAGS, 0o600)
    with os.fdopen(descriptor, "a", encoding="ascii") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file")
        file.write(text)


class Journal:
    """Makes the lines of one run, whose `night` is None as long as there is none."""

    def __init__(self, config: Config, night: Night | None = None) -> None:
        self._config = config
        self._night = night

    def begun(self, at: datetime) -> str:
        """That a run begins. All that is left of one that is killed; the ledger has the rest."""
        return self._line(at, "info", "run_started")

    def ping_failed(self, at: datetime, end: str, why: str) -> str:
        """That a ping did not arrive."""
        return self._line(at, "warning", "ping_failed", ping=end, why=why)

    def ended(self, ended: Ended) -> Iterator[str]:
        """What a run did: each message, each guard that tripped, what is new, what went wrong, and how it ended."""
        if self._night:
            yield from self._messages(self._night, ended.finished)
            yield from self._findings(self._night, ended.finished)
        if isinstance(ended.error, CampaignError):
            yield self._problem(ended.finished, ended.error)
        elif ended.exit_code == ExitCode.BUG:  # its text could hold anything, and is on stderr
            yield self._line(ended.finished, "error", "bug", kind=type(ended.error).__name__)
        yield self._conclusion(ended)

    def _messages(self, night: Night, at: datetime) -> Iterator[str]:
        """What became of each message, at the time and in the words that the ledger has of it."""
        try:
            events = self._events(_handed_over(night))
        except LedgerError as error:
            yield self._problem(at, error)
            return
        for user_id, event in sorted(events, key=lambda known: known[1].at):
            if event.at >= night.started and (told := _MESSAGE.fullmatch(event.detail)):
                yield self._message(user_id, event, told)

    def _events(self, user_ids: set[str]) -> list[tuple[str, Event]]:
        if not user_ids:
            return []
        with read_ledger(self._config) as ledger:
            return [(user_id, event) for user_id in user_ids for event in ledger.events(user_id)] if ledger else []

    def _message(self, user_id: str, event: Event, told: re.Match[str]) -> str:
        step, message_id, reply = told.groups()
        level = "info" if event.what == Outcome.ACCEPTED else "warning"
        about = {"user_id": user_id, "step": int(step or ESCALATION), "message_id": message_id, "outcome": event.what}
        return self._line(event.at, level, "message", **about, reply=self._without_addresses(reply))

    def _findings(self, night: Night, at: datetime) -> Iterator[str]:
        for trip in night.trips:
            fields = {"guard": trip.guard, "seen": trip.seen, "meaning": trip.meaning, "lifted": trip.lifted}
            yield self._line(at, "warning", "guard", **fields)
        for news in night.attention:
            yield self._line(at, "warning", "news", text=self._without_addresses(news))
        for problem in night.problems:
            yield self._problem(at, problem)

    def _problem(self, at: datetime, problem: CampaignError) -> str:
        text, advice = map(self._without_addresses, (str(problem), problem.advice))
        return self._line(at, "error", "problem", text=text, advice=advice, exit_code=int(problem.exit_code))

    def _conclusion(self, ended: Ended) -> str:
        level = "error" if not ended.succeeded else "warning" if ended.exit_code else "info"
        counts = {"counts": self._night.counts()} if self._night else {}
        told = {"started": stamp(ended.started), "seconds": round(ended.seconds, 3), "exit_code": ended.exit_code, **counts}
        return self._line(ended.finished, level, "run_finished", **told)

    def _line(self, at: datetime, level: str, event: str, **fields: object) -> str:
        run_id = self._night.run_id if self._night else ""
        shared = {"campaign": self._config.name, "pid": os.getpid(), "run_id": run_id}
        content = {"time": stamp(at), "level": level, "event": event, **shared, **fields}
        return json.dumps({key: printable(v, _MOST) if isinstance(v, str) else v for key, v in content.items()})

    def _without_addresses(self, text: str) -> str:
        """The text with a user id in place of each e-mail address, or `(address)` where it is nobody's in the roster."""
        return _ADDRESS.sub(self._instead, text)

    def _instead(self, address: re.Match[str]) -> str:
        ours = re.fullmatch(rf"{re.escape(self._config.name)}\.\d+\.[0-9a-f]{{32}}@.+", address[0])  # a Message-ID
        return address[0] if ours else self._known.get(address_key(address[0].strip("'.")), "(address)")

    @cached_property
    def _known(self) -> Mapping[str, str]:
        """The user ids behind each address of the roster, as addresses are compared; our own address stands for itself."""
        ids: dict[str, list[str]] = {}
        for user in self._night.given.roster.users if self._night else ():
            for address in {user.address, address_key(user.recipient)}:
                ids.setdefault(address, []).append(user.user_id)
        sender = self._config.mail.sender_address
        return {**{address: " or ".join(who) for address, who in ids.items()}, address_key(sender): sender}


def _handed_over(night: Night) -> set[str]:
    """The users about whom a message went to the relay; a decision that was not carried out has lost its step."""
    managers_told = (d for d in night.escalations if d.reason in _OF_A_MESSAGE) if night.deliveries else ()
    return {d.user.user_id for d in (*(d for d in night.decisions if d.step), *managers_told)}
