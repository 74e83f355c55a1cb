"""What it means when a provider gives no token, and where a person puts it right."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """The code that the provider gave ("" = none), what that usually means, and the next step."""

    code: str
    why: str
    then: str


# The only one for SMTP: developers.google.com/workspace/gmail/imap/xoauth2-protocol
GOOGLES_SCOPE = "https://mail.google.com/"

_APP = "Entra admin center > App registrations > the app {client_id}"
_SECRETS = f"{_APP} > Certificates & secrets"
_TENANT = "Directory (tenant) ID that the Entra admin center shows"
_ACCOUNT = "Google Cloud console > IAM & Admin > Service Accounts > the account with client ID {client_id}"
_CONTROLS = "Google Admin console > Security > Access and data control > API controls"

# Source: learn.microsoft.com/entra/identity-platform/reference-error-codes; of assertions and revoked certificates:
# github.com/AzureAD/microsoft-identity-web, which reloads its certificate by these numbers.
_MICROSOFT = (
    (
        {"7000215", "70002"},
        "the client secret is wrong",
        f"{_SECRETS}: make a new one and store its Value, not its Secret ID, where [mail.microsoft.secret] reads it",
    ),
    (
        {"7000222"},
        "the client secret has expired",
        f"{_SECRETS}: make a new one and store its Value where [mail.microsoft.secret] reads it",
    ),
    (
        {"700016", "700011"},
        "the tenant has no app with this client_id",
        f"compare [mail.microsoft] client_id with the app's Application (client) ID, no object ID, and tenant with the {_TENANT}",
    ),
    (
        {"90002", "900023", "50059", "50128"},
        "there is no such tenant in this cloud",
        f"compare [mail.microsoft] tenant with the {_TENANT}; a national cloud has an authority of its own",
    ),
    (
        {"90038", "900382", "900432", "90051"},
        "the tenant belongs to another cloud",
        "set [mail.microsoft] authority to that cloud's, such as https://login.microsoftonline.us",
    ),
    (
        {"700027", "50012", "700030"},
        "the certificate is not registered for this app",
        f"{_SECRETS} > Certificates: upload the certificate, without the key, of [mail.microsoft] certificate_file",
    ),
    (
        {"1000502", "7000214", "7000277"},
        "the certificate has expired or was revoked",
        f"make a new key and certificate; {_SECRETS} > Certificates: upload the certificate, without the key",
    ),
    ({"700024"}, "this machine's clock is wrong", "set it by NTP"),
    (
        {"53003", "530032", "530035"},
        "a Conditional Access policy blocks the app {client_id}",
        "Entra admin center > Monitoring & health > Sign-in logs > Service principal sign-ins: see which, and have it changed",
    ),
    (
        {"70001", "7000112"},
        "the app is disabled",
        "Entra admin center > Enterprise applications > the app {client_id} > Properties: enable it",
    ),
    (
        {"700025"},
        "the app is a public client, which takes no secret and no certificate",
        f"{_APP} > Authentication: switch public client flows off",
    ),
    (
        {"500011", "650052"},
        "this tenant has no Exchange Online",
        "compare [mail.microsoft] tenant and authority with the tenant that the mailbox belongs to",
    ),
)

# The first that fits `error description`. Source: developers.google.com/identity/protocols/oauth2/service-account#error-codes
_GOOGLE = (
    (
        r"unauthorized_client|access_denied",
        f"the service account may not act for the domain's mailboxes with the scope {GOOGLES_SCOPE}",
        f"{_CONTROLS} > Domain-wide delegation: add client ID {{client_id}} with just that scope; it may take 24 hours to count",
    ),
    (
        r"invalid_grant .*signature",
        "the service account's key was deleted or disabled, or has expired",
        f"{_ACCOUNT} > Keys: make a new JSON key for [mail.google] service_account_file",
    ),
    (r"invalid_grant .*(timeframe|short-lived|\biat\b)", "this machine's clock is wrong", "set it by NTP"),
    (
        r"invalid_grant .*(email|user id|account)",
        "Google Workspace has no such mailbox",
        "set [mail] username to the primary address of a user of the domain that delegates",
    ),
    (
        r"invalid_grant",
        "the mailbox does not exist, the service account's key is gone, or this machine's clock is wrong",
        f"look for [mail] username in the Google Admin console, and for the key: {_ACCOUNT} > Keys",
    ),
    (
        r"admin_policy_enforced|org_internal",
        "a policy of the Workspace administrator keeps this app from Gmail",
        f"{_CONTROLS} > Manage app access: trust client ID {{client_id}}",
    ),
    (r"(invalid|deleted|disabled)_client", "the service account is deleted or disabled", f"look for it: {_ACCOUNT}"),
    (
        r"invalid_scope",
        f"Google does not give the scope {GOOGLES_SCOPE} to this account",
        "switch the Gmail API on for the service account's project: Google Cloud console > APIs & Services > Library",
    ),
)


def microsofts(error: str, description: str, client_id: str) -> Refusal:
    """What a refusal by Microsoft Entra means, by the first AADSTS number of its description."""
    found = re.search(r"AADSTS(\d{4,9})\b", description)
    if not found:
        return Refusal(error, "it says no more", "compare [mail.microsoft] with the app in the Entra admin center")
    for numbers, why, then in _MICROSOFT:
        if found[1] in numbers:
            return Refusal(found[0], why.format(client_id=client_id), then.format(client_id=client_id))
    return Refusal(found[0], error or "it says no more", f"see https://login.microsoftonline.com/error?code={found[1]}")


def googles(error: str, description: str, client_id: str) -> Refusal:
    """What a refusal by Google means."""
    for form, why, then in _GOOGLE:
        if re.match(form, f"{error} {description}", re.IGNORECASE):
            return Refusal(error, why, then.format(client_id=client_id))
    return Refusal(error, "it says no more", "compare [mail.google] with the service account in the Google Cloud console")
