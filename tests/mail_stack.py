"""Real mail servers on loopback: Postfix with Dovecot 2.3 as one stack, and smtp-sink; many of each may run at once."""

import os
import re
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from string import Template
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.token_server import APP_ID, TENANT, TokenServer, certificate_file
from tests.world import private_key

SENDER = "contracts@example.com"  # who sends in tests/world.py; signs in, and gets what comes back
PASSWORD = "s3cret-Wörd"
UNWELCOME = "stranger@example.com"  # nobody may send as this one
DEAD, LATER = "dead.example", "later.example"  # domains that are not here
SMALL = 2000  # bytes

_PATIENCE = 20  # seconds for what takes one or two
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_MEMORY = Path("/dev/shm")  # noqa: S108  # in memory, the servers' many syncs cost nothing
_ROOM = 1 << 30  # bytes; the quick tests take a seventh of it
_NOBODY = 65534  # owns the mailboxes: the servers refuse to deliver as root


def _missing(*programs: str) -> bool:
    return not all(shutil.which(program, path=_PATH) for program in programs) and not os.environ.get("CI")


def _not_root() -> bool:
    return os.geteuid() != 0 and not os.environ.get("CI")


needs_mail_stack = pytest.mark.skipif(_not_root() or _missing("postfix", "dovecot"), reason="needs Postfix, Dovecot and root")
needs_smtp_sink = pytest.mark.skipif(_missing("smtp-sink"), reason="needs smtp-sink, which comes with Postfix")

_MAIN_CF = """\
compatibility_level = 3.6
queue_directory = $folder/queue
data_directory = $folder/data
mail_owner = postfix
setgid_group = postdrop
myhostname = relay.test.invalid
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
maillog_file = $folder/postfix.log
maillog_file_prefixes = $folder
alias_maps =
virtual_mailbox_domains = static:all
virtual_mailbox_base = $folder/mail
virtual_mailbox_maps = inline:{ $sender=returned/ }, static:people/
virtual_uid_maps = static:$nobody
virtual_gid_maps = static:$nobody
transport_maps = inline:{ $dead=smtp:[127.0.0.1]:$dead_port, $later=smtp:[127.0.0.1]:$later_port }
smtpd_tls_cert_file = $folder/cert.pem
smtpd_tls_key_file = $folder/key.pem
smtpd_tls_security_level = encrypt
tls_random_source = dev:/dev/urandom
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = $folder/dovecot/postfix
smtpd_sender_restrictions = check_sender_access texthash:$folder/etc/senders
smtpd_recipient_restrictions = check_recipient_access texthash:$folder/etc/recipients, permit_sasl_authenticated, reject
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
maximal_queue_lifetime = 2s
bounce_queue_lifetime = 2s
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 1s
"""

