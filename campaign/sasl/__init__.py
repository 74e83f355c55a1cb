"""Where the access tokens for AUTH XOAUTH2 come from: Microsoft's by msal, Google's by google-auth."""

from collections.abc import Mapping

from campaign.config import Mail
from campaign.sasl.google import GoogleTokens
from campaign.sasl.microsoft import MicrosoftTokens
from campaign.sasl.source import TokenSource

__all__ = ["TokenSource", "tokens"]


def tokens(mail: Mail, environ: Mapping[str, str]) -> TokenSource | None:
    """The source of the mailbox's access tokens; None where `mail.auth` needs none.

    Key, certificate or secret are read and checked at once, but no connection is made. Raises ConfigError.
    """
    if mail.auth == "microsoft" and mail.microsoft:
        return MicrosoftTokens(mail.microsoft, environ)
    if mail.auth == "google" and mail.google:
        return GoogleTokens(mail.google, mail.username)
    return None
