"""The last run in figures, in Prometheus's text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats)."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypeAlias

from campaign.files import replaced
from campaign.model import Action, Outcome, Reason, Status
from campaign.monitoring.ended import Ended
from campaign.night import Night

_SUCCESS = "campaign_last_success_timestamp_seconds"
_MODE = 0o644  # node_exporter runs as another user; nothing personal stands in it

_Labels: TypeAlias = tuple[tuple[str, str], ...]


class _Family(NamedTuple):
    """A gauge: its name, what it means, and its values by their labels."""

    name: str
    meaning: str
    values: Mapping[_Labels, float]


def write(path: Path, ended: Ended) -> None:
    """Replace the file by the figures of this run. Raises OSError; then it is as it was.

    The folder must be there: one that was made here would be closed to those who come for the figures.
    """
    path.parent.stat()
    text = render(ended, _last_success(path, ended.config.name))
    with replaced(path, _MODE) as draft:
        draft.write_text(text, encoding="utf-8")


def render(ended: Ended, last_success: float | None = None) -> str:
    """The figures: counts and names of kinds only, nothing of any user. `last_success` is the one before this run."""
    families = [*_about_the_run(ended, last_success), *(_about_the_night(ended.night) if ended.night else ())]
    return "".join(_shown(family, ended.config.name) for family in families if family.values)


def _about_the_run(ended: Ended, last_success: float | None) -> Iterator[_Family]:
    finished = ended.finished.timestamp()
    success = finished if ended.succeeded else last_success
    yield _one("campaign_run_exit_code", "The exit code of the last run.", ended.exit_code)
    yield _one("campaign_run_start_timestamp_seconds", "When the last run began.", ended.started.timestamp())
    yield _one("campaign_run_finish_timestamp_seconds", "When the last run ended.", finished)
    yield _one("campaign_run_duration_seconds", "How long the last run took.", ended.seconds)
    yield _one(_SUCCESS, "When a run last ended with exit code 0 or 3.", success)


def _about_the_night(night: Night) -> Iterator[_Family]:
    counts = night.counts()
    yield _one("campaign_roster_rows", "Rows of the roster.", counts["rows"])
    yield _one("campaign_roster_users", "Distinct users in the roster that can be used.", counts["users"])
    yield _one("campaign_news", "What was new in the last run and needs a person.", len(night.attention))
    yield _by("campaign_users_by_status", "Users by what the last run's probe found.", counts["status"], Status)
    yield _by("campaign_users_by_reason", "Users by why the last run did what it did.", counts["reason"], Reason)
    yield _by("campaign_messages_by_action", "Messages of the last run by what they did.", counts["action"], Action)
    yield _by("campaign_messages_by_outcome", "Messages of the last run by what became of them.", counts["outcome"], Outcome)
    tripped: dict[_Labels, float] = {(("guard", trip.guard), ("lifted", str(trip.lifted).lower())): 1 for trip in night.trips}
    yield _Family("campaign_guard_tripped", "Guards that tripped in the last run, and whether an approval lifted them.", tripped)


def _one(name: str, meaning: str, value: float | None) -> _Family:
    return _Family(name, meaning, {} if value is None else {(): value})


def _by(name: str, meaning: str, counts: Mapping[str, int], kinds: type[StrEnum]) -> _Family:
    """Every kind has its value, 0 too: in Prometheus a series that comes and goes cannot be compared or summed."""
    label = kinds.__name__.lower()
    values = (kind.value for kind in kinds if kind not in {Action.NONE, Outcome.SENDING})
    return _Family(name, meaning, {((label, value),): counts.get(value, 0) for value in values})


def _shown(family: _Family, campaign: str) -> str:
    lines = [f"# HELP {family.name} {family.meaning}", f"# TYPE {family.name} gauge"]
    lines += [f"{family.name}{_labels(campaign, labels)} {value:.15g}" for labels, value in family.values.items()]
    return "".join(f"{line}\n" for line in lines)


def _labels(campaign: str, others: _Labels = ()) -> str:
    shown = (f'{name}="{_escaped(value)}"' for name, value in (("campaign", campaign), *others))
    return f"{{{','.join(shown)}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _last_success(path: Path, campaign: str) -> float | None:
    """When a run last succeeded, from the file that is to be replaced: a run that fails must not wipe it out."""
    with suppress(OSError, ValueError):  # what is no number was not written here
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            found = re.search(rf"^{re.escape(_SUCCESS + _labels(campaign))} ([0-9.]+)$", text, re.MULTILINE)
            return float(found[1]) if found else None
    return None
