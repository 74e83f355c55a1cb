"""What a delivery status notification says, whoever wrote it, and whatever somebody made it of."""

from base64 import b64encode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from campaign.bounces import Failure, blames_address, read
from campaign.bounces.dsn import MOST_BYTES
from tests.patience import soon

OURS = "<test.1.0123456789abcdef0123456789abcdef@example.com>"
ANN = "ann@example.org"


def postfix(message_id: str = OURS, recipient: str = ANN, status: str = "5.1.1", action: str = "failed") -> bytes:
    """As Postfix 3.7 writes it, with RET=HDRS."""
    return f"""\
Return-Path: <>
Received: by relay.example.com (Postfix)
\tid 4WxYz12QrSz9; Mon, 23 Nov 2026 02:00:07 +0000 (UTC)
Date: Mon, 23 Nov 2026 02:00:07 +0000 (UTC)
From: MAILER-DAEMON@relay.example.com (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: contracts@example.com
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="4WxYz04Nplz8.1795399207/relay.example.com"
Message-Id: <20261123020007.4WxYz12QrSz9@relay.example.com>

This is a MIME-encapsulated message.

--4WxYz04Nplz8.1795399207/relay.example.com
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host relay.example.com.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients. It's attached below.

<{recipient}>: host mx.example.org[192.0.2.7] said: 550 {status} <{recipient}>:
    Recipient address rejected: User unknown (in reply to RCPT TO command)

--4WxYz04Nplz8.1795399207/relay.example.com
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.example.com
Original-Envelope-Id: test.1.0123456789abcdef0123456789abcdef@example.com
X-Postfix-Queue-ID: 4WxYz04Nplz8
X-Postfix-Sender: rfc822; contracts@example.com
Arrival-Date: Mon, 23 Nov 2026 02:00:05 +0000 (UTC)

Final-Recipient: rfc822; {recipient}
Original-Recipient: rfc822;{recipient}
Action: {action}
Status: {status}
Remote-MTA: dns; mx.example.org
Diagnostic-Code: smtp; 550 {status} <{recipient}>: Recipient address rejected:
    User unknown

--4WxYz04Nplz8.1795399207/relay.example.com
Content-Description: Undelivered Message Headers
Content-Type: text/rfc822-headers

Return-Path: <contracts@example.com>
From: Contract Sender <contracts@example.com>
To: {recipient}
Subject: Please allow Contract Sender to act for you
Message-ID: {message_id}
Date: Mon, 23 Nov 2026 02:00:00 +0000

--4WxYz04Nplz8.1795399207/relay.example.com--
""".encode()


def exchange(message_id: str = OURS, recipient: str = ANN, status: str = "5.1.10") -> bytes:
    """As Exchange Online writes it: parts within the first part, the message as a whole, CRLF."""
    return (
        f"""\
From: <postmaster@contoso.onmicrosoft.com>
To: <contracts@example.com>
Date: Mon, 23 Nov 2026 02:00:09 +0000
Content-Type: multipart/report; report-type=delivery-status;
 boundary="_0051f1a6-8f3a-4b73-9d0e-2a1c7be4d5f6_"
X-MS-Exchange-Message-Is-Ndr:
Content-Language: en-GB
Message-ID: <3f0a@DB9PR01MB1234.eurprd01.prod.exchangelabs.com>
In-Reply-To: {message_id}
References: {message_id}
Subject: Undeliverable: Please allow Contract Sender to act for you
Auto-Submitted: auto-replied
MIME-Version: 1.0

--_0051f1a6-8f3a-4b73-9d0e-2a1c7be4d5f6_
Content-Type: multipart/alternative; differences=Content-Type;
 boundary="_0051f1a6-8f3a-4b73-9d0e-2a1c7be4d5f6_inner_"

--_0051f1a6-8f3a-4b73-9d0e-2a1c7be4d5f6_inner_
Content-Type: text/plain; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

[https://products.office.com/en-us/CMSImages/Office365Logo_Orange.png]
Your message to {recipient} couldn't be delivered.

--_0051f1a6-8f3a-4b73-9d0e-2a1c7be4d5f6_inner_
Content-Type: text/html; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

<html><body>Your message couldn't be delivered.</body></html>

--_0051f1a6-8f3a-4b73-9d0e-2a1c7be4d5f6_inner_--

--_0051f1a6-8f3a-4b73-9d0e-2a1c7be4d5f6_
Content-Type: message/delivery-status

Reporting-MTA: dns;DB9PR01MB1234.eurprd01.prod.exchangelabs.com
Received-From-MTA: dns;AS8PR01MB5678.eurprd01.prod.exchangelabs.com
Arrival-Date: Mon, 23 Nov 2026 02:00:06 +0000

Final-Recipient: rfc822;{recipient.title()}
Action: failed
Status: {status}
Diagnostic-Code: smtp;550 {status} RESOLVER.ADR.RecipientNotFound; Recipient {recipient} not found by SMTP address lookup

--_0051f1a6-8f3a-4b73-9d0e-2a1c7be4d5f6_
Content-Type: message/rfc822

Received: from AS8PR01MB5678.eurprd01.prod.exchangelabs.com
 (2603:10a6:20b:3ff::12) by DB9PR01MB1234.eurprd01.prod.exchangelabs.com
From: Contract Sender <contracts@example.com>
To: {recipient}
Subject: Please allow Contract Sender to act for you
Message-ID:
 {message_id}
Content-Type: text/plain; charset=utf-8

Please allow …

--_0051f1a6-8f3a-4b73-9d0e-2a1c7be4d5f6_--
""".replace("\n", "\r\n")
    ).encode()


