"""The whole job with nothing configured, as the README's first command runs it."""

import csv
import email
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that a demo left, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "campaign", "demo", "--directory", "story", "--users", "15"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return folder / "story", done.stdout


def test_the_demo_shows_an_approval_reminders_and_a_revocation(demo: tuple[Path, str]) -> None:
    _, printed = demo

    assert "--approve" in printed
    assert "consent was there and is lacking again" in printed
    assert "report.xlsx" in printed


def test_the_demo_leaves_mails_and_reports(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    mails = [email.message_from_bytes(path.read_bytes()) for path in sorted((folder / "mails").glob("*.eml"))]
    with (folder / "reports" / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    most_mailed = Counter(mail["X-Envelope-To"] for mail in mails).most_common(1)[0][1]

    assert {mail["X-Envelope-To"] for mail in mails} <= {row["email"] for row in rows}
    assert most_mailed == max(int(row["messages"]) for row in rows)
    assert {"granted", "waiting", "sent"} <= {row["reason"] for row in rows}
    assert (folder / "reports" / "report.xlsx").stat().st_size > 5000
    assert len(list((folder / "reports" / "history").iterdir())) >= 1


def test_the_demo_overwrites_nothing(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    command = [sys.executable, "-m", "campaign", "demo", "--directory", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 2
    assert "is not empty" in done.stderr
