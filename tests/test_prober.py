"""The prober over real sockets: against the account server of the sandbox, and against servers that lie."""

import gzip
import logging
import re
import socket
import ssl
import struct
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa

from campaign.config import Docusign
from campaign.docusign import Prober, Signer
from campaign.errors import CampaignError, ConfigError, DocusignRefused, DocusignUnreachable
from campaign.model import Finding, Status
from campaign.sandbox.accounts import DROPPED, AccountServer, Application, CannedAnswer, Person, json_answer
from tests.patience import PATIENCE, soon
from tests.world import CLIENT_ID, SCOPES, pem, private_key, user_id

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN = "eyJ0eXAiOiJNVCIsImFsZyI6IlJTMjU2In0.marker-of-an-access-token"
NO_BACK_OFF = (0.0, 0.0)


def now() -> datetime:
    return datetime.now(UTC)


def docusign(url: str, **keys: object) -> Docusign:
    given = {
        "environment": "demo",
        "client_id": CLIENT_ID,
        "private_key_file": "private.pem",
        "redirect_uri": "https://example.com/thanks",
        "account_server": url,
        "probes_per_hour": 0,
        "probe_burst": 1_000_000,
        "timeout": 5,
    }
    return Docusign.model_validate(given | keys)


@contextmanager
def prober_for(
    url: str,
    *,
    clock: Callable[[], datetime] = now,
    stop: threading.Event | None = None,
    back_off: tuple[float, ...] = NO_BACK_OFF,
    pauses: tuple[float, ...] = (),
    key: rsa.RSAPrivateKey | None = None,
    **keys: object,
) -> Iterator[Prober]:
    config = docusign(url, **keys)
    signer = Signer(config, key or private_key())
    with closing(Prober(config, signer, clock, stop or threading.Event(), back_off=back_off, pauses=pauses)) as prober:
        yield prober


def outcome(findings: Iterator[Finding]) -> tuple[list[Finding], CampaignError | None]:
    """All findings, and what ended them if anything did."""
    found = list[Finding]()
    try:
        found.extend(findings)
    except CampaignError as error:
        return found, error
    return found, None


def users(*numbers: int) -> list[str]:
    return [user_id(number) for number in numbers]


# --- against the sandbox's account server


@pytest.fixture
def accounts() -> Iterator[AccountServer]:
    """An account server where the users 1 to 99 exist and those below 50 have consented."""
    with AccountServer() as server:
        server.add_application(Application(CLIENT_ID, "Test", (private_key().public_key(),), ("https://example.com/thanks",)))
        for number in range(1, 100):
            server.add_person(Person(user_id(number), f"person{number}@example.com"))
            if number < 50:
                server.consent(user_id(number), CLIENT_ID, SCOPES)
        yield server


def test_each_user_gets_the_finding_that_is_true(accounts: AccountServer) -> None:
    with prober_for(accounts.url) as prober:
        found = {finding.user_id: finding.status for finding in prober.probe(users(1, 49, 50, 99, 100))}

    assert found == {
        user_id(1): Status.GRANTED,
        user_id(49): Status.GRANTED,
        user_id(50): Status.CONSENT_REQUIRED,
        user_id(99): Status.CONSENT_REQUIRED,
        user_id(100): Status.USER_NOT_FOUND,
    }
    assert len(accounts.requests) == 5


def test_findings_carry_the_trace_token_that_docusigns_support_asks_for(accounts: AccountServer) -> None:
    with prober_for(accounts.url) as prober:
        finding = next(prober.probe(users(50)))

    assert re.fullmatch(r"[0-9a-f-]{36}", finding.trace)


def test_nobody_to_ask_is_no_request(accounts: AccountServer) -> None:
    with prober_for(accounts.url) as prober:
        found = list(prober.probe([]))

    assert (found, accounts.requests) == ([], [])


def test_a_blank_user_id_is_never_a_consent_and_does_not_keep_the_others_from_being_asked(accounts: AccountServer) -> None:
    with prober_for(accounts.url, concurrency=1) as prober:
        found = {finding.user_id: finding.status for finding in prober.probe(["", user_id(1)])}

    assert found == {"": Status.UNKNOWN, user_id(1): Status.GRANTED}


def refusal_of(accounts: AccountServer, **how: object) -> DocusignRefused:
    with prober_for(accounts.url, **how) as prober:  # type: ignore[arg-type]  # the tests' own keywords
        _, error = outcome(prober.probe(users(*range(1, 40))))
    assert isinstance(error, DocusignRefused)
    return error


@pytest.mark.case(25, 27)
def test_a_wrong_key_stops_the_run_at_the_first_answer_and_names_the_key_to_look_at(accounts: AccountServer) -> None:
    error = refusal_of(accounts, key=rsa.generate_private_key(public_exponent=65537, key_size=2048), concurrency=4)

    assert "private_key_file" in error.advice
    assert re.search(r"no_valid_keys_or_signatures \(trace [0-9a-f-]{36}\)", str(error))
    assert len(accounts.requests) <= 4


@pytest.mark.case(25)
def test_an_unknown_client_id_stops_the_run_and_names_the_key_to_look_at(accounts: AccountServer) -> None:
    error = refusal_of(accounts, client_id=user_id(7), concurrency=1)

    assert "issuer_not_found" in str(error)
    assert "[docusign] client_id and environment" in error.advice
    assert len(accounts.requests) == 1


