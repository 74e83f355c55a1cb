"""Microsoft's and Google's token endpoints over TLS on loopback, and the files by which an app is known there."""

import json
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.world import pem, private_key

TENANT = "contoso.onmicrosoft.com"
TENANT_ID = "11111111-2222-4333-8444-555555555555"
APP_ID = "0f1e2d3c-4b5a-4968-8776-655443322110"
SERVICE_ACCOUNT = "campaign@project.iam.gserviceaccount.com"
SERVICE_ACCOUNT_ID = "112233445566778899001"


@cache
def authority() -> trustme.CA:
    """One authority for all token servers."""
    return trustme.CA()


@cache
def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("127.0.0.1").configure_cert(context)
    return context


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a token."""

    path: str
    headers: Mapping[str, str]
    fields: Mapping[str, str]


class TokenServer:
    """`with TokenServer(folder) as server:` serves both providers; the files that it needs are written into `folder`.

    For Microsoft `server.url` is the authority, for Google `server.token_uri` stands in the service account's file; both with
    `server.ca_file`. The tokens are "token-1", "token-2" …, good for `lifetime` seconds. `server.answers` are given to the
    next requests for a token instead, each an HTTP status and a body; `server.discovery` is the tenant's OpenID configuration.
    """

    def __init__(self, folder: Path, lifetime: object = 3599) -> None:
        self.lifetime = lifetime
        self.ca_file = folder / "token-server-ca.pem"
        authority().cert_pem.write_to_path(str(self.ca_file))
        self.asked: list[Asked] = []
        self.discoveries: list[str] = []
        self.answers: list[tuple[int, object]] = []
        self.discovery: tuple[int, object] | None = None

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = False  # so that closing waits for them
        self._server.socket = _context().wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}"
        self.token_uri = f"{self.url}/token"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def configuration(self) -> tuple[int, object]:
        """What a tenant says of itself."""
        base = f"{self.url}/{TENANT_ID}/oauth2/v2.0"
        return self.discovery or (200, {"token_endpoint": f"{base}/token", "authorization_endpoint": f"{base}/authorize"})

    def answer(self, asked: Asked) -> tuple[int, object]:
        """The next answer to a request for a token."""
        self.asked.append(asked)
        if self.answers:
            return self.answers.pop(0)
        return 200, {"access_token": f"token-{len(self.asked)}", "token_type": "Bearer", "expires_in": self.lifetime}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    disable_nagle_algorithm = True

    def __init__(self, tokens: TokenServer, *connection: Any) -> None:
        self.tokens = tokens
        super().__init__(*connection)

    def do_GET(self) -> None:
        self.tokens.discoveries.append(self.path)
        self._send(*self.tokens.configuration())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._send(*self.tokens.answer(Asked(self.path, dict(self.headers.items()), dict(parse_qsl(body, strict_parsing=True)))))

    def _send(self, code: int, content: object) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A self-signed certificate: of which key, and good from when until when, in days from now."""

    key: rsa.RSAPrivateKey = field(default_factory=private_key)
    begins: float = -1
    ends: float = 365

    def made(self) -> x509.Certificate:
        """The certificate itself."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "campaign")])
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder(name, name, self.key.public_key(), x509.random_serial_number())
            .not_valid_before(now + timedelta(days=self.begins))
            .not_valid_after(now + timedelta(days=self.ends))
            .sign(self.key, hashes.SHA256())
        )

    def pem(self) -> bytes:
        """The certificate as PEM."""
        return self.made().public_bytes(Encoding.PEM)


def private(path: Path, content: bytes | str) -> Path:
    """Write a file that nobody else may read."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o600)
    return path


def certificate_file(path: Path) -> Path:
    """A certificate_file as [mail.microsoft] takes it."""
    return private(path, pem() + Certificate().pem())


def service_account(token_uri: str, **changes: object) -> dict[str, object]:
    """The content of a service account's JSON key."""
    return {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "key-of-the-test",
        "private_key": pem().decode(),
        "client_email": SERVICE_ACCOUNT,
        "client_id": SERVICE_ACCOUNT_ID,
        "token_uri": token_uri,
        **changes,
    }


def service_account_file(path: Path, token_uri: str) -> Path:
    """A service_account_file as [mail.google] takes it."""
    return private(path, json.dumps(service_account(token_uri)))
