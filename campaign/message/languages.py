"""Which language a reader gets, and how dates and numbers are written there (BCP 47, Unicode CLDR)."""

import re
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import format_decimal

DEFAULT = "en"
_WORLD = {"en": "en-001"}  # English of no country: 4 November 2026, which nobody can misread
_TAG = re.compile(r"([a-z]{2,3})(?:[-_]([a-z]{4}))?(?:[-_]([a-z]{2}|\d{3}))?(?:[-_.@].*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reader:
    """The language that a reader is written to in, and the conventions of the reader's own country."""

    language: str  # of the templates: pt
    locale: Locale  # of dates and numbers: pt-BR

    @property
    def direction(self) -> str:
        """`ltr`, or `rtl` for Arabic, Hebrew and the like."""
        return str(self.locale.text_direction)

    def date(self, day: date) -> str:
        """A day in words: 4 November 2026."""
        return format_date(day, "long", locale=self.locale)

    def number(self, number: float) -> str:
        """A number with the separators of the country: 1,200.5."""
        return format_decimal(number, locale=self.locale)


@lru_cache(1_000)
def chain(locale: str) -> tuple[str, ...]:
    """The languages that serve a roster's `locale`, the best first, as the folders of templates are called.

    "pt_BR.UTF-8" and "pt-br" give pt-BR and pt. What has not the form of BCP 47 or POSIX, as "German", gives nothing.
    """
    if not (found := _TAG.fullmatch(locale.strip())):
        return ()
    language, script, region = found[1].lower(), (found[2] or "").title(), (found[3] or "").upper()
    tags = [(language, script, region), (language, script), (language, region), (language,)]
    return tuple(dict.fromkeys("-".join(filter(None, tag)) for tag in tags))


@lru_cache(1_000)
def reader(locale: str, language: str) -> Reader:
    """Who reads templates in `language` and has this `locale` in the roster, which may be another's or nonsense."""
    own = [tag for tag in chain(locale) if tag != language and chain(tag)[-1] == chain(language)[-1]]
    tags = [*own, _WORLD.get(language, language), *chain(language), _WORLD[DEFAULT]]
    return Reader(language, next(known for tag in tags if (known := _known(tag))))


def name(language: str) -> str:
    """What a language calls itself: Deutsch."""
    locale = _known(language)
    return str(locale.get_language_name(locale)).title() if locale else language


def _known(tag: str) -> Locale | None:
    try:
        return Locale.parse(tag, sep="-")
    except (UnknownLocaleError, ValueError):
        return None
