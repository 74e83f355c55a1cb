"""A dead man's switch, as healthchecks.io and its kin have it: an outside clock that notices when a run does not come."""

from contextlib import closing
from urllib.parse import urlsplit

from campaign.https import BadCertificate, Client, NoAnswer, prepared

PATIENCE = 4.5  # seconds for a ping, its name look-up included: a run has two


def send(url: str, end: str) -> str:
    """GET `url`/`end`, with no body and nothing about the run; "" if it arrived, else why not, without a word of the URL.

    Returns within PATIENCE. Never raises.
    """
    try:
        with closing(Client("monitoring", None, PATIENCE)) as client:
            code = client.send(prepared("GET", _at(url, end), {})).code
    except BadCertificate:
        return "the certificate is not trusted"
    except NoAnswer as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  # the text of any other may hold the URL
        return type(error).__name__
    return "" if code // 100 == 2 else f"answered {code}"  # noqa: PLR2004  # 2xx


def _at(url: str, end: str) -> str:
    """The end goes to the path: a query may follow, `?create=1` for example (healthchecks.io/docs/http_api)."""
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{end}").geturl()