@pytest.mark.case(29)
def test_the_other_environments_server_stops_the_run(accounts: AccountServer) -> None:
    error = refusal_of(accounts, environment="production", concurrency=1)

    assert "issuer_not_found" in str(error)
    assert len(accounts.requests) == 1


@pytest.mark.case(28)
@pytest.mark.parametrize(("minutes", "words"), [(10, "600 s ahead of Docusign's"), (-10, "600 s behind Docusign's")])
def test_a_wrong_clock_is_named_as_what_is_wrong(minutes: int, words: str) -> None:
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    with AccountServer(clock=noon.timestamp) as accounts:
        accounts.add_application(Application(CLIENT_ID, "Test", (private_key().public_key(),), ()))
        error = refusal_of(accounts, clock=lambda: noon + timedelta(minutes=minutes), concurrency=1)

    assert words in str(error)
    assert "clock" in error.advice


@pytest.mark.parametrize("minutes", [4, -4])
def test_a_clock_that_is_a_few_minutes_off_does_no_harm(minutes: int, accounts: AccountServer) -> None:
    with prober_for(accounts.url, clock=lambda: now() + timedelta(minutes=minutes)) as prober:
        found = [finding.status for finding in prober.probe(users(1))]

    assert found == [Status.GRANTED]


def test_a_right_clock_is_not_mentioned_in_a_refusal(accounts: AccountServer) -> None:
    assert "clock" not in str(refusal_of(accounts, client_id=user_id(7)))


# --- transient answers

THROTTLED_FOR_A_SECOND = CannedAnswer(429, b"", {"Retry-After": "1"})


def test_a_429_pauses_everybody_for_as_long_as_it_says(accounts: AccountServer) -> None:
    accounts.faults.coming.append(THROTTLED_FOR_A_SECOND)
    accounts.faults.latency = 0.05
    with prober_for(accounts.url, concurrency=4) as prober:
        found = list(prober.probe(users(*range(1, 21))))
    throttled = next(request.at for request in accounts.requests if request.status == 429)

    assert {finding.status for finding in found} == {Status.GRANTED}
    assert len(accounts.requests) == 21
    assert not [request for request in accounts.requests if throttled + 0.3 < request.at < throttled + 1]


@pytest.mark.case(24)
def test_a_429_that_asks_for_too_much_ends_the_run(accounts: AccountServer) -> None:
    accounts.faults.coming.append(CannedAnswer(429, b"", {"Retry-After": "3600"}))
    with prober_for(accounts.url, concurrency=1) as prober:
        found, error = outcome(prober.probe(users(*range(1, 40))))

    assert isinstance(error, DocusignUnreachable)
    assert "3600 s" in str(error)
    assert (found, len(accounts.requests)) == ([], 1)


def test_when_the_run_ends_what_is_in_flight_is_still_found_and_nothing_more_is_asked(accounts: AccountServer) -> None:
    accounts.faults.coming.append(CannedAnswer(429, b"", {"Retry-After": "3600"}))
    accounts.faults.latency = 0.1
    with prober_for(accounts.url, concurrency=4) as prober:
        found, error = outcome(prober.probe(users(*range(1, 40))))

    assert isinstance(error, DocusignUnreachable)
    assert len(found) == len(accounts.requests) - 1
    assert len(accounts.requests) <= 8  # the throttled one, and at most two of each other connection


def _wait_for(what: Callable[[], object], seconds: float = 20) -> None:
    """Wait until it is true, or for a time that is long enough on a busy machine."""
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize(
    "asked", [{}, {"Retry-After": "soon"}, {"Retry-After": "-1"}, {"Retry-After": "Mon, 23 Nov 2026 02:00:00 GMT"}]
)
def test_a_429_without_a_number_of_seconds_pauses_too_and_stop_cuts_the_pause_short(
    asked: dict[str, str], accounts: AccountServer
) -> None:
    accounts.faults.answer_all = CannedAnswer(429, b"", asked)
    stop = threading.Event()

    def stop_after_the_first() -> None:
        _wait_for(lambda: accounts.requests)
        stop.set()

    stopping = threading.Thread(target=stop_after_the_first)
    stopping.start()
    with soon(), prober_for(accounts.url, concurrency=1, stop=stop) as prober:
        found, error = outcome(prober.probe(users(1, 2, 3)))
    stopping.join()

    assert len(accounts.requests) == 1
    assert [finding.status for finding in found] == [Status.UNKNOWN]
    assert error is None


def test_a_transient_answer_is_asked_again(accounts: AccountServer) -> None:
    accounts.faults.coming.extend([CannedAnswer(500), DROPPED])
    with prober_for(accounts.url, concurrency=1) as prober:
        found = [finding.status for finding in prober.probe(users(1))]

    assert found == [Status.GRANTED]
    assert [request.status for request in accounts.requests] == [500, 0, 200]


def test_after_three_attempts_the_user_is_unknown(accounts: AccountServer) -> None:
    accounts.faults.answers[user_id(50)] = json_answer(503, error="consent_required")
    with prober_for(accounts.url, concurrency=1) as prober:
        found = [(finding.status, finding.detail) for finding in prober.probe(users(50, 51))]

    assert found == [(Status.CONSENT_REQUIRED, ""), (Status.UNKNOWN, "HTTP 503")]
    assert [request.user_id for request in accounts.requests] == users(50, 50, 50, 51)


