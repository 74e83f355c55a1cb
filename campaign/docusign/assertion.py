"""The JWT by which the app asks for a user's token (RFC 7523), signed with a key that is parsed once."""

from datetime import datetime
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from campaign.config import Docusign
from campaign.errors import ConfigError
from campaign.files import read_private

_SLACK = 300  # seconds that our clock may differ from Docusign's, either way
_SMALLEST_KEY = 2048  # bits


class Signer:
    """Signs one assertion for each probe. The key is in no repr and in no error."""

    def __init__(self, config: Docusign, key: RSAPrivateKey) -> None:
        self._key = key
        self._claims = {"iss": config.client_id, "aud": config.audience, "scope": config.scope}

    def assertion(self, user_id: str, now: datetime) -> str:
        """The RS256 assertion for one user, good for a few minutes.

        No `nbf`, no `kid`: docusign.com answers `no_valid_keys_or_signatures` to an `nbf` ahead of its clock.
        """
        seconds = int(now.timestamp())
        times = {"iat": seconds - _SLACK, "exp": seconds + _SLACK}
        return jwt.encode({**self._claims, "sub": user_id, **times}, self._key, algorithm="RS256")


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
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise ConfigError(
            f"{path} is encrypted with a passphrase", f"decrypt it: openssl rsa -in {path} -out plain.pem"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{path} holds no private key that can be read", advice) from None
    if not isinstance(key, RSAPrivateKey):
        raise ConfigError(f"{path} holds a key that is not RSA", advice)
    if key.key_size < _SMALLEST_KEY:
        raise ConfigError(f"{path} holds an RSA key of {key.key_size} bits; at least {_SMALLEST_KEY} are needed", advice)
    return key
