"""Microsoft's access tokens: OAuth client credentials by msal, with a secret or a certificate."""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode, urlsplit

from cryptography.hazmat.primitives.serialization import Encoding

from campaign.config.schema import Microsoft
from campaign.errors import RelayRefused
from campaign.files import read_private
from campaign.keys import rsa_key
from campaign.sasl.certificate import certificate_of
from campaign.sasl.exchange import Exchange
from campaign.sasl.refusals import Refusal, microsofts
from campaign.sasl.source import TokenSource, library

logging.getLogger("msal").setLevel(logging.CRITICAL)  # at DEBUG it logs each answer, without the secrets that it knows by name

# By the end of the authority's host name. Sources: learn.microsoft.com/exchange/client-developer/legacy-protocols/
# how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth; /entra/identity-platform/authentication-national-cloud;
# /microsoft-365/enterprise/microsoft-365-endpoints (US Government GCC High; operated by 21Vianet).
_RESOURCES = {"us": "https://outlook.office365.us", "cn": "https://partner.outlook.cn"}
_WORLDWIDE = "https://outlook.office365.com"
_ENDPOINT = re.compile(r"(https://[\w.:\[\]-]+)/\w[!-~]*", re.ASCII)

_Proof: TypeAlias = Callable[[], str | dict[str, Any]]


class MicrosoftTokens(TokenSource):
    """Tokens of the Entra app that may send as the mailbox. msal keeps one until five minutes before it expires."""

    def __init__(self, config: Microsoft, environ: Mapping[str, str]) -> None:
        self._config = config
        self._msal = library("msal", "msal", "microsoft")
        self._proof = _proof(config, environ)
        cloud = (urlsplit(config.authority).hostname or "").rpartition(".")[2]
        self._scopes = [f"{_RESOURCES.get(cloud, _WORLDWIDE)}/.default"]
        super().__init__(Exchange("mail.microsoft", config.authority, config.ca_file, self._explain))

    def _token(self, *, fresh: bool) -> str:
        if fresh:
            self._app.remove_tokens_for_client()
        return str(self._app.acquire_token_for_client(self._scopes)["access_token"])

    @cached_property
    def _app(self) -> Any:  # noqa: ANN401  # msal has no types
        """Made when first needed, since it asks the tenant at once for its endpoints; it asks no other server."""
        return self._msal.ConfidentialClientApplication(
            self._config.client_id,
            client_credential=self._proof(),
            authority=f"{self._config.authority}/{self._config.tenant}",
            instance_discovery=False,
            azure_region=False,  # else MSAL_FORCE_REGION of the environment names another server
            http_client=_Transport(self._exchange),
        )

    def _explain(self, error: str, description: str) -> Refusal:
        return microsofts(error, description, self._config.client_id)


def _proof(config: Microsoft, environ: Mapping[str, str]) -> _Proof:
    """Read at once what proves that we are the app; it is handed out only to msal, and is in no repr."""
    if config.secret:
        return config.secret.read(environ).get_secret_value
    credential = _credential(config.certificate_file or Path())
    return lambda: credential


def _credential(path: Path) -> dict[str, Any]:
    """The key and certificate as msal takes them; without a thumbprint it uses the certificate's SHA-256."""
    pem = read_private(path)
    advice = (
        "it must hold an unencrypted RSA private key and its certificate as PEM; from a .pfx file: "
        "openssl pkcs12 -in app.pfx -nodes -out app.pem"
    )
    key = rsa_key(pem, path, advice)
    certificate = certificate_of(key, pem, path, advice)
    return {"private_key": key, "public_certificate": certificate.public_bytes(Encoding.PEM).decode()}


@dataclass(frozen=True, slots=True)
class _Answer:
    """What msal reads of an HTTP answer. No headers: by a Retry-After it would keep the answer and repeat it."""

    text: str = field(repr=False)
    status_code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class _Transport:
    """The `http_client` of msal."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def get(self, url: str, **_: Any) -> _Answer:  # noqa: ANN401  # the signature is msal's
        """The tenant's OpenID configuration, with a token endpoint on the very server that was asked."""
        endpoint = _ENDPOINT.fullmatch(str(self._exchange.get(url).get("token_endpoint")))
        if not endpoint:
            raise self._exchange.unusable("the tenant's configuration names no token endpoint")
        if _origin(endpoint[1]) != _origin(self._exchange.server):
            what = f"{self._exchange.server} gives no access token: it points to {endpoint[1]}"
            raise RelayRefused(what, "if that is the cloud of the tenant, set [mail.microsoft] authority to it")
        return _Answer(json.dumps({"token_endpoint": endpoint[0], "authorization_endpoint": ""}))  # nobody signs in by a browser

    def post(self, url: str, *, headers: Mapping[str, str], data: Mapping[str, Any], **_: Any) -> _Answer:  # noqa: ANN401  # the signature is msal's
        """A token."""
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return _Answer(json.dumps(self._exchange.token(url, {**headers, **form}, urlencode(data).encode())))


def _origin(server: str) -> str:
    return server.lower().removesuffix(":443")
