"""The two URLs by which people grant consent; constant, so that they are safe to prefetch and to post anywhere."""

from urllib.parse import quote, urlencode

from campaign.config import Docusign


def consent_url(config: Docusign) -> str:
    """The individual consent URL, the same for every user.

    Source: developers.docusign.com/platform/auth/reference/obtain-consent.
    """
    parameters = {"response_type": "code", "scope": config.scope} | _who(config)
    return _url(config, parameters | ({"prompt": "login"} if config.prompt_login else {}))


def admin_consent_url(config: Docusign) -> str:
    """The URL by which an organisation's administrator consents for all users of its claimed domains.

    Source: developers.docusign.com/platform/auth/consent/obtaining-admin-consent-external.
    """
    return _url(config, {"response_type": "code", "scope": "openid", "admin_consent_scope": config.scope} | _who(config))


def _who(config: Docusign) -> dict[str, str]:
    return {"client_id": config.client_id, "redirect_uri": config.redirect_uri}


def _url(config: Docusign, parameters: dict[str, str]) -> str:
    # `%20`, not `+`: a plus that gets escaped once more on its way makes "signature+impersonation" one unknown scope,
    # and Docusign then asks for `signature` alone. `safe=""` escapes the redirect URI's slashes too.
    return f"{config.server}/oauth/auth?{urlencode(parameters, quote_via=quote, safe='')}"
