"""Secrets that are planted, overheard on the wire, and looked for in everything that a run leaves behind."""

import base64
import io
import re
import socket
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import quote_from_bytes

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_WINDOW = 16  # bytes: so short a part of a secret is still found
_ASSERTION, _TOKEN = re.compile(rb"assertion=([\w.-]+)"), re.compile(rb'"access_token":"([^"]+)"')


class Wiretap:
    """`with Wiretap(port) as tap:` passes on what comes to `tap.port`, and keeps the assertions and tokens that went by."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._heard: list[bytearray] = []
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in (self._listener, *self._open):
            one.close()

    def secrets(self) -> dict[str, bytes]:
        """Every assertion and every access token that went by, by a name for each."""
        heard = [bytes(one) for one in self._heard]
        found = {kind: [m for one in heard for m in form.findall(one)] for kind, form in _FORMS.items()}
        return {f"{kind} {number}": secret for kind, secrets in found.items() for number, secret in enumerate(secrets)}

    def _start(self, work: object, *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments))  # type: ignore[arg-type]
        self._threads[-1].start()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(("127.0.0.1", self._to))
                self._open += [here, there]
                self._start(self._pass_on, here, there)
                self._start(self._pass_on, there, here)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        heard = bytearray()
        self._heard.append(heard)
        with suppress(OSError):
            while data := source.recv(65536):
                heard += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


_FORMS = {"assertion": _ASSERTION, "token": _TOKEN}


def of_key(key: RSAPrivateKey) -> dict[str, bytes]:
    """A private key in the forms in which it could be shown: its PEM, without line breaks too, its DER, its numbers."""
    numbers = key.private_numbers()
    ways = {"PKCS#1": PrivateFormat.TraditionalOpenSSL, "PKCS#8": PrivateFormat.PKCS8}
    pems = {name: key.private_bytes(Encoding.PEM, way, NoEncryption()).splitlines()[1:-1] for name, way in ways.items()}
    return {
        **{f"{name} key": b"".join(lines) for name, lines in pems.items()},
        **{f"{name} key, as it stands in the file": b"\n".join(lines) for name, lines in pems.items()},
        "key in DER": key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        **{f"{name} in decimals": str(getattr(numbers, name)).encode() for name in "dpq"},
    }


def found(secrets: Mapping[str, bytes], surfaces: Mapping[str, bytes]) -> set[tuple[str, str]]:
    """Which secret stands where: also in part, in base64 at whatever offset, in hex, quoted for a URL, or as Python shows it."""
    parts = {part: name for name, secret in secrets.items() for form in _forms(secret) for part in _parts(form)}
    return {
        (parts[part], place)
        for place, content in surfaces.items()
        for text in _opened(content)
        for part in _parts(text)
        if part in parts
    }


def _parts(text: bytes) -> Iterator[bytes]:
    return (text[start : start + _WINDOW] for start in range(max(1, len(text) - _WINDOW + 1)))


def _forms(secret: bytes) -> Iterator[bytes]:
    yield secret
    yield repr(secret)[2:-1].encode()
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield quote_from_bytes(secret).encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret)[4 if before else 0 : -4]
        yield from (encoded, encoded.translate(bytes.maketrans(b"+/", b"-_")))


def _opened(content: bytes) -> Iterator[bytes]:
    """The content, and what is packed within it."""
    yield content
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(content)) as archive:  # a draft may be seen half-written
        yield from map(archive.read, archive.namelist())


class Watcher:
    """`with Watcher(folders) as seen:` keeps what it sees of files that come and go; `seen.files` by name, `seen.modes`."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self._over = threading.Event()
        self.files: dict[str, bytes] = {}
        self.modes: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.0005):
            for path in (path for folder in self._folders if folder.is_dir() for path in folder.iterdir()):
                if path.suffix == ".tmp" or path.name.endswith("-journal"):
                    self._keep(path)

    def _keep(self, path: Path) -> None:
        with suppress(OSError):
            with path.open("rb") as file:
                content, mode = file.read(), path.stat().st_mode
            self.files[path.name] = self.files.get(path.name, b"") + content
            self.modes[path.name] = mode & 0o777
