"""How the relay is reached, and the one TLS context for it."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from campaign.config.values import is_loopback
from campaign.errors import ConfigError
from campaign.tls import verifying_context


class TokenSource(Protocol):
    """Where the access tokens for XOAUTH2 come from; several mailers may ask at once, each from a thread of its own."""

    def __call__(self, *, fresh: bool = False) -> str:
        """A token that is valid for now; `fresh` = a new one, for the relay did not take the last.

        Raises ConfigError, RelayRefused or RelayUnreachable where there is none to be had; no message holds a secret.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How the relay is reached. Times are seconds, each for one whole step.

    `ca_file` replaces the system's certificate authorities. `password` or, where there are any, `tokens` is asked once for
    each connection.
    """

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    helo_name: str = ""  # by which the relay is greeted; "" = this machine's own full name, else its address
    username: str = ""  # "" = no sign-in
    password: Callable[[], str] = field(default=str, repr=False)
    tokens: TokenSource | None = field(default=None, repr=False)
    ca_file: Path | None = None
    timeout: float = 60
    final_timeout: float = 600  # of the answer to the final dot
    connect_timeout: float = 30  # of the name look-up and the TCP connection, over all addresses of the host

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def context(self) -> ssl.SSLContext:
        """A context that verifies the relay's certificate and its name. Raises ConfigError."""
        if self.security == "none" and not is_loopback(self.host):
            raise ConfigError(f'[mail] security = "none" is for loopback only, not {self.host}', 'use "starttls" or "tls"')
        if self.security == "none":
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # not used, so no authorities need be read
        return verifying_context("mail", self.ca_file)
