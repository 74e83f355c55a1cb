"""One sentence for what is wrong in the configuration, with the place where it stands."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic_core import ErrorDetails

from campaign.config.shape import Key, model_at, names, tables
from campaign.errors import ConfigError

# What pydantic finds wrong, in this file's words.
_SENTENCES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be a text in quotes",
    "path_type": "must be a path in quotes",
    "tuple_type": "must be a list in square brackets",
    "date_type": "must be a date such as 2026-12-25, without quotes",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "string_pattern_mismatch": "must be a name without slashes",
}

_ORDER = {"extra_forbidden": 0, "missing": 2}  # anything else stands between


class Places:
    """Where a key was set: in a line of the file, or in a variable of the environment."""

    def __init__(self, path: Path, text: str, variables: Mapping[Key, str]) -> None:
        self.path = path
        self._variables = variables
        self._lines = dict(_lines(text))

    def __getitem__(self, key: Key) -> str:
        """The variable, or file:line of the key or else of the table it belongs to, or the file alone."""
        if key in self._variables:
            return f"the environment variable {self._variables[key]}"
        line = next((self._lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self._lines), None)
        return f"{self.path}:{line}" if line else str(self.path)


def _lines(text: str) -> Iterator[tuple[Key, int]]:
    """Every key and table with its line."""
    table: Key = ()
    for number, line in enumerate(text.split("\n"), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = _parts(header[1])
            yield table, number
        elif key := re.match(r"([^=#]+)=", line):
            yield (*table, *_parts(key[1])), number


def _parts(dotted: str) -> Key:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def explained(errors: list[ErrorDetails], places: Places) -> ConfigError:
    """One sentence, of the first complaint; an unknown key comes first: it may be the one that is missing elsewhere."""
    first = min(errors, key=lambda error: _ORDER.get(error["type"], 1))
    key = _key(first)
    if first["type"] == "extra_forbidden":
        unknown = f"table {_table(key)}" if isinstance(first["input"], dict) else f"key {shown(key)}"
        advice = f"correct or remove it; known here: {', '.join(names(model_at(key[:-1])))}"
        return ConfigError(f"{places[key]}: unknown {unknown}{_nearest(key)}", advice)
    if first["type"] == "missing":
        missing = ", ".join(shown(_key(error)) for error in errors if error["type"] == "missing")
        return ConfigError(f"{places[key]}: must be given: {missing}", "`campaign init DIR` writes a commented example")
    message = _SENTENCES.get(first["type"], str(first["msg"]).removeprefix("Value error, ").replace("Input should", "must"))
    return ConfigError(f"{places[key]}: {shown(key)}: {message}", "correct that value")


def _key(error: ErrorDetails) -> Key:
    return tuple(part for part in error["loc"] if isinstance(part, str))


def shown(key: Key) -> str:
    """`name`, `[mail]`, `[mail] host`, `[mail.password] file`."""
    if model_at(key):
        return _table(key)
    return f"{_table(key[:-1])} {key[-1]}" if len(key) > 1 else key[0]


def _table(key: Key) -> str:
    return f"[{'.'.join(key)}]"


def _nearest(key: Key) -> str:
    """The key of that very name in another table, or else the nearest one of the same table."""
    name = key[-1]
    elsewhere = [place for place in [*((table, name) for table, _ in tables()), (name,)] if name in names(model_at(place[:-1]))]
    return f"; did you mean {shown(elsewhere[0])}?" if elsewhere else near(name, names(model_at(key[:-1])))


def near(word: str, known: Iterable[str]) -> str:
    """The end of a complaint about `word`: the nearest known word, if there is any."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0)
    return f"; did you mean {close[0]}?" if close else ""
