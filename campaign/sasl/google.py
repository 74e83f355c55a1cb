"""Google's access tokens: a service account that acts for the mailbox (domain-wide delegation), by google-auth."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from campaign.config.schema import Google
from campaign.config.values import is_loopback
from campaign.errors import ConfigError
from campaign.files import read_private
from campaign.https import json_object
from campaign.keys import rsa_key
from campaign.model import printable
from campaign.sasl.exchange import Exchange
from campaign.sasl.refusals import GOOGLES_SCOPE, Refusal, googles
from campaign.sasl.source import TokenSource, library

_KEYS = ("client_email", "client_id", "private_key", "private_key_id", "token_uri")
_ADVICE = (
    "make a JSON key in the Google Cloud console > IAM & Admin > Service Accounts > the account > Keys > Add key, "
    "and name that file in [mail.google] service_account_file"
)


class GoogleTokens(TokenSource):
    """Tokens with which the service account acts for `mailbox`. google-auth keeps one until shortly before it expires."""

    def __init__(self, config: Google, mailbox: str) -> None:
        path = config.service_account_file
        account = _account(path)
        self._client_id = printable(account["client_id"], 40)
        key = rsa_key(account["private_key"].encode(), path, _ADVICE)
        self._credentials = _credentials(account, key, mailbox)
        super().__init__(Exchange("mail.google", account["token_uri"], config.ca_file, self._explain))

    def _token(self, *, fresh: bool) -> str:
        if fresh or not self._credentials.valid:
            self._credentials.refresh(self._post)
        return str(self._credentials.token)

    def _post(self, url: str, *, headers: Mapping[str, str], body: bytes, **_: Any) -> "_Answer":  # noqa: ANN401  # google-auth's
        """The `Request` of google-auth: here it asks for tokens and for nothing else."""
        return _Answer(json.dumps(self._exchange.token(url, headers, body)).encode())

    def _explain(self, error: str, description: str) -> Refusal:
        return googles(error, description, self._client_id)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What google-auth reads of an HTTP answer."""

    data: bytes = field(repr=False)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def _account(path: Path) -> dict[str, str]:
    """What is needed of the service account's file, checked. Raises ConfigError."""
    content = json_object(read_private(path))
    if content is None:
        raise ConfigError(f"{path} is not a JSON file as Google makes them", _ADVICE)
    if content.get("type") != "service_account":
        raise ConfigError(f"{path} is no service account's key: it holds {_kind(content)}", _ADVICE)
    account = {key: value for key in _KEYS if isinstance(value := content.get(key), str) and value}
    if missing := [key for key in _KEYS if key not in account]:
        raise ConfigError(f"{path} lacks {', '.join(missing)}", _ADVICE)
    if not _safe(account["token_uri"]):
        raise ConfigError(f"{path}: token_uri must begin with https:// (http:// only on loopback)", _ADVICE)
    return account


def _credentials(account: Mapping[str, str], key: RSAPrivateKey, mailbox: str) -> Any:  # noqa: ANN401  # google-auth is hardly typed
    crypt, service_account = (
        library(name, "google-auth", "google") for name in ("google.auth.crypt", "google.oauth2.service_account")
    )
    return service_account.Credentials(
        crypt.RSASigner(key, account["private_key_id"]),
        service_account_email=account["client_email"],
        token_uri=account["token_uri"],
        scopes=[GOOGLES_SCOPE],
        subject=mailbox,
    )


def _kind(content: Mapping[str, Any]) -> str:
    if content.keys() & {"installed", "web"}:
        return "the secret of an OAuth client"
    kind = content.get("type")
    return f"the type {printable(kind, 40)}" if isinstance(kind, str) else "no type"


def _safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    return safe and "@" not in parts.netloc
