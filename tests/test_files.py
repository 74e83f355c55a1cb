import os
import stat
from pathlib import Path

import pytest

from campaign.errors import ConfigError, UsageError
from campaign.files import read_private, replaced, shipped
from campaign.layout import lay_out


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

    parts = [
        f"templates/{kind}/{part}"
        for kind in ("escalation", "invite", "reminder")
        for part in ("body.html", "body.txt", "subject.txt")
    ]
    assert written == ["campaign.toml", "roster.csv", *parts, "templates/style.css"]


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