def test_between_two_attempts_there_is_a_pause_that_grows(accounts: AccountServer) -> None:
    accounts.faults.answer_all = CannedAnswer(500)
    with prober_for(accounts.url, concurrency=1, back_off=(0.1, 0.3)) as prober:
        list(prober.probe(users(1)))
    first, second, third = (request.at for request in accounts.requests)

    assert second - first >= 0.1
    assert third - second >= 0.3


def failing(accounts: AccountServer, *numbers: int) -> None:
    accounts.faults.answers |= dict.fromkeys(users(*numbers), CannedAnswer(502))


def asked(accounts: AccountServer) -> list[int]:
    """Whom the account server was asked about, by number, in order."""
    return [int(request.user_id[:8], 16) for request in accounts.requests]


def test_four_users_in_a_row_without_an_answer_are_only_themselves(accounts: AccountServer) -> None:
    failing(accounts, *(number for number in range(1, 31) if number % 5))
    with prober_for(accounts.url, concurrency=1) as prober:
        found = list(prober.probe(users(*range(1, 31))))

    assert [finding.user_id for finding in found if finding.status is Status.GRANTED] == users(5, 10, 15, 20, 25, 30)
    assert len(accounts.requests) == 24 * 3 + 6


def test_five_users_in_a_row_without_an_answer_pause_everybody_and_one_request_tries_again(accounts: AccountServer) -> None:
    failing(accounts, 1, 2, 3, 4, 5, 6)
    with prober_for(accounts.url, concurrency=1, back_off=(), pauses=(0.2, 0.4)) as prober:
        list(prober.probe(users(*range(1, 9))))
    at = [request.at for request in accounts.requests]

    assert asked(accounts)[:8] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert at[5] - at[4] >= 0.15  # a quarter more or less
    assert at[6] - at[5] >= 0.3


def test_many_workers_wait_for_the_one_on_trial(accounts: AccountServer) -> None:
    failing(accounts, *range(1, 100))
    accounts.faults.latency = 0.2
    with prober_for(accounts.url, concurrency=8, back_off=(), pauses=(0.2,)) as prober:
        _, error = outcome(prober.probe(users(*range(1, 40))))
    at = sorted(request.at for request in accounts.requests)

    assert isinstance(error, DocusignUnreachable)
    assert len(at) <= 8 + 4 + 1  # the first of all workers, those that went on before the fifth was back, and the trial
    assert at[-1] - at[-2] > 0.15


def test_an_outage_that_ends_costs_no_user_the_answer(accounts: AccountServer) -> None:
    accounts.faults.coming.extend([CannedAnswer(503)] * 6)
    with prober_for(accounts.url, concurrency=1, back_off=(), pauses=(0.01, 0.01)) as prober:
        found = list(prober.probe(users(*range(1, 12))))

    assert {finding.status for finding in found} == {Status.GRANTED}
    assert sorted(finding.user_id for finding in found) == users(*range(1, 12))
    assert asked(accounts) == [*range(1, 12), 1, 2, 3, 4, 5, 6]


def test_an_outage_among_the_last_users_is_waited_for_too(accounts: AccountServer) -> None:
    accounts.faults.coming.extend([CannedAnswer(503)] * 6)
    with prober_for(accounts.url, concurrency=4, back_off=(), pauses=(0.01, 0.01)) as prober:
        found = list(prober.probe(users(*range(1, 6))))

    assert sorted(finding.user_id for finding in found) == users(1, 2, 3, 4, 5)
    assert {finding.status for finding in found} == {Status.GRANTED}
    assert len(accounts.requests) == 5 + 1 + 5  # on trial in vain, and then each again


def test_users_of_no_answer_of_their_own_are_not_asked_for_ever_and_stop_nobody(accounts: AccountServer) -> None:
    failing(accounts, *range(1, 7), *range(11, 17), *range(21, 27))
    with prober_for(accounts.url, concurrency=1, back_off=(), pauses=(0.01, 0.01, 0.01)) as prober:
        found = list(prober.probe(users(*range(1, 31))))

    assert [finding.status for finding in found] == [Status.GRANTED] * 12 + [Status.UNKNOWN] * 18
    assert len(accounts.requests) == 30 + 18


@pytest.mark.promise(16)
@pytest.mark.case(23)
def test_an_outage_that_does_not_end_ends_the_run_and_tells_its_figures(accounts: AccountServer) -> None:
    failing(accounts, *range(7, 40))
    with prober_for(accounts.url, concurrency=1, pauses=(0.4, 0.8, 1.2)) as prober:
        began = time.monotonic()
        found, error = outcome(prober.probe(users(*range(1, 40))))
        took = time.monotonic() - began

    assert isinstance(error, DocusignUnreachable)
    assert re.search(
        r"8 users in a row got no usable answer, also after 3 pauses of [23] s in all; the last: HTTP 502", str(error)
    )
    assert "campaign run" in error.advice
    assert took > 1.8
    assert [finding.status for finding in found] == [Status.GRANTED] * 6 + [Status.UNKNOWN] * 8
    assert asked(accounts) == [*range(1, 7), *(n for n in range(7, 12) for _ in range(3)), 12, 13, 14]


