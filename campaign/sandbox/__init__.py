"""A stand-in for Docusign and for the mail relay, both on loopback: nothing leaves the machine."""

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from campaign.sandbox.accounts import AccountServer
from campaign.sandbox.grant import DROPPED, Application, CannedAnswer, Person, TokenRequest, json_answer
from campaign.sandbox.mailbox import MailCatcher
from campaign.sandbox.organizations import Organization

__all__ = [
    "DROPPED",
    "AccountServer",
    "Application",
    "CannedAnswer",
    "MailCatcher",
    "Organization",
    "Person",
    "Sandbox",
    "TokenRequest",
    "json_answer",
]


class Sandbox:
    """The account server with one application and its people, and the mail catcher; a context manager that serves while entered.

    `people` are (user id, e-mail, name). The account server's own thank-you page is registered beside `redirect_uris`.
    Entering raises UsageError where a port cannot be had; then nothing is left running.
    """

    def __init__(  # noqa: PLR0913  # each is one thing of the simulated world
        self,
        people: Iterable[tuple[str, str, str]],
        *,
        client_id: str,
        application_name: str,
        public_keys: Iterable[RSAPublicKey],
        redirect_uris: Iterable[str],
        folder: Path,
        port: int = 0,
        smtp_port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.accounts = AccountServer(port=port, clock=clock)
        self.mail = MailCatcher(folder, port=smtp_port)
        self._application = (client_id, application_name, tuple(public_keys))
        self._redirect_uris = tuple(redirect_uris)
        for person in people:
            self.accounts.add_person(Person(*person))

    @property
    def thanks_uri(self) -> str:
        """The redirect URI of the thank-you page; known once entered."""
        return f"{self.accounts.url}/thanks"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.accounts)
            stack.enter_context(self.mail)
            self.accounts.add_application(Application(*self._application, (*self._redirect_uris, self.thanks_uri)))
            self._running = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._running.close()
