"""The TLS context of every connection: it verifies, always, and tells its keys to nobody."""

import ssl
from pathlib import Path

from campaign.errors import ConfigError, RelayUnreachable
from campaign.model import printable


def verifying_context(section: str, ca_file: Path | None, bundle: str | None = None) -> ssl.SSLContext:
    """A context that trusts `ca_file` alone, if one is configured; else `bundle`, else the system's authorities.

    Raises ConfigError, which names the key of `section`, for a file that cannot be used.
    """
    # Not ssl.create_default_context: with SSLKEYLOGFILE in the environment it writes every session's keys to that file.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if trusted := ca_file or bundle:
            context.load_verify_locations(trusted)
        else:
            context.load_default_certs()
    except OSError as error:
        what = f"[{section}] ca_file {ca_file} cannot be used: {error}"
        raise ConfigError(what, "it must be a file of PEM certificates") from error
    return context


def distrusted(place: str, error: ssl.SSLCertVerificationError) -> RelayUnreachable:
    """The error for a relay or a mailbox whose certificate does not verify; nothing was said to it."""
    what = f"{place}: the certificate is not trusted: {printable(error.verify_message)}"
    return RelayUnreachable(what, "have the certificate put right; for a private authority set [mail] ca_file")
