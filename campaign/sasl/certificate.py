"""The certificate by which Microsoft Entra knows the app, checked before anybody is asked."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509 import Certificate, load_pem_x509_certificates

from campaign.errors import ConfigError


def certificate_of(key: RSAPrivateKey, pem: bytes, path: Path, advice: str) -> Certificate:
    """The certificate among `pem` that belongs to the key and is good today. Raises ConfigError with that advice."""
    try:
        found = load_pem_x509_certificates(pem)
    except ValueError:
        raise ConfigError(f"{path} holds no certificate that can be read", advice) from None
    certificate = next((one for one in found if _belong(key, one)), None)
    if not certificate:
        raise ConfigError(f"{path} holds a certificate that belongs to another private key", advice)
    now = datetime.now(UTC)  # not an argument: the provider's library reads the clock, too
    if now > certificate.not_valid_after_utc:
        raise ConfigError(f"{path}: the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}", advice)
    if now < certificate.not_valid_before_utc:
        what = f"{path}: the certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
        raise ConfigError(what, "wait for that day, or set this machine's clock by NTP")
    return certificate


def _belong(key: RSAPrivateKey, certificate: Certificate) -> bool:
    with suppress(ValueError, UnsupportedAlgorithm):  # a key of a kind that is not known here
        return certificate.public_key() == key.public_key()
    return False
