"""What is installed: all that is needed, and nothing that somebody left lying about."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a checkout in which live files were left lying about."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in ("campaign", "data", "templates", "pyproject.toml", "README.md", "LICENSE"):
        (checkout / name).symlink_to(ROOT / name) if (ROOT / name).is_file() else _copy(ROOT / name, checkout / name)
    for live in ("data/private.pem", "data/ledger.sqlite3", "templates/invite/notes.txt", "data/reports/report.csv"):
        (checkout / live).parent.mkdir(exist_ok=True)
        (checkout / live).write_text("live")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(checkout / "dist"), str(checkout)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (checkout / "dist").glob("*.whl")
    return built


def _copy(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())


def test_the_wheel_holds_the_program_its_templates_and_its_examples_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "campaign").rglob("*.py")}
    templates = {f"campaign/{path.relative_to(ROOT)}" for path in (ROOT / "templates").rglob("*.*")}
    kinds = {".toml", ".csv", ".service", ".timer"}
    examples = {f"campaign/{path.relative_to(ROOT)}" for path in (ROOT / "data").rglob("*") if path.suffix in kinds}

    assert names == modules | templates | examples | {"campaign/data/crontab"}


def test_an_installed_wheel_finds_its_files_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False, system_site_packages=False)
    python = environment / "bin" / "python"
    site = next((environment / "lib").glob("python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    code = f"import sys; sys.path.append({libraries!r}); from campaign.cli import main; main()"
    done = subprocess.run([python, "-I", "-c", code, "init", "work"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work" / "campaign.toml").read_bytes() == (ROOT / "data" / "campaign.toml").read_bytes()
    assert (tmp_path / "work" / "templates" / "invite" / "body.html").exists()
    assert f":{python} -m campaign run" in (tmp_path / "work" / "campaign-work.service").read_text()  # no script was installed
