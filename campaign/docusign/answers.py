"""What an answer of the token endpoint means: the one table between an HTTP answer and a user's status.

Only a definite answer counts. `consent_required` is read from exactly one shape, because it alone can cause mail;
`granted` from exactly one, because it stops mail; a refusal of the app stops the run; all else is unknown.
"""

from dataclasses import dataclass
from typing import Any

from campaign.https import json_object
from campaign.model import Status

# Errors that are equal for every user, and where to look. Source: Docusign's developer FAQ, JWT section.
_REFUSALS = {
    "issuer_not_found": "client_id does not exist in this environment: "
    "compare [docusign] client_id and environment (demo and production differ)",
    "no_valid_keys_or_signatures": "the key does not belong to client_id in this environment, or this machine's clock is wrong: "
    "compare [docusign] private_key_file with the key pairs of the integration key",
    "expired_grant": "this machine's clock is behind: set it by NTP",
    "unsupported_grant_type": "the request did not arrive as it was sent: look for a proxy in between",
    "invalid_request": "the request did not arrive as it was sent: look for a proxy in between",
    "invalid_scope": "compare [docusign] scopes with those of the integration key",
    "invalid_client": "compare [docusign] client_id and environment",
    "unauthorized_client": "the integration key may not use the JWT grant: check its settings in Docusign",
    "invalid_grant": "compare [docusign] client_id, private_key_file and environment; try one user whose id is certain",
}
_NO_SUCH_USER = {"user_not_found", "invalid_subject"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one answer means: a user's `status`, or a `refusal` of the app with where to look."""

    status: Status
    detail: str
    refusal: str = ""


def interpret(code: int, body: bytes) -> Answer:
    """Say what an HTTP status and body mean (both as received, never decompressed, never redirected). Never raises."""
    if code >= 500 or code == 429:  # noqa: PLR2004  # HTTP's own numbers
        return Answer(Status.UNKNOWN, f"HTTP {code}")
    if 300 <= code < 400:  # noqa: PLR2004
        return Answer(
            Status.UNKNOWN, f"HTTP {code}", "the answer is a redirect: check the network between this machine and Docusign"
        )
    content = json_object(body)
    if content is None:
        return Answer(
            Status.UNKNOWN,
            f"HTTP {code}, not JSON",
            "the answer is not Docusign's: look for a proxy, a firewall page or a wrong host",
        )
    if code == 200:  # noqa: PLR2004
        return _success(content)
    return _error(code, content)


def _success(content: dict[str, Any]) -> Answer:
    """Granted only with a Bearer token: without a user, Docusign answers 200 with a token of type Application."""
    kind, token = content.get("token_type"), content.get("access_token")
    if "error" not in content and isinstance(kind, str) and kind.lower() == "bearer" and isinstance(token, str) and token:
        return Answer(Status.GRANTED, "")
    return Answer(Status.UNKNOWN, "HTTP 200 without a Bearer token")


def _error(code: int, content: dict[str, Any]) -> Answer:
    error, description = _word(content.get("error")), _word(content.get("error_description"))
    if code == 400 and content.get("error") == "consent_required":  # noqa: PLR2004
        return Answer(Status.CONSENT_REQUIRED, "")
    if error == "invalid_grant" and description in _NO_SUCH_USER:
        return Answer(Status.USER_NOT_FOUND, description)
    # Docusign puts the cause into the description; `invalid_grant` alone counts only when it stands alone.
    cause = description if description in _REFUSALS else error
    if cause in _REFUSALS and not (cause == "invalid_grant" and content.get("error_description")):
        return Answer(Status.UNKNOWN, cause, _REFUSALS[cause])
    return Answer(Status.UNKNOWN, f"HTTP {code} {error}".strip())


def _word(value: object) -> str:
    """An OAuth error code, lower case; "" for anything that is none, so that no foreign text gets further."""
    word = value.strip().lower() if isinstance(value, str) else ""
    return word if 0 < len(word) <= 40 and word.replace("_", "").isascii() and word.replace("_", "").isalnum() else ""  # noqa: PLR2004
