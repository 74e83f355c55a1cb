import re
import shutil
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from campaign.errors import ConfigError
from campaign.ledger import hold
from tests.commands import Result, command, process
from tests.world import CLIENT_ID, World, pem, private_key, user_id

ANOTHER_ID = "11111111-2222-4333-8444-555555555555"
NOBODY = 1  # a port below those that are given out: nothing listens there
TRADITIONAL = PrivateFormat.TraditionalOpenSSL


@dataclass(frozen=True)
class Bad:
    """One thing that is wrong, and what the sentence must name."""

    said: str
    wrong: Callable[[World], object] = lambda _: None
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    slow: bool = False


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path / "work", live=True) as world:
        world.roster([1, 2])
        world.config()
        yield world


def campaign(world: World, *arguments: object) -> Result:
    return command(*arguments, "--config", world.folder / "campaign.toml")


def assert_one_clear_sentence(result: Result, exit_code: int, said: str) -> None:
    """One sentence with the next step, on stderr alone; no traceback, no Python in it, no secret."""
    lines = result.stderr.splitlines()
    sentences = [line for line in lines if line.startswith("campaign: ")]
    steps = [line for line in lines if line.startswith("          ")]
    others = [line for line in lines if line not in sentences + steps]

    assert result.exit_code == exit_code, result.stderr
    assert result.stdout == ""
    assert len(sentences) == 1, result.stderr
    assert re.search(said, sentences[0]), result.stderr
    assert steps, f"no next step: {result.stderr}"
    assert others == [] or (exit_code == 5 and len(others) == 1 and others[0].startswith("test: ")), result.stderr
    assert not re.search(r"Traceback|\[Errno|<class|object at 0x|Error\(|pydantic|PRIVATE KEY|eyJ|hunter2", result.stderr)
    assert not any(line in result.stderr for line in pem().decode().splitlines())


def left_behind(world: World) -> set[str]:
    """Everything in the folder but the lock, whose existence means nothing."""
    return {path.name for path in world.folder.rglob("*")} - {"ledger.sqlite3.lock"}


# --- what is given: refused before anything is attempted


def put(name: str, content: bytes | str, mode: int = 0o600) -> Callable[[World], object]:
    """A file of the folder with this in it."""

    def wrong(world: World) -> None:
        path = world.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)

    return wrong


def change(name: str, old: str, new: str) -> Callable[[World], object]:
    """A file of the folder with something else instead of `old`."""

    def wrong(world: World) -> None:
        path = world.folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return wrong


def lose(name: str) -> Callable[[World], object]:
    return lambda world: (world.folder / name).unlink()


@cache
def strange_keys() -> dict[str, bytes]:
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  # that is what is wrong with it
    curve = ec.generate_private_key(ec.SECP256R1())
    locked = private_key().private_bytes(Encoding.PEM, TRADITIONAL, BestAvailableEncryption(b"hunter2"))
    public = private_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "public": public,
        "elliptic": curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "small": small.private_bytes(Encoding.PEM, TRADITIONAL, NoEncryption()),
        "locked": locked,
        "mangled": pem()[:400] + pem()[500:],
        "one line": pem().replace(b"\n", rb"\n"),
    }


def key(kind: str) -> Callable[[World], object]:
    def wrong(world: World) -> None:
        put("private.pem", strange_keys()[kind])(world)

    return wrong


def bad_template(text: str, said: str, *, slow: bool = False) -> Bad:
    return Bad(said, put("words/invite/body.txt", text), {"templates": {"directory": "words"}}, slow)


GOOD_TEMPLATE = "Hello\n{{ consent_url }}\n"
ROSTER = f"user_id,email,name\n{user_id(1)},a@example.com,A\n"
RELAY_PASSWORD = {"auth": "password", "username": "u", "password.file": "smtp-password"}

