import os
import re
from collections.abc import Callable, Mapping
from datetime import date, time
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from campaign.config import Config, Secret, load
from campaign.errors import ConfigError
from campaign.files import shipped
from tests.world import CANARY, CLIENT_ID

Write = Callable[..., Config]

# What must be given, one key a line; the tests add to it and take from it.
SMALLEST = f"""\
name = "contract-sender"
[docusign]
environment = "demo"
client_id = "{CLIENT_ID}"
private_key_file = "private.pem"
redirect_uri = "https://intranet.example.com/docusign/thanks.html"
[roster]
file = "roster.csv"
[mail]
host = "smtp.example.com"
from = "Contract Sender <contracts@example.com>"
"""

DEFAULTS: dict[str, dict[str, Any]] = {
    "docusign": {
        "scopes": ("signature", "impersonation"),
        "canary": (),
        "probes_per_hour": 3000,
        "probe_burst": 200,
        "concurrency": 4,
        "timeout": 30,
        "verify_granted_days": 30,
        "prompt_login": False,
        "counterpart": None,
        "account_server": None,
        "ca_file": None,
    },
    "roster": {"encoding": "", "max_rows": 1_000_000, "columns": {}},
    "mail": {
        "port": 587,
        "security": "starttls",
        "helo_name": "",
        "auth": "none",
        "username": "",
        "reply_to": "",
        "preset": "",
        "per_minute": 20,
        "per_day": 300,
        "connections": 1,
        "timeout": 60,
        "final_timeout": 600,
        "allowed_domains": (),
        "ca_file": None,
        "password": None,
        "microsoft": None,
        "google": None,
    },
    "policy": {
        "remind_after_days": (3, 7, 14),
        "max_per_run": 300,
        "days": (),
        "hours": "",
        "timezone": "UTC",
        "holidays": (),
        "escalate_after": 0,
    },
    "guards": {
        "max_error_share": 0.10,
        "max_regressions": 3,
        "max_new_lacking": 25,
        "max_roster_change": 0.30,
        "max_bounces": 25,
    },
    "templates": {"directory": None, "language": "en"},
    "report": {"formats": ("csv", "xlsx", "html"), "mode": "0600"},
    "ledger": {"url": "sqlite:///ledger.sqlite3", "ca_file": None, "password": None},
    "customers": {"file": None, "admin_first_days": 7},
    "monitoring": {"healthcheck_url": SecretStr(""), "metrics_file": None, "log_file": None, "log_addresses": False},
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write campaign.toml with more lines in some sections, and load it."""

    def load_with(text: str = SMALLEST, environ: Mapping[str, str] | None = None, **more: str) -> Config:
        for section, lines in more.items():
            header = f"[{section}]\n"
            text = text.replace(header, header + lines + "\n") if header in text else text + header + lines + "\n"
        path = tmp_path / "campaign.toml"
        path.write_text(text, encoding="utf-8")
        return load(path, environ or {})

    return load_with


def complaint(write: Write, text: str = SMALLEST, environ: Mapping[str, str] | None = None, **more: str) -> str:
    """The one sentence of a configuration that is refused, without its folder."""
    with pytest.raises(ConfigError) as refused:
        write(text, environ, **more)
    sentence = str(refused.value)
    assert refused.value.advice
    assert "\n" not in sentence + refused.value.advice
    return re.sub(r"/\S*/(?=campaign\.toml)", "", sentence)


# --- what may stand in it


def test_every_key_that_is_left_out_has_its_default(write: Write) -> None:
    config = write()

    found = {section: {key: getattr(getattr(config, section), key) for key in keys} for section, keys in DEFAULTS.items()}
    assert found == DEFAULTS
    assert config.report.directory == config.folder / "reports"
    given = {"docusign": 4, "roster": 1, "mail": 2, "report": 1}  # keys of the smallest file, and the directory just seen
    for section, keys in DEFAULTS.items():
        assert len(type(getattr(config, section)).model_fields) == len(keys) + given.get(section, 0)


def test_every_key_can_be_given(write: Write) -> None:
    config = write(
        docusign=f'canary = ["{CANARY.upper()}"]\naccount_server = "http://localhost:8080/"\nca_file = "ca.pem"\n'
        'scopes = ["signature", "impersonation", "aow_manage"]\nprompt_login = true\ntimeout = 2.5\nprobes_per_hour = 0',
        roster='encoding = "cp1252"\ncolumns.user_id = "Docusign ID"',
        mail='reply_to = "help@example.com"\nallowed_domains = ["example.com", "büro.example"]\nport = 465\nsecurity = "tls"\n'
        'auth = "password"\nusername = "u"\npassword = { env = "SMTP" }',
        policy='days = ["mon", "sun"]\nhours = "08:00-18:00"\ntimezone = "Europe/Berlin"\nholidays = [2026-12-25]\n'
        "remind_after_days = []",
        templates='directory = "words"',
        report='formats = ["csv"]\nmode = "640"',
        ledger='url = "sqlite:////var/lib/campaign/ledger.sqlite3"',
    )

    assert config.docusign.canary == (CANARY,)
    assert config.docusign.server == "http://localhost:8080"
    assert config.docusign.scope == "signature impersonation aow_manage"
    assert config.roster.columns == {"user_id": "Docusign ID"}
    assert config.mail.password == Secret(env="SMTP")
    assert (config.policy.weekdays, config.policy.opening) == (frozenset({0, 6}), (time(8), time(18)))
    assert (str(config.policy.zone), config.policy.holidays) == ("Europe/Berlin", (date(2026, 12, 25),))
    assert config.templates.directory == config.folder / "words"
    assert config.ledger_file == Path("/var/lib/campaign/ledger.sqlite3")


def test_relative_paths_start_at_the_folder_of_the_file(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = 'metrics_file = "/var/lib/campaign.prom"\nlog_file = "campaign.log"'
    write(mail='ca_file = "relay.pem"\npassword = { file = "smtp" }', docusign='ca_file = "/etc/ca.pem"', monitoring=watched)
    monkeypatch.chdir(tmp_path)
    config = load(Path("campaign.toml"), {})

    assert config.folder == tmp_path
    assert config.docusign.private_key_file == tmp_path / "private.pem"
    assert config.docusign.ca_file == Path("/etc/ca.pem")
    assert config.roster.file == tmp_path / "roster.csv"
    assert (config.mail.ca_file, config.mail.password and config.mail.password.file) == (
        tmp_path / "relay.pem",
        tmp_path / "smtp",
    )
    assert (config.ledger_file, config.stop_file) == (tmp_path / "ledger.sqlite3", tmp_path / "STOP")
    assert config.monitoring.metrics_file == Path("/var/lib/campaign.prom")
    assert config.monitoring.log_file == tmp_path / "campaign.log"


def test_the_environment_decides_account_host_and_audience(write: Write) -> None:
    demo, production = write(), write(SMALLEST.replace('"demo"', '"production"'))

    assert (demo.docusign.audience, demo.docusign.server) == ("account-d.docusign.com", "https://account-d.docusign.com")
    assert production.docusign.server == "https://account.docusign.com"


def test_the_sender_is_known_by_name_and_by_address(write: Write) -> None:
    named, bare = write(), write(SMALLEST.replace("Contract Sender <contracts@example.com>", "contracts@example.com"))

    assert (named.mail.sender_name, named.mail.sender_address) == ("Contract Sender", "contracts@example.com")
    assert bare.mail.sender_name == "contracts@example.com"


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(write: Write) -> None:
    assert write("\ufeff" + SMALLEST.replace("\n", "\r\n")).name == "contract-sender"


# --- the shipped example


def shipped_lines() -> list[str]:
    return (shipped("data") / "campaign.toml").read_text(encoding="utf-8").splitlines()


COMMENTED = [number for number, line in enumerate(shipped_lines()) if re.match(r"# (\[[\w.]+\]|\w+ = )", line)]


def table_of(number: int) -> list[int]:
    """A commented key alone; but within a commented table the whole of it, header and keys."""
    first = last = number
    while not shipped_lines()[first].startswith("# [") and first - 1 in COMMENTED:
        first -= 1
    if not shipped_lines()[first].startswith("# ["):
        return [number]
    while last + 1 in COMMENTED and not shipped_lines()[last + 1].startswith("# ["):
        last += 1
    return list(range(first, last + 1))


def uncommented(numbers: list[int]) -> str:
    """The shipped file with these lines live: a key, or a table with its keys."""
    lines = shipped_lines()
    for number in numbers:
        lines[number] = lines[number].removeprefix("# ")
    return "\n".join(lines)


def test_the_shipped_example_loads_and_names_nobody_outside(write: Write) -> None:
    config = write("\n".join(shipped_lines()))

    assert (config.docusign.server, config.mail.host) == ("http://127.0.0.1:8080", "127.0.0.1")


@pytest.mark.parametrize("number", COMMENTED, ids=lambda number: shipped_lines()[number].partition(" # ")[0].strip("# "))
def test_every_commented_key_of_the_shipped_example_is_valid(number: int, write: Write) -> None:
    write(uncommented(table_of(number)))


def test_all_commented_keys_of_the_shipped_example_are_valid_together(write: Write) -> None:
    config = write(uncommented(COMMENTED))

    assert config.mail.password
    assert config.roster.columns


def test_the_shipped_example_shows_every_key_that_works(write: Write) -> None:
    text = uncommented(COMMENTED)
    tables = {"columns", "password", "microsoft", "google"}
    keys = {*Config.model_fields} | {
        field.alias or name for section in DEFAULTS for name, field in type(getattr(write(), section)).model_fields.items()
    }

    assert [key for key in sorted(keys - tables) if not re.search(rf"^(\[{key}\]|{key} =)", text, re.MULTILINE)] == []


# --- what is wrong: the place, the key, and what it should be

UNKNOWN = [
    ({"mail": "hots = 1"}, "campaign.toml:10: unknown key [mail] hots; did you mean host?"),
    ({"policy": "max_mials = 3"}, "campaign.toml:13: unknown key [policy] max_mials; did you mean max_per_run?"),
    ({"mail": "max_per_run = 3"}, "campaign.toml:10: unknown key [mail] max_per_run; did you mean [policy] max_per_run?"),
    ({"mail": 'name = "x"'}, "campaign.toml:10: unknown key [mail] name; did you mean name?"),
    ({"mial": "port = 25"}, "campaign.toml:12: unknown table [mial]; did you mean mail?"),
    ({"mail.password": 'fiel = "x"'}, "campaign.toml:13: unknown key [mail.password] fiel; did you mean file?"),
    ({"mail": 'password = { fiel = "x" }'}, "campaign.toml:10: unknown key [mail.password] fiel; did you mean file?"),
    ({" mail . password ": '"fiel" = "x"'}, "campaign.toml:13: unknown key [mail.password] fiel; did you mean file?"),
    ({"mail": "'per dya' = 3"}, "campaign.toml:10: unknown key [mail] per dya; did you mean per_day?"),
    ({"roster": 'columns.x = "a"\ncoding = "b=c"'}, "campaign.toml:9: unknown key [roster] coding; did you mean encoding?"),
    ({"docusign": '_folder = "/"'}, "campaign.toml:3: unknown key [docusign] _folder; did you mean ca_file?"),
]


@pytest.mark.case(31)
@pytest.mark.parametrize(("more", "sentence"), UNKNOWN, ids=[sentence for _, sentence in UNKNOWN])
def test_an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one(write: Write, more: Any, sentence: str) -> None:
    assert complaint(write, **more) == sentence


@pytest.mark.parametrize("key", ["folder", "_folder", "stop_file"])
def test_the_folder_cannot_be_set(write: Write, key: str) -> None:
    assert complaint(write, f'{key} = "/"\n{SMALLEST}').startswith(f"campaign.toml:1: unknown key {key}")


def test_a_misspelt_key_is_named_before_the_one_that_is_therefore_missing(write: Write) -> None:
    misspelt = SMALLEST.replace("private_key_file", "private_key")

    assert complaint(write, misspelt) == "campaign.toml:5: unknown key [docusign] private_key; did you mean private_key_file?"


def test_all_missing_keys_are_named_at_once(write: Write) -> None:
    without = "".join(line for line in SMALLEST.splitlines(keepends=True) if not line.startswith(("client_id", "host", "file")))

    assert complaint(write, without) == "campaign.toml:2: must be given: [docusign] client_id, [roster] file, [mail] host"
    assert complaint(write, "name = 'x'") == (
        "campaign.toml: must be given: [docusign] environment, [docusign] client_id, [docusign] private_key_file,"
        " [docusign] redirect_uri, [roster] file, [mail] host, [mail] from"
    )


WRONG = [
    # types
    ("mail", 'port = "587"', "[mail] port: must be a whole number"),
    ("mail", "port = true", "[mail] port: must be a whole number"),
    ("mail", "port = 587.0", "[mail] port: must be a whole number"),
    ("mail", "port = 70000", "[mail] port: must be less than or equal to 65535"),
    ("mail", "timeout = 'long'", "[mail] timeout: must be a number"),
    ("mail", "timeout = nan", "[mail] timeout: must be less than or equal to 3600"),
    ("mail", "timeout = 0", "[mail] timeout: must be greater than 0"),
    ("mail", "timeout = inf", "[mail] timeout: must be less than or equal to 3600"),
    ("mail", "per_day = -1", "[mail] per_day: must be greater than or equal to 0"),
    ("mail", "username = 7", "[mail] username: must be a text in quotes"),
    ("mail", "ca_file = 7", "[mail] ca_file: must be a path in quotes"),
    ("mail", "allowed_domains = 'example.com'", "[mail] allowed_domains: must be a list in square brackets"),
    ("mail", "allowed_domains = ['@example.com']", "[mail] allowed_domains: '@example.com' is not a domain such as example.com"),
    ("mail", "password = 'hunter2'", "[mail.password]: must be a table"),
    ("docusign", 'prompt_login = "yes"', "[docusign] prompt_login: must be true or false"),
    ("docusign", "prompt_login = 1", "[docusign] prompt_login: must be true or false"),
    ("docusign", "concurrency = 0", "[docusign] concurrency: must be greater than or equal to 1"),
    ("docusign", "verify_granted_days = 4000", "[docusign] verify_granted_days: must be less than or equal to 3650"),
    ("roster", "columns = 3", "[roster] columns: must be a table"),
    ("roster", "max_rows = 0", "[roster] max_rows: must be greater than or equal to 1"),
    ("guards", "max_error_share = 10", "[guards] max_error_share: must be less than or equal to 1"),
    ("guards", "max_roster_change = inf", "[guards] max_roster_change: must be a finite number"),
    ("report", "mode = 600", "[report] mode: must be a text in quotes"),
    ("report", 'mode = "rw"', """[report] mode: 'rw' is not a file mode such as "0600" or "0640\""""),
    ("report", 'formats = ["pdf"]', "[report] formats: must be 'csv', 'xlsx' or 'html'"),
    (
        "ledger",
        "url = 'postgresql://db/campaign'",
        "[ledger] url: must be sqlite:/// and the path of a file, or postgresql+psycopg",
    ),
    ("ledger", "url = 'sqlite:///:memory:'", "[ledger] url: must be sqlite:/// and the path of a file, or"),
    ("ledger", "url = 'sqlite:///'", "[ledger] url: must be sqlite:/// and the path of a file, or"),
    *(
        (
            "ledger",
            f"url = 'postgresql+psycopg://{rest}'",
            "[ledger] url: must be postgresql+psycopg://USER@HOST:PORT/DATABASE, and",
        )
        for rest in (
            "",
            "db/campaign",
            "u@/campaign",
            "u@db",
            "u@db/",
            "u@db/a/b",
            "u@db/a?sslmode=disable",
            "u@db:0/a",
            "u@db:x/a",
        )
    ),
    (
        "ledger",
        "url = 'postgresql+psycopg://u:hunter2@127.0.0.1/a'",
        "[ledger] url: must not hold a password: say in a [ledger.password]",
    ),
    ("ledger", "url = 'postgresql+psycopg://u@db.example.com/a'", "[ledger]: a database server elsewhere needs ca_file"),
    # whom we ask
    ("docusign", "canary = ['me@example.com']", "[docusign] canary: 'me@example.com' is not a GUID like"),
    ("docusign", "account_server = 'https://account.docusign.com'", "[docusign] account_server: must be a loopback server"),
    ("docusign", "account_server = 'http://127.0.0.1.example.com'", "[docusign] account_server: must be a loopback server"),
    ("docusign", "account_server = 'http://user@127.0.0.1'", "[docusign] account_server: must be a loopback server"),
    ("docusign", "account_server = 'http://127.0.0.1/?x'", "[docusign] account_server: must be a loopback server"),
    ("docusign", "account_server = 'http://127.0.0.1:99999'", "[docusign] account_server: Port out of range"),
    ("docusign", "account_server = 'ftp://127.0.0.1'", "[docusign] account_server: must be a loopback server"),
    ("docusign", "scopes = 'signature'", "[docusign] scopes: must be a list in square brackets"),
    (
        "docusign",
        "scopes = ['signature impersonation']",
        "[docusign] scopes: scope 'signature impersonation': one scope an entry",
    ),
    (
        "docusign",
        "scopes = ['signature', 'openid', 'impersonation']",
        "[docusign] scopes: scope 'openid' belongs to other grants",
    ),
    # when
    ("policy", "hours = '8-18'", "[policy] hours: '8-18' is not a time of day like 08:00-18:00"),
    ("policy", "hours = '18:00-08:00'", "[policy] hours: '18:00-08:00' is not a time of day"),
    ("policy", "hours = '08:00Z-18:00Z'", "[policy] hours: '08:00Z-18:00Z' is not a time of day"),
    ("policy", "hours = '08:00'", "[policy] hours: '08:00' is not a time of day"),
    ("policy", "days = ['Monday']", "[policy] days: must be 'mon', 'tue'"),
    ("policy", "timezone = 'CET+1'", "[policy] timezone: 'CET+1' is no time zone"),
    ("policy", "timezone = 'Europe'", "[policy] timezone: 'Europe' is no time zone"),
    ("policy", "timezone = ''", "[policy] timezone: '' is no time zone"),
    ("policy", "timezone = '../../etc/passwd'", "[policy] timezone: '../../etc/passwd' is no time zone"),
    ("policy", "holidays = ['2026-12-25']", "[policy] holidays: must be a date such as 2026-12-25, without quotes"),
    ("policy", "remind_after_days = [0]", "[policy] remind_after_days: must be greater than or equal to 1"),
    ("policy", "remind_after_days = [3, 1_000_000_000]", "[policy] remind_after_days: must be less than or equal to 3650"),
    # who writes
    ("mail", "reply_to = 'nobody'", "[mail] reply_to: 'nobody' is not one e-mail address"),
    # secrets
    ("mail.password", "file = 'a'\nenv = 'b'", "[mail.password]: give exactly one of file, env, command, credential"),
    ("mail.password", "env = ''", "[mail.password] env: must not be empty"),
    ("mail.password", "command = []", "[mail.password] command: must not be empty"),
    ("mail.password", "command = 'pass show smtp'", "[mail.password] command: must be a list in square brackets"),
    ("mail.password", "credential = '../smtp'", "[mail.password] credential: must be a name without slashes"),
    # the provider
    ("mail", 'preset = "gmail"', "[mail] preset: must be '', 'microsoft365'"),
    ("mail", "connections = 33", "[mail] connections: must be less than or equal to 32"),
    ("mail.microsoft", 'client_id = "x"', "[mail.microsoft] client_id: 'x' is not a GUID"),
    (
        "mail.microsoft",
        f'tenant = "common"\nclient_id = "{CLIENT_ID}"\nsecret = {{ env = "S" }}',
        "[mail.microsoft] tenant: 'common' is not",
    ),
    ("mail.microsoft", f'tenant = "t.example"\nclient_id = "{CLIENT_ID}"', "[mail.microsoft]: give either certificate_file or a"),
    (
        "mail.microsoft",
        f'authority = "http://login.example"\ntenant = "t.example"\nclient_id = "{CLIENT_ID}"\nsecret = {{ env = "S" }}',
        "[mail.microsoft] authority: must be an https server",
    ),
]


