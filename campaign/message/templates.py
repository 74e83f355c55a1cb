"""The templates in their sandbox: compiled once, bounded in time, size and memory, every fault with file and line."""

import re
import resource
import signal
import threading
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment

from campaign.errors import CampaignError, TemplateError
from campaign.files import shipped

KINDS = ("invite", "reminder", "escalation")
PARTS = ("subject.txt", "body.txt", "body.html")
_NEVER_READ = re.compile(r"(?:subject|body)\.(?:txt|html?)(?:\.j(?:2|inja2?))?", re.IGNORECASE)
_DECLARED = re.compile(r"\{#-?\s*allow:\s*(\S+)\s*-?#\}")

_LIMIT = 256 * 1024  # of a template, of a part, of any one value: characters, items or bits
_SECONDS = 2.0  # of processor time for one part; the shipped ones take less than a millisecond
_HEADROOM = 512 * 1024 * 1024  # bytes of memory that rendering may take beyond what is in use

_NAMES_ADVICE = (
    "a template knows user, row, greeting_name, full_name, step, first_sent, messages, application, scopes, consent_url,"
    " account_server, account_host, reply_to, sender"
)


class _TooMuch(Exception):
    """A template took more time or wrote more text than any mail needs."""


class _Sandbox(SandboxedEnvironment):
    """Jinja without Python behind it, without silent typing errors, and without the operators that eat the machine."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self, loader: jinja2.BaseLoader, facts: Mapping[str, object], *, autoescape: bool) -> None:
        super().__init__(
            loader=loader,
            autoescape=autoescape,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        del self.filters["round"]  # takes ten to the power of its argument, which no signal can interrupt
        self.globals.update(facts)

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        if _size(operator, left, right) > _LIMIT:
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


class _Folders(jinja2.BaseLoader):
    """Reads templates from the operator's folder, then from the shipped one, and from nowhere else."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [folder.resolve() for folder in folders]
        self.sources: dict[str, tuple[str, str]] = {}  # name -> (path, text), as read

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, None]:  # noqa: ARG002  # jinja's call
        for folder in self._folders:
            path = (folder / template).resolve()
            if not path.is_relative_to(folder):
                raise jinja2.TemplateNotFound(template, f"{template} lies outside the folder of the templates")
            if path.is_file():
                self.sources[template] = str(path), _read(path)
                return self.sources[template][1], str(path), None
        raise jinja2.TemplateNotFound(template, f"there is no template {template} in {self._folders[0]}")


class Templates:
    """The compiled templates of a campaign, and where in their files something stands."""

    def __init__(self, folders: Sequence[Path], facts: Mapping[str, object]) -> None:
        self._folders = _Folders(folders)
        self._facts = facts
        self._compiled: dict[str, jinja2.Template] = {}
        text = _Sandbox(self._folders, facts, autoescape=False)
        html = _Sandbox(self._folders, facts, autoescape=True)  # by part: an included body.html.j2 is escaped like any other
        for name in [f"{kind}/{part}" for kind in KINDS for part in PARTS]:
            with self._explained(name), _bounded():
                self._compiled[name] = (html if name.endswith("/body.html") else text).get_template(name)

    def render(self, name: str, values: Mapping[str, object]) -> str:
        """Render, every line ending in a line feed. Raises TemplateError for whatever a template can do wrong."""
        with self._explained(name), _bounded():
            pieces: list[str] = []
            size = 0
            stream = cast("Generator[str]", self._compiled[name].generate(values))
            for piece in stream:
                size += len(piece)
                if size > _LIMIT:
                    stream.throw(_TooMuch(f"writes more than {_LIMIT // 1024} KiB"))  # thrown there to learn the line
                pieces.append(piece)
            text = "".join(pieces).replace("\r\n", "\n").replace("\r", "\n").strip("\n") + "\n"
            text.encode()
        return text

    def place(self, name: str, needle: str = "") -> str:
        """Say `file:line` of the first line with `needle`, in the template or one that is included; the file if there is none."""
        own = self._folders.sources.get(name, (name, ""))
        included = [source for other, source in self._folders.sources.items() if other not in self._compiled]
        for path, text in (own, *included):
            found = text.casefold().find(needle.casefold()) if needle else -1
            if found >= 0:
                return f"{path}:{text.count(chr(10), 0, found) + 1}"
        return own[0]

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
            raise TemplateError(f"{self._origin(error) or self.place(name)}: {_reason(error)}", advice) from error

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
        case jinja2.TemplateError() | _TooMuch():
            return str(error)
    return f"{type(error).__name__}: {error}"


def folders(directory: Path | None) -> list[Path]:
    """Check that the operator's folder is one and would be used. Raises TemplateError."""
    if directory is None:
        return [shipped("templates")]
    files = [path for kind in KINDS for path in (directory / kind).glob("*")]
    if not any(path.name in PARTS for path in files):
        raise TemplateError(f"{directory} holds no template", f"it should hold {KINDS[0]}/{PARTS[1]} or the like")
    for path in files:
        if path.name not in PARTS and _NEVER_READ.fullmatch(path.name):
            raise TemplateError(f"{path} would never be read", f"a template is called {', '.join(PARTS)}")
    return [directory, shipped("templates")]


def _read(path: Path) -> str:
    """Read a template. Raises TemplateError for one that is too large or not UTF-8."""
    with path.open("rb") as file:
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise TemplateError(f"{path} is larger than {_LIMIT // 1024} KiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TemplateError(f"{path}:{line}: this is not UTF-8", "save the template as UTF-8") from error


@contextmanager
def _bounded() -> Iterator[None]:
    """Bound processor time and memory of what follows. Only the main thread can: elsewhere the bounds on output remain.

    Processor time, not the clock: a busy machine is no fault of the template, and SIGALRM stays free. Raises _TooMuch and
    MemoryError.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limits = [limit for limit in (_address_space() + _HEADROOM, soft, hard) if limit != resource.RLIM_INFINITY]
    handler = signal.signal(signal.SIGVTALRM, _interrupt)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
        signal.setitimer(signal.ITIMER_VIRTUAL, _SECONDS, 0.1)  # again and again: a destructor may swallow the first
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, handler)


def _interrupt(*_: object) -> None:
    raise _TooMuch(f"takes longer than {_SECONDS:.0f} seconds")


def _address_space() -> int:
    """Give the bytes of address space in use."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