GIVEN = {
    "no configuration": Bad(r"campaign\.toml does not exist", lose("campaign.toml")),
    "an empty configuration": Bad(r"campaign\.toml is empty", put("campaign.toml", "")),
    "half a configuration": Bad(r"campaign\.toml:2: Expected ']'", put("campaign.toml", 'name = "x"\n[docusign')),
    "an unknown key": Bad(r"campaign\.toml:\d+: unknown key \[mail\] max_mials", keys={"mail": {"max_mials": 3}}),
    "a wrong type": Bad(r"campaign\.toml:\d+: \[mail\] port: must be a whole number", keys={"mail": {"port": "25"}}),
    "a client id that is none": Bad(r"campaign\.toml:\d+: \[docusign\] client_id: 'x'", keys={"docusign": {"client_id": "x"}}),
    "a redirect URI without TLS": Bad(
        r"campaign\.toml:\d+: \[docusign\] redirect_uri: must begin with https",
        keys={"docusign": {"redirect_uri": "http://intranet.example.com/"}},
    ),
    "no key": Bad(r"private\.pem cannot be read: No such file", lose("private.pem")),
    "a key that others can read": Bad(r"private\.pem can be read by others \(mode 0644\)", put("private.pem", pem(), 0o644)),
    "a public key": Bad(r"private\.pem holds a public key", key("public")),
    "an elliptic key": Bad(r"private\.pem holds a private key that is not RSA", key("elliptic")),
    "a small key": Bad(r"private\.pem holds an RSA key of 1024 bits", key("small")),
    "an encrypted key": Bad(r"private\.pem holds a private key that is encrypted with a passphrase", key("locked")),
    "a mangled key": Bad(r"private\.pem holds no private key that can be read", key("mangled")),
    "a key on one line": Bad(r"private\.pem has its line breaks written as", key("one line")),
    "an empty key": Bad(r"private\.pem holds no private key that can be read", put("private.pem", "")),
    "no password": Bad(r"smtp-password cannot be read: No such file", keys={"mail": RELAY_PASSWORD}),
    "a password that others can read": Bad(
        r"smtp-password can be read by others", put("smtp-password", "hunter2", 0o644), {"mail": RELAY_PASSWORD}
    ),
    "a CA file that is none": Bad(
        r"ca_file .*ca\.pem cannot be used", put("ca.pem", "x"), {"mail": {"security": "tls", "ca_file": "ca.pem"}}
    ),
    "no roster": Bad(r"roster\.csv cannot be read: No such file", lose("roster.csv")),
    "an empty roster": Bad(r"roster\.csv:1: the first line is empty", put("roster.csv", "")),
    "a roster of nobody": Bad(r"roster\.csv: the roster has no rows", put("roster.csv", "user_id,email\n")),
    "a bulk-add file": Bad(r"roster\.csv:1: .*user.?id", put("roster.csv", "UserName,UserEmail\nA,a@example.com\n")),
    "a roster in another encoding": Bad(
        r"roster\.csv:2: a byte here is no UTF-8", put("roster.csv", ROSTER.encode()[:-2] + b"\xe9")
    ),
    "a roster with a shifted row": Bad(r"roster\.csv:2: ", put("roster.csv", ROSTER.replace(",A", ",A,B"))),
    "no templates": Bad(r"words holds no template", keys={"templates": {"directory": "words"}}),
    "a template with a syntax error": bad_template("Hi\n{{ consent_url }\n", r"invite/body\.txt:2: "),
    "a template with a misspelt name": bad_template("Hi {{ nmae }}\n", r"invite/body\.txt:1: 'nmae' is undefined"),
    "a template without end": bad_template(
        "{% for _ in range(99999) %}{% for _ in range(99999) %}{% endfor %}{% endfor %}", "seconds", slow=True
    ),
    "a template of 50 MB": bad_template(
        "{% for _ in range(50000) %}" + "x" * 1000 + "{% endfor %}", r"body\.txt:1: writes more than"
    ),
    "a template that breaks out": bad_template("{{ cycler.__init__.__globals__.os.popen('id') }}", r"body\.txt:1: .*unsafe"),
    "a template that reads files": bad_template("\n{% include '/etc/passwd' %}", r"body\.txt:2: "),
    "a template without the link": bad_template("Hello\n", r"body\.txt: "),
}


