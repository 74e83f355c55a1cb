"""The templates in their sandbox: compiled once, bounded in time, size and memory, every fault with file and line."""

import re
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import CodeType
from typing import ClassVar, cast

import jinja2
from jinja2.bccache import Bucket
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup

from campaign.errors import CampaignError, TemplateError
from campaign.message.bounds import LIMIT, TooMuch, bounded
from campaign.message.flowing import wrap
from campaign.message.folders import Folders
from campaign.message.languages import Reader, chain

_DECLARED = re.compile(r"\{#-?\s*allow:\s*(\S+)\s*-?#\}")

_USES = re.compile(r"""\{%-?\s*(?:extends|include|import|from)\s+["']([^"']+)["']""")

_NAMES_ADVICE = (
    "a template knows user, row, greeting_name, full_name, step, first_sent, messages, application, scopes, consent_url,"
    " account_server, account_host, reply_to, sender, language, direction; that to an administrator admin_consent_url, customer,"
    " domains, too"
)


class _Compiled(jinja2.BytecodeCache):
    """What this process has compiled before: one that runs several nights, as the demo does, compiles a template once.

    It stays in memory: a cache on a disk would be one more place to put code that runs beside the key.
    """

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Give what was compiled of the same text under the same name, if anything was."""
        bucket.code = self._codes.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what was compiled."""
        if bucket.code:
            self._codes[bucket.key, bucket.checksum] = bucket.code


class _Sandbox(SandboxedEnvironment):
    """Jinja without Python behind it, without silent typing errors, and without the operators that eat the machine."""

    intercepted_binops = frozenset({"*", "**"})
    _compiled: ClassVar = {False: _Compiled(), True: _Compiled()}  # by `autoescape`, which is compiled in

    def __init__(self, loader: jinja2.BaseLoader, facts: Mapping[str, object], *, autoescape: bool) -> None:
        super().__init__(
            loader=loader,
            autoescape=autoescape,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            bytecode_cache=self._compiled[autoescape],
            trim_blocks=True,
            lstrip_blocks=True,
        )
        del self.filters["round"]  # takes ten to the power of its argument, which no signal can interrupt
        self.filters |= {"wrap": wrap, "date": _date, "number": _number}
        self.filters |= {"address": _marked, "mailto": _linked} if autoescape else {"address": str, "mailto": str}
        self.globals.update(facts)

    def join_path(self, template: str, parent: str) -> str:
        """Look for what a template of some language includes or imports in that language first."""
        place, language = template.split("/"), parent.split("/")[1:-1]
        return "/".join([place[0], *language, place[1]]) if len(place) == len([*language, ""]) == 2 else template  # noqa: PLR2004

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        if _size(operator, left, right) > LIMIT:
            raise SecurityError(f"“{operator}” would make something larger than any mail needs")
        return super().call_binop(context, operator, left, right)


def _size(operator: str, left: object, right: object) -> int:
    """Foresee the size of a product or power of integers in bits, of a repeated text or list in items."""
    if isinstance(left, int) and isinstance(right, int):
        return left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
    for many, times in ((left, right), (right, left)):
        if isinstance(many, str | list | tuple) and isinstance(times, int):
            return len(many) * times
    return 0