def test_without_pauses_five_users_in_a_row_end_the_run(accounts: AccountServer) -> None:
    failing(accounts, *range(1, 40))
    with prober_for(accounts.url, concurrency=1) as prober:
        found, error = outcome(prober.probe(users(*range(1, 40))))

    assert isinstance(error, DocusignUnreachable)
    assert "5 users in a row got no usable answer; the last: HTTP 502" in str(error)
    assert [finding.status for finding in found] == [Status.UNKNOWN] * 5


@pytest.mark.parametrize("concurrency", [1, 8])
def test_stop_cuts_also_the_pause_of_an_outage_short(concurrency: int, accounts: AccountServer) -> None:
    failing(accounts, *range(1, 100))
    stop = threading.Event()
    timer = threading.Timer(0.5, stop.set)
    timer.start()
    with soon(), prober_for(accounts.url, concurrency=concurrency, stop=stop, pauses=(2.0 * PATIENCE,)) as prober:
        found, error = outcome(prober.probe(users(*range(1, 40))))
    timer.join()

    assert error is None
    assert {finding.status for finding in found} == {Status.UNKNOWN}
    assert 5 <= len(found) <= 5 + concurrency - 1


def test_a_throttling_that_goes_on_is_an_outage_and_each_pause_that_it_asks_for_is_kept(accounts: AccountServer) -> None:
    accounts.faults.answer_all = CannedAnswer(429, b"", {"Retry-After": "1"})
    with prober_for(accounts.url, concurrency=8, back_off=(), pauses=(0.01,)) as prober:
        _, error = outcome(prober.probe(users(*range(1, 40))))
    at = sorted(request.at for request in accounts.requests)

    assert isinstance(error, DocusignUnreachable)
    assert "HTTP 429" in str(error)
    assert at[-1] - at[-2] > 0.9


# --- stopping


def test_stop_ends_the_probing_and_what_was_found_is_kept(accounts: AccountServer) -> None:
    accounts.faults.latency = 0.1
    stop = threading.Event()
    found = list[Finding]()
    with prober_for(accounts.url, concurrency=4, stop=stop) as prober:
        for finding in prober.probe(users(*range(1, 1000))):
            found.append(finding)
            if len(found) == 5:
                stop.set()

    assert 5 <= len(found) < 999
    assert len(accounts.requests) == len(found)


def test_nothing_is_asked_once_stop_is_set(accounts: AccountServer) -> None:
    stop = threading.Event()
    stop.set()
    with prober_for(accounts.url, stop=stop) as prober:
        found = list(prober.probe(users(1, 2)))

    assert (found, accounts.requests) == ([], [])


def test_stop_also_ends_the_wait_for_the_hourly_rate(accounts: AccountServer) -> None:
    stop = threading.Event()
    with prober_for(accounts.url, stop=stop, probes_per_hour=3) as prober:
        findings = prober.probe(users(*range(1, 10)))
        found = [next(findings) for _ in range(3)]
        threading.Timer(0.1, stop.set).start()
        with soon():
            found += findings

    assert len(found) == len(accounts.requests) == 3


def test_whoever_takes_no_more_findings_need_not_wait_for_the_hourly_rate(accounts: AccountServer) -> None:
    with (
        soon(),
        prober_for(accounts.url, probes_per_hour=1) as prober,
        closing(prober.probe(users(1, 2, 3))) as findings,
    ):
        next(findings)


def test_a_refusal_ends_also_the_pauses_of_the_others(accounts: AccountServer) -> None:
    unavailable, refused = CannedAnswer(500), json_answer(400, error="invalid_client")
    accounts.faults.answers |= {user_id(1): unavailable, user_id(2): unavailable, user_id(3): unavailable}
    refusing = threading.Timer(0.2, accounts.faults.answers.update, [{user_id(3): refused}])
    refusing.start()
    with soon(), prober_for(accounts.url, concurrency=3, back_off=(0.3, 2 * PATIENCE)) as prober:
        _, error = outcome(prober.probe(users(1, 2, 3)))
    refusing.join()

    assert isinstance(error, DocusignRefused)


def test_a_burst_is_never_larger_than_allowed_also_over_several_calls(accounts: AccountServer) -> None:
    stop = threading.Event()
    with prober_for(accounts.url, stop=stop, probe_burst=5) as prober:
        found = list(prober.probe(users(1, 2)))
        threading.Timer(0.4, stop.set).start()
        found += prober.probe(users(*range(3, 20)))

    assert len(found) == len(accounts.requests) == 5
    assert len({finding.user_id for finding in found}) == 5


# --- servers that lie


@dataclass
class Liar:
    """A server on loopback. `answer` gets each whole request's peer, and says what it likes; False ends the connection."""

    answer: Callable[["Peer"], object]
    tls: ssl.SSLContext | None = None
    handshake_after: float = 0.0
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    flooded: int = 0  # bytes that the network took of an endless answer
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._peers = list[tuple[socket.socket, threading.Thread]]()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for connected, thread in self._peers:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
            thread.join()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                connected, _ = self._listener.accept()
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                thread = threading.Thread(target=self._converse, args=(connected,))
                self._peers.append((connected, thread))
                thread.start()

    def _converse(self, connected: socket.socket) -> None:
        with connected, suppress(OSError):
            self.over.wait(self.handshake_after)
            if not self.tls:
                self._talk(connected)
                return
            with self.tls.wrap_socket(connected, server_side=True) as secured:
                self._talk(secured)

    def _talk(self, connected: socket.socket) -> None:
        with connected.makefile("rb") as file:
            while request := _request(file):
                self.requests.append(request)
                if self.answer(Peer(connected, request, self)) is False:
                    return


