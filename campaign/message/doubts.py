"""What in a mail looks like spam or like phishing though it deceives nobody: no reason to refuse it, but to write it anew.

It is what filters count, and what people were taught to distrust. Source: SpamAssassin's rules, and the GOV.UK service manual on
e-mailing users.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from campaign.message.lint import Violation

_URGENCY = re.compile(
    r"(?<!\w)(?:"
    # English
    r"urgent(?:ly)?|immediate(?:ly)?|act now|asap|as soon as possible|last chance|final (?:notice|warning|reminder)"
    r"|within \d+ hours?|click (?:here|below)|verify your account|(?:suspended|deactivated|locked)"
    # German
    r"|dringend\w*|eilt|sofort\w*|unverzüglich\w*|umgehend\w*|letzte (?:chance|mahnung|erinnerung)|innerhalb von \d+ stunden"
    r"|klicken sie hier|hier klicken|gesperrt"
    # French
    r"|urgente?s?|immédiat\w*|sans (?:délai|tarder)|au plus vite|dernier (?:rappel|avis)|dernière chance|sous \d+ ?h(?:eures)?"
    r"|cliquez ici|suspendue?"
    # Spanish, Portuguese
    r"|inmediat\w*|imediat\w*|cuanto antes|quanto antes|último (?:aviso|recordatorio|lembrete)|última (?:oportunidad|chance)"
    r"|en \d+ horas|em \d+ horas|haga clic aquí|clique aqui|suspendid[ao]|suspens[ao]|bloquead[ao]"
    r")(?!\w)"
    # Japanese, which has no blanks between words
    r"|至急|緊急|今すぐ|直ちに|ただちに|最終(?:通告|通知|警告)|時間以内|こちらをクリック|ここをクリック|停止されます|凍結",
    re.IGNORECASE,
)
_SHOUT = re.compile(r"(?:\b[^\W\d_]{2,}\b[ ,]*){4,}")
_HIDDEN = re.compile(
    r"display:\s*none|visibility:\s*hidden|opacity:\s*0(?![.\d])|font-size:\s*[0-4](?:px|pt)?\s*[;!\"}]", re.IGNORECASE
)
_LETTERS = 12  # fewer tell nothing
_CAPITALS = 0.7  # of a subject's letters
_LINKS = 6  # that a mail may show; the shipped ones show four at most
_BALANCE = 0.6  # the shorter part's letters, of the longer one's


def doubts(subject: str, text: str, html: str) -> Iterator[tuple[str, Violation]]:
    """Find what looks like spam; each with the part that it stands in, as `subject.txt`."""
    yield from (("subject.txt", doubt) for doubt in _of_subject(subject))
    yield from (("body.txt", doubt) for doubt in _of_text(text))
    yield from (("body.html", doubt) for doubt in _of_html(html, text))


def _of_subject(subject: str) -> Iterator[Violation]:
    if _is_shouted(subject):
        yield Violation("the subject is in capitals", "")
    if "!" in subject or "！" in subject:  # noqa: RUF001  # that of East Asia
        yield Violation("the subject has an exclamation mark", "")
    yield from _urgency(subject)


def _of_text(text: str) -> Iterator[Violation]:
    if found := re.search(r"[!！]\s*[!！]", text):  # noqa: RUF001
        yield Violation("exclamation marks in a row", found[0])
    if found := next((shout for shout in _SHOUT.finditer(text) if _is_shouted(shout[0])), None):
        yield Violation(f"a passage in capitals: {found[0].strip()[:40]}", found[0].strip())
    if (links := text.count("://")) > _LINKS:
        yield Violation(f"{links} links; a filter counts more than {_LINKS} against a mail", "")
    yield from _urgency(text)


def _of_html(html: str, text: str) -> Iterator[Violation]:
    if found := _HIDDEN.search(html):
        yield Violation(f"“{found[0].rstrip(';!}')}” hides something from the reader that a filter sees", found[0])
    page = _Visible()
    page.feed(html)
    here, there = (sum(map(str.isalnum, part)) for part in ("".join(page.words), text))
    if min(here, there) < _BALANCE * max(here, there):
        yield Violation(f"it does not say what the text part says: {here} letters, there {there}", "")


def _urgency(text: str) -> Iterator[Violation]:
    for found in dict.fromkeys(match[0] for match in _URGENCY.finditer(text)):
        yield Violation(f"“{found}” presses the reader, as phishing does", found)


def _is_shouted(text: str) -> bool:
    """Say whether what has capitals is nearly all capitals."""
    cased = [letter for letter in text if letter.isupper() or letter.islower()]
    return len(cased) >= _LETTERS and sum(map(str.isupper, cased)) > _CAPITALS * len(cased)


class _Visible(HTMLParser):
    """Collects what a reader of the HTML part sees."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._head = False

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002  # as the parser calls it
        self._head = self._head or tag == "head"

    def handle_endtag(self, tag: str) -> None:
        self._head = self._head and tag != "head"

    def handle_data(self, data: str) -> None:
        if not self._head:
            self.words.append(data)
