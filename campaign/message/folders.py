"""Where templates lie: in the operator's folder, else in the shipped one; for one language, else for all."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import jinja2

from campaign.errors import TemplateError
from campaign.files import shipped
from campaign.message.bounds import LIMIT
from campaign.message.kinds import KINDS, PARTS, WORDS
from campaign.message.languages import DEFAULT, chain

_MISNAMED = re.compile(r"(?:subject|body|words)\.(?:txt|html?)(?:\.j(?:2|inja2?))?", re.IGNORECASE)
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][a-z]{4})?(?:[-_](?:[a-z]{2}|\d{3}))?", re.IGNORECASE)


class Folders(jinja2.BaseLoader):
    """Reads templates from the operator's folder, then from the shipped one, and from nowhere else.

    A name such as `invite/pt-BR/body.txt` means the template that this language has, or one that serves it: `invite/pt/body.txt`,
    `invite/body.txt`; each is looked for in both folders before the next.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [folder.resolve() for folder in folders]
        self.sources: dict[str, tuple[str, str]] = {}  # name -> (path, text), as read

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, None]:  # noqa: ARG002  # jinja's call
        """Read a template, and remember where it was found."""
        path = self._open(template)
        return self.sources[template][1], str(path), None

    def read(self, template: str) -> bool:
        """Read a template that is not needed yet; whether it is a shipped one. Raises as `get_source` does."""
        path = self._open(template)
        return path.is_relative_to(shipped("templates").resolve())

    def _open(self, template: str) -> Path:
        if (path := self._find(template)) is None:
            shown = "/".join(part for part in template.split("/") if part != DEFAULT)
            raise jinja2.TemplateNotFound(template, f"there is no template {shown} in {self._folders[0]}")
        self.sources[template] = str(path), _read(path)
        return path

    def _find(self, template: str) -> Path | None:
        for name in _serving(template):
            for folder in self._folders:
                path = (folder / name).resolve()
                if not path.is_relative_to(folder):
                    raise jinja2.TemplateNotFound(template, f"{template} lies outside the folder of the templates")
                if path.is_file():
                    return path
        return None

    def languages(self, kind: str, parts: Sequence[str]) -> frozenset[str]:
        """The languages that a kind is there in, and the DEFAULT. Raises TemplateError for one that is half there."""
        entries = [entry.name for folder in self._folders for entry in (folder / kind).glob("*/")]
        found = frozenset(filter(_LANGUAGE.fullmatch, entries))
        for language in found:
            missing = [part for part in parts if not self._has(kind, language, part)]
            if missing and not self._has(kind, language, WORDS):
                what = f"{self._folders[0] / kind / language} has neither {WORDS} nor {missing[0]}"
                raise TemplateError(what, f"a language needs {WORDS}, or all of {', '.join(parts)}")
        return found | {DEFAULT}

    def _has(self, kind: str, language: str, part: str) -> bool:
        """Whether a language has a template of its own, and not one that serves all."""
        return any((folder / kind / tag / part).is_file() for tag in chain(language) for folder in self._folders)


def _serving(template: str) -> Iterable[str]:
    """The files that serve a name, the best first."""
    match template.split("/"):
        case [folder, language, part] if language in chain(language):
            return [f"{folder}/{tag}/{part}" for tag in chain(language)] + [f"{folder}/{part}"]
    return [template]


def folders(directory: Path | None) -> list[Path]:
    """Check that the operator's folder is one and would be used. Raises TemplateError."""
    if directory is None:
        return [shipped("templates")]
    known = {path.name for path in shipped("templates").iterdir() if path.is_dir()}
    files = [path for kind in known for path in (directory / kind).rglob("*")]
    if not any(path.is_file() for path in files):
        raise TemplateError(f"{directory} holds no template", f"it should hold {next(iter(KINDS))}/{PARTS[1]} or the like")
    for path in files:
        _refuse_if_never_read(path)
    return [directory, shipped("templates")]


def _refuse_if_never_read(path: Path) -> None:
    if path.is_dir() and _LANGUAGE.fullmatch(path.name) and path.name != chain(path.name)[0]:
        raise TemplateError(f"{path} would never be read", f"this language is called {chain(path.name)[0]}")
    if path.name not in {*PARTS, WORDS} and _MISNAMED.fullmatch(path.name):
        raise TemplateError(f"{path} would never be read", f"a template is called {', '.join([*PARTS, WORDS])}")


def _read(path: Path) -> str:
    """Read a template. Raises TemplateError for one that is too large or not UTF-8."""
    with path.open("rb") as file:
        data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise TemplateError(f"{path} is larger than {LIMIT // 1024} KiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TemplateError(f"{path}:{line}: this is not UTF-8", "save the template as UTF-8") from error