@dataclass
class Peer:
    """The client, as a liar sees it after a request."""

    sock: socket.socket
    request: bytes
    liar: Liar

    def drip(self, data: bytes) -> None:
        """Send a byte every 20 ms."""
        for byte in data:
            if self.liar.over.wait(0.02):
                return
            self.sock.sendall(bytes([byte]))

    def flood(self, data: bytes) -> None:
        """Send this without end."""
        while not self.liar.over.is_set():
            self.sock.sendall(data)
            self.liar.flooded += len(data)


def _request(file: Iterable[bytes]) -> bytes:
    """One whole request, or b"" at the end."""
    head = b""
    for line in file:
        head += line
        if line == b"\r\n":
            break
    length = re.search(rb"(?i)^content-length: *(\d+)", head, re.MULTILINE)
    return head + file.read(int(length[1])) if length else head  # type: ignore[attr-defined]  # a buffered reader


def http(code: int, body: bytes = b"", headers: str = "", length: int | str | None = None) -> bytes:
    """An answer as it goes over the wire."""
    announced = len(body) if length is None else length
    return f"HTTP/1.1 {code} Whatever\r\n{headers}Content-Length: {announced}\r\n\r\n".encode("latin-1") + body


LACKING = http(400, b'{"error":"consent_required"}')
BEARER = http(200, f'{{"access_token":"{TOKEN}","token_type":"Bearer","expires_in":3600}}'.encode())
APPLICATION = http(200, f'{{"access_token":"{TOKEN}","token_type":"Application"}}'.encode())
REFUSING = http(400, b'{"error":"invalid_grant","error_description":"issuer_not_found"}')


def saying(data: bytes) -> Callable[[Peer], object]:
    return lambda peer: peer.sock.sendall(data)


def in_turn(*answers: bytes) -> Callable[[Peer], object]:
    """One answer after the other, the last for ever."""
    return lambda peer: peer.sock.sendall(answers[min(len(peer.liar.requests), len(answers)) - 1])


def probed(liar: Liar, numbers: Iterable[int] = (1,), **how: object) -> tuple[list[Finding], CampaignError | None]:
    keys: dict[str, object] = {"concurrency": 1, "back_off": ()} | how
    with prober_for(liar.url, **keys) as prober:  # type: ignore[arg-type]  # the tests' own keywords
        return outcome(prober.probe(users(*numbers)))


def test_the_request_is_the_grant_and_nothing_else() -> None:
    with Liar(saying(LACKING)) as liar:
        probed(liar)
    head, _, body = liar.requests[0].partition(b"\r\n\r\n")
    first, *headers = head.decode().split("\r\n")
    fields = parse_qs(body.decode(), strict_parsing=True)

    assert first == "POST /oauth/token HTTP/1.1"
    assert dict(header.lower().split(": ", 1) for header in headers) == {
        "host": f"127.0.0.1:{liar.port}",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/x-www-form-urlencoded",
        "content-length": str(len(body)),
        "user-agent": "campaign",
    }
    assert fields.keys() == {"grant_type", "assertion"}
    assert fields["grant_type"] == [GRANT]
    assert jwt.decode(fields["assertion"][0], private_key().public_key(), ["RS256"], audience="account-d.docusign.com")[
        "sub"
    ] == user_id(1)


def test_each_attempt_carries_a_newly_signed_assertion() -> None:
    seconds = iter(range(100))
    with Liar(in_turn(http(500), http(503), LACKING)) as liar:
        found, _ = probed(
            liar, back_off=NO_BACK_OFF, clock=lambda: datetime(2026, 11, 23, tzinfo=UTC) + timedelta(seconds=next(seconds))
        )

    assert [finding.status for finding in found] == [Status.CONSENT_REQUIRED]
    assert len({request.partition(b"assertion=")[2] for request in liar.requests}) == 3


@pytest.mark.parametrize("concurrency", [1, 4])
def test_connections_are_kept_open(concurrency: int) -> None:
    with Liar(saying(LACKING)) as liar:
        found, _ = probed(liar, range(1, 41), concurrency=concurrency)

    assert len(found) == len(liar.requests) == 40
    assert liar.connections <= concurrency


def test_a_connection_that_the_server_closes_in_between_costs_no_user_the_answer() -> None:
    def once(peer: Peer) -> bool:
        peer.sock.sendall(LACKING)
        return False

    with Liar(once) as liar:
        found, error = probed(liar, range(1, 21), back_off=NO_BACK_OFF)

    assert error is None
    assert {finding.status for finding in found} == {Status.CONSENT_REQUIRED}
    assert len(found) == 20


@pytest.mark.parametrize("pause", [0, 0.05])
def test_an_answer_too_many_is_not_taken_for_the_next_users(pause: float) -> None:
    def twice(peer: Peer) -> None:
        if len(peer.liar.requests) == 1:
            peer.sock.sendall(LACKING)
            peer.liar.over.wait(pause)
            peer.sock.sendall(BEARER)
            said.set()
        else:
            peer.sock.sendall(LACKING)

    said = threading.Event()
    with Liar(twice) as liar, prober_for(liar.url, concurrency=1) as prober:
        found = list(prober.probe(users(1)))
        said.wait(5)
        time.sleep(0.02)
        found += prober.probe(users(2))

    assert [finding.status for finding in found] == [Status.CONSENT_REQUIRED, Status.CONSENT_REQUIRED]


