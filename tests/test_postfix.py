"""A whole night through a real relay: Postfix, with STARTTLS verified, hands on to a catcher that keeps what arrives."""

import email
import email.policy
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from campaign.errors import ExitCode
from campaign.sandbox import MailCatcher
from tests.fakes import Relay
from tests.world import World, user_id
from tests.world import email as address

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {base}/queue
data_directory = {base}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = relay.test.invalid
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
maillog_file = {base}/mail.log
maillog_file_prefixes = {base}
alias_maps =
smtpd_tls_cert_file = {base}/cert.pem
smtpd_tls_key_file = {base}/key.pem
smtpd_tls_security_level = encrypt
tls_random_source = dev:/dev/urandom
smtpd_recipient_restrictions = check_recipient_access texthash:{base}/recipients, permit_mynetworks, reject
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
default_transport = smtp:[127.0.0.1]:{onward}
"""

MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
proxymap  unix - - n - - proxymap
smtp      unix - - n - - smtp
error     unix - - n - - error
retry     unix - - n - - error
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

HERE = shutil.which("postfix", path="/usr/sbin:/usr/bin") and os.geteuid() == 0
pytestmark = [
    pytest.mark.postfix,
    pytest.mark.skipif(not HERE and not os.environ.get("CI"), reason="needs Postfix and root"),
]


@dataclass(frozen=True)
class Postfix:
    """A running Postfix, and the catcher behind it."""

    port: int
    ca_file: Path
    catcher: MailCatcher

    def delivered(self, count: int) -> dict[str, bytes]:
        """What has arrived behind the relay, by recipient, once it is `count` messages."""
        deadline = time.monotonic() + 20
        while len(self.catcher.messages) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        return {message.rcpt_tos[0]: message.content for message in self.catcher.messages}


@pytest.fixture
def postfix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postfix]:
    """Postfix on a port of its own; its daemons need a folder that they may enter, so not pytest's."""
    base = Path("/tmp") / f"campaign-postfix-{os.getpid()}"  # noqa: S108  # root's own, removed at the end
    for folder in ("queue", "data", "etc"):
        (base / folder).mkdir(parents=True)
    shutil.chown(base / "data", "postfix")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(base / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(base / "cert.pem")
    authority.cert_pem.write_to_path(base / "ca.pem")
    (base / "recipients").write_text(f"{address(1)} 550 5.1.1 user unknown\n{address(2)} 450 4.2.0 greylisted\n")
    with Relay() as free:
        port = free.port
    with MailCatcher(tmp_path_factory.mktemp("onward")) as catcher:
        (base / "etc" / "main.cf").write_text(MAIN_CF.format(base=base, onward=catcher.port))
        (base / "etc" / "master.cf").write_text(MASTER_CF.format(port=port))
        try:
            _postfix(base, "start")
            yield Postfix(port, base / "ca.pem", catcher)
        finally:
            _postfix(base, "stop")
            shutil.rmtree(base)


def _postfix(base: Path, command: str) -> None:
    # The daemons keep what they inherit: a captured pipe would never end.
    with (base / "command.log").open("ab") as log:
        words = ["/usr/sbin/postfix", "-c", str(base / "etc"), command]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, timeout=30)


def test_a_night_through_postfix(postfix: Postfix, tmp_path: Path) -> None:
    mail = {"port": postfix.port, "security": "starttls", "ca_file": str(postfix.ca_file), "timeout": 30}
    with World(tmp_path, keys={"mail": mail}) as world:
        people = [{"user_id": user_id(n), "email": address(n), "name": f"Zoë “Q” O'Neil, Jr. {n}"} for n in range(12)]
        world.roster(people)
        night = world.night(approve=12)
        rows = world.report()
    arrived = postfix.delivered(10)
    shown = email.message_from_bytes(arrived[address(5)], policy=email.policy.default)

    assert night.exit_code == ExitCode.ATTENTION
    assert sorted(arrived) == sorted(address(n) for n in range(12) if n not in {1, 2})
    assert (rows[user_id(1)]["last_outcome"], rows[user_id(1)]["reason"]) == ("rejected", "undeliverable")
    assert (rows[user_id(2)]["last_outcome"], rows[user_id(2)]["reason"]) == ("deferred", "waiting")
    assert shown["To"].addresses[0].display_name == "Zoë “Q” O'Neil, Jr. 5"
    assert b"ESMTPS" in arrived[address(5)].split(b"\r\n\r\n")[0]  # so says Postfix itself


def test_a_certificate_that_is_not_trusted_is_refused(postfix: Postfix, tmp_path: Path) -> None:
    with World(tmp_path, keys={"mail": {"port": postfix.port, "security": "starttls"}}) as world:
        world.roster([5])
        night = world.night(approve=1)

    assert night.exit_code == ExitCode.REFUSED
    assert "certificate" in str(night.problems[0])
    assert postfix.catcher.messages == ()
