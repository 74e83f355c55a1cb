"""The token endpoint: one prepared request, copied for each probe."""

from urllib.parse import urlencode

from campaign.config import Docusign
from campaign.https import Client, Reply, prepared

_FORM = urlencode({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": ""})


class TokenEndpoint:
    """The token endpoint, over at most so many connections as threads use it; they are kept open."""

    def __init__(self, config: Docusign) -> None:
        self._client = Client("docusign", config.ca_file, config.timeout, config.concurrency)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        self._request = prepared("POST", f"{config.server}/oauth/token", headers)

    def post(self, assertion: str) -> Reply:
        """Ask for one token. Raises NoAnswer."""
        request = self._request.copy()
        request.body = _FORM + assertion  # base64url and dots: nothing in it needs escaping
        request.prepare_content_length(request.body)
        return self._client.send(request)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
