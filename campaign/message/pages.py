"""The static pages: one that informs and holds the consent link, and one that thanks whoever comes back from Docusign.

They say the same words in the same languages as the mails. Nothing in them is remote, and a Content-Security-Policy (CSP Level 3)
sees to it that nothing becomes so: it lets only the style and the script run that stand in the page, known by their hashes.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from html import escape
from typing import NamedTuple

from markupsafe import Markup

from campaign.errors import TemplateError
from campaign.message.languages import name, reader
from campaign.message.templates import Templates

PAGES = "pages"
PARTS = ("information.html", "outcomes.html", "thanks.html")
THANKS = "thanks.html"
_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


class Language(NamedTuple):
    """A language of the information page, what it calls itself, and the file that it is in."""

    language: str
    name: str
    file: str


def pages(templates: Templates, scopes: Mapping[str, object], default: str, consent_url: str) -> Iterator[tuple[str, str]]:
    """Write the pages, each with the name of its file: `information.html` in the `default` language, and others.

    `scopes` holds for each language what is asked for. Raises TemplateError.
    """
    order = sorted(templates.languages[PAGES], key=lambda language: (language != default, name(language).casefold()))
    languages = [Language(language, name(language), _file(language, default)) for language in order]
    outcomes = []
    for one in languages:
        values = {**_telling(one.language), "scopes": scopes[one.language], "languages": languages}
        page = templates.render(f"{PAGES}/{one.language}/information.html", values)
        if f'href="{escape(consent_url)}"' not in page:
            where = templates.place(f"{PAGES}/{one.language}/information.html", "consent_url")
            raise TemplateError(f"{where}: there must be a link to the consent URL")
        yield one.file, _guarded(page)
        outcomes.append(Markup(templates.render(f"{PAGES}/{one.language}/outcomes.html", values)))  # noqa: S704  # escaped there
    yield THANKS, _guarded(templates.render(f"{PAGES}/{default}/{THANKS}", {**_telling(default), "sections": outcomes}))


def _file(language: str, default: str) -> str:
    return "information.html" if language == default else f"information.{language}.html"


def _telling(language: str) -> dict[str, object]:
    """Give what a page knows of its reader: nothing but the language."""
    to = reader(language, language)
    return {"reader": to, "language": language, "direction": to.direction, "greeting_name": ""}


def _guarded(page: str) -> str:
    """Let nothing run or load in a page but the style and the script that stand in it."""
    known: dict[str, list[str]] = {"style": [], "script": []}
    for kind, content in _INLINE.findall(page):
        known[kind].append(f"'sha256-{b64encode(hashlib.sha256(content.encode()).digest()).decode()}'")
    allowed = "".join(f"; {kind}-src {' '.join(hashes)}" for kind, hashes in known.items() if hashes)
    policy = f"default-src 'none'{allowed}; base-uri 'none'; form-action 'none'"
    return page.replace("<head>", f'<head>\n<meta http-equiv="Content-Security-Policy" content="{policy}">', 1)
