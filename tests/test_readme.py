"""The README says what the program does, and every command in it works."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from campaign.config import Mail
from campaign.config.schema import Ledger, Microsoft
from campaign.errors import ConfigError, ExitCode
from campaign.files import read_private
from campaign.mailer.providers import known
from campaign.model import Grade, Reason, Status
from campaign.report import Row
from campaign.sasl import tokens
from tests import pictures
from tests.commands import COMMANDS
from tests.world import CLIENT_ID

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def campaign(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """One `campaign …` line of the README."""
    words = [sys.executable, "-m", "campaign", *shlex.split(line)[1:]]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_it_opens_with_two_commands_and_the_second_is_what_the_machine_runs() -> None:
    first, second, *_ = BLOCKS

    assert first.strip().endswith("campaign demo")
    assert second.strip() in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_command_and_every_option_stands_in_it() -> None:
    shared = {"--config", "--help", "--json", "--quiet", "--verbose"}
    for name, command in COMMANDS.items():
        row = next(line for line in README.splitlines() if line.startswith(f"| `campaign {name}"))
        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}

        assert options - shared <= set(re.findall(r"--[a-z-]+", row)), name


def test_every_command_that_it_shows_exists() -> None:
    shown = set(re.findall(r"campaign ([a-z]+)(?: |`|$)", "\n".join(BLOCKS)))

    assert shown <= {name.partition(" ")[0] for name in COMMANDS}


def test_exit_codes_statuses_reasons_and_columns_stand_in_it() -> None:
    for code in ExitCode:
        assert re.search(rf"\| (?:130, )?{int(code)}(?:, 143)? \|", README), code
    for word in (*Status, *Reason, *Row._fields):
        assert f"`{word}`" in README, word


def test_the_first_approved_night_goes_as_it_says(tmp_path: Path) -> None:
    """Every line of the two blocks on the sandbox, in their order, with ports of our own."""
    assert "campaign init work" in BLOCKS[2]
    assert campaign("campaign init work", tmp_path).returncode == 0
    folder = tmp_path / "work"
    port, smtp_port = _free_port(), _free_port()
    settings = folder / "campaign.toml"
    text = (
        settings.read_text(encoding="utf-8")
        .replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        .replace("port = 2525", f"port = {smtp_port}")
    )
    settings.write_text(text, encoding="utf-8")
    words = [sys.executable, "-m", "campaign", "sandbox", "--port", str(port), "--smtp-port", str(smtp_port)]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True) as sandbox:
        try:
            assert sandbox.stdout
            while "try:" not in sandbox.stdout.readline():
                assert sandbox.poll() is None
            _two_nights(folder)
        finally:
            sandbox.send_signal(signal.SIGINT)


def _two_nights(folder: Path) -> None:
    plan, refused = campaign("campaign plan", folder), campaign("campaign run", folder)
    needed = re.search(r"campaign run --approve \d+", refused.stderr)
    assert (plan.returncode, refused.returncode) == (0, 4), plan.stderr + refused.stderr
    assert needed
    assert needed[0] in plan.stdout
    approved, later = campaign(needed[0], folder), campaign("campaign run", folder)
    explain = next(line for line in BLOCKS[5].splitlines() if "explain" in line)

    assert (approved.returncode, later.returncode) == (0, 0), approved.stderr + later.stderr
    assert (later.stdout, later.stderr) == ("", "")
    assert "and the relay accepted it" in campaign(explain, folder).stdout
    assert campaign("campaign link", folder).stdout.startswith("http://127.0.0.1:")
    preview = next(line for line in BLOCKS[6].splitlines() if "preview" in line)
    assert "sent to you@example.com as a test" in campaign(preview, folder).stdout


def test_the_certificate_that_it_makes_signs_in_at_microsoft(tmp_path: Path) -> None:
    making = next(block for block in BLOCKS if "openssl req" in block)
    subprocess.run(["sh", "-ec", making], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    app = Microsoft(tenant="contoso.onmicrosoft.com", client_id=CLIENT_ID, certificate_file=tmp_path / "smtp-app.pem")
    mail = Mail.model_validate(
        {"host": "h", "from": "a@example.com", "auth": "microsoft", "username": "a@example.com", "microsoft": app}
    )

    assert tokens(mail, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["smtp-app.crt", "smtp-app.pem"]


@pytest.mark.parametrize("provider", ["microsoft365", "google-workspace"])
def test_the_settings_that_it_shows_for_a_provider_are_valid(provider: str) -> None:
    shown = next(block for block in re.findall(r"```toml\n(.*?)```", README, re.DOTALL) if provider in block)
    mail = Mail.model_validate(tomllib.loads(shown)["mail"])

    assert mail.preset == provider
    assert not [
        check for check in known(mail, datetime.now(UTC)) if check.what != "[mail] reply_to" and check.grade != Grade.GOOD
    ]


def test_every_link_within_it_leads_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in re.findall("^#+ (.*)$", README, re.MULTILINE)
    }
    links = set(re.findall(r"\]\(#([^)]*)\)", README))

    assert links
    assert links <= headings


@pytest.mark.browser
def test_its_pictures_are_small_and_can_be_made_anew(tmp_path: Path) -> None:
    shown = re.findall(r'<img src="([^"]+)" width="\d+" alt="[^"]{20,}">', README)
    made = {path.name: path.read_bytes() for path in pictures.make(tmp_path)}

    assert [f"tests/pictures/{name}" for name in made] == shown
    for name, picture in made.items():
        kept = (pictures.FOLDER / name).read_bytes()
        assert len(kept) < 120_000
        assert kept[16:24] == picture[16:24]  # width and height; the glyphs are each machine's own


@pytest.mark.parametrize("words", ["TODO", "FIXME"])
def test_nothing_is_left_to_be_said(words: str) -> None:
    assert words not in README


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_the_line_that_a_pod_starts_with_makes_files_that_are_accepted(tmp_path: Path) -> None:
    """Kubernetes mounts a secret as links to links: https://kubernetes.io/docs/concepts/configuration/secret/."""
    line = re.search(r'"install (.*?) && exec', README)
    assert line
    for volume in ("secrets", "config"):
        (tmp_path / volume / "..2026_11_30").mkdir(parents=True)
        (tmp_path / volume / "..data").symlink_to("..2026_11_30")
    (tmp_path / "work").mkdir()
    for name, secret in (("secrets", "private.pem"), ("secrets", "db-password"), ("config", "campaign.toml")):
        (tmp_path / name / "..2026_11_30" / secret).write_text("a secret", encoding="utf-8")
        (tmp_path / name / secret).symlink_to(f"..data/{secret}")
    with pytest.raises(ConfigError, match="is a symbolic link"):
        read_private(tmp_path / "secrets" / "private.pem")
    here = re.sub(r"/(secrets|config|work)", rf"{tmp_path}/\1", line[1])
    subprocess.run(["sh", "-ec", f"install {here}"], check=True, timeout=60)

    assert read_private(tmp_path / "work" / "private.pem") == b"a secret"
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["campaign.toml", "db-password", "private.pem"]


