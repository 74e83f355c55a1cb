"""The RSA private keys by which this program proves who it is, checked before anybody is asked."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from campaign.errors import ConfigError

_SMALLEST_KEY = 2048  # bits; nobody who is asked here takes less


def rsa_key(pem: bytes, path: Path, advice: str) -> RSAPrivateKey:
    """The RSA private key among `pem`, which `path` holds. Raises ConfigError with that advice."""
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        what = f"{path} holds a private key that is encrypted with a passphrase"
        raise ConfigError(what, "take the passphrase off: openssl rsa -in ENCRYPTED.pem -out PLAIN.pem") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{path} holds no private key that can be read", advice) from None
    if not isinstance(key, RSAPrivateKey):
        raise ConfigError(f"{path} holds a private key that is not RSA", advice)
    if key.key_size < _SMALLEST_KEY:
        raise ConfigError(f"{path} holds an RSA key of {key.key_size} bits; at least {_SMALLEST_KEY} are needed", advice)
    return key
