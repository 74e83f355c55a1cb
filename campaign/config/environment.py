"""`CAMPAIGN_<SECTION>_<KEY>`: the environment's values over the file's."""

from collections.abc import Mapping
from typing import Any

from campaign.config.complaints import near
from campaign.config.shape import Key, scalar_keys
from campaign.errors import ConfigError

_NO_KEYS = {"CAMPAIGN_CONFIG"}
_SECRETS: tuple[Key, ...] = (("mail", "password"), ("mail", "microsoft", "secret"), ("ledger", "password"))


def override(given: dict[str, Any], environ: Mapping[str, str]) -> dict[Key, str]:
    """Put the environment's values over the file's; return which variable set which key.

    Raises ConfigError for a variable that looks like a key and is none: somebody relies on it.
    """
    known = {"_".join(("CAMPAIGN", *key)).upper(): (key, kind) for key, kind in scalar_keys()}
    passed_over = _NO_KEYS | {_variable(given, table) for table in _SECRETS}
    used = {}
    for variable, value in environ.items():
        if variable in known:
            key, kind = known[variable]
            _set(given, key, _typed(value, kind))
            used[key] = variable
        elif variable.startswith("CAMPAIGN_") and variable not in passed_over:
            what = f"the environment variable {variable} sets no key of campaign.toml{near(variable, known)}"
            raise ConfigError(what, "correct or unset it")
    return used


def _variable(given: Mapping[str, Any], secret: Key) -> str:
    """The variable that the `env` of a secret's table names: it is not meant for us to read as a key."""
    table: Any = given
    for key in (*secret, "env"):
        table = table.get(key) if isinstance(table, dict) else None
    return str(table)


def _set(given: dict[str, Any], key: Key, value: object) -> None:
    table = given.setdefault(key[0], {}) if len(key) > 1 else given
    if isinstance(table, dict):  # else the file is wrong, and is told so
        table[key[-1]] = value


def _typed(value: str, kind: Any) -> object:  # noqa: ANN401  # a field's annotation
    """What the text would be in the file; text where it is nothing else, so that the check can say what it should be."""
    try:
        return {"true": True, "false": False}[value] if kind is bool else kind(value) if kind in {int, float} else value
    except (KeyError, ValueError):
        return value