@pytest.mark.case(30, 31, 36, 38)
@pytest.mark.parametrize("case", GIVEN)
def test_what_is_given_wrongly_ends_in_one_clear_sentence_before_anything_is_attempted(world: World, case: str) -> None:
    bad = GIVEN[case]
    spoil(world, bad)
    before = left_behind(world)
    result = campaign(world, "run", "--approve", 2)

    assert_one_clear_sentence(result, 2, bad.said)
    assert bad.slow or campaign(world, "plan") == result
    assert left_behind(world) == before
    assert (world.relay.connections, world.accounts.requests) == (0, [])


def spoil(world: World, bad: Bad) -> None:
    """Write the configuration with the case's keys, then do what is wrong."""
    world.keys = bad.keys
    write_config(world)
    bad.wrong(world)


def write_config(world: World) -> None:
    with suppress(ConfigError):  # it is written before it is read, and refused here as it is by the command
        world.config()


def test_a_process_of_its_own_says_the_same(world: World) -> None:
    spoil(world, GIVEN["an unknown key"])

    there = process("run", "--config", world.folder / "campaign.toml")
    assert there == campaign(world, "run")
    assert_one_clear_sentence(there, 2, GIVEN["an unknown key"].said)


def test_a_good_template_passes_where_the_bad_ones_fail(world: World) -> None:
    spoil(world, bad_template(GOOD_TEMPLATE, ""))

    assert campaign(world, "plan").exit_code == 0


# --- those whom we call: nobody is mailed, and everybody is taken up where they stood


def with_certificate(world: World) -> None:
    """The relay has a certificate that nobody vouches for."""
    world.relay.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(world.relay.tls)


CALLED = {
    "a relay that refuses us": Bad(
        r"127\.0\.0\.1:\d+.*554 5\.7\.1 go away", lambda w: w.relay.at("connect", "554 5.7.1 go away")
    ),
    "a relay that is not there": Bad(r"127\.0\.0\.1:\d+.*refused", keys={"mail": {"port": NOBODY}}),
    "a relay without STARTTLS": Bad(r"127\.0\.0\.1:\d+.*STARTTLS", keys={"mail": {"security": "starttls"}}),
    "a relay with a strange certificate": Bad(
        r"127\.0\.0\.1:\d+.*certificate", with_certificate, {"mail": {"security": "starttls"}}
    ),
    "an account server that is not there": Bad(
        r"http://127\.0\.0\.1:\d+: no usable answer for any canary.*refused",
        keys={"docusign": {"account_server": f"http://127.0.0.1:{NOBODY}"}},
    ),
    "an account server that does not know the app": Bad(
        r"issuer_not_found|client_id", keys={"docusign": {"client_id": ANOTHER_ID}}
    ),
    "an account server that knows another key": Bad(
        r"no_valid_keys_or_signatures|private_key_file",
        put("private.pem", pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))),
    ),
}


@pytest.mark.case(7, 8, 23, 25, 27)
@pytest.mark.parametrize("case", CALLED)
def test_whoever_refuses_or_is_not_there_ends_the_night_in_one_clear_sentence(world: World, case: str) -> None:
    bad = CALLED[case]
    spoil(world, bad)
    result = campaign(world, "run", "--approve", 2)

    assert_one_clear_sentence(result, 5, bad.said)
    assert world.mailed() == []
    assert [name for name in left_behind(world) if name.endswith((".tmp", "-journal"))] == []
    assert {row["messages"] for row in world.report().values()} == {"0"}


# --- the ledger: whose is it, and is it the last one?


def after_a_night(world: World) -> None:
    result = campaign(world, "run", "--approve", 2)
    assert (result.exit_code, result.stderr) == (0, "")


