"""The same work as others do it: the loop that Docusign's samples teach, the best plain loop, and plain libraries."""

import csv
import smtplib
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from urllib.parse import urlencode

import jinja2
import jwt
import pandas as pd
import requests
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from docusign_esign import ApiClient, Configuration
from docusign_esign.client.api_exception import ApiException
from xlsxwriter import Workbook

from campaign.report import Row
from tests.benchmarks.measuring import Sample, timed
from tests.benchmarks.scene import FIRST, FIRST_NAME, NOW, SENDER, Scene, address_of
from tests.benchmarks.servers import user_of
from tests.world import CLIENT_ID, SCOPES

_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def sdk_probes(scene: Scene, users: int, delay: float) -> Sample:
    """Docusign's SDK as its samples use it, one user after the other."""
    pem = scene.key_file.read_bytes()
    with timed(users) as sample:
        for number in range(users):
            _sdk_lacks(scene, pem, number, delay)
    return sample


def _sdk_lacks(scene: Scene, pem: bytes, number: int, delay: float) -> bool:
    """As in jwt_console.py of code-examples-python; only the authorities are ours."""
    Configuration().ssl_ca_cert = str(scene.place.authorities)
    client = ApiClient()
    host = f"127.0.0.1:{scene.place.accounts[delay]}"
    try:
        client.request_jwt_user_token(CLIENT_ID, user_of(number), host, pem, 4000, SCOPES)
    except ApiException as error:
        return "consent_required" in str(error)
    return False


class _PlainProbe:
    """The best that requests and PyJWT can do: one session, one prepared request, the key parsed once."""

    def __init__(self, scene: Scene, delay: float) -> None:
        self._key = load_pem_private_key(scene.key_file.read_bytes(), None)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(scene.place.authorities)
        url = f"https://127.0.0.1:{scene.place.accounts[delay]}/oauth/token"
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        self._request = self._session.prepare_request(requests.Request("POST", url, headers=headers))

    def lacks(self, number: int) -> bool:
        now = int(time.time())
        claims = {"iss": CLIENT_ID, "sub": user_of(number), "aud": "account-d.docusign.com", "scope": "signature impersonation"}
        assertion = jwt.encode({**claims, "iat": now, "exp": now + 300}, self._key, algorithm="RS256")  # type: ignore[arg-type]
        request = self._request.copy()
        request.prepare_body(urlencode({"grant_type": _GRANT, "assertion": assertion}), None)
        response = self._session.send(request, timeout=30)
        return response.status_code == 400 and response.json()["error"] == "consent_required"


def plain_probes(scene: Scene, users: int, delay: float) -> Sample:
    """The best plain loop, over one connection."""
    probe = _PlainProbe(scene, delay)
    probe.lacks(0)
    with timed(users) as sample:
        for number in range(users):
            probe.lacks(number)
    return sample


# --- mail


class _Template:
    """The shipped invitation as the program writes it, rendered by plain jinja2 and built by the standard library."""

    def __init__(self, scene: Scene) -> None:
        message = scene.invitation()
        parts = [message["Subject"], *(part.get_content() for part in message.iter_parts())]
        marks = {FIRST_NAME: "{{ name }}", address_of(FIRST): "{{ email }}"}
        environment = jinja2.Environment(autoescape=True)
        self._parts = [environment.from_string(_marked(part, marks)) for part in parts]

    def message(self, number: int) -> EmailMessage:
        values = {"email": address_of(number), "name": f"Zoë Person{number}"}
        subject, text, html = (part.render(values) for part in self._parts)
        message = EmailMessage(policy=SMTP)
        message["From"], message["To"], message["Subject"] = SENDER, address_of(number), subject
        message["Message-ID"], message["Date"] = f"<{number}.{time.time_ns()}@example.com>", "Mon, 30 Nov 2026 02:00:00 +0000"
        message.set_content(text)
        message.add_alternative(html, subtype="html")
        return message


def _marked(part: str, marks: dict[str, str]) -> str:
    for text, mark in marks.items():
        part = part.replace(text, mark)
    return part


@contextmanager
def _relay(scene: Scene, delay: float) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("127.0.0.1", scene.place.relays[delay], local_hostname="[127.0.0.1]", timeout=60) as relay:
        relay.starttls(context=ssl.create_default_context(cafile=str(scene.place.authorities)))
        yield relay


def plain_composing(scene: Scene, messages: int) -> Sample:
    """Messages built and written out, without a relay."""
    template = _Template(scene)
    with timed(messages) as sample:
        for number in range(messages):
            template.message(number).as_bytes()
    return sample


