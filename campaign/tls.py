"""The TLS context of every connection: it verifies, always, and tells its keys to nobody."""

import errno
import ssl
import stat
from pathlib import Path

from campaign.bounded import words
from campaign.errors import ConfigError, RelayUnreachable
from campaign.model import printable


def verifying_context(section: str, ca_file: Path | None, bundle: str | None = None) -> ssl.SSLContext:
    """A context that trusts `ca_file` alone, if one is configured; else `bundle`, else the system's authorities.

    Raises ConfigError, which names the key of `section`, for a file that cannot be used.
    """
    # Not ssl.create_default_context: with SSLKEYLOGFILE in the environment it writes every session's keys to that file.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca_file:
            _refuse_unless_plain(ca_file)
        if trusted := ca_file or bundle:
            context.load_verify_locations(trusted)
        else:
            context.load_default_certs()
    except OSError as error:
        what = f"[{section}] ca_file {ca_file} cannot be used: {words(error)}"
        raise ConfigError(what, "it must be a file of PEM certificates") from error
    return context


def _refuse_unless_plain(path: Path) -> None:
    """A FIFO would hang. Raises OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a plain file")


def distrusted(place: str, error: ssl.SSLCertVerificationError) -> RelayUnreachable:
    """The error for a relay or a mailbox whose certificate does not verify; nothing was said to it."""
    what = f"{place}: the certificate is not trusted: {printable(error.verify_message)}"
    return RelayUnreachable(what, "have the certificate put right; for a private authority set [mail] ca_file")