@pytest.mark.promise(15)
@pytest.mark.case(29, 31)
@pytest.mark.parametrize(("section", "line", "sentence"), WRONG, ids=[line for _, line, _ in WRONG])
def test_a_wrong_value_is_refused_with_its_line_and_what_it_should_be(
    write: Write, section: str, line: str, sentence: str
) -> None:
    where = {"docusign": 3, "roster": 8, "mail": 10}.get(section, 13)
    of_table = sentence.startswith(("[mail.password]:", "[mail.microsoft]:", "[ledger]:")) and section.startswith(
        ("mail.", "ledger")
    )
    given: Any = {section: line}

    assert complaint(write, **given).startswith(f"campaign.toml:{where - of_table}: {sentence}")


@pytest.mark.parametrize(
    "url",
    [
        "http://hc.example/MARKER",
        "MARKER",
        "https://",
        "https:///MARKER",
        "https://hc.example:MARKER/",
        "https://hc.example:0/MARKER",
        "https://[MARKER/",
        "https://hc.example/#MARKER",
        "https://hc.example/MAR KER",
        "https://hc.example/\tMARKER",
        "ftp://hc.example/MARKER",
    ],
)
def test_a_ping_url_that_is_refused_is_not_repeated(write: Write, url: str) -> None:
    in_file = complaint(write, monitoring=f"healthcheck_url = '{url}'")
    in_environment = complaint(write, environ={"CAMPAIGN_MONITORING_HEALTHCHECK_URL": url})
    sentence = "[monitoring] healthcheck_url: must be an https:// URL without a fragment (http:// only on loopback)"

    assert in_file == f"campaign.toml:13: {sentence}"
    assert in_environment == f"the environment variable CAMPAIGN_MONITORING_HEALTHCHECK_URL: {sentence}"


