"""A dead man's switch, as healthchecks.io and its kin have it: an outside clock that notices when a run does not come."""

import threading
from contextlib import closing
from urllib.parse import urlsplit

from campaign.https import BadCertificate, Client, NoAnswer, prepared

PATIENCE = 4.5  # seconds for a ping, whole: a run has two
_EXCHANGE = 4.0  # of these, for connection, request and answer


def send(url: str, end: str) -> str:
    """GET `url`/`end`, with no body and nothing about the run; "" if it arrived, else why not, without a word of the URL.

    Returns within PATIENCE, also where a name server is silent: nothing bounds a look-up from within,
    so it is left behind in a thread that no one waits for. Never raises.
    """
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(_why_not(_at(url, end))), daemon=True)
    try:
        thread.start()
    except RuntimeError:  # TasksMax or a limit on processes
        return "no thread could be started"
    thread.join(PATIENCE)
    return said[0] if said else "timed out"


def _at(url: str, end: str) -> str:
    """The end goes to the path: a query may follow, `?create=1` for example (healthchecks.io/docs/http_api)."""
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{end}").geturl()


def _why_not(url: str) -> str:
    try:
        with closing(Client("monitoring", None, _EXCHANGE)) as client:
            code = client.send(prepared("GET", url, {})).code
    except BadCertificate:
        return "the certificate is not trusted"
    except NoAnswer as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  # the text of any other may hold the URL
        return type(error).__name__
    return "" if code // 100 == 2 else f"answered {code}"  # noqa: PLR2004  # 2xx
