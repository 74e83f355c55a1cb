"""The JWT by which the app asks for a user's token (RFC 7523), signed with a key that is parsed once."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from copy import copy
from datetime import datetime
from pathlib import Path
from typing import Self

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from campaign.config import Docusign
from campaign.errors import ConfigError
from campaign.files import read_private
from campaign.keys import rsa_key

_ENCODER = json.JSONEncoder(separators=(",", ":"))
_SLACK = 300  # seconds that our clock may differ from Docusign's, either way


class Signer:
    """Signs one assertion for each probe. The key is in no repr and in no error."""

    def __init__(self, config: Docusign, key: RSAPrivateKey) -> None:
        self._key = key
        self._rs256 = jwt.get_algorithm_by_name("RS256")
        self._header = _json({"alg": "RS256", "typ": "JWT"})  # the same in all assertions
        self._claims = {"iss": config.client_id, "aud": config.audience, "scope": config.scope}

    def asking(self, scope: str) -> Self:
        """One that asks for other scopes, with the same key."""
        other = copy(self)
        other._claims = {**self._claims, "scope": scope}  # noqa: SLF001  # of its own class
        return other

    def assertion(self, user_id: str, now: datetime) -> str:
        """The RS256 assertion for one user, good for a few minutes.

        No `nbf`, no `kid`: docusign.com answers `no_valid_keys_or_signatures` to an `nbf` ahead of its clock.
        """
        seconds = int(now.timestamp())
        claims = {**self._claims, "sub": user_id, "iat": seconds - _SLACK, "exp": seconds + _SLACK}
        signed = f"{self._header}.{_json(claims)}"
        return f"{signed}.{_base64url(self._rs256.sign(signed.encode(), self._key))}"


def _json(content: Mapping[str, object]) -> str:
    """A part of a JWT in its compact form (RFC 7515, section 7.1)."""
    return _base64url(_ENCODER.encode(content).encode())


def _base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def load_key(path: Path) -> RSAPrivateKey:
    """Read and check the RSA private key, PKCS#1 or PKCS#8.

    Raises ConfigError, naming what the file holds instead; PyJWT's own messages would mislead.
    """
    pem = read_private(path)
    advice = "take the RSA private key that Docusign showed when the key pair was made, as it was, line breaks included"
    if b"PUBLIC KEY" in pem:
        raise ConfigError(f"{path} holds a public key", advice)
    if b"-----\\n" in pem:
        raise ConfigError(f"{path} has its line breaks written as \\n", advice)
    return rsa_key(pem, path, advice)
