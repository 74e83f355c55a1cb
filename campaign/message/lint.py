"""What a mail may contain so that it neither is nor looks like phishing: links in the open, nothing remote, nothing active."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser

# What ships with clients as "clickable" although it is only text: a scheme, www., a host with a path, a host of a common ending.
_LINK = re.compile(
    r"://|(?<![\w@.-])(?:www\.|mailto:|(?:[\w-]+\.)+[^\W\d_]{2,}(?::\d|[/?#])|(?P<bare>(?:[\w-]+\.)+"
    r"(?:com|net|org|info|biz|io|ly|me|app|dev|xyz|top|site|shop|link|click|online)(?![\w@-])))",
    re.IGNORECASE,
)
_AROUND = "\"'`“”„‘’‚«»‹›()[]{}<>.,;:!?…*"  # noqa: RUF001  # quotation marks of many languages
_ELEMENTS = frozenset(
    re.findall(
        r"\w+",
        "a abbr article b blockquote body br caption center code dd div dl dt em font footer h1 h2 h3 h4 h5 h6 head header hr"
        " html i li main meta ol p pre s section small span strong style sub sup table tbody td tfoot th thead title tr u ul",
    )
)
_ATTRIBUTES = frozenset(
    re.findall(
        r"\w+",
        "align bgcolor border cellpadding cellspacing class colspan dir height id lang role rowspan scope start style type"
        " valign width",
    )
)
_OWN_ATTRIBUTES = {"a": {"href", "rel", "target"}, "meta": {"charset", "content", "http-equiv", "name"}, "style": {"media"}}
# What CSS can load, run or write by itself; a backslash could spell any of it.
_CSS = re.compile(
    r"url\s*\(|src\s*\(|image-set|@import|@font-face|@namespace|expression\s*\(|behavior\s*:|-moz-binding|(?<![\w-])content\s*:|\\",
    re.IGNORECASE,
)

_TAG = re.compile(r"(<[^>]*>)")
_HOLDS = re.compile(r"</?(?:a|style)[\s>]")


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that must not be in a mail: a sentence, and the text by which its line in the template can be found."""

    what: str
    needle: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What a mail must and may link to. `written` tells whether a bare domain stands in the template or the configuration."""

    consent_url: str
    links: frozenset[str]  # further URLs, in full
    address: str  # the only one that a mailto: link may name
    written: Callable[[str], bool]
    asks: bool = True  # for consent: then the consent URL must stand in the mail

    def allow(self, link: str) -> bool:
        """Say whether `link` may stand in a mail."""
        return link == self.consent_url or link in self.links or link == f"mailto:{self.address}"


def audit_line(text: str, rules: Rules) -> Iterator[Violation]:
    """Find every word that a mail client would turn into a link and that is none of ours. Linear in the text's length."""
    for word in text.split():
        bare = word.strip(_AROUND)
        found = ("." in bare or ":" in bare) and _LINK.search(bare)  # few words need the slow look
        if not found or rules.allow(bare) or rules.allow(word):
            continue
        if not (found["bare"] and rules.written(found["bare"])):
            yield Violation(f"the link {_short(bare)} is not the consent URL", bare)


def audit_text(text: str, rules: Rules) -> Iterator[Violation]:
    """Find what is wrong with the text part: a consent URL that is missing or shares its line, and foreign links."""
    if rules.asks and rules.consent_url not in map(str.strip, text.split("\n")):
        yield Violation("the consent URL must stand in full on a line of its own", "consent_url")
    yield from audit_line(text, rules)


