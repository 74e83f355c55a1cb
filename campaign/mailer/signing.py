"""Signing in to the relay (RFC 4954): a password by PLAIN or LOGIN, an OAuth token by XOAUTH2."""

import base64

from campaign.errors import RelayRefused, RelayUnreachable
from campaign.mailer.conversation import Conversation, Phase, refused
from campaign.mailer.replies import LATER, Reply
from campaign.mailer.route import TokenSource
from campaign.model import printable

_CHALLENGE, _SIGNED_IN, _CLOSING, _NOT_TAKEN = 334, 235, 421, 535


class TokenRefused(RelayRefused):
    """The relay did not take the token; it may take a fresh one."""


def sign_in(talk: Conversation, *, fresh: bool = False) -> None:
    """Sign in as the route says, in one attempt; `fresh` = with a new token.

    Raises RelayRefused, TokenRefused, RelayUnreachable where it must not be tried again, OSError where it may.
    """
    if talk.route.tokens:
        _sign_in_by_token(talk, talk.route.tokens, fresh=fresh)
    elif talk.route.username:
        _sign_in_by_password(talk)


def _sign_in_by_password(talk: Conversation) -> None:
    """One mechanism, once: guessing on would lock the account. A 4yz has not judged the password (RFC 4954, section 6)."""
    username, password = _bytes(talk.route.username), _bytes(talk.route.password())
    try:
        reply = _answer_with_password(talk, username, password)
    except OSError as error:
        raise _lost(talk, talk.fault(error)) from error
    if reply.code == _CLOSING and not reply.limits_us:
        raise _lost(talk, str(reply))
    _take(talk, reply)


def _answer_with_password(talk: Conversation, username: bytes, password: bytes) -> Reply:
    plain, name, word = (base64.b64encode(part) for part in (b"\0%b\0%b" % (username, password), username, password))
    talk.secrets = tuple(filter(None, (plain, word, password)))
    if "PLAIN" in _offered(talk, "PLAIN", "LOGIN"):
        return talk.ask(Phase.AUTH, f"PLAIN {plain.decode()}")
    reply = talk.ask(Phase.AUTH, "LOGIN")
    for answer in (name, word):
        if reply.code != _CHALLENGE:
            break
        reply = talk.answer(answer.decode())
    return reply


def _sign_in_by_token(talk: Conversation, tokens: TokenSource, *, fresh: bool) -> None:
    """XOAUTH2, developers.google.com/workspace/gmail/imap/xoauth2-protocol: a refusal is a 334 that tells why, then a 535."""
    _offered(talk, "XOAUTH2")
    token = _bytes(tokens(fresh=fresh))
    initial = base64.b64encode(b"user=%b\1auth=Bearer %b\1\1" % (_bytes(talk.route.username), token))
    talk.secrets = tuple(filter(None, (initial, base64.b64encode(token), token)))
    reply = talk.ask(Phase.AUTH, f"XOAUTH2 {initial.decode()}")
    if reply.code == _CHALLENGE:
        _hear_why(talk, reply)
    elif reply.code == _NOT_TAKEN:
        raise _token_refused(talk, reply)
    else:
        _take(talk, reply)


def _hear_why(talk: Conversation, challenge: Reply) -> None:
    """An empty line brings the refusal itself, or the relay hangs up: what it said before is kept."""
    said = _decoded(talk, challenge.text)
    try:
        reply = talk.answer("")
    except OSError as error:
        raise _token_refused(talk, Reply(_CHALLENGE, said), f"then the connection was lost: {talk.fault(error)}") from error
    if reply.code != _SIGNED_IN:
        raise _token_refused(talk, reply, said)


def _token_refused(talk: Conversation, reply: Reply, besides: str = "") -> RelayRefused:
    error = refused(talk, reply, besides=besides)
    return error if reply.limits_us else TokenRefused(str(error), error.advice)


def _decoded(talk: Conversation, text: str) -> str:
    """The error in JSON, `{"status":"400",…}`, or whatever else the relay said in base64, or in plain words."""
    try:
        said = base64.b64decode(text, validate=True)
    except ValueError:
        said = text.encode()
    shown = talk.without_secrets(said.replace(b"\\/", b"/"))  # so may JSON write a slash, also that of a token
    return printable(shown.decode("utf-8", "backslashreplace").strip(), 150)


def _take(talk: Conversation, reply: Reply) -> None:
    if reply.kind == LATER:
        talk.accept(reply)
    if reply.code != _SIGNED_IN:
        raise refused(talk, reply)


def _offered(talk: Conversation, *known: str) -> list[str]:
    """The mechanisms that the relay offers. Raises RelayRefused where none of the known ones is among them."""
    offered = talk.esmtp_features.get("auth", "").upper().split()
    if not set(known) & set(offered):
        raise RelayRefused(
            f"{talk.route} offers no AUTH {' or '.join(known)}; "
            f"what it offers: {printable(' '.join(offered)) or 'no AUTH at all'}",
            "check [mail] auth, port and security",
        )
    return offered


def _lost(talk: Conversation, how: str) -> RelayUnreachable:
    return RelayUnreachable(
        f"{talk.route}: the connection was lost at AUTH: {how}",
        "it was not tried again, so that the account is not locked; the next run tries again",
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