@pytest.mark.parametrize("url", ["https://hc.example/MARKER?create=1", "http://127.0.0.1:8000/ping/MARKER", "http://localhost/M"])
def test_a_ping_url_is_taken_and_not_shown(write: Write, url: str) -> None:
    config = write(monitoring=f"healthcheck_url = '{url}'")

    assert config.monitoring.healthcheck_url.get_secret_value() == url
    assert url not in repr(config) + str(config) + config.model_dump_json()


NUMBERS = [
    (section, key, type(default))
    for section, keys in DEFAULTS.items()
    for key, default in keys.items()
    if isinstance(default, int | float)
]


@pytest.mark.parametrize(("section", "key", "kind"), NUMBERS, ids=[f"{section}.{key}" for section, key, _ in NUMBERS])
def test_numbers_and_switches_are_not_guessed_from_something_else(write: Write, section: str, key: str, kind: type) -> None:
    for value in ('"1"', "1" if kind is bool else "true"):
        given: Any = {section: f"{key} = {value}"}

        assert f"[{section}] {key}: must be " in complaint(write, **given)


REPLACED = [
    ('"contract-sender"', '"Contract Sender"', "campaign.toml:1: name: 'Contract Sender' must be 1 to 64 small letters"),
    ('"demo"', '"sandbox"', "campaign.toml:3: [docusign] environment: must be 'demo' or 'production'"),
    (CLIENT_ID, "12345", "campaign.toml:4: [docusign] client_id: '12345' is not a GUID like"),
    ("https://intranet", "http://intranet", "campaign.toml:6: [docusign] redirect_uri: must begin with https://"),
    ("https://intranet", "intranet", "campaign.toml:6: [docusign] redirect_uri: must be an absolute URL"),
    ("thanks.html", "thanks.html#top", "campaign.toml:6: [docusign] redirect_uri: must be an absolute URL without a fragment"),
    ("thanks.html", "thanks .html", "campaign.toml:6: [docusign] redirect_uri: must be an absolute URL"),
    ("https://intranet.example.com", "https://[::1", "campaign.toml:6: [docusign] redirect_uri: Invalid IPv6 URL"),
    ("smtp.example.com", "smtp.example.com:587", "campaign.toml:10: [mail] host: 'smtp.example.com:587' is not a host name"),
    ("smtp.example.com", "smtp://example.com", "campaign.toml:10: [mail] host: 'smtp://example.com' is not a host name"),
    ("smtp.example.com", "", "campaign.toml:10: [mail] host: '' is not a host name"),
    ("Contract Sender <contracts@example.com>", "Contracts", "campaign.toml:11: [mail] from: 'Contracts' is not one e-mail"),
    ("<contracts@example.com>", "contracts@example.com", "campaign.toml:11: [mail] from: 'Contract Sender contracts@"),
    ("<contracts@example.com>", "<a@example.com>, b@example.com", "campaign.toml:11: [mail] from: 'Contract Sender <a@"),
    ("Contract Sender <contracts@example.com>", "a@b.example, c@d.example", "campaign.toml:11: [mail] from: 'a@b.example, c@"),
    ("@example.com>", "@bücher.example>", "campaign.toml:11: [mail] from: 'Contract Sender <contracts@bücher.example>': write"),
    ("Contract Sender", r"Contract\r\nBcc: you@example.com", r"campaign.toml:11: [mail] from: 'Contract\r\nBcc:"),
    ('file = "roster.csv"', 'file = """a\nb"""', "campaign.toml:8: [roster] file: must be the path of a file"),
]