class Pages:
    """Audits the HTML parts that come of one template. Only what is known to be harmless passes.

    The next page mostly has the same tags, and another name in its text: then only the texts that differ are looked at.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._passed: list[str] = []  # the last page in which nothing was wrong: texts and tags in turn

    def audit(self, html: str) -> Iterator[Violation]:
        """Find what is wrong with a page that an HTML5 serializer wrote, and whose predecessors were audited here."""
        pieces = _TAG.split(html)
        changed = self._changed(pieces)
        if changed is None:
            violations = [*audit_html(html, self._rules)]
            self._passed = [] if violations or not all(map(_is_whole, pieces[1::2])) else pieces
            yield from violations
        for text in changed or ():
            yield from audit_line(unescape(text), self._rules)

    def _changed(self, pieces: list[str]) -> list[str] | None:
        """The texts in which a page differs from the last; None where more differs: a tag, or what links and styles hold."""
        if not self._passed or pieces[1::2] != self._passed[1::2]:
            return None
        places = [place for place in range(0, len(pieces), 2) if pieces[place] != self._passed[place]]
        return None if any(_is_held(pieces[1:place:2]) for place in places) else [pieces[place] for place in places]


def _is_whole(tag: str) -> bool:
    """Whether this is a tag to its end: a serializer writes `>` in an attribute as it is, but its quotation marks in pairs."""
    return tag.count('"') % 2 == 0


def _is_held(tags: list[str]) -> bool:
    """Whether what follows these tags is part of a link or of a style sheet."""
    edge = next(filter(_HOLDS.match, reversed(tags)), "")
    return bool(edge) and not edge.startswith("</")


def audit_html(html: str, rules: Rules) -> Iterator[Violation]:
    """Find what is wrong with a page, all of it."""
    page = _Page(rules)
    page.feed(html)
    page.close()
    yield from page.violations
    if rules.asks and not page.links_to_consent:
        yield Violation("there must be a link to the consent URL whose visible text is that URL", "consent_url")


class _Page(HTMLParser):
    """Walks a page that an HTML5 serializer wrote, so that this parser and a mail client's cannot read it differently."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self.violations: list[Violation] = []
        self.links_to_consent = False
        self._rules = rules
        self._inside = ""  # the element that was opened last
        self._href: str | None = None
        self._shown = ""  # the visible text of the link that is open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        if tag not in _ELEMENTS:
            self._refuse(f"<{tag}> has no place in a mail", f"<{tag}")
        for name, value in attrs:
            self._attribute(tag, name, value or "")
        if tag == "a":
            self._href, self._shown = dict(attrs).get("href"), ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""
        if tag == "a" and self._href is not None:
            self._link(self._href, self._shown.strip())
            self._href = None

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self._css(data)
            return
        self.violations.extend(audit_line(data, self._rules))
        self._shown += data

    def handle_comment(self, data: str) -> None:
        self._refuse("an HTML comment has no place in a mail, for some clients obey it: write {# … #} instead", f"<!--{data}")

    def unknown_decl(self, data: str) -> None:
        self._refuse(f"<![{_short(data)} has no place in a mail", "<![")

    def handle_pi(self, data: str) -> None:
        self._refuse(f"<?{_short(data)} has no place in a mail", "<?")

    def _attribute(self, tag: str, name: str, value: str) -> None:
        known = name in _ATTRIBUTES or name.startswith("aria-") or name in _OWN_ATTRIBUTES.get(tag, ())
        if not known:
            self._refuse(f"the attribute {name} of <{tag}> has no place in a mail", name)
        elif name == "style":
            self._css(value)
        elif name == "http-equiv" and value.casefold() != "content-type":
            self._refuse(f"<meta http-equiv={_short(value)}> has no place in a mail", value)

    def _css(self, css: str) -> None:
        if found := _CSS.search(css):
            self._refuse(f"“{found[0]}” in CSS can load, hide or add content and has no place in a mail", found[0])

    def _link(self, href: str, shown: str) -> None:
        if href == f"mailto:{self._rules.address}":
            return
        if not self._rules.allow(href):
            self._refuse(f"the link to {_short(href)} is not the consent URL", href)
        elif shown != href:
            self._refuse(f"a link shows “{_short(shown)}” and leads to {_short(href)}: both must be the same", shown)
        elif href == self._rules.consent_url:
            self.links_to_consent = True

    def _refuse(self, what: str, needle: str) -> None:
        self.violations.append(Violation(what, needle))


def _short(text: str, limit: int = 100) -> str:
    """Foreign text, printable and of bounded length."""
    kept = text if len(text) <= limit else text[:limit] + "…"
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in kept)