class Templates:
    """The templates of some kinds in every language, and where in their files something stands.

    Those of the operator are compiled at once; the shipped ones, which are known to be in order, when they are first needed:
    there are more languages than a night has readers of.
    """

    def __init__(self, folders: Sequence[Path], facts: Mapping[str, object], kinds: Mapping[str, Sequence[str]]) -> None:
        self._folders = Folders(folders)
        self._facts = facts
        self._compiled: dict[str, jinja2.Template] = {}
        self._text = _Sandbox(self._folders, facts, autoescape=False)
        self._html = _Sandbox(self._folders, facts, autoescape=True)  # by part: an included body.html.j2 is escaped, too
        self.languages = {kind: self._folders.languages(kind, parts) for kind, parts in kinds.items()}
        self._parts = [
            f"{kind}/{tag}/{part}" for kind, parts in kinds.items() for tag in sorted(self.languages[kind]) for part in parts
        ]
        for name in self._parts:
            with self._explained(name):
                is_shipped = self._folders.read(name)
            if not is_shipped:
                self._compile(name)

    def language(self, kind: str, locale: str) -> str:
        """Give the language in which a kind of mail serves somebody whose `locale` the roster shows; "" if none does."""
        return next((tag for tag in chain(locale) if tag in self.languages[kind]), "")

    def scope(self, name: str, language: str, *, of_many: bool) -> str:
        """Say in a language's words what a scope allows: whoever reads it, or `of_many` what it allows concerning other users."""
        return self.render(f"shared/{language}/scopes.txt", {"scope": name, "of_many": of_many}).strip()

    def _compile(self, name: str) -> None:
        if name not in self._compiled:
            with self._explained(name), bounded():
                self._compiled[name] = (self._html if name.endswith(".html") else self._text).get_template(name)

    def render(self, name: str, values: Mapping[str, object]) -> str:
        """Render, every line ending in a line feed. Raises TemplateError for whatever a template can do wrong."""
        self._compile(name)
        with self._explained(name), bounded():
            pieces: list[str] = []
            size = 0
            stream = cast("Generator[str]", self._compiled[name].generate(values))
            for piece in stream:
                size += len(piece)
                if size > LIMIT:
                    stream.throw(TooMuch(f"writes more than {LIMIT // 1024} KiB"))  # thrown there to learn the line
                pieces.append(piece)
            text = "".join(pieces).replace("\r\n", "\n").replace("\r", "\n").strip("\n") + "\n"
            text.encode()
        return text

    def place(self, name: str, needle: str = "") -> str:
        """Say `file:line` of the first line with `needle`, in the template or one that it includes; the file if there is none."""
        used = [name]
        for one in used:
            path, text = self._folders.sources.get(one, (one, ""))
            found = text.casefold().find(needle.casefold()) if needle else -1
            if found >= 0:
                return f"{path}:{text.count(chr(10), 0, found) + 1}"
            named = (self._text.join_path(other, one) for other in _USES.findall(text))
            used += [other for other in named if other not in used]
        return self._folders.sources.get(name, (name, ""))[0]

    def contain(self, word: str) -> bool:
        """Say whether `word` stands in a template or in the campaign's own facts, and so is no doing of the roster."""
        texts = [text for _, text in self._folders.sources.values()]
        return any(word in text for text in [*texts, *map(str, self._facts.values())])

    def declared_links(self) -> frozenset[str]:
        """Collect the links that the templates allow. Raises TemplateError for one that is not https."""
        links = {link: name for name, (_, text) in self._folders.sources.items() for link in _DECLARED.findall(text)}
        for link, name in links.items():
            if not link.startswith("https://"):
                raise TemplateError(f"{self.place(name, link)}: only an https link can be allowed, not {link}")
        return frozenset(links)

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Turn whatever a template can raise into a TemplateError that says where."""
        try:
            yield
        except CampaignError:  # explained already, or a signal that stops the run
            raise
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(f"{error.filename or name}:{error.lineno}: {error.message}") from error
        except Exception as error:
            advice = _NAMES_ADVICE if isinstance(error, jinja2.UndefinedError) else ""
            where = self._origin(error) or (self.place(name) if name in self._folders.sources else "")
            raise TemplateError(f"{where}: {_reason(error)}".removeprefix(": "), advice) from error

    def _origin(self, error: Exception) -> str:
        """Say `file:line` of the innermost template that `error` came through: jinja has put them into the traceback."""
        paths = {path for path, _ in self._folders.sources.values()}
        spots = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
        return next((f"{path}:{line}" for path, line in reversed(spots) if path in paths), "")


def _reason(error: Exception) -> str:
    match error:
        case MemoryError():
            return "needs more memory than any mail does"
        case RecursionError():
            return "calls itself without end"
        case jinja2.TemplateError() | TooMuch():
            return str(error)
    return f"{type(error).__name__}: {error}"


def _marked(text: str) -> Markup:
    """What the reader compares letter by letter."""
    return Markup('<span class="address">{}</span>').format(text)


def _linked(address: str) -> Markup:
    return Markup('<a class="address" href="mailto:{0}">{0}</a>').format(address)


@jinja2.pass_context
def _date(context: Context, day: date) -> str:
    reader: Reader = context["reader"]
    return reader.date(day)


@jinja2.pass_context
def _number(context: Context, number: float) -> str:
    reader: Reader = context["reader"]
    return reader.number(number)