@pytest.mark.parametrize(("old", "new", "sentence"), REPLACED, ids=[new for _, new, _ in REPLACED])
def test_a_wrong_value_of_a_needed_key_is_refused_likewise(write: Write, old: str, new: str, sentence: str) -> None:
    assert complaint(write, SMALLEST.replace(old, new)).startswith(sentence)


@pytest.mark.parametrize("name", ["server", "[192.0.2.1]", "a b.example.com", "münchen.example", ".example"])
def test_a_name_to_greet_by_is_a_full_host_name(write: Write, name: str) -> None:
    assert f"[mail] helo_name: {name!r} is not a full host name" in complaint(write, mail=f'helo_name = "{name}"')


def test_scopes_without_impersonation_or_twice_the_same_are_refused(write: Write) -> None:
    alone = "campaign.toml:2: [docusign]: scopes must hold impersonation and at least one scope of an API, such as signature"

    assert complaint(write, docusign='scopes = ["signature"]') == alone
    assert complaint(write, docusign='scopes = ["impersonation"]') == alone
    assert "names one scope twice" in complaint(write, docusign='scopes = ["signature", "signature", "impersonation"]')


def test_plain_smtp_is_for_loopback_only(write: Write) -> None:
    assert 'security = "none" is for a relay on loopback only' in complaint(write, mail='security = "none"')
    assert write(SMALLEST.replace("smtp.example.com", "::1"), mail='security = "none"').mail.security == "none"


