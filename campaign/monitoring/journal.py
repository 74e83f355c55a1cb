"""The log: one JSON object a line, which no foreign text can break or forge, and in which nobody's address stands unasked."""

import errno
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path

from campaign.config import Config
from campaign.errors import CampaignError, ExitCode
from campaign.model import ESCALATION, Delivery, Outcome, Slot, address_key, printable, stamp
from campaign.monitoring.ended import Ended
from campaign.night import Night

_MOST = 2000  # characters of one text
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ADDRESS = re.compile(r"""(?:"[^"]*"|[^\s<>()\[\]",;:@]+)@[^\s<>()\[\]"',;:@]+""")


def append(path: Path, lines: Iterable[str]) -> None:
    """Add lines to the file, which is opened anew each time, so that it can be rotated at any moment. Raises OSError.

    A new file is for its owner alone. A symbolic link is not followed, and a FIFO does not hang. What a full disk or a kill has
    cut short stays a line of its own.
    """
    text = "".join(f"{line}\n" for line in lines)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link")
    descriptor = os.open(path, _FLAGS, 0o600)
    with os.fdopen(descriptor, "a", encoding="ascii") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file")
        cut_short = about.st_size and os.pread(descriptor, 1, about.st_size - 1) != b"\n"
        file.write(f"\n{text}" if cut_short else text)


class Journal:
    """Makes the lines of one run, whose `night` is None as long as there is none."""

    def __init__(self, config: Config, run_id: str, night: Night | None = None) -> None:
        self._config = config
        self._run_id = run_id
        self._night = night

    def begun(self, at: datetime) -> str:
        """That a run begins."""
        return self._line(at, "info", "run_started")

    def ping_failed(self, at: datetime, end: str, why: str) -> str:
        """That a ping did not arrive."""
        return self._line(at, "warning", "ping_failed", ping=end, why=why)

    def message(self, at: datetime, slot: Slot, delivery: Delivery) -> str:
        """What became of a message, whatever becomes of the run."""
        level = "info" if delivery.outcome is Outcome.ACCEPTED else "warning"
        about = {"user_id": slot.user_id, "step": slot.step, "message_id": slot.message_id, "outcome": delivery.outcome}
        if self._config.monitoring.log_addresses:
            about["recipient"] = slot.recipient
        known = {} if slot.step == ESCALATION else {slot.address: slot.user_id, address_key(slot.recipient): slot.user_id}
        return self._line(at, level, "message", **about, reply=self._masked(delivery.reply, known))

    def ended(self, ended: Ended) -> Iterator[str]:
        """What a run came to: each guard that tripped, what is new, what went wrong, and how it ended."""
        if self._night:
            yield from self._findings(self._night, ended.finished)
        if isinstance(ended.error, CampaignError):
            yield self._problem(ended.finished, ended.error)
        elif ended.exit_code == ExitCode.BUG:  # its text could hold anything, and is on stderr
            yield self._line(ended.finished, "error", "bug", kind=type(ended.error).__name__)
        yield self._conclusion(ended)

    def _findings(self, night: Night, at: datetime) -> Iterator[str]:
        for trip in night.trips:
            fields = {"guard": trip.guard, "seen": trip.seen, "meaning": trip.meaning, "lifted": trip.lifted}
            yield self._line(at, "warning", "guard", **fields)
        for news in night.attention:
            yield self._line(at, "warning", "news", text=self._masked(news))
        for problem in night.problems:
            yield self._problem(at, problem)

    def _problem(self, at: datetime, problem: CampaignError) -> str:
        text, advice = map(self._masked, (str(problem), problem.advice))
        return self._line(at, "error", "problem", text=text, advice=advice, exit_code=int(problem.exit_code))

    def _conclusion(self, ended: Ended) -> str:
        level = "error" if not ended.succeeded else "warning" if ended.exit_code else "info"
        counts = {"counts": self._night.counts()} if self._night else {}
        told = {"started": stamp(ended.started), "seconds": round(ended.seconds, 3), "exit_code": ended.exit_code, **counts}
        return self._line(ended.finished, level, "run_finished", **told)

    def _line(self, at: datetime, level: str, event: str, **fields: object) -> str:
        shared = {"campaign": self._config.name, "pid": os.getpid(), "run_id": self._run_id}
        content = {"time": stamp(at), "level": level, "event": event, **shared, **fields}
        return json.dumps({key: printable(v, _MOST) if isinstance(v, str) else v for key, v in content.items()})

    def _masked(self, text: str, known: Mapping[str, str] | None = None) -> str:
        """The text with a user id in place of each e-mail address, or `(address)` where it is nobody's in the roster."""
        if self._config.monitoring.log_addresses:
            return text
        return _ADDRESS.sub(partial(self._instead, self._known if known is None else known), text)

    def _instead(self, known: Mapping[str, str], address: re.Match[str]) -> str:
        ours = re.fullmatch(rf"{re.escape(self._config.name)}\.\d+\.[0-9a-f]{{32}}@.+", address[0])  # a Message-ID
        own, key = self._config.mail.sender_address, address_key(address[0].strip("'."))
        return address[0] if ours else own if key == address_key(own) else known.get(key, "(address)")

    @cached_property
    def _known(self) -> Mapping[str, str]:
        """The user ids behind each address of the roster, as addresses are compared."""
        ids: dict[str, list[str]] = {}
        for user in self._night.given.roster.users if self._night else ():
            for address in {user.address, address_key(user.recipient)}:
                ids.setdefault(address, []).append(user.user_id)
        return {address: " or ".join(who) for address, who in ids.items()}