def exim(message_id: str = OURS, recipient: str = ANN, words: str = "550 5.1.1 no such user here") -> bytes:
    """As Exim writes it: no quotes round the boundary, and a status that always says 5.0.0."""
    return f"""\
Return-path: <>
X-Failed-Recipients: {recipient}
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@exim.example.com>
To: contracts@example.com
Content-Type: multipart/report; report-type=delivery-status; boundary=1795399207-eximdsn-1804289383
MIME-Version: 1.0
Subject: Mail delivery failed: returning message to sender
Message-Id: <E1xYzAb-0001Cd-2E@exim.example.com>
Date: Mon, 23 Nov 2026 02:00:07 +0000

--1795399207-eximdsn-1804289383
Content-type: text/plain; charset=us-ascii

This message was created automatically by mail delivery software.

--1795399207-eximdsn-1804289383
Content-type: message/delivery-status

Reporting-MTA: dns; exim.example.com

Action: failed
Final-Recipient: rfc822;{recipient}
Status: 5.0.0
Remote-MTA: dns; mx.example.org
Diagnostic-Code: smtp; {words}

--1795399207-eximdsn-1804289383
Content-type: text/rfc822-headers

Return-path: <contracts@example.com>
Message-ID: {message_id}
To: {recipient}

--1795399207-eximdsn-1804289383--
""".encode()


def gmail(message_id: str = OURS, recipient: str = ANN, status: str = "5.1.1") -> bytes:
    """As Gmail writes it: within multipart/related, the words of the last server over several lines."""
    return f"""\
Return-Path: <>
From: Mail Delivery Subsystem <mailer-daemon@googlemail.com>
To: contracts@example.com
Auto-Submitted: auto-replied
Subject: Delivery Status Notification (Failure)
References: {message_id}
In-Reply-To: {message_id}
X-Failed-Recipients: {recipient}
Message-ID: <6743d0a7.a70a0220.1f2c5b.0123.GMR@mx.google.com>
Date: Mon, 23 Nov 2026 02:00:08 +0000
Content-Type: multipart/report; boundary="0000000000005e8f4e0627a3c1d2"; report-type=delivery-status

--0000000000005e8f4e0627a3c1d2
Content-Type: multipart/related; boundary="0000000000005e8fa40627a3c1d7"

--0000000000005e8fa40627a3c1d7
Content-Type: text/plain; charset="UTF-8"


** Address not found **

--0000000000005e8fa40627a3c1d7--

--0000000000005e8f4e0627a3c1d2
Content-Type: message/delivery-status

Reporting-MTA: dns; googlemail.com
Received-From-MTA: dns; contracts@example.com
Arrival-Date: Sun, 22 Nov 2026 18:00:05 -0800 (PST)
X-Original-Message-ID: {message_id}

Final-Recipient: rfc822; {recipient}
Action: failed
Status: {status}
Remote-MTA: dns; mx.example.org. (192.0.2.7, the server for the domain example.org.)
Diagnostic-Code: smtp; 550-{status} The email account that you tried to reach does not exist. Please try
 550-{status} double-checking the recipient's email address for typos. For more information, go to
 550 {status}  https://support.google.com/mail/?p=NoSuchUser a1-20020a0c - gsmtp
Last-Attempt-Date: Sun, 22 Nov 2026 18:00:08 -0800 (PST)

--0000000000005e8f4e0627a3c1d2
Content-Type: message/rfc822

DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
        h=to:subject:message-id:from; bh=abc=; b=def=
From: Contract Sender <contracts@example.com>
Message-ID: {message_id}
To: {recipient}

----- Message truncated -----

--0000000000005e8f4e0627a3c1d2--
""".encode()