@pytest.mark.promise(15)
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_with_a_single_byte_and_stops_the_run(code: int) -> None:
    with Liar(saying(BEARER)) as elsewhere, Liar(saying(http(code, b"", f"Location: {elsewhere.url}/oauth/token\r\n"))) as liar:
        found, error = probed(liar, range(1, 9))

    assert (found, elsewhere.connections, len(liar.requests)) == ([], 0, 1)
    assert isinstance(error, DocusignRefused)
    assert f"HTTP {code}" in str(error)
    assert "redirect" in error.advice


@pytest.mark.parametrize(
    "answer",
    [
        http(200, b"<html>maintenance</html>", "Content-Type: text/html\r\n"),
        http(400, b"<html>blocked</html>"),
        http(403, b""),
        http(444, b""),
        http(200, gzip.compress(b'{"error":"consent_required"}'), "Content-Encoding: gzip\r\n"),
        http(400, gzip.compress(b'{"error":"consent_required"}'), "Content-Encoding: gzip\r\n"),
        http(200, gzip.compress(b" " * 20_000_000), "Content-Encoding: gzip\r\n"),
    ],
    ids=["200 HTML", "400 HTML", "403", "444", "200 gzip", "400 gzip", "200 gzip bomb"],
)
def test_an_answer_that_is_not_docusigns_stops_the_run_unopened(answer: bytes) -> None:
    tracemalloc.start()
    try:
        with Liar(saying(answer)) as liar:
            found, error = probed(liar, range(1, 9))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (found, len(liar.requests)) == ([], 1)
    assert isinstance(error, DocusignRefused)
    assert "not Docusign's" in error.advice
    assert most < 5_000_000


