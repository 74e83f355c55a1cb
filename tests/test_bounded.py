"""A step is bounded as a whole, whatever the peer does."""

import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import trustme

from campaign.bounded import BoundedSocket, TooMuch, dial, look_up, words
from tests.patience import PATIENCE, soon


@pytest.fixture
def pair() -> Iterator[tuple[BoundedSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield BoundedSocket(ours, 0.3, 100), theirs


@contextmanager
def dripping(peer: socket.socket) -> Iterator[None]:
    """Send a byte now and then, for three seconds at most."""
    over = threading.Event()

    def drip() -> None:
        for _ in range(60):
            peer.sendall(b".")
            if over.wait(0.05):
                return
        peer.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=drip)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.promise(16)
def test_a_dripping_peer_does_not_prolong_the_step(pair: tuple[BoundedSocket, socket.socket]) -> None:
    bounded, peer = pair
    with dripping(peer), pytest.raises(TimeoutError):
        deque(iter(lambda: bounded.recv(10), b""))


def test_a_dripping_peer_does_not_prolong_the_step_through_makefile(pair: tuple[BoundedSocket, socket.socket]) -> None:
    bounded, peer = pair
    with dripping(peer), bounded.makefile("rb") as file, pytest.raises(TimeoutError):
        file.readline()


@pytest.mark.promise(16)
def test_a_step_brings_no_more_than_its_limit(pair: tuple[BoundedSocket, socket.socket]) -> None:
    bounded, peer = pair
    peer.sendall(b"x" * 101)

    assert bounded.recv(60) == b"x" * 60
    with pytest.raises(TooMuch):
        bounded.recv(60)


def test_each_step_has_its_own_limit_and_time(pair: tuple[BoundedSocket, socket.socket]) -> None:
    bounded, peer = pair
    peer.sendall(b"x" * 160)
    bounded.recv(80)
    time.sleep(0.35)
    with pytest.raises(TimeoutError):
        bounded.recv(80)
    bounded.settimeout(0.3)

    assert bounded.recv(80) == b"x" * 80


@pytest.mark.promise(16)
def test_a_peer_that_does_not_read_ends_the_sending_in_time(pair: tuple[BoundedSocket, socket.socket]) -> None:
    bounded, _ = pair
    with soon(), pytest.raises(TimeoutError):
        bounded.sendall(b"x" * 10_000_000)


def test_a_peer_that_reads_slowly_under_tls_ends_the_sending_in_time() -> None:
    ours, theirs = socket.socketpair()
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("relay.test").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    over = threading.Event()

    def read_slowly() -> None:
        with server_side.wrap_socket(theirs, server_side=True) as peer:
            while not over.wait(0.1):
                peer.recv(16384)

    reading = threading.Thread(target=read_slowly)
    reading.start()
    with client_side.wrap_socket(ours, server_hostname="relay.test") as secured:
        bounded = BoundedSocket(secured, 0.4, 100)
        with soon(), pytest.raises(TimeoutError):
            bounded.sendall(b"x" * 100_000_000)
        over.set()
        reading.join()


def test_all_that_is_sent_arrives(pair: tuple[BoundedSocket, socket.socket]) -> None:
    bounded, peer = pair
    sent = bytes(range(256)) * 4000
    arrived = bytearray()
    reading = threading.Thread(target=lambda: arrived.extend(b"".join(iter(lambda: peer.recv(65536), b""))))
    reading.start()
    bounded.settimeout(10)
    bounded.sendall(sent)
    bounded.shutdown(socket.SHUT_WR)
    reading.join()

    assert bytes(arrived) == sent


def test_readable_tells_silence_from_words_and_from_the_end(pair: tuple[BoundedSocket, socket.socket]) -> None:
    bounded, peer = pair
    silent = bounded.readable()
    peer.sendall(b"x")
    spoke = bounded.readable()
    bounded.recv(1)
    again = bounded.readable()
    peer.close()

    assert (silent, spoke, again, bounded.readable()) == (False, True, False, True)


def test_a_step_without_a_deadline_is_refused(pair: tuple[BoundedSocket, socket.socket]) -> None:
    with pytest.raises(ValueError, match="deadline"):
        pair[0].settimeout(None)


def test_only_reading_bytes_is_bounded_so_nothing_else_is_offered(pair: tuple[BoundedSocket, socket.socket]) -> None:
    with pytest.raises(ValueError, match="reading"):
        pair[0].makefile("wb")


def test_a_reader_without_a_buffer_leaves_the_rest_in_the_socket(pair: tuple[BoundedSocket, socket.socket]) -> None:
    bounded, peer = pair
    peer.sendall(b"one\ntwo")
    with bounded.makefile("rb", 1) as file:
        line = file.readline()

    assert (line, bounded.readable(), bounded.recv(10)) == (b"one\n", True, b"two")


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let relay.test have two addresses on loopback."""
    resolve = socket.getaddrinfo

    def both(host: str, port: int, *args: Any, **options: Any) -> Any:
        hosts = ("127.0.0.2", "127.0.0.1") if host == "relay.test" else (host,)
        return [found for each in hosts for found in resolve(each, port, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", both)


@pytest.fixture
def silent_name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no name server answer, as long as the test lasts."""
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(2 * PATIENCE) and [])
    yield
    over.set()


@pytest.mark.promise(16)
@pytest.mark.usefixtures("silent_name_server")
def test_a_name_server_that_says_nothing_is_not_waited_for() -> None:
    with soon(), pytest.raises(TimeoutError, match="no name server answered"):
        dial("relay.test", 25, 0.2)


@pytest.mark.promise(16)
@pytest.mark.parametrize(("name", "error"), [("relay.invalid", OSError), ("a" * 64 + ".test", UnicodeError)])
def test_a_name_that_is_not_found_or_none_fails_as_it_is(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        look_up(name, 25, 20)


@pytest.mark.usefixtures("two_addresses")
def test_addresses_are_told_once_each_in_their_order() -> None:
    assert [address[:2] for address in look_up("relay.test", 25, 20)] == [("127.0.0.2", 25), ("127.0.0.1", 25)]


def test_where_no_thread_can_be_started_the_look_up_fails_as_a_connection_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    with pytest.raises(OSError, match="no thread"):
        look_up("localhost", 25, 20)


@pytest.mark.usefixtures("two_addresses")
def test_the_first_address_that_answers_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with dial("relay.test", port, 1) as connected:
            assert connected.getpeername() == ("127.0.0.1", port)


@pytest.mark.usefixtures("two_addresses")
def test_a_dead_address_has_only_its_share_of_the_time() -> None:
    with ExitStack() as opened:
        port = opened.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        opened.enter_context(socket.create_server(("127.0.0.2", port), backlog=0))
        for _ in range(4):  # a full queue: whoever comes now hears nothing
            queued = opened.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex(("127.0.0.2", port))
        began = time.monotonic()
        with dial("relay.test", port, 4) as connected:  # in vain if the dead one had it all
            took = time.monotonic() - began

            assert connected.getpeername() == ("127.0.0.1", port)
    assert took > 1.5


@pytest.mark.usefixtures("two_addresses")
def test_where_no_address_answers_the_last_failure_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(ConnectionRefusedError):
        dial("relay.test", port, 1)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (
            ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1000)"),
            "[SSL: WRONG_VERSION_NUMBER] wrong version number",
        ),
        (TimeoutError("timed out"), "timed out"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_an_error_is_told_in_words_without_numbers(error: OSError, told: str) -> None:
    assert words(error) == told