def international(message_id: str = OURS) -> bytes:
    """RFC 6533: addresses and headers in UTF-8, the returned headers in base64."""
    returned = b64encode(f"To: jürgen@münchen.example\nMessage-ID: {message_id}\n".encode()).decode()
    return f"""\
Content-Type: multipart/report; report-type=global-delivery-status; boundary="b"

--b
Content-Type: text/plain

--b
Content-Type: message/global-delivery-status

Reporting-MTA: dns; relay.example.com

Final-Recipient: utf-8; JÜRGEN@münchen.example
Action: Failed (for good)
Status: 5.1.1

--b
Content-Type: message/global-headers
Content-Transfer-Encoding: base64

{returned}
--b--
""".encode()


def only(data: bytes) -> Failure:
    (failure,) = read(data)
    return failure


# --- reports of the great mail systems


@pytest.mark.parametrize(
    ("data", "status"),
    [(postfix(), "5.1.1"), (exchange(), "5.1.10"), (exim(), "5.1.1"), (gmail(), "5.1.1")],
    ids=["postfix", "exchange", "exim", "gmail"],
)
def test_a_failure_is_read_from_every_great_mail_systems_report(data: bytes, status: str) -> None:
    failure = only(data)

    assert (failure.message_id, failure.recipients, failure.status) == (OURS, frozenset({ANN}), status)
    assert status in failure.said


def test_a_report_in_utf_8_is_read_like_any_other() -> None:
    failure = only(international())

    assert (failure.message_id, failure.recipients, failure.status) == (OURS, frozenset({"jürgen@münchen.example"}), "5.1.1")


def test_where_the_status_says_nothing_the_last_servers_words_decide() -> None:
    assert only(exim(words="550 5.7.1 we do not like you")).status == "5.7.1"
    assert only(exim(words="550 No such user here (192.5.1.1)")).status == "5.0.0"


def test_line_ends_do_not_matter() -> None:
    assert read(postfix().replace(b"\n", b"\r\n")) == read(postfix())


def test_the_address_before_it_was_passed_on_is_known_too() -> None:
    data = postfix().replace(
        b"Final-Recipient: rfc822; ann@example.org", b"Final-Recipient: rfc822; <a.smith@intern.example.org>"
    )

    assert only(data).recipients == {ANN, "a.smith@intern.example.org"}


# --- what is no failure, or not one that we can place


@pytest.mark.parametrize("action", ["delayed", "delivered", "relayed", "expanded", ""])
def test_only_what_failed_counts(action: str) -> None:
    assert read(postfix(action=action)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"multipart/report", b"multipart/mixed"),
        (b"report-type=delivery-status", b"report-type=disposition-notification"),
        (b"Content-Type: text/rfc822-headers", b"Content-Type: text/plain"),
        (b"Content-Type: message/delivery-status", b"Content-Type: text/plain"),
        (b"\nMessage-ID: <test", b"\nReferences: <test"),
        (b"Status: 5.1.1\n", b"Status: 2.1.5\n"),
        (b"boundary=", b"border="),
    ],
)
def test_whatever_else_is_passed_over(old: bytes, new: bytes) -> None:
    assert read(postfix()) != []
    assert read(postfix().replace(old, new).replace(b"smtp; 550 5.1.1", b"smtp; 550")) == []


def test_a_subject_and_an_envelope_id_prove_nothing() -> None:
    assert read(postfix(message_id="somebody else's")) == []


def test_a_boundary_is_a_whole_line() -> None:
    data = international().replace(b"Reporting-MTA", b"--boundless\nReporting-MTA")

    assert only(data).status == "5.1.1"


