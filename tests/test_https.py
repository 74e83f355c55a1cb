"""An exchange ends in time whatever the host is; the rest of what https promises is tested through the prober and sasl."""

import socket
from contextlib import ExitStack, closing

import pytest

from campaign.https import Client, NoAnswer, json_object, prepared
from tests.patience import soon


def failure(url: str, seconds: float = 5) -> str:
    with closing(Client("docusign", None, seconds)) as client, pytest.raises(NoAnswer) as caught:
        client.send(prepared("GET", url, {}))
    return str(caught.value)


def test_many_dead_addresses_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # until the kernel answers nobody
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        host, port = full.getsockname()
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM) * 1000
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        with soon():
            said = failure(f"http://127.0.0.1:{full.getsockname()[1]}", 0.4)

    assert said == "timed out"


def test_a_host_name_that_is_none_is_no_answer() -> None:
    assert failure(f"https://{'x' * 64}.example.com") == "host name is not valid"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"{}"',
        b"{",
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":"\xff"}',
        b'{"a":' + b"[" * 30_000,
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_not_strictly_one_json_object_is_none(body: bytes) -> None:
    assert json_object(body) is None


def test_a_number_of_any_length_can_be_read() -> None:
    assert json_object(b'{"a":' + b"9" * 5000 + b',"b":12}') == {"a": float("inf"), "b": 12.0}
