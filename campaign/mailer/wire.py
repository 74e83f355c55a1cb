"""One SMTP connection (RFC 5321, 3207): opened, verified and signed in, and how a message goes over it."""

import re
import socket
import ssl
from typing import Any

from campaign.bounded import BoundedSocket, dial
from campaign.errors import RelayUnreachable
from campaign.mailer.conversation import Conversation, Phase
from campaign.mailer.replies import DONE, REFUSED, Reply
from campaign.mailer.signing import TokenRefused, sign_in
from campaign.tls import distrusted

MOST_BYTES = 32 * 1024  # that a relay may send in one step; an EHLO reply has one or two thousand
_FULL_NAME = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_READY_FOR_TLS, _GO_AHEAD = 220, 354


class Connection(Conversation):
    """A connection for one message after the other. Any failure is an OSError; then it is of no more use."""

    def open(self) -> None:
        """Connect, verify, sign in. Raises OSError for what may pass by itself, RelayRefused, RelayBusy, RelayUnreachable."""
        try:
            self._open()
        except TokenRefused as error:
            refusal = error
        else:
            return
        # The token may have been revoked, or have expired early. Not over the same connection: relays differ in whether they
        # still listen after a failure.
        try:
            self._open(fresh=True)
        except OSError as error:
            raise refusal from error

    def hand_over(self, data: bytes, envelope_from: str, recipient: str, options: str, *, rcpt_options: str = "") -> Reply:
        """Hand over one message; the reply at which it ended, and `phase` where. Raises OSError.

        The options are those of MAIL FROM and of RCPT TO, each with a space before it.
        """
        sender, to = f"<{envelope_from}>{options}", f"<{recipient}>{rcpt_options}"
        for phase, argument in ((Phase.MAIL, sender), (Phase.RCPT, to), (Phase.DATA, "")):
            reply = self.ask(phase, argument)
            if reply.code != _GO_AHEAD if phase is Phase.DATA else reply.kind != DONE:
                return reply
        self.phase = Phase.BODY
        self.send(_stuffed(data))
        if self.spoke():
            return self.reply()
        # Two writes: what fails before the second is definitely not sent.
        self.phase = Phase.DOT
        self.send(b".\r\n")
        return self.reply()

    def _open(self, *, fresh: bool = False) -> None:
        try:
            self.phase, self.unread = Phase.CONNECT, b""
            self.accept(Reply.of(*self.connect(self.route.host, self.route.port)))
            self._greet()
            if self.route.security == "starttls":
                self._start_tls()
                self._greet()
            sign_in(self, fresh=fresh)
        except BaseException:
            self.close()
            raise

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:  # noqa: ANN401  # called by smtplib's connect
        raw = dial(host, port, self.route.connect_timeout)
        raw.settimeout(timeout)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or the final dot waits 40 ms for the body's ACK
        return BoundedSocket(self._verified(raw) if self.route.security == "tls" else raw, timeout, MOST_BYTES)

    def _verified(self, raw: socket.socket) -> ssl.SSLSocket:
        try:
            return self.context.wrap_socket(raw, server_hostname=self.route.host)
        except ssl.SSLCertVerificationError as error:
            raise distrusted(str(self.route), error) from error

    def _greet(self) -> None:
        self.phase = Phase.EHLO
        self.local_hostname = self._own_name()
        reply = Reply.of(*self.ehlo())
        if reply.kind == REFUSED:  # a relay from before 1995
            reply = Reply.of(*self.helo())
        self.accept(reply)

    def _own_name(self) -> str:
        """The full host name, else the address: no look-up, which could hang or be answered by a stranger."""
        name = self.route.helo_name or socket.gethostname()
        address = self.sock.getsockname()[0]
        return name if _FULL_NAME.fullmatch(name) else f"[IPv6:{address}]" if ":" in address else f"[{address}]"

    def _start_tls(self) -> None:
        if not self.has_extn("starttls"):
            raise self._unsafe("it offers no STARTTLS")
        reply = self.ask(Phase.STARTTLS)
        if reply.code != _READY_FOR_TLS:
            raise self._unsafe(f"STARTTLS was answered {reply}")
        if self.unread:  # would be taken for an answer given under TLS (CVE-2011-0411)
            raise self._unsafe("it went on talking in the clear after STARTTLS")
        self.sock.settimeout(self.timeout)
        self.sock = BoundedSocket(self._verified(self.sock.inner), self.timeout, MOST_BYTES)

    def _unsafe(self, why: str) -> RelayUnreachable:
        advice = 'ask whoever runs the relay, or use [mail] security = "tls" with its port, usually 465'
        return RelayUnreachable(f"{self.route} cannot be reached safely: {why}; nothing was sent", advice)


def _stuffed(data: bytes) -> bytes:
    """The message as DATA sends it, without the final dot: leading dots doubled, a line end at its end (RFC 5321, 4.5.2)."""
    stuffed = (b"\r\n" + data).replace(b"\r\n.", b"\r\n..")[2:]
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"
