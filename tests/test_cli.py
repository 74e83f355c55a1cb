import csv
import email.policy
import json
import re
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from subprocess import run
from urllib.parse import parse_qs, urlsplit

import pytest

from campaign.ledger import hold
from campaign.model import Reason, Status
from campaign.sandbox import Sandbox
from campaign.sandbox.serving import consent_canaries, people_of, write_key
from tests import world as worlds
from tests.commands import COMMANDS, ROOT, Result, command, process
from tests.world import CANARY, CLIENT_ID, World, user_id


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A campaign of three people before its first night; its campaign.toml is the one that commands find."""
    with World(tmp_path / "work", live=True) as world:
        people = {1: "Ada Lovelace", 2: "Zoë Müller", 3: "山田 花子"}
        world.roster([{"user_id": user_id(n), "email": worlds.email(n), "name": name} for n, name in people.items()])
        world.config()
        monkeypatch.chdir(world.folder)
        yield world


def quietly(*arguments: object) -> str:
    """What a command prints that ends well and has nothing to complain of."""
    done = command(*arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


def refused(*arguments: object) -> str:
    """The complaint and the next step of a command that is refused as a matter of usage."""
    done = command(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    return done.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- help, version, usage


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    long, short = command(*name.split(), "--help"), command(*name.split(), "-h")

    assert (long.exit_code, long.stderr) == (0, "")
    assert long == short
    assert len(re.findall(f"campaign {name}(?: |$)", long.stdout, re.MULTILINE)) >= 2  # the usage, and an example
    assert "\x1b" not in long.stdout


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"init", "demo"}))
def test_every_command_that_reads_a_configuration_takes_its_path(name: str) -> None:
    assert "--config" in command(*name.split(), "-h").stdout


def test_without_a_command_the_help_is_shown() -> None:
    bare = command()

    assert bare.exit_code == 2
    assert all(name.partition(" ")[0] in bare.stdout + bare.stderr for name in COMMANDS)
    assert command("--help").exit_code == 0


def test_the_version_is_told() -> None:
    assert re.match(r"campaign\W", quietly("--version"))
    assert quietly("-V") == quietly("--version")


def test_a_mistyped_command_or_option_is_answered_with_the_nearest() -> None:
    assert "Did you mean 'run'?" in refused("rnu")
    assert "--approve" in refused("run", "--aprove", "3")
    assert "--approve" in refused("run", "--approve", "-1")


def test_the_module_is_the_same_program(world: World) -> None:
    here, there = command("link"), process("link", cwd=world.folder)

    assert there == here
    assert process("rnu").exit_code == 2


def test_help_comes_without_loading_what_is_heavy() -> None:
    heavy = {"pandas", "requests", "jinja2", "sqlalchemy", "pydantic", "cryptography", "xlsxwriter", "aiosmtpd", "campaign.model"}
    code = f"""
