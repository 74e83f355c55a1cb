"""Hands one message at a time to the relay, and knows on which side of the final dot it failed."""

import re
import threading
import time
from types import TracebackType
from typing import Self

from campaign.errors import ConfigError, RelayUnreachable
from campaign.mailer.conversation import Phase, refused
from campaign.mailer.parameters import mail_parameters, rcpt_parameters
from campaign.mailer.replies import DONE, REFUSED, Reply
from campaign.mailer.route import Route, TokenSource
from campaign.mailer.wire import Connection
from campaign.model import Delivery, Outcome, printable

__all__ = ["Mailer", "Route", "TokenSource"]

_ADDRESS = re.compile(r"[^\s<>\x00-\x20\x7f]+@[^\s<>@\x00-\x20\x7f]+")
_FRESH = 1.0  # seconds of silence after which the connection is tried before it is relied on


class Mailer:
    """Sends messages over one connection at a time, which it opens, tries, recycles and closes. For one thread at a time.

    `recycle_after` messages or `idle` seconds end a connection; whatever is not a clean 2yz ends it too. `stop`, once set,
    cuts short the pauses (`back_off`, seconds) between attempts to connect. Raises ConfigError and ValueError when made.
    """

    def __init__(  # noqa: PLR0913  # each has its default
        self,
        route: Route,
        envelope_from: str,
        *,
        recycle_after: int = 50,
        idle: float = 60,
        back_off: tuple[float, ...] = (),
        stop: threading.Event | None = None,
    ) -> None:
        if not (_ADDRESS.fullmatch(envelope_from) and envelope_from.isascii()):
            raise ValueError("envelope_from is no bare ASCII address")
        self._route = route
        self._context = route.context()
        self._envelope_from = envelope_from
        self._recycle_after = recycle_after
        self._idle = idle
        self._back_off = back_off
        self._stop = stop or threading.Event()
        self._connection: Connection | None = None
        self._sent = 0  # over this connection
        self._used = 0.0  # when it last did well, on the monotonic clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def ready(self) -> None:
        """See to it that a message can be handed over: connected, verified, signed in.

        Raises RelayUnreachable after three attempts, or at once where the relay is not to be trusted; RelayRefused at once, as
        RelayBusy where a pause may help; ConfigError where a password or token cannot be had.
        """
        if self._connection and self._worn_out():
            self.close()
        if self._connection and not self._alive(self._connection):
            self._connection.close()
            self._connection = None
        if self._connection is None:
            self._connection = self._connect()
            self._sent, self._used = 0, time.monotonic()

    @property
    def eight_bit(self) -> bool:
        """Whether the relay takes text that is not ASCII as it is (8BITMIME, RFC 6152); known once the mailer is `ready`."""
        return self._connection is not None and self._connection.has_extn("8bitmime")

    def send(self, data: bytes, recipient: str, *, envelope_id: str = "") -> Delivery:
        """Hand over one message, its lines ended by CRLF, to one recipient; `ready` comes before.

        A relay that can is asked to report a failure, under `envelope_id` if that is ASCII and at most 100 characters long.
        Raises RelayRefused when the relay refuses us and not the recipient, then the message was definitely not sent: as
        RelayBusy it may be sent again after a pause, as DomainRefused those of other domains may be.
        Raises ValueError, before anything is sent, for what no caller should pass.
        """
        _check(data, recipient)
        connection, used_before = self._open_connection(), self._sent > 0
        delivery = self._transact(connection, data, recipient, envelope_id)
        if not (used_before and delivery.outcome is Outcome.DEFERRED and connection.phase is Phase.MAIL):
            return delivery
        # Some relays end a connection after so many messages by refusing the next one's first command.
        try:
            self.ready()
        except (RelayUnreachable, ConfigError) as error:
            return Delivery(Outcome.DEFERRED, printable(str(error)))
        return self._transact(self._open_connection(), data, recipient, envelope_id)

    def close(self) -> None:
        """Take leave of the relay. The mailer can be made `ready` again."""
        connection, self._connection = self._connection, None
        if connection:
            connection.leave()

    def _worn_out(self) -> bool:
        return self._sent >= self._recycle_after or self._silence() > self._idle

    def _alive(self, connection: Connection) -> bool:
        return (self._silence() <= _FRESH and not connection.spoke()) or connection.answers()

    def _silence(self) -> float:
        return time.monotonic() - self._used

    def _connect(self) -> Connection:
        for pause in (*self._back_off, None):
            connection = Connection(self._route, self._context)
            try:
                connection.open()
            except (OSError, UnicodeError) as error:  # UnicodeError: the host name is none
                failure = error
            else:
                return connection
            if pause is None or self._stop.wait(pause):
                break
        raise RelayUnreachable(
            f"{self._route} cannot be reached: {connection.fault(failure)} (at {connection.phase})",
            "check [mail] host, port and security, and the network; the next run tries again",
        ) from failure

    def _open_connection(self) -> Connection:
        if self._connection is None:
            raise ValueError("ready() comes before send()")
        return self._connection

    def _transact(self, connection: Connection, data: bytes, recipient: str, envelope_id: str) -> Delivery:
        if not (recipient.isascii() or connection.has_extn("smtputf8")):
            return Delivery(Outcome.REJECTED, "not sent: this address needs SMTPUTF8, which the relay does not offer")
        self._connection = None  # put back only after a clean end
        try:
            options, rcpt_options = mail_parameters(connection, data, recipient, envelope_id), rcpt_parameters(connection)
            reply = connection.hand_over(data, self._envelope_from, recipient, options, rcpt_options=rcpt_options)
            delivery = _judge(connection, reply, recipient)
            if delivery.outcome is Outcome.ACCEPTED:
                self._connection, self._sent, self._used = connection, self._sent + 1, time.monotonic()
        except OSError as error:
            outcome = Outcome.UNKNOWN if connection.phase is Phase.DOT else Outcome.DEFERRED
            return Delivery(outcome, f"no readable answer to {connection.phase}: {connection.fault(error)}")
        finally:
            if self._connection is None:
                connection.close()
        return delivery


def _judge(connection: Connection, reply: Reply, recipient: str) -> Delivery:
    """What became of the message by the reply at which it ended. Raises RelayRefused for what blames us."""
    if reply.blames_recipient and connection.phase is not Phase.MAIL:
        return Delivery(Outcome.REJECTED, str(reply))
    if reply.limits_us or (reply.kind == REFUSED and not reply.deferred):
        raise refused(connection, reply, recipient if connection.phase is not Phase.MAIL else "")
    if connection.phase is not Phase.DOT or reply.deferred:
        return Delivery(Outcome.DEFERRED, str(reply))
    return Delivery(Outcome.ACCEPTED if reply.kind == DONE else Outcome.UNKNOWN, str(reply))


def _check(data: bytes, recipient: str) -> None:
    if not _ADDRESS.fullmatch(recipient):
        raise ValueError("recipient is no bare address")
    if not data.count(b"\r\n") == data.count(b"\r") == data.count(b"\n"):
        raise ValueError("data has a bare CR or LF")