def test_a_sign_in_needs_a_user_name_and_a_password(write: Write) -> None:
    secret = '\npassword.env = "SMTP"'

    assert "needs a username and a [mail.password] table" in complaint(write, mail=f'auth = "password"{secret}')
    assert "needs a username and a [mail.password] table" in complaint(write, mail='auth = "password"\nusername = "u"')


def test_a_preset_fills_in_the_limits_that_are_not_given(write: Write) -> None:
    preset = write(mail='preset = "ses"').mail
    given = write(mail='preset = "ses"\nper_day = 50000').mail

    assert (preset.per_minute, preset.per_day) == (60, 200)
    assert (given.per_minute, given.per_day) == (60, 50000)


def by_microsoft(proof: str = "") -> dict[str, Any]:
    """What a sign-in by OAuth needs."""
    app = f'tenant = "contoso.example"\nclient_id = "{CLIENT_ID}"\n{proof}'
    return {"mail": 'auth = "microsoft"\nusername = "contracts@contoso.example"', "mail.microsoft": app}


def test_the_secret_of_an_app_stands_in_a_table_like_the_password(write: Write) -> None:
    environ = {"CAMPAIGN_APP_SECRET": "s3cret"}
    app = write(SMALLEST, environ, **by_microsoft('secret.env = "CAMPAIGN_APP_SECRET"')).mail.microsoft

    assert app
    assert app.secret
    assert app.secret.read(environ).get_secret_value() == "s3cret"