FLOODS: dict[str, tuple[bytes, bytes]] = {
    "200 MB announced": (http(400, b"", length=200_000_000), b" " * 65536),
    "1 PB announced": (http(400, b"", length=10**15), b" " * 65536),
    "no such number of bytes announced": (http(400, b"", length=10**30), b" " * 65536),
    "no length": (b"HTTP/1.1 400 Bad\r\n\r\n", b" " * 65536),
    "a huge chunk": (b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFFFFFF\r\n", b" " * 65536),
    "endless chunks": (b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 10000),
    "an endless chunk size": (b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 65536),
    "endless trailers": (b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 10000),
    "endless headers": (b"HTTP/1.1 400 Bad\r\n", b"a: b\r\n" * 10000),
    "an endless header": (b"HTTP/1.1 400 Bad\r\nx: ", b"y" * 65536),
    "an endless status line": (b"HTTP/1.1 400 ", b"y" * 65536),
    "endless 100": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
}


@pytest.mark.promise(16)
@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_is_cut_off_and_costs_neither_memory_nor_time(kind: str) -> None:
    start, more = FLOODS[kind]

    def flood(peer: Peer) -> None:
        peer.sock.sendall(start)
        peer.flood(more)

    tracemalloc.start()
    try:
        with soon(), Liar(flood) as liar:
            (finding,), error = probed(liar)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert error is None
    assert finding.status is Status.UNKNOWN
    assert finding.detail in {"answer too large", "answer is not HTTP"}
    assert most < 2_000_000
    assert liar.flooded < 30_000_000  # what fits into the buffers of the network


DRIPS = {
    "status line": (b"", LACKING),
    "headers": (b"HTTP/1.1 400 Bad\r\n", b"a: b\r\n" * 10_000),
    "body": (http(400, b"", length=28), b'{"error":"consent_required"}' * 9),
    "body without length": (b"HTTP/1.1 400 Bad\r\n\r\n", b" " * 50_000),
    "chunks": (b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 10_000),
    "100 after 100": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
    "nothing at all": (b"", b""),
}


@pytest.mark.promise(16)
@pytest.mark.parametrize("kind", DRIPS)
def test_the_deadline_is_one_for_the_whole_answer(kind: str) -> None:
    start, rest = DRIPS[kind]

    def drip(peer: Peer) -> None:
        peer.sock.sendall(start)
        peer.drip(rest)
        peer.liar.over.wait()

    with soon(), Liar(drip) as liar, prober_for(liar.url, timeout=0.2, back_off=()) as prober:
        (finding,) = prober.probe(users(1))

    assert (finding.status, finding.detail) == (Status.UNKNOWN, "timed out")


def reset(peer: Peer) -> bool:
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def closing_after(data: bytes) -> Callable[[Peer], object]:
    def answer(peer: Peer) -> bool:
        peer.sock.sendall(data)
        return False

    return answer


BROKEN: dict[str, tuple[Callable[[Peer], object], str]] = {
    "closed": (closing_after(b""), "connection closed without an answer"),
    "reset": (reset, "connection broken"),
    "garbage": (saying(bytes(range(256)) * 4 + b"\r\n\r\n"), "answer is not HTTP"),
    "another protocol": (saying(b"220 mail.example.com ESMTP\r\n"), "answer is not HTTP"),
    "status that is none": (saying(b"HTTP/1.1 4OO Bad\r\n\r\n"), "answer is not HTTP"),
    "cut off in the status line": (closing_after(b"HTTP/1.1 4"), "answer is not HTTP"),
    "cut off in the body": (closing_after(http(400, b'{"error":"consent_required"}', length=29)), "answer cut off"),
    "cut off in a chunk": (
        closing_after(b'HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n1d\r\n{"error":"consent_required"}'),
        "answer cut off",
    ),
}


@pytest.mark.promise(4)
@pytest.mark.parametrize("kind", BROKEN)
def test_no_answer_is_not_a_lack_of_consent(kind: str) -> None:
    answer, words = BROKEN[kind]
    with Liar(answer) as liar:
        found, error = probed(liar)

    assert error is None
    assert [(finding.status, finding.detail) for finding in found] == [(Status.UNKNOWN, words)]


def test_chunks_without_their_end_are_no_answer() -> None:
    data = b'HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n1c\r\n{"error":"consent_required"}\r\n'
    with Liar(closing_after(data)) as liar:
        (finding,), error = probed(liar)

    assert (finding.status, error) == (Status.UNKNOWN, None)


def test_nobody_at_the_other_end_is_said_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with prober_for(f"http://127.0.0.1:{port}", concurrency=1) as prober:
        found, error = outcome(prober.probe(users(*range(1, 30))))

    assert {(finding.status, finding.detail) for finding in found} == {(Status.UNKNOWN, "connection refused")}
    assert isinstance(error, DocusignUnreachable)
    assert f"127.0.0.1:{port}" in str(error)


def test_cookies_are_not_kept() -> None:
    with Liar(saying(http(400, b'{"error":"consent_required"}', "Set-Cookie: a=b; Path=/\r\n"))) as liar:
        probed(liar, (1, 2))

    assert len(liar.requests) == 2
    assert not any(b"ookie" in request for request in liar.requests)


@pytest.mark.parametrize(
    "date",
    [
        "",
        "yesterday",
        "Mon, 23 Nov 99999999999999 02:00:00 GMT",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "\xff",
    ],
)
def test_no_date_that_a_server_sends_can_hide_its_refusal(date: str) -> None:
    answer = http(400, b'{"error":"invalid_client"}', f"Date: {date}\r\n")
    with Liar(saying(answer)) as liar:
        _, error = probed(liar)

    assert isinstance(error, DocusignRefused)
    assert "invalid_client" in str(error)


@pytest.mark.parametrize("trace", ["\x1b[31mred", "a b", "x" * 65, '"><script>', "\xe9"])
def test_a_trace_token_that_is_none_is_dropped(trace: str) -> None:
    with Liar(saying(http(400, b'{"error":"consent_required"}', f"X-DocuSign-TraceToken: {trace}\r\n"))) as liar:
        (finding,), _ = probed(liar)

    assert finding == Finding(user_id(1), Status.CONSENT_REQUIRED)


# --- TLS


def serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def self_signed(tmp_path: Path) -> ssl.SSLContext:
    made = trustme.CA()
    path = tmp_path / "self-signed.pem"
    path.write_bytes(made.private_key_pem.bytes() + made.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_a_certificate_of_the_configured_authority_is_trusted(authority: trustme.CA, ca_file: Path) -> None:
    with Liar(saying(LACKING), serving(authority.issue_cert("127.0.0.1"))) as liar:
        found, error = probed(liar, range(1, 11), ca_file=ca_file)

    assert error is None
    assert [finding.status for finding in found] == [Status.CONSENT_REQUIRED] * 10
    assert liar.connections == 1


def assert_refused_unsent(liar: Liar, reason: str, ca_file: Path | None) -> None:
    with liar:
        found, error = probed(liar, range(1, 40), concurrency=4, ca_file=ca_file)

    assert (found, liar.requests) == ([], [])
    assert isinstance(error, DocusignUnreachable)
    assert str(error) == f"{liar.url}: its TLS certificate cannot be verified: {reason}"
    assert "ca_file" in error.advice
    assert liar.connections <= 4


@pytest.mark.promise(15)
@pytest.mark.case(8)
def test_a_self_signed_certificate_is_refused_before_anything_is_sent(ca_file: Path, tmp_path: Path) -> None:
    assert_refused_unsent(Liar(saying(BEARER), self_signed(tmp_path)), "self-signed certificate", ca_file)


@pytest.mark.promise(15)
def test_a_certificate_of_another_authority_is_refused_before_anything_is_sent(ca_file: Path) -> None:
    other = serving(trustme.CA().issue_cert("127.0.0.1"))

    assert_refused_unsent(Liar(saying(BEARER), other), "unable to get local issuer certificate", ca_file)


def test_a_private_authority_is_not_trusted_unless_configured(authority: trustme.CA) -> None:
    unknown = serving(authority.issue_cert("127.0.0.1"))

    assert_refused_unsent(Liar(saying(BEARER), unknown), "unable to get local issuer certificate", None)


@pytest.mark.promise(15)
@pytest.mark.case(8)
def test_an_expired_certificate_is_refused_before_anything_is_sent(authority: trustme.CA, ca_file: Path) -> None:
    expired = serving(authority.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC)))

    assert_refused_unsent(Liar(saying(BEARER), expired), "certificate has expired", ca_file)