# --- whom a status blames


@pytest.mark.parametrize(
    "status", ["5.1.0", "5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1", "5.4.1", "5.4.4", "5.4.310", "5.0.0"]
)
def test_these_say_that_the_address_cannot_be_mailed(status: str) -> None:
    assert blames_address(status)


@pytest.mark.parametrize(
    "status",
    [
        *("5.1.7", "5.1.8", "5.1.90"),  # the sender's address, the sender's limit
        *("5.2.0", "5.2.2", "5.2.3", "5.2.121", "5.2.122"),  # full, too large, too many an hour
        *("5.3.0", "5.3.4"),
        *("5.4.2", "5.4.5", "5.4.6", "5.4.7", "5.4.14", "5.4.300", "5.4.316"),  # congestion, loops, expired
        *("5.5.0", "5.6.1", "5.7.1", "5.7.515", "5.0.350"),
        *("4.4.7", "4.1.1", "2.1.5", "", "5.1.1 elsewhere", "5.1"),
    ],
)
def test_these_do_not(status: str) -> None:
    assert not blames_address(status)


# --- made to do harm

NESTED = b"".join(
    b'Content-Type: multipart/report; report-type=delivery-status; boundary="%d"\n\n--%d\n' % (n, n) for n in range(9000)
)
CROWD = (
    b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n\n--b\nContent-Type: text/rfc822-headers\n\n'
    + f"Message-ID: {OURS}\n\n--b\nContent-Type: message/delivery-status\n\n".encode()
    + b"Action: failed\nStatus: 5.1.1\n\n" * 100_000
)
HOSTILE = {
    "nested parts": NESTED + b"\n" * MOST_BYTES,
    "a part a line": b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n\n' + b"--b\n" * 100_000,
    "a recipient a line": CROWD,
    "a header that never ends": b"A: b\n" * 100_000,
    "a folded header that never ends": b"Content-Type: multipart/report;\n" + b" a=b;\n" * 100_000,
    "quotes": b'Content-Type: multipart/report; a="' + b';"\\' * 100_000,
    "blank": b"\n \n\t" * 200_000,
    "no line ends": b"--" * 200_000,
    "angles": postfix().replace(b"Message-ID: <", b"Message-ID: " + b"<" * 100_000),
    "digits": exim(words="5.1." * 50_000),
    "broken base64": international().replace(b"base64\n\n", b"base64\n\nA"),
    "charset": postfix()
    .replace(b"; rfc822", b"\xff\xfe")
    .replace(b"text/rfc822-headers", b"text/rfc822-headers; charset=klingon"),
    "zeros": b"\0" * MOST_BYTES,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_was_made_to_do_harm_is_read_soon(data: bytes) -> None:
    with soon():
        read(data)


def test_a_report_about_a_crowd_is_read_in_part() -> None:
    assert len(read(CROWD)) == 1000


def test_only_the_beginning_of_a_message_is_looked_at() -> None:
    assert read(b"X: " + b"y" * MOST_BYTES + b"\n" + postfix()) == []


@pytest.mark.parametrize("data", [postfix(), exchange(), exim(), gmail()], ids=["postfix", "exchange", "exim", "gmail"])
def test_a_message_that_is_cut_off_anywhere_is_no_trouble(data: bytes) -> None:
    for end in range(0, len(data), 7):
        assert len(read(data[:end])) <= 1


def test_what_a_report_says_moves_no_cursor() -> None:
    failure = only(exim(words="550 5.1.1 \x1b[2J\u202eresu on"))

    assert failure.said.isprintable()


PIECES = st.sampled_from(
    [*postfix().splitlines(keepends=True), *exchange().splitlines(keepends=True), b"\n", b"--b\n", b"\xff", b"\0"]
)


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=500), st.lists(PIECES, max_size=60).map(b"".join)))
@example(b"")
@example(b"\n\n\n")
@example(b'Content-Type: multipart/report; report-type=delivery-status; boundary="\xc3\xbc"\n\n--\xc3\xbc\n')
def test_no_bytes_do_any_harm(data: bytes) -> None:
    for failure in read(data):
        assert failure.message_id.startswith("<")
        assert failure.status[0] in "45"
        assert failure.said.isprintable()