def test_a_sign_in_by_oauth_needs_its_table_and_one_proof(write: Write) -> None:
    assert "give either certificate_file or a [mail.microsoft.secret] table" in complaint(write, **by_microsoft())
    assert "needs a username and a [mail.google] table" in complaint(write, mail='auth = "google"\nusername = "u"')


def test_http_is_accepted_for_a_redirect_uri_on_loopback_only(write: Write) -> None:
    loopback = SMALLEST.replace("https://intranet.example.com", "http://127.0.0.1:8080")

    assert write(loopback).docusign.redirect_uri.startswith("http://127.0.0.1")


# --- the file itself

BROKEN = [
    ("", "campaign.toml is empty"),
    ("  \n", "campaign.toml is empty"),
    ("name = contract", "campaign.toml:1: Invalid value"),
    ("[mail]\nhost\n", "campaign.toml:2: Expected '=' after a key in a key/value pair"),
    ("[mail]\nport = 1\nport = 2\n[policy]\n", "campaign.toml:3: this key was given before"),
    ("[mail]\n[mail]\n", "campaign.toml:2: Cannot declare ('mail',) twice"),
    ("x = [1,\n2,\n", "campaign.toml:2: Invalid value"),
    ("x = 2026-02-30", "campaign.toml:1: Invalid date or datetime"),
    ("x = " + "9" * 5000, "campaign.toml:1: Exceeds the limit"),
    ("mail = 3", "campaign.toml:1: [mail]: must be a table"),
    ("[[mail]]\nhost = 'x'", "campaign.toml"),
]


