import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from campaign.errors import ConfigError, UsageError
from campaign.files import read_private, replaced, shipped
from campaign.layout import lay_out
from tests.commands import ROOT, Result, command
from tests.test_bad_input import assert_one_clear_sentence
from tests.token_server import certificate_file, private, service_account_file
from tests.world import CLIENT_ID, World, email, pem


def secret(path: Path, mode: int = 0o600) -> Path:
    path.write_bytes(b"hunter2")
    path.chmod(mode)
    return path


def refusal(path: Path) -> str:
    """Why the file is refused; what stands in it is not part of that."""
    with pytest.raises(ConfigError) as refused:
        read_private(path)
    said = f"{refused.value} | {refused.value.advice}"
    assert str(path) in said
    assert "hunter2" not in said
    return str(refused.value).removeprefix(f"{path} ")


# --- files that nobody else may read


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700], ids=oct)
def test_a_file_of_ones_own_is_read(tmp_path: Path, mode: int) -> None:
    assert read_private(secret(tmp_path / "key", mode)) == b"hunter2"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o611], ids=oct)
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    assert refusal(secret(tmp_path / "key", mode)) == f"can be read by others (mode {mode:04o})"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(secret(tmp_path / "key"), 12345, -1)

    assert refusal(tmp_path / "key") == "belongs to another user"


def test_what_is_no_file_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "folder").mkdir(0o700)
    (tmp_path / "link").symlink_to(secret(tmp_path / "key"))

    assert refusal(tmp_path / "fifo") == "is not a plain file"
    assert refusal(tmp_path / "folder") == "is not a plain file"
    assert refusal(tmp_path / "link") == "is a symbolic link"
    assert refusal(Path("/dev/null")) == "is not a plain file"
    assert refusal(tmp_path / "nothing") == "cannot be read: No such file or directory"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path / "work", live=True) as world:
        world.roster([1, 2])
        yield world


def run(world: World) -> Result:
    """A night that somebody tries to run."""
    with suppress(ConfigError):  # it is written before it is read
        world.config()
    return command("run", "--approve", 2, "--config", world.folder / "campaign.toml")


def instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Put something else in the place of a file."""

    def spoil(path: Path) -> None:
        path.unlink()
        make(path)

    return spoil


def link(path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


BY_OAUTH = {"auth": "microsoft", "username": "u"}
APP = {"tenant": "t.example", "client_id": CLIENT_ID, "certificate_file": "smtp-app.pem"}
SECRETS: dict[str, tuple[dict[str, dict[str, Any]], Callable[[Path], object]]] = {
    "private.pem": ({}, lambda path: private(path, pem())),
    "smtp-password": (
        {"mail": {"auth": "password", "username": "u"}, "mail.password": {"file": "smtp-password"}},
        lambda path: private(path, "hunter2"),
    ),
    "smtp-app.pem": ({"mail": BY_OAUTH, "mail.microsoft": APP}, certificate_file),
    "google.json": (
        {"mail": {"auth": "google", "username": "u"}, "mail.google": {"service_account_file": "google.json"}},
        lambda path: service_account_file(path, "https://127.0.0.1:1/token"),
    ),
}
SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "readable by the group": (lambda path: path.chmod(0o640), r"can be read by others \(mode 0640\)"),
    "somebody else's": (lambda path: os.chown(path, 12345, -1), "belongs to another user"),
    "a folder": (instead(lambda path: path.mkdir(0o700)), "is not a plain file"),
    "a FIFO": (instead(lambda path: os.mkfifo(path, 0o600)), "is not a plain file"),
    "a symbolic link": (link, "is a symbolic link"),
    "empty": (lambda path: path.write_bytes(b""), "is empty|holds no private key|is not a JSON file"),
    "missing": (lambda path: path.unlink(), "cannot be read: No such file"),
}


@pytest.mark.case(30)
@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("how", SPOILT)
def test_a_secrets_file_that_cannot_be_trusted_stops_the_night_before_anybody_is_asked(how: str, name: str, world: World) -> None:
    if how == "somebody else's" and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    world.keys, make = SECRETS[name]
    make(world.folder / name)
    spoil, said = SPOILT[how]
    spoil(world.folder / name)
    result = run(world)

    assert_one_clear_sentence(result, 2, rf"{re.escape(name)}.* ?({said})")
    assert (world.relay.connections, world.accounts.requests) == (0, [])


@pytest.mark.parametrize("section", ["docusign", "mail"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: None, "No such file or directory"),
        (lambda path: path.mkdir(), "it is not a plain file"),
        (os.mkfifo, "it is not a plain file"),
        (lambda path: path.write_bytes(b"x"), "PEM|X509"),
    ],
    ids=["missing", "a folder", "a FIFO", "no certificate"],
)
def test_a_ca_file_that_cannot_be_used_stops_the_night(
    section: str, make: Callable[[Path], object], said: str, world: World
) -> None:
    make(world.folder / "ca.pem")
    world.keys = {"mail": {"security": "tls"}}
    world.keys[section] = {**world.keys.get(section, {}), "ca_file": "ca.pem"}
    result = run(world)

    assert result.exit_code == 2
    assert re.search(rf"^campaign: \[{section}\] ca_file .*ca\.pem cannot be used: .*({said})", result.stderr, re.MULTILINE)
    assert "          it must be a file of PEM certificates" in result.stderr
    assert (world.relay.connections, world.accounts.requests) == (0, [])


# --- where others could interfere


@pytest.mark.case(42)
@pytest.mark.parametrize("folder", ["reports", "reports/history"])
def test_reports_that_everybody_could_replace_stop_the_night_before_anybody_is_asked(folder: str, world: World) -> None:
    place = world.folder / folder
    place.mkdir(parents=True)
    place.chmod(0o777)
    refused = run(world)
    asked = len(world.accounts.requests)
    place.chmod(0o1777)
    like_tmp = run(world)

    assert_one_clear_sentence(refused, 6, f"{place} can be written by everybody, who could replace the reports")
    assert f"          chmod o-w {place}\n" in refused.stderr
    assert asked == 0
    assert (like_tmp.exit_code, len(world.mailed())) == (0, 2)


def test_a_report_is_not_rewritten_where_everybody_could_replace_it(world: World) -> None:
    run(world)
    (world.folder / "reports").chmod(0o777)
    result = command("report", "--config", world.folder / "campaign.toml")

    assert_one_clear_sentence(result, 6, "can be written by everybody")


@pytest.mark.case(42)
@pytest.mark.parametrize("name", ["ledger.sqlite3", "ledger.sqlite3.witness", "ledger.sqlite3.lock"])
@pytest.mark.parametrize("what", [("run",), ("plan",), ("explain", email(1)), ("adopt", "--yes"), ("purge", "--older-than", 0)])
def test_no_symbolic_link_is_followed_to_ledger_witness_or_lock(what: tuple[object, ...], name: str, world: World) -> None:
    run(world)
    link(world.folder / name)
    elsewhere = (world.folder / name).with_suffix(".real")
    before = elsewhere.read_bytes()
    result = command(*what, "--config", world.folder / "campaign.toml")
    only_reads = name.endswith(".lock") and what[0] in {"plan", "explain"}
    renews = name.endswith(".witness") and what[0] == "adopt"

    assert result.exit_code == (0 if only_reads or renews else 6), result
    assert elsewhere.read_bytes() == before


# --- files that are replaced in one step


def test_a_file_is_replaced_whole_and_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "report.csv"
    for content in ("yesterday", "today"):
        with replaced(path) as draft:
            draft.write_text(content, encoding="utf-8")

    assert path.read_text(encoding="utf-8") == "today"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in path.parent.iterdir()] == ["report.csv"]


def test_the_mode_is_the_one_that_is_asked_for_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with replaced(tmp_path / "report.csv", mode=0o644) as draft:
            draft.write_bytes(b"")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "report.csv").stat().st_mode) == 0o644


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_file_that_cannot_be_finished_leaves_the_old_one_and_no_draft(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "report.csv"
    path.write_text("yesterday", encoding="utf-8")
    with pytest.raises(type(failure)), replaced(path) as draft:  # noqa: PT012  # it fails half-way
        draft.write_text("half", encoding="utf-8")
        raise failure

    assert path.read_text(encoding="utf-8") == "yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_a_symlink_is_replaced_not_followed(tmp_path: Path) -> None:
    elsewhere, path = tmp_path / "elsewhere", tmp_path / "report.csv"
    elsewhere.write_text("not ours", encoding="utf-8")
    path.symlink_to(elsewhere)
    with replaced(path) as draft:
        draft.write_text("ours", encoding="utf-8")

    assert elsewhere.read_text(encoding="utf-8") == "not ours"
    assert not path.is_symlink()


def test_a_place_that_is_no_folder_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OSError, match=r"File exists|Not a directory"), replaced(tmp_path / "file" / "report.csv"):
        pass


# --- what ships, and the working folder that is laid out from it


def test_what_ships_is_found() -> None:
    assert (shipped("data") / "campaign.toml").is_file()
    assert (shipped("templates") / "invite" / "body.html").is_file()


def test_a_working_folder_has_all_that_a_first_plan_needs(tmp_path: Path) -> None:
    written = [path.relative_to(tmp_path / "work").as_posix() for path, new in lay_out(tmp_path / "work") if new]

    shipped_ones = [path for path in (ROOT / "templates").rglob("*") if path.is_file() and path.name != "report.html"]
    parts = sorted(path.relative_to(ROOT).as_posix() for path in shipped_ones)
    jobs = ["crontab", "campaign-work.service", "campaign-work.timer"]
    assert written == ["campaign.toml", "roster.csv", *parts, *jobs]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_text("mine", encoding="utf-8")
    (tmp_path / "roster.csv").symlink_to(tmp_path / "nowhere")
    laid = dict(lay_out(tmp_path))

    assert (laid[tmp_path / "campaign.toml"], laid[tmp_path / "roster.csv"]) == (False, False)
    assert (tmp_path / "campaign.toml").read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "nowhere").exists()
    assert not any(new for _, new in lay_out(tmp_path))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(UsageError, match=r"file/campaign\.toml cannot be written: (Not a directory|File exists)"):
        list(lay_out(tmp_path / "file"))
