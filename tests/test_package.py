"""What is installed is whole: recipes, templates and the bundled model come along, and are found outside a checkout."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the wheel, as it lies in site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    zipfile.ZipFile(wheel).extractall(site)
    return site


def run(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from cxrsynth.cli import main; main()", *arguments]
    env = {**os.environ, "PYTHONPATH": str(site), "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def test_recipes_are_found_from_an_install(installed: Path, tmp_path: Path) -> None:
    assert "findings" in run(installed, tmp_path, "recipes").stderr
    assert run(installed, tmp_path, "check", "recipes/phantom.yaml").returncode == 0


def test_an_install_draws_and_reports(installed: Path, tmp_path: Path) -> None:
    result = run(installed, tmp_path, "generate", "-p", "recipes/phantom.yaml", "-n", "1")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out/phantom/report.html").stat().st_size > 10_000


def test_the_bundled_model_is_in_the_install(installed: Path, tmp_path: Path) -> None:
    result = run(installed, tmp_path, "check", "lung", "--offline")
    assert result.returncode == 0, result.stderr


def test_no_file_of_the_package_is_larger_than_16_mib(installed: Path) -> None:
    assert [path.name for path in installed.rglob("*") if path.is_file() and path.stat().st_size > 16 * 2**20] == []


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)


def wanted() -> list[Requirement]:
    """What is installed to develop: the package's own requirements and those of its extras."""
    extras = [text for name, extra in PROJECT["optional-dependencies"].items() if name != "adam8bit" for text in extra]
    found = [Requirement(text) for text in (*PROJECT["dependencies"], *extras)]
    return [one for one in found if one.name != PROJECT["name"]]


@pytest.mark.parametrize("requirement", wanted(), ids=str)
def test_every_requirement_has_a_tested_version_within_its_bounds(requirement: Requirement) -> None:
    names = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PINS.items()}
    assert names[re.sub(r"[-_.]+", "-", requirement.name).lower()] in requirement.specifier


def test_the_container_is_built_from_files_and_extras_that_exist() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (?!--)(.+)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    sent = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert sent == set(copied)
    extras = re.findall(r"'\.\[([\w,]+)\]'", text)[0].split(",")
    assert set(extras) <= PROJECT["optional-dependencies"].keys()