@pytest.mark.case(31)
@pytest.mark.parametrize(("text", "sentence"), BROKEN, ids=[sentence for _, sentence in BROKEN])
def test_a_file_that_is_no_toml_is_refused_with_its_line(write: Write, text: str, sentence: str) -> None:
    assert complaint(write, text).startswith(sentence)


@pytest.mark.case(31)
def test_a_file_that_is_missing_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml does not exist") as refused:
        load(tmp_path / "nothing.toml", {})

    assert "campaign init DIR" in refused.value.advice


@pytest.mark.parametrize(("mode", "refused"), [(0o602, True), (0o666, True), (0o664, False), (0o444, False)])
def test_a_file_that_everybody_can_change_is_refused(tmp_path: Path, mode: int, refused: bool) -> None:
    """It may name a command to be run."""
    path = tmp_path / "campaign.toml"
    path.write_text("name = 1\n", encoding="utf-8")
    path.chmod(mode)
    with pytest.raises(ConfigError) as stopped:
        load(path, {})

    assert ("can be changed by everybody" in str(stopped.value)) is refused
    assert (stopped.value.advice == f"chmod o-w {path}") is refused


def test_a_folder_or_another_encoding_is_refused(tmp_path: Path) -> None:
    latin = tmp_path / "campaign.toml"
    latin.write_bytes(SMALLEST.replace("Sender <", "Sénder <").encode("cp1252"))

    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        load(tmp_path, {})
    with pytest.raises(ConfigError, match=r"campaign\.toml:11: a byte here is not UTF-8"):
        load(latin, {})


# --- the environment


def test_the_environment_overrides_scalar_keys(write: Write) -> None:
    environ = {
        "CAMPAIGN_NAME": "other",
        "CAMPAIGN_MAIL_PORT": "2525",
        "CAMPAIGN_MAIL_FROM": "Other <other@example.com>",
        "CAMPAIGN_MAIL_USERNAME": "12345",
        "CAMPAIGN_DOCUSIGN_PROMPT_LOGIN": "true",
        "CAMPAIGN_DOCUSIGN_TIMEOUT": "2.5",
        "CAMPAIGN_POLICY_MAX_PER_RUN": "7",
        "CAMPAIGN_TEMPLATES_DIRECTORY": "",
        "CAMPAIGN_REPORT_DIRECTORY": "elsewhere",
        "CAMPAIGN_CONFIG": "campaign.toml",
        "HOME": "/",
    }
    config = write(mail="port = 25", environ=environ)

    assert (config.name, config.mail.port, config.mail.sender_name, config.mail.username) == ("other", 2525, "Other", "12345")
    assert (config.docusign.prompt_login, config.docusign.timeout) == (True, 2.5)
    assert (config.policy.max_per_run, config.templates.directory) == (7, None)
    assert config.report.directory == config.folder / "elsewhere"


VARIABLES = [
    ("CAMPAIGN_MAIL_PROT", "sets no key of campaign.toml; did you mean CAMPAIGN_MAIL_PORT?"),
    ("CAMPAIGN_MIAL_PORT", "sets no key of campaign.toml; did you mean CAMPAIGN_MAIL_PORT?"),
    ("CAMPAIGN_DOCUSIGN_SCOPES", "sets no key of campaign.toml"),  # a list
    ("CAMPAIGN_ROSTER_COLUMNS", "sets no key of campaign.toml"),
    ("CAMPAIGN_MAIL_PASSWORD", "sets no key of campaign.toml"),
    ("CAMPAIGN_FOLDER", "sets no key of campaign.toml"),
    ("CAMPAIGN_MAIL_PORT", ": [mail] port: must be a whole number"),
    ("CAMPAIGN_DOCUSIGN_PROMPT_LOGIN", ": [docusign] prompt_login: must be true or false"),
    ("CAMPAIGN_MAIL_TIMEOUT", ": [mail] timeout: must be a number"),
    ("CAMPAIGN_MAIL_PRESET", ": [mail] preset: must be '', 'microsoft365'"),
]


