"""What is installed is whole: recipes, templates and the bundled model come along, and are found outside a checkout."""

import json
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


COMMANDS = (
    "recipes",
    "check recipes/phantom.yaml",
    "generate -p recipes/phantom.yaml -n 1",
    "check lung --offline",
)
# One process of the install types all of them: each would import the libraries anew.
DRIVER = """
import contextlib, io, json, sys
from cxrsynth.cli import main

if __name__ == "__main__":
    found = []
    for line in json.load(sys.stdin):
        sys.argv, said, code = ["cxrsynth", *line.split()], io.StringIO(), 0
        with contextlib.redirect_stderr(said):
            try:
                main()
            except SystemExit as end:
                code = end.code or 0
        found.append([code, said.getvalue()])
    json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def typed(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[int, str]]]:
    """A folder in which an install typed the commands, and each command's exit code and words."""
    cwd = tmp_path_factory.mktemp("elsewhere")
    env = {**os.environ, "PYTHONPATH": str(installed)}
    (cwd / "driver.py").write_text(DRIVER)
    done = subprocess.run(
        [sys.executable, "driver.py"], input=json.dumps(COMMANDS), cwd=cwd, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return cwd, {line: (code, said) for line, (code, said) in zip(COMMANDS, json.loads(done.stdout), strict=True)}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_install_works_outside_a_checkout(typed: tuple[Path, dict[str, tuple[int, str]]], command: str) -> None:
    code, said = typed[1][command]
    assert code == 0, said


def test_recipes_are_found_from_an_install(typed: tuple[Path, dict[str, tuple[int, str]]]) -> None:
    assert "findings" in typed[1]["recipes"][1]


def test_an_install_draws_and_reports(typed: tuple[Path, dict[str, tuple[int, str]]]) -> None:
    assert (typed[0] / "out/phantom/report.html").stat().st_size > 10_000


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