def truncate(world: World) -> None:
    path = world.folder / "ledger.sqlite3"
    path.write_bytes(path.read_bytes()[:5000])


def restore_an_old_copy(world: World) -> None:
    path = world.folder / "ledger.sqlite3"
    shutil.copy(path, world.folder / "copy")
    campaign(world, "run")
    campaign(world, "run")
    (world.folder / "copy").rename(path)


LEDGERS = {
    "of another campaign": Bad(r"belongs to the campaign 'test', not to 'other'", change("campaign.toml", '"test"', '"other"')),
    "of another integration key": Bad(rf"written for client_id {CLIENT_ID}", change("campaign.toml", CLIENT_ID, ANOTHER_ID)),
    "cut short": Bad(r"ledger\.sqlite3 ", truncate),
    "no database": Bad(r"ledger\.sqlite3 ", put("ledger.sqlite3", "x" * 5000)),
    "empty": Bad(r"ledger\.sqlite3 is missing or empty", put("ledger.sqlite3", "")),
    "deleted": Bad(r"ledger\.sqlite3 is missing or empty", lose("ledger.sqlite3")),
    "without its witness": Bad(r"its witness ledger\.sqlite3\.witness is missing", lose("ledger.sqlite3.witness")),
    "an old copy": Bad(r"ledger\.sqlite3 is not the last one", restore_an_old_copy),
    "with a spoilt witness": Bad(r"ledger\.sqlite3\.witness cannot be read", put("ledger.sqlite3.witness", "{")),
}
ADOPTABLE = ["empty", "deleted", "without its witness", "an old copy"]


@pytest.mark.promise(9)
@pytest.mark.parametrize("case", LEDGERS)
def test_a_ledger_that_is_not_the_last_one_of_this_campaign_stops_everything(world: World, case: str) -> None:
    after_a_night(world)
    LEDGERS[case].wrong(world)
    world.roster([1, 2, 3])
    before = {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()}
    result = campaign(world, "run", "--approve", 3)

    assert_one_clear_sentence(result, 6, LEDGERS[case].said)
    assert len(world.mailed()) == 2
    assert {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("case", ADOPTABLE)
def test_after_adopt_the_campaign_goes_on_but_the_next_night_needs_an_approval(world: World, case: str) -> None:
    after_a_night(world)
    LEDGERS[case].wrong(world)
    world.roster([1, 2, 3])
    adopted = campaign(world, "adopt", "--yes")
    stopped, approved = campaign(world, "run"), campaign(world, "run", "--approve", 3)

    assert (adopted.exit_code, adopted.stderr) == (0, "")
    assert adopted.stdout.startswith("found: ")
    assert stopped.exit_code == 4
    assert "guard first_run" in stopped.stderr
    assert (approved.exit_code, approved.stderr) == (0, "")
    assert campaign(world, "adopt").stdout.startswith("nothing to adopt")


def test_adopt_does_not_take_a_ledger_that_is_another_campaigns(world: World) -> None:
    after_a_night(world)
    LEDGERS["of another campaign"].wrong(world)

    assert_one_clear_sentence(campaign(world, "adopt", "--yes"), 6, LEDGERS["of another campaign"].said)


@pytest.mark.promise(7)
@pytest.mark.case(18)
def test_a_second_run_finds_the_campaign_held_and_changes_nothing(world: World) -> None:
    after_a_night(world)
    before = {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()}
    with hold(world.config()):
        here, there = campaign(world, "run"), process("run", "--config", world.folder / "campaign.toml")

    assert_one_clear_sentence(here, 75, r"another run holds .*ledger\.sqlite3\.lock")
    assert there == here
    assert {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()} == before


@pytest.mark.case(41)
def test_a_report_that_cannot_be_written_is_no_bug(world: World) -> None:
    world.keys = {"report": {"directory": "private.pem"}}
    write_config(world)
    result = campaign(world, "run", "--approve", 2)

    assert result.exit_code == 6
    assert "the report cannot be written to" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(world.mailed()) == 2