def plain_mails(scene: Scene, messages: int, delay: float) -> Sample:
    """Composed by the standard library and handed over by smtplib, over one connection."""
    template = _Template(scene)
    with _relay(scene, delay) as relay, timed(messages) as sample:
        for number in range(messages):
            relay.send_message(template.message(number))
    return sample


def mails_one_by_one(scene: Scene, messages: int, delay: float) -> Sample:
    """The same with a connection for each, as mail-merge tools do it."""
    template = _Template(scene)
    with timed(messages) as sample:
        for number in range(messages):
            with _relay(scene, delay) as relay:
                relay.send_message(template.message(number))
    return sample


def plain_hand_over(scene: Scene, messages: int) -> Sample:
    """The same bytes again and again, by smtplib over one connection."""
    data = _Template(scene).message(1).as_bytes()
    with _relay(scene, 0) as relay, timed(messages) as sample:
        for number in range(messages):
            relay.sendmail("contracts@example.com", [address_of(number)], data)
    return sample


# --- nights


def sdk_night(scene: Scene, users: int, delay: float) -> Sample:
    """Ask by the SDK, mail whoever lacks consent over a connection of its own, remember nothing."""
    pem, template = scene.key_file.read_bytes(), _Template(scene)
    with timed(users) as sample:
        for number in range(users):
            if _sdk_lacks(scene, pem, number, delay):
                with _relay(scene, 0) as relay:
                    relay.send_message(template.message(number))
    return sample


def plain_night(scene: Scene, users: int, delay: float) -> Sample:
    """The best plain loop, with one connection to the relay; it remembers nothing, either."""
    probe, template = _PlainProbe(scene, delay), _Template(scene)
    probe.lacks(0)
    with timed(users) as sample, _relay(scene, 0) as relay:
        for number in range(users):
            if probe.lacks(number):
                relay.send_message(template.message(number))
    return sample


# --- files


def pandas_roster(scene: Scene, rows: int) -> Sample:
    """The roster as pandas reads it, unchecked."""
    path = scene.roster(rows)
    with timed(rows) as sample:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        assert len(frame) == rows
    return sample


def csv_report(scene: Scene, rows: int) -> Sample:
    """The report's cells, by the csv module."""
    cells = _cells(rows)
    with timed(rows) as sample:
        _write_csv(scene.folder / "plain.csv", cells)
    return sample


def xlsx_report(scene: Scene, rows: int) -> Sample:
    """The report's cells, by XlsxWriter row by row in constant memory, and by the csv module: the history's file, too."""
    cells = _cells(rows)
    with timed(rows) as sample:
        _write_csv(scene.folder / "plain.csv", cells)
        _write_xlsx(scene.folder / "plain.xlsx", cells)
    return sample


def plain_quiet_night(scene: Scene, rows: int) -> Sample:
    """Read the roster by pandas, and write the report's cells: what any program must do that remembers nothing."""
    path = scene.roster(rows)
    with timed(rows) as sample:
        pd.read_csv(path, dtype=str, keep_default_na=False)
        cells = _cells(rows)
        _write_csv(scene.folder / "plain.csv", cells)
        _write_xlsx(scene.folder / "plain.xlsx", cells)
    return sample


def _cells(rows: int) -> list[tuple[object, ...]]:
    """What the report's rows hold; times are UTC."""
    at = NOW.replace(tzinfo=None)
    known = ("Zoë Person", "not_probed", "", "granted", 0, "", "", "", at, at, "", "", "")
    return [(user_of(number), address_of(number), *known, number, "") for number in range(FIRST, FIRST + rows)]


def _write_csv(path: Path, cells: Iterable[tuple[object, ...]]) -> None:
    """Times as scripts get them."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(Row._fields)
        for row in cells:
            table.writerow([f"{cell.isoformat()}Z" if isinstance(cell, datetime) else cell for cell in row])


def _write_xlsx(path: Path, cells: Iterable[tuple[object, ...]]) -> None:
    """Times as times, everything else without a format."""
    options = {"strings_to_formulas": False, "strings_to_urls": False, "default_date_format": "yyyy-mm-dd hh:mm"}
    with Workbook(path, {"constant_memory": True, **options}) as book:
        sheet = book.add_worksheet()
        for line, row in enumerate(cells, 1):
            for column, value in enumerate(row):
                if isinstance(value, str) and value:
                    sheet.write_string(line, column, value)
                elif isinstance(value, int):
                    sheet.write_number(line, column, value)
                elif isinstance(value, datetime):
                    sheet.write_datetime(line, column, value)
