"""The nights to come as a page: what `plan --forecast` shows."""

from collections.abc import Iterator

from campaign.outlook import Outlook
from campaign.showing.page import Line, Page, Table, Tone, spaced


def page(name: str, found: Outlook) -> Page:
    """What a night takes, how many there are, and what decides."""
    return spaced(
        [Line(f"{name}: {found.first:,} users to be asked for the first time, if nobody consents meanwhile", Tone.HEAD)],
        [Line(_asking(found)), _limits(found)] if found.limits else [Line(_asking(found))],
        _answer(found),
    )


def _asking(found: Outlook) -> str:
    every = f"; a night takes longer than a day, so one comes every {found.every} days" if found.every > 1 else ""
    return f"Docusign is asked about {found.asked:,} users a night, which takes {_time(found.asking_hours)}{every}"


def _time(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"


def _limits(found: Outlook) -> Table:
    rows = [(limit.messages, limit.name, "decides" if limit.name in found.deciding else "") for limit in found.limits]
    tones = [Tone.DOUBT if limit.name in found.deciding else Tone.PLAIN for limit in found.limits]
    return Table(("messages a night", "limit", ""), rows, tones=tones)


def _answer(found: Outlook) -> Iterator[Line]:
    if not found.first:
        yield Line("Everybody has had the first message, or may not be written to.", Tone.GOOD)
    elif found.everybody_asked is None:
        yield Line("With these limits not everybody is asked within ten years.", Tone.BAD)
    else:
        many = f"{found.nights:,} night{'s' if found.nights > 1 else ''}"
        decides = f"; what decides: {', '.join(found.deciding)}" if found.deciding else ""
        yield Line(f"Everybody has been asked after {many}, on {found.everybody_asked}{decides}", Tone.GOOD)
    if found.reminders and found.all_sent:
        yield Line(f"The last of at most {found.reminders:,} reminders goes out on {found.all_sent}")
    yield Line("A second machine would shorten nothing: both would share these limits.", Tone.ASIDE)