@pytest.mark.parametrize(("variable", "sentence"), VARIABLES, ids=[variable for variable, _ in VARIABLES])
def test_a_variable_that_is_wrong_is_refused_by_its_name_without_its_value(write: Write, variable: str, sentence: str) -> None:
    said = complaint(write, environ={variable: "hunter2"})

    assert said.startswith(f"the environment variable {variable}{'' if sentence[0] == ':' else ' '}{sentence}")
    assert "hunter2" not in said


def test_the_variable_of_the_password_may_begin_like_a_key(write: Write) -> None:
    config = write(environ={"CAMPAIGN_MAIL_PASSWORD": "hunter2"}, **{"mail.password": 'env = "CAMPAIGN_MAIL_PASSWORD"'})

    assert config.mail.password
    assert config.mail.password.read({"CAMPAIGN_MAIL_PASSWORD": "hunter2"}).get_secret_value() == "hunter2"


# --- secrets


def private(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_secret_comes_from_a_file_a_variable_a_command_or_a_credential(tmp_path: Path) -> None:
    private(tmp_path / "smtp", "pässword 1 \r\n".encode())
    places = [
        Secret(file=tmp_path / "smtp"),
        Secret(env="SMTP"),
        Secret(command=("cat", str(tmp_path / "smtp"))),
        Secret(credential="smtp"),
    ]
    environ = {"SMTP": "pässword 1 ", "CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert [place.read(environ).get_secret_value() for place in places] == ["pässword 1 "] * 4


UNREADABLE = [
    (Secret(env="SMTP"), "the environment variable SMTP is not set"),
    (Secret(credential="smtp"), "the environment variable CREDENTIALS_DIRECTORY is not set"),
    (Secret(command=("false",)), "the secret from command false cannot be read: it ended with exit code 1"),
    (
        Secret(command=("/nonexistent", "hunter2")),
        "the secret from command /nonexistent cannot be read: No such file or directory",
    ),
    (
        Secret(command=("sh", "-c", "echo hunter2; exit 3")),
        "the secret from command sh cannot be read: it ended with exit code 3",
    ),
    (Secret(command=("printf", r"hunter2\377")), "the secret from command printf cannot be read: it is not UTF-8"),
    (Secret(command=("printf", r"hunter2\nhunter2")), "the secret from command printf holds more than one line, or control"),
    (Secret(command=("printf", r"\n")), "the secret from command printf is empty"),
    (Secret(command=("printf", r"hunter2\000")), "the secret from command printf holds more than one line, or control"),
]


@pytest.mark.parametrize(("place", "sentence"), UNREADABLE, ids=[sentence for _, sentence in UNREADABLE])
def test_a_secret_that_cannot_be_read_is_named_by_its_place_and_never_shown(place: Secret, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        place.read({})

    assert str(refused.value).startswith(sentence)
    assert "hunter2" not in f"{refused.value} {refused.value.advice} {refused.value.__cause__}"


def test_a_credential_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the secret from credential smtp cannot be read: No such file"):
        Secret(credential="smtp").read({"CREDENTIALS_DIRECTORY": str(tmp_path)})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601], ids=oct)
def test_a_password_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    place = Secret(file=private(tmp_path / "smtp", b"hunter2", mode))

    with pytest.raises(ConfigError, match=f"smtp can be read by others .mode {mode:04o}.") as refused:
        place.read({})
    assert refused.value.advice == f"chmod 600 {tmp_path}/smtp"


@pytest.mark.promise(14)
def test_no_secret_is_printed_with_the_configuration_or_with_an_error(write: Write, tmp_path: Path) -> None:
    private(tmp_path / "smtp", b"hunter2")
    config = write(mail='auth = "password"\nusername = "u"\npassword.file = "smtp"')
    assert config.mail.password
    secret = config.mail.password.read(os.environ)

    assert "hunter2" not in f"{config!r} {config} {secret!r} {secret} {[secret]} {config.model_dump()}"
    pasted = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"
    with pytest.raises(ConfigError) as refused:
        write(SMALLEST.replace('"private.pem"', f'"""{pasted}"""'))
    assert "must be the path of a file, not what stands in it" in str(refused.value)
    assert "MII" not in f"{refused.value} {refused.value.__cause__} {refused.value.__context__}"