_MASTER_CF = """\
127.0.0.1:$port inet n - n - - smtpd
127.0.0.1:$small_port inet n - n - - smtpd
  -o message_size_limit=$small
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
proxymap  unix - - n - - proxymap
smtp      unix - - n - - smtp
virtual   unix - n n - - virtual
error     unix - - n - - error
retry     unix - - n - - error
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

# A failed sign-in is answered at once: Dovecot would make it wait, and the next from the same address for longer.
_DOVECOT_CONF = """\
base_dir = $folder/dovecot/run
state_dir = $folder/dovecot/run
log_path = $folder/dovecot.log
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <$folder/cert.pem
ssl_key = <$folder/key.pem
auth_verbose = yes
auth_failure_delay = 0
auth_mechanisms = plain login xoauth2
mail_location = maildir:$folder/mail/returned
passdb {
  driver = passwd-file
  mechanisms = plain login
  args = scheme=PLAIN username_format=%u $folder/dovecot/users
}
passdb {
  driver = oauth2
  mechanisms = xoauth2
  args = $folder/dovecot/oauth2.conf
}
userdb {
  driver = static
  args = uid=$nobody gid=$nobody home=$folder/mail
}
service auth {
  unix_listener $folder/dovecot/postfix {
    mode = 0600
    user = postfix
  }
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service imap-login {
  inet_listener imap {
    port = $imap_port
  }
  inet_listener imaps {
    port = 0
  }
}
"""

# Tokens are JWTs signed with the key of tests/world.py.
_OAUTH2_CONF = """\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix=$folder/dovecot/keys/
username_attribute = preferred_username
username_format = %u
"""
_PUBLIC_KEY = "dovecot/keys/default/RS256/default"

_FILES = {
    "etc/main.cf": _MAIN_CF,
    "etc/master.cf": _MASTER_CF,
    "etc/senders": f"{UNWELCOME} 550 5.7.60 not permitted to send as this sender\n",
    "etc/recipients": "",
    "dovecot.conf": _DOVECOT_CONF,
    "dovecot/users": f"{SENDER}:{PASSWORD}\n",
    "dovecot/oauth2.conf": _OAUTH2_CONF,
}


@dataclass(frozen=True, slots=True)
class Arrived:
    """One message as a mailbox or smtp-sink holds it: with LF, beneath the lines that these have put on top."""

    recipient: str
    message_id: str
    queue_id: str  # Postfix's; what Postfix itself has delivered twice bears the same one twice
    data: bytes

    @classmethod
    def read(cls, path: Path) -> Self:
        """One file of a maildir or of smtp-sink's."""
        data = path.read_bytes()
        recipient = _found(rb"^(?:Delivered-To: |X-Rcpt-Args: <)([^\s>]+)", data)
        return cls(recipient, _found(rb"^Message-ID: (\S+)", data), _found(rb" with \w+ id (\w+)", data), data)


class MailStack:
    """`with MailStack() as stack:` runs Postfix and Dovecot on 127.0.0.1.

    `port` is the relay's, who wants STARTTLS and a sign-in; `small_port` is the same for messages of at most SMALL bytes.
    `imap_port` is Dovecot's, where SENDER reads the maildir `returned`. Mail for DEAD and LATER goes on to the two ports of
    `onward`, where nobody listens unless a test does, and comes back after two seconds.
    """

    def __enter__(self) -> Self:
        self.port, self.small_port, self.imap_port, *self.onward = free_ports(5)
        with ExitStack() as stack:
            # Not a folder of pytest's, which the daemons' users may not enter.
            self.folder = Path(stack.enter_context(quick_folder("campaign-mail-")))
            self.folder.chmod(0o755)
            self._lay_out()
            self._command("postfix", "check")  # makes the queue's folders
            self._master = f"{self._command('postconf', '-h', 'daemon_directory')}/master"
            stack.callback(_Daemon(self.folder / "said.log", "dovecot", "-F", "-c", str(self.folder / "dovecot.conf")).end)
            self.start()
            stack.callback(self.stop)
            wait_until(lambda: _listens(self.imap_port))
            self._running = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._running.close()

    def start(self) -> None:
        """Start the relay, and wait until it listens."""
        self._postfix = _Daemon(self.folder / "said.log", self._master, "-c", str(self.folder / "etc"), "-s")
        try:
            wait_until(lambda: _listens(self.port) and _listens(self.small_port))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the relay in the middle of whatever it is doing, and wait until its ports are free again."""
        self._postfix.end()
        wait_until(lambda: not (_listens(self.port) or _listens(self.small_port)))

    def refuse(self, recipients: Mapping[str, str]) -> None:
        """Answer these recipients so, and no others, from now on: {"gone@example.com": "550 5.1.1 user unknown"}."""
        table = "".join(f"{recipient} {reply}\n" for recipient, reply in recipients.items())
        if table != self._recipients.read_text(encoding="utf-8"):
            self.stop()
            self._recipients.write_text(table, encoding="utf-8")
            os.utime(self._recipients, (0, 0))  # or Postfix waits a second or two: somebody might still be writing
            self.start()

    # --- how it is used

    def keys(self, folder: Path, **mail: object) -> dict[str, dict[str, Any]]:
        """What a campaign.toml in `folder` says of this relay; `mail` are changes."""
        password = folder / "smtp-password"
        password.write_text(PASSWORD, encoding="utf-8")
        password.chmod(0o600)
        reached = {"port": self.port, "security": "starttls", "ca_file": str(self.ca_file), "timeout": 30, "final_timeout": 30}
        signed_in = {"auth": "password", "username": SENDER}
        return {"mail": reached | signed_in | mail, "mail.password": {"file": password.name}}

    def keys_by_token(self, folder: Path, server: TokenServer, *tokens: str) -> dict[str, dict[str, Any]]:
        """The same where an Entra app sends as SENDER, and the token server gives these tokens, one after the other."""
        server.answers += [(200, {"access_token": one, "token_type": "Bearer", "expires_in": 3599}) for one in tokens]
        app = {"tenant": TENANT, "client_id": APP_ID, "certificate_file": str(certificate_file(folder / "app.pem"))}
        where = {"authority": server.url, "ca_file": str(server.ca_file)}
        return {"mail": self.keys(folder, auth="microsoft")["mail"], "mail.microsoft": app | where}

    @property
    def ca_file(self) -> Path:
        """The authority behind the certificates of both."""
        return self.folder / "ca.pem"

    # --- what it has done

    @property
    def kept(self) -> int:
        """How many messages people's mailboxes hold."""
        return len([*self._mailbox.glob("*")])

    def arrived(self) -> list[Arrived]:
        """What people's mailboxes hold, once nothing is under way any more."""
        wait_until(lambda: not self._under_way())
        return [Arrived.read(path) for path in sorted(self._mailbox.glob("*"))]

    @property
    def returned(self) -> Path:
        """The maildir of SENDER, to whom bounces go."""
        return self.folder / "mail/returned"

    def bounces(self, count: int) -> list[bytes]:
        """What has come back to SENDER and was not looked at, once it is `count` messages."""
        wait_until(lambda: len([*self.returned.glob("new/*")]) >= count)
        return [path.read_bytes() for path in sorted(self.returned.glob("new/*"))]

    def logged(self, pattern: str) -> int:
        """How many lines with this pattern Postfix and Dovecot have logged."""
        lines = [line for log in self._logs for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
        return sum(bool(re.search(pattern, line)) for line in lines)

    def clear(self) -> None:
        """Refuse nobody, and forget all that came, that is under way and that was logged."""
        self.refuse({})
        while self._under_way():
            self._command("postsuper", "-d", "ALL")
        for message in (self.folder / "mail").glob("*/*/*"):
            message.unlink()
        for log in self._logs:
            log.write_bytes(b"")

    # --- within

    @property
    def _mailbox(self) -> Path:
        return self.folder / "mail/people/new"

    @property
    def _recipients(self) -> Path:
        return self.folder / "etc/recipients"

    @property
    def _logs(self) -> tuple[Path, Path]:
        return self.folder / "postfix.log", self.folder / "dovecot.log"

    def _command(self, name: str, *words: str) -> str:
        """What one of Postfix's commands says. Those that start daemons would keep the pipe open."""
        argv = [name, "-c", str(self.folder / "etc"), *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True, env={"PATH": _PATH}, timeout=60).stdout.strip()

    def _under_way(self) -> bool:
        queues = (self.folder / "queue" / name for name in ("incoming", "active", "deferred"))
        return any(_taken(path) for queue in queues for path in queue.rglob("*"))

    def _lay_out(self) -> None:
        for place in ("queue", "data", "etc", "mail", "dovecot/keys/default/RS256"):
            (self.folder / place).mkdir(parents=True)
        shutil.chown(self.folder / "data", "postfix")
        os.chown(self.folder / "mail", _NOBODY, _NOBODY)
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(self.folder / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(self.folder / "cert.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        public = private_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self.folder / "dovecot/keys/default/RS256/default").write_bytes(public)
        for name, text in _FILES.items():
            (self.folder / name).write_text(Template(text).substitute(self._words()), encoding="utf-8")

    def _words(self) -> dict[str, object]:
        ports = {"port": self.port, "small_port": self.small_port, "imap_port": self.imap_port}
        beyond = {"dead": DEAD, "dead_port": self.onward[0], "later": LATER, "later_port": self.onward[1]}
        return {"folder": self.folder, "nobody": _NOBODY, "small": SMALL, "sender": SENDER, **ports, **beyond}


class SmtpSink:
    """`with SmtpSink("-r", "RCPT") as sink:` runs smtp-sink on 127.0.0.1 with these of its options."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self._options = options
        self.port = port or free_ports(1)[0]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(quick_folder("campaign-sink-")))
            if os.geteuid() == 0:
                os.chown(self._folder, _NOBODY, _NOBODY)
                self._options = ("-u", "nobody", *self._options)
            words = ("smtp-sink", "-c", "-d", f"{self._folder}/message.", *self._options, f"127.0.0.1:{self.port}", "100")
            stack.callback(_Daemon(self._folder / "said.log", *words).end)
            wait_until(lambda: _listens(self.port))
            self._own = 1
            self._running = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._running.close()

    @property
    def came(self) -> list[Arrived]:
        """Every message of which the final dot came, whatever that was answered."""
        return [Arrived.read(path) for path in self._folder.glob("message.*")]

    def connections(self) -> int:
        """How many connections have ended, without our own."""
        # It does one thing after the other: once it greets one more, it has noticed the end of all before.
        with socket.create_connection(("127.0.0.1", self.port), _PATIENCE) as one_more:
            self._own += 1
            still_open = bool(one_more.recv(1))
            counts = re.findall(r"sess=(\d+)", (self._folder / "said.log").read_text(encoding="utf-8"))
            return int(counts[-1]) - self._own + still_open


class _Daemon:
    """A program that runs until `end`, or until the tests themselves have died, however: then its keeper reads an end."""

    _KEEPER = '"$@" & read -r _; kill $!; wait'

    def __init__(self, log: Path, *words: str) -> None:
        # It must not inherit a pipe to write to: whoever reads from that would wait for as long as the daemon lives.
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                ("sh", "-c", self._KEEPER, "sh", *words),
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                start_new_session=True,
                env={"PATH": _PATH},
            )

    def end(self) -> None:
        """End it, and wait for that."""
        self._process.communicate(timeout=_PATIENCE)


def token(lifetime: int = 3600, user: str = SENDER) -> str:
    """A token as Dovecot takes it, good for so many seconds from now."""
    now = int(time.time())
    claims = {"sub": "app", "preferred_username": user, "iat": now - 3600, "nbf": now - 3600, "exp": now + lifetime}
    return jwt.encode(claims, private_key(), algorithm="RS256")


def wait_until(happened: Callable[[], Any]) -> None:
    """Wait for something that takes a moment."""
    deadline = time.monotonic() + _PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def quick_folder(prefix: str) -> TemporaryDirectory[str]:
    """A folder for a while, in memory if possible."""
    return TemporaryDirectory(prefix=prefix, dir=memory(), ignore_cleanup_errors=True)


def memory() -> Path | None:
    """The folder whose files lie in memory, where there is one with room: containers often have a small one."""
    return _MEMORY if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM else None


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on. They are outside the range from which others get theirs by asking for port 0."""
    free: list[int] = []
    chance = Random()  # noqa: S311  # luck, not secrecy
    while len(free) < count:
        port = chance.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            free.append(port)
    return free


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _taken(path: Path) -> bool:
    """Whether this is a message that Postfix has taken: one that it was stopped at before is not executable, and stays so."""
    with suppress(FileNotFoundError):
        mode = path.stat().st_mode
        return stat.S_ISREG(mode) and bool(mode & stat.S_IXUSR)
    return False


def _found(pattern: bytes, data: bytes) -> str:
    match = re.search(pattern, data, re.MULTILINE | re.IGNORECASE)
    return match[1].decode() if match else ""