@pytest.mark.promise(15)
@pytest.mark.case(8)
@pytest.mark.parametrize("name", ["example.com", "127.0.0.2"])
def test_a_certificate_for_another_host_is_refused_before_anything_is_sent(
    name: str, authority: trustme.CA, ca_file: Path
) -> None:
    other = serving(authority.issue_cert(name))

    assert_refused_unsent(Liar(saying(BEARER), other), "IP address mismatch, certificate is not valid for '127.0.0.1'", ca_file)


def test_a_server_without_tls_gets_no_request() -> None:
    with Liar(saying(BEARER)) as liar, prober_for(liar.url.replace("http:", "https:"), back_off=(), timeout=0.2) as prober:
        (finding,) = prober.probe(users(1))

    assert finding.status is Status.UNKNOWN
    assert not any(b"assertion" in request for request in liar.requests)


def test_the_handshake_counts_towards_the_deadline(authority: trustme.CA, ca_file: Path) -> None:
    def answer(peer: Peer) -> None:
        peer.liar.over.wait(0.4)
        peer.sock.sendall(LACKING)

    late = Liar(answer, serving(authority.issue_cert("127.0.0.1")), handshake_after=0.4)
    with late, prober_for(late.url, ca_file=ca_file, timeout=0.6, back_off=()) as prober:
        (finding,) = prober.probe(users(1))

    assert finding.detail == "timed out"


@pytest.mark.parametrize("content", [None, b"", b"no certificate", pem()])
def test_a_ca_file_without_certificates_is_refused_before_anything_is_asked(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)

    with (
        pytest.raises(ConfigError, match=re.escape(f"[docusign] ca_file {path}")),
        prober_for("https://127.0.0.1:1", ca_file=path),
    ):
        pass


# --- the environment


@pytest.mark.promise(15)
@pytest.mark.case(47)
def test_proxies_and_netrc_of_the_environment_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login attacker password attacker\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with Liar(saying(BEARER)) as proxy, Liar(saying(LACKING)) as liar:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.upper(), proxy.url)
        (finding,), _ = probed(liar)

    assert (finding.status, proxy.connections, len(liar.requests)) == (Status.CONSENT_REQUIRED, 0, 1)
    assert b"uthorization" not in liar.requests[0]


@pytest.mark.promise(15)
@pytest.mark.case(47)
def test_authorities_of_the_environment_are_ignored(
    ca_file: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(ca_file))
    monkeypatch.setenv("SSL_CERT_DIR", str(ca_file.parent))

    assert_refused_unsent(
        Liar(saying(BEARER), serving(authority.issue_cert("127.0.0.1"))), "unable to get local issuer certificate", None
    )


def test_the_keys_of_tls_sessions_are_not_written_where_the_environment_says(
    ca_file: Path, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    with Liar(saying(LACKING), serving(authority.issue_cert("127.0.0.1"))) as liar:
        found, _ = probed(liar, ca_file=ca_file)

    assert [finding.status for finding in found] == [Status.CONSENT_REQUIRED]
    assert not (tmp_path / "keys").exists()


# --- secrets


@pytest.mark.promise(14)
@pytest.mark.parametrize(
    "answer",
    [
        BEARER,
        APPLICATION,
        REFUSING,
        LACKING,
        http(400, f'{{"error":"{TOKEN}","error_description":"{TOKEN}"}}'.encode(), f"X-DocuSign-TraceToken: {TOKEN}\r\n"),
        http(429, TOKEN.encode(), f"Retry-After: {TOKEN}\r\n"),
        http(500, TOKEN.encode()),
        http(200, TOKEN.encode()),
        http(307, b"", f"Location: http://127.0.0.1:1/{TOKEN}\r\n"),
        f"HTTP/1.1 400 {TOKEN}\r\n{TOKEN}\r\n\r\n".encode(),
        f"{TOKEN}\r\n\r\n".encode(),
        b"",
    ],
)
def test_no_token_assertion_or_key_is_in_anything_that_can_be_shown(
    answer: bytes, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def answer_then_stop(peer: Peer) -> bool:
        peer.sock.sendall(answer)
        stop.set()
        return False

    caplog.set_level(logging.DEBUG)
    stop = threading.Event()
    with Liar(answer_then_stop) as liar, prober_for(liar.url, stop=stop, concurrency=1) as prober:
        found, error = outcome(prober.probe(users(1)))
        shown = [repr(prober), repr(vars(prober)), repr(found), repr(error), caplog.text, *capfd.readouterr()]
    if error:
        shown += [str(error), error.advice, *traceback.format_exception(error)]
    assertion = liar.requests[0].partition(b"assertion=")[2].decode()
    assert assertion
    secrets = [TOKEN.partition(".")[2], *assertion.split("."), *pem().decode().split("\n")[1:-2]]

    assert not [secret for secret in secrets if any(secret in text for text in shown)]


def test_what_ends_a_run_does_not_carry_the_request_along(authority: trustme.CA) -> None:
    with Liar(saying(BEARER), serving(authority.issue_cert("127.0.0.1"))) as liar:
        _, error = probed(liar)
    links: list[BaseException] = []
    link: BaseException | None = error
    while link:
        links.append(link)
        link = link.__cause__ or link.__context__

    assert len(links) == 2
    assert not any(hasattr(one, "request") for one in links)