import sys
from campaign.cli import app
try: app(["--help"], prog_name="campaign")
except SystemExit: pass
print(*sorted({heavy!r} & set(sys.modules)), file=sys.stderr)
"""
    done = run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)

    assert done.stderr == "\n"
    assert "Every night" in done.stdout


def test_the_configuration_is_found_by_option_variable_or_folder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    here = quietly("link")
    monkeypatch.chdir("/")
    by_option = quietly("link", "--config", world.folder / "campaign.toml")
    monkeypatch.setenv("CAMPAIGN_CONFIG", str(world.folder / "campaign.toml"))

    assert here == by_option == quietly("link")
    monkeypatch.delenv("CAMPAIGN_CONFIG")
    assert "campaign.toml does not exist" in refused("link")


# --- run


@pytest.mark.promise(20)
def test_an_uneventful_night_says_nothing(world: World) -> None:
    first, second = command("run", "--approve", 3), process("run", cwd=world.folder)

    assert first == second == Result(0, "", "")
    assert len(world.mailed()) == 3


@pytest.mark.case(47)
def test_cron_without_a_locale_and_with_proxies_of_others_changes_nothing(world: World) -> None:
    command("run", "--approve", 3)
    (world.folder / ".netrc").write_text("machine 127.0.0.1 login evil password evil\n", encoding="utf-8")
    evil = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    around = {"LC_ALL": "C", "LANG": "", "REQUESTS_CA_BUNDLE": "/nonexistent", "NETRC": str(world.folder / ".netrc")}
    asked = len(world.accounts.requests)
    done = process("run", "--verbose", cwd=world.folder, PYTHONIOENCODING="ascii", HOME=str(world.folder), **evil, **around)

    names = process("preview", worlds.email(3), cwd=world.folder, PYTHONIOENCODING="latin-1", **around)

    assert (done.exit_code, done.stderr) == (names.exit_code, names.stderr) == (0, "")
    assert "3 users, 0 message(s) sent" in done.stdout
    assert r"To: \u5c71\u7530" in names.stdout
    assert len(world.accounts.requests) == asked + 4  # three users and the canary


@pytest.mark.promise(19)
def test_the_first_night_asks_for_an_approval_and_prints_the_command(world: World) -> None:
    done = command("run")

    assert (done.exit_code, done.stdout) == (4, "")
    assert "test: 3 users: 3 not_approved\n" in done.stderr
    assert (
        "guard first_run: no night of this campaign has mailed yet, or none since campaign adopt; this one would send 3"
        in done.stderr
    )
    assert "campaign run --approve 3" in done.stderr
    assert world.mailed() == []


@pytest.mark.promise(20)
def test_what_is_new_and_needs_a_person_is_printed_once_and_ends_in_3(world: World) -> None:
    world.relay.at("RCPT", "550 5.1.1 no such user", recipient=worlds.email(2))
    with (world.folder / "roster.csv").open("a", encoding="utf-8") as roster:
        roster.write("not-an-id,x@example.com,X\n")
    done = command("run", "--approve", 3)

    assert (done.exit_code, done.stdout) == (3, "")
    new = [line for line in done.stderr.splitlines() if line.startswith("campaign: new: ")]
    assert len(new) == 2
    assert re.search(r"roster\.csv:5: user_id is not a GUID", new[0])
    assert new[1].startswith(f"campaign: new: {worlds.email(2)}: ")
    assert "550 5.1.1 no such user" in new[1]
    assert command("run") == Result(0, "", "")


def test_the_summary_is_printed_on_request(world: World) -> None:
    told = quietly("run", "--approve", 3, "--verbose")

    assert "3 users, 3 message(s) sent" in told
    assert re.search(r"3  sent +are mailed\n", told)
    assert str(world.folder / "reports" / "report.csv") in told


@pytest.mark.usefixtures("world")
def test_run_prints_one_json_object_with_the_promised_keys() -> None:
    stopped = command("run", "--json")
    told = json.loads(stopped.stdout)

    assert (stopped.exit_code, stopped.stdout.count("\n")) == (4, 1)
    assert list(told) == ["run_id", "started", "finished", "exit_code", "counts", "left", "guards", "doubts", "report"]
    assert told["exit_code"] == 4
    assert told["counts"]["rows"] == told["counts"]["users"] == 3
    assert told["counts"]["status"] == {Status.CONSENT_REQUIRED: 3}
    assert told["counts"]["reason"] == {Reason.NOT_APPROVED: 3}
    assert [guard["guard"] for guard in told["guards"]] == ["first_run"]
    assert all(Path(path).is_file() for path in told["report"])
    sent = json.loads(quietly("run", "--json", "--approve", 3))
    assert (sent["counts"]["action"], sent["counts"]["outcome"]) == ({"invited": 3}, {"accepted": 3})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", sent["finished"])


@pytest.mark.promise(19)
def test_a_stop_file_is_named_with_the_way_on(world: World) -> None:
    (world.folder / "STOP").touch()
    done = command("run", "--approve", 3)

    assert done.exit_code == 4
    assert f"campaign: {world.folder / 'STOP'} exists\n" in done.stderr
    assert world.mailed() == []


# --- plan


def test_a_plan_needs_no_ledger_leaves_none_and_says_how_to_go_on(world: World) -> None:
    before = files(world.folder)
    told = quietly("plan")

    assert files(world.folder) == before
    assert "3 users, 3 message(s) planned" in told
    assert f"invite  {worlds.email(2)}  Zoë Müller" in told
    assert told.rstrip().endswith("to run this night: campaign run --approve 3")
    assert world.relay.connections == 0


def test_a_plan_does_not_take_the_news_from_the_run(world: World) -> None:
    world.keys = {"docusign": {"verify_granted_days": 0}}
    world.config()
    world.consent(1)
    quietly("run", "--approve", 3)
    world.revoke(1)
    before = files(world.folder)
    quietly("plan")

    assert files(world.folder) == before
    assert f"campaign: new: {worlds.email(1)}: Docusign says: consent was there" in command("run").stderr


def test_a_plan_shows_rows_that_cannot_be_used(world: World) -> None:
    with (world.folder / "roster.csv").open("a", encoding="utf-8") as roster:
        roster.write("not-an-id,x@example.com,X\n")

    assert re.search(r"rows of roster\.csv that cannot be used:\n  line 5:  user_id is not a GUID", quietly("plan"))


def test_the_whole_plan_goes_into_a_file(world: World) -> None:
    quietly("plan", "--out", "plan.csv")
    with (world.folder / "plan.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    assert [row["email"] for row in rows] == [worlds.email(n) for n in (1, 2, 3)]
    assert {(row["reason"], row["next_action"]) for row in rows} == {("not_approved", "invite")}
    assert "private.pem/plan.csv cannot be written" in refused("plan", "--out", "private.pem/plan.csv")


def test_a_plan_that_no_approval_can_let_through_says_why(world: World) -> None:
    world.revoke(CANARY)
    done = command("plan")

    assert done.exit_code == 4
    assert "guard canary" in done.stderr
    assert "--approve" not in done.stdout + done.stderr


@pytest.mark.usefixtures("world")
def test_a_plan_prints_json() -> None:
    told = json.loads(quietly("plan", "--json"))

    assert (told["exit_code"], told["counts"]["reason"], told["report"]) == (0, {"not_approved": 3}, [])


# --- report, explain


def test_the_report_is_written_again_from_the_ledger(world: World) -> None:
    quietly("run", "--approve", 3)
    (world.folder / "reports" / "report.csv").unlink()
    asked = len(world.accounts.requests)

    assert quietly("report").splitlines()[0] == str(world.folder / "reports" / "report.csv")
    assert json.loads(quietly("report", "--json"))["report"][0] == str(world.folder / "reports" / "report.csv")
    assert len(world.report()) == 3
    assert len(world.accounts.requests) == asked


@pytest.mark.promise(7)
def test_during_a_run_the_report_is_left_to_it(world: World) -> None:
    quietly("run", "--approve", 3)
    before = files(world.folder / "reports")
    with hold(world.config()):
        done = command("report")

    assert (done.exit_code, done.stdout) == (75, "")
    assert "another run holds" in done.stderr
    assert files(world.folder / "reports") == before


def test_without_a_ledger_report_and_explain_say_how_to_get_one(world: World) -> None:
    without, story = command("report"), command("explain", user_id(1))

    assert (without.exit_code, story.exit_code) == (6, 2)
    assert "campaign run" in without.stderr
    assert "there is no ledger yet" in story.stderr
    assert not (world.folder / "ledger.sqlite3").exists()


@pytest.mark.usefixtures("world")
def test_a_user_is_explained_by_id_and_by_address() -> None:
    quietly("run", "--approve", 3)
    told = quietly("explain", user_id(1))

    assert told == quietly("explain", worlds.email(1).upper()) == quietly("explain", user_id(1).upper())
    assert told.startswith(f"{worlds.email(1)} ({user_id(1)})\n")
    events = ["first seen in the roster", "Docusign says: consent is lacking", "and the relay accepted it"]
    assert [event for event in events if event in told] == events
    assert "messages so far: 1 of at most 4" in told
    assert "ended well. A message went out to this user." in told
    assert re.search(r"Next: the first reminder \(message 2 of at most 4\), due from \w{3} [\d-]{10} [\d:]{5}, because", told)


@pytest.mark.usefixtures("world")
def test_a_user_is_explained_as_json() -> None:
    quietly("run", "--approve", 3)
    told = json.loads(quietly("explain", user_id(1), "--json"))

    assert (told["user_id"], told["email"], told["status"]) == (user_id(1), worlds.email(1), "consent_required")
    assert (told["messages"], told["reason"], told["next_action"]) == (1, "sent", "remind")
    assert [event["what"] for event in told["events"]] == ["joined", "consent_required", "accepted"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["next_due"])


def test_an_address_of_several_users_is_refused_with_the_list(world: World) -> None:
    world.roster([{"user_id": user_id(n), "email": "shared@example.com"} for n in (1, 2)])
    quietly("run", "--approve", 3)

    for name in ("explain", "preview"):
        said = refused(name, "Shared@example.com")
        assert f"'Shared@example.com' fits several users: {user_id(1)}, {user_id(2)}" in said
    assert "no user 'nobody@example.com' is known" in refused("explain", "nobody@example.com")
    assert "no user 'nobody@example.com' is known" in refused("preview", "nobody@example.com")


def test_what_comes_next_heeds_orders_and_refused_addresses(world: World) -> None:
    world.relay.at("RCPT", "550 5.1.1 no such user", recipient=worlds.email(3))
    assert command("run", "--approve", 3).exit_code == 3
    quietly("suppress", user_id(1), "--reason", "asked by phone")
    quietly("suppress", user_id(2), "--reason", "on leave", "--until", "2099-01-01")

    assert f"lifts the order not to contact this user: campaign unsuppress {user_id(1)}" in quietly("explain", user_id(1))
    assert json.loads(quietly("explain", user_id(1), "--json"))["suppressed"] == "asked by phone"
    assert "due from Thu 2099-01-01 00:00, because nobody is to contact this user before then" in quietly("explain", user_id(2))
    assert "No message until the roster shows another address" in quietly("explain", user_id(3))


# --- preview, link


def parsed(data: bytes) -> EmailMessage:
    message = BytesParser(policy=email.policy.default).parsebytes(data)
    assert isinstance(message, EmailMessage)
    return message


def test_a_preview_is_the_message_itself(world: World) -> None:
    told = quietly("preview", worlds.email(3))
    quietly("run", "--approve", 3)
    sent = next(parsed(taken.data.encode("latin-1")) for taken in world.relay.accepted if taken.recipient == worlds.email(3))
    body = sent.get_body(("plain",))

    assert body
    assert body.get_content().replace("\r\n", "\n").strip() in told
    assert f"Subject: {sent['Subject']}\n" in told
    assert f"To: 山田 花子 <{worlds.email(3)}>" in told
    assert "From: Contract Sender <contracts@example.com>" in told


@pytest.mark.parametrize("template", ["invite", "reminder"])
def test_a_preview_is_written_in_three_forms(world: World, template: str) -> None:
    for ending in ("eml", "html", "txt"):
        assert quietly("preview", user_id(2), "--template", template, "--out", f"preview.{ending}") == ""
    eml, html, txt = ((world.folder / f"preview.{ending}").read_bytes() for ending in ("eml", "html", "txt"))
    message = parsed(eml)
    parts = [part.get_content() for kind in ("html", "plain") if (part := message.get_body((kind,)))]

    assert message["To"] == f"Zoë Müller <{worlds.email(2)}>"
    assert parts[0].replace("\r\n", "\n") == html.decode()
    assert parts[1].replace("\r\n", "\n").strip() in txt.decode()
    assert CLIENT_ID in txt.decode()
    assert (world.folder / "preview.eml").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_previewed_is_refused(world: World) -> None:
    assert "there is no template 'farewell'" in refused("preview", user_id(1), "--template", "farewell")
    assert "preview.pdf should end in .eml, .html or .txt" in refused("preview", user_id(1), "--out", "preview.pdf")
    assert "private.pem/a.eml cannot be written" in refused("preview", user_id(1), "--out", "private.pem/a.eml")
    assert "'me' is not an e-mail address" in refused("preview", user_id(1), "--to", "me")
    assert "is not an e-mail address" in refused("preview", user_id(1), "--to", "a@example.com, b@example.com")
    assert world.relay.connections == 0


def test_a_test_mail_is_marked_goes_to_that_address_alone_and_is_recorded_nowhere(world: World) -> None:
    before = files(world.folder)
    told = quietly("preview", user_id(3), "--to", "me@example.com")
    [taken] = world.relay.accepted
    message = parsed(taken.data.encode("latin-1"))

    assert told.startswith("sent to me@example.com as a test: ")
    assert (taken.recipient, message["To"]) == ("me@example.com", "me@example.com")
    assert message["Subject"].startswith("[Test] ")
    assert worlds.email(3) not in str(message["To"]) + str(message["Cc"])
    assert files(world.folder) == before


def test_a_test_mail_keeps_to_the_allowed_domains(world: World) -> None:
    world.keys = {"mail": {"allowed_domains": ["example.com"]}}
    world.config()

    assert "[mail] allowed_domains does not allow me@example.org" in refused("preview", user_id(1), "--to", "me@example.org")
    assert quietly("preview", user_id(1), "--to", "me@EXAMPLE.com").startswith("sent to me@EXAMPLE.com")


@pytest.mark.parametrize("reply", ["450 4.2.0 later", "550 5.1.1 no such user", "554 5.7.1 not you"])
def test_a_test_mail_that_is_not_accepted_is_the_relays_refusal(world: World, reply: str) -> None:
    world.relay.at("RCPT", reply)
    done = command("preview", user_id(1), "--to", "me@example.com")

    assert (done.exit_code, done.stdout) == (5, "")
    assert reply in done.stderr


def test_the_links_ask_for_the_configured_scopes_and_nothing_is_tracked(world: World) -> None:
    own, admin = quietly("link").strip(), quietly("link", "--admin").strip()
    asked = {name: values[0] for name, values in parse_qs(urlsplit(own).query).items()}
    asked_of_admin = {name: values[0] for name, values in parse_qs(urlsplit(admin).query).items()}

    shared = {"response_type": "code", "client_id": CLIENT_ID, "redirect_uri": f"{world.accounts.url}/thanks"}
    assert asked == {**shared, "scope": "signature impersonation"}
    assert asked_of_admin == {**shared, "scope": "openid", "admin_consent_scope": "signature impersonation"}
    assert json.loads(quietly("link", "--json")) == {"url": own}
    assert json.loads(quietly("link", "--admin", "--json")) == {"url": admin}


# --- orders


def test_an_order_is_confirmed_and_a_wrong_one_refused(world: World) -> None:
    world.relay.at("dot", "drop", message=1)
    assert command("run", "--approve", 3).exit_code == 3
    message_id = re.findall(r"<test\.1\.\w+@example\.com>", quietly("explain", worlds.email(1)))[0]

    assert quietly("suppress", worlds.email(2), "--reason", "on leave", "--until", "2030-01-01").endswith("until 2030-01-01\n")
    assert quietly("unsuppress", worlds.email(2)) == f"{user_id(2)} may be contacted again\n"
    assert quietly("resolve", message_id, "--lost").startswith("settled: it was lost")
    assert "--reason" in refused("suppress", worlds.email(2))
    assert "--until" in refused("suppress", worlds.email(2), "--reason", "x", "--until", "tomorrow")
    assert "--arrived" in refused("resolve", message_id)
    assert "nobody@example.com" in refused("unsuppress", "nobody@example.com")


# --- adopt


@pytest.mark.usefixtures("world")
def test_there_is_nothing_to_adopt_in_a_sound_campaign() -> None:
    assert quietly("adopt", "--yes").startswith("nothing to adopt")
    quietly("run", "--approve", 3)
    assert quietly("adopt").startswith("nothing to adopt")


def test_without_a_terminal_adopt_shows_what_it_found_and_changes_nothing(world: World) -> None:
    quietly("run", "--approve", 3)
    (world.folder / "ledger.sqlite3.witness").unlink()
    before = files(world.folder)
    done = process("adopt", cwd=world.folder)

    assert done.exit_code == 2
    assert done.stdout.endswith("ledger.sqlite3 has been used, but its witness ledger.sqlite3.witness is missing\n")
    assert "campaign adopt --yes" in done.stderr
    assert files(world.folder) == before


# --- init


def test_a_new_folder_works_with_the_sandbox_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new"
    laid = command("init", folder)
    monkeypatch.chdir(folder)
    again = command("init", ".")

    assert laid.exit_code == again.exit_code == 0
    files = 5 + sum(path.is_file() and path.name != "report.html" for path in (ROOT / "templates").rglob("*"))
    assert len(re.findall("^wrote ", laid.stdout, re.MULTILINE)) == files
    assert len(re.findall("^kept  ", again.stdout, re.MULTILINE)) == files
    assert f"next: cd {folder} && campaign sandbox" in laid.stderr
    with serving(folder) as sandbox:
        monkeypatch.setenv("CAMPAIGN_DOCUSIGN_ACCOUNT_SERVER", sandbox.accounts.url)
        monkeypatch.setenv("CAMPAIGN_MAIL_PORT", str(sandbox.mail.port))
        monkeypatch.setenv("CAMPAIGN_DOCUSIGN_REDIRECT_URI", sandbox.thanks_uri)
        assert "to run this night: campaign run --approve" in quietly("plan")


def serving(folder: Path) -> Sandbox:
    """What `campaign sandbox` serves for this folder, on ports that are free."""
    from campaign.config import load
    from campaign.docusign import load_key
    from campaign.roster import read_roster

    config = load(folder / "campaign.toml", {})
    write_key(folder / "private.pem")
    sandbox = Sandbox(
        people_of(config, read_roster(config).users),
        client_id=config.docusign.client_id,
        application_name="A",
        public_keys=[load_key(folder / "private.pem").public_key()],
        redirect_uris=[config.docusign.redirect_uri],
        folder=folder / "mails",
    )
    consent_canaries(sandbox, config)
    return sandbox


def test_init_does_not_write_where_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    assert "cannot be written: " in refused("init", tmp_path / "file")


@pytest.mark.usefixtures("world")
def test_the_sandbox_says_which_packages_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "werkzeug", None)

    for name in ("sandbox", "demo"):
        said = refused(name)
        assert "the sandbox needs werkzeug" in said
        assert "pip install 'campaign[demo]'" in said