def test_the_line_for_two_hosts_is_silent_only_where_the_other_one_works(tmp_path: Path) -> None:
    line = next(line for line in README.splitlines() if "-eq 75" in line).partition("  ")[2]
    program = tmp_path / "campaign"
    program.write_text('#!/bin/sh\necho "said $CODE" >&2\nexit $CODE\n', encoding="utf-8")
    program.chmod(0o755)
    command = line.replace("~/.local/bin/campaign", str(program))

    def said(code: int) -> str:
        around = {"CODE": str(code), "PATH": os.environ["PATH"]}
        return subprocess.run(["sh", "-c", command], env=around, capture_output=True, text=True, timeout=60, check=False).stdout

    assert [said(code) for code in (75, 3, 6)] == ["", "said 3\n", "said 6\n"]


def test_the_settings_that_it_shows_for_a_database_are_valid(tmp_path: Path) -> None:
    shown = next(block for block in re.findall(r"```toml\n(.*?)```", README, re.DOTALL) if "[ledger.password]" in block)
    ledger = Ledger.model_validate(tomllib.loads(shown)["ledger"], context={"folder": tmp_path})

    assert str(ledger.server) == "postgresql://campaign@db.example.com:5432/campaign"
    assert ledger.ca_file == tmp_path / "db-ca.pem"
