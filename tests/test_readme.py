"""Every command in the README and the guides works as it stands there, made small; every link leads somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
# In this order: a later one works on what an earlier one made.
GUIDES = [ROOT / f"docs/guide/{name}.md" for name in ("generate", "control", "label", "findings", "train")]
# Guides whose examples have a test of their own.
ELSEWHERE = {ROOT / f"docs/guide/{name}.md" for name in ("dicom", "export", "models")}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(path.read_text() for path in [ROOT / "README.md", *GUIDES])
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
LINES = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
OURS = [line for line in LINES if line.startswith("cxrsynth ")]


# One process types all of them: importing torch and diffusers anew for each would take longer than the commands do.
DRIVER = """
import shlex, sys
from cxrsynth.cli import main

if __name__ == "__main__":
    for line in sys.stdin.read().splitlines():
        sys.argv = shlex.split(line)
        try:
            main()
        except SystemExit as end:
            if end.code:
                sys.exit(f"{line} ended with {end.code}")
"""


@pytest.mark.timeout(900)
def test_the_commands_of_the_readme_run_one_after_the_other(tmp_path: Path) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    small = {"CXRSYNTH_COUNT": "2", "CXRSYNTH_SET": "sampler.batch=2"}
    env = {**os.environ, **small, "NO_COLOR": "1"}
    typed = "\n".join(OURS).replace("--count 8 ", "--count 2 ").replace("--count 16 ", "--count 3 ")
    result = subprocess.run(
        [sys.executable, driver], input=typed, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=880
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert (tmp_path / "out/mine/report.html").exists()
    assert (tmp_path / "preview-lung.png").exists()


def test_every_guide_is_run() -> None:
    assert {*GUIDES} == {*(ROOT / "docs/guide").glob("*.md")} - ELSEWHERE
    assert len(OURS) > 10


def test_every_make_target_of_the_readme_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {name for page in PAGES for name in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)}
    assert {"demo", "test"} <= targets
    assert [target for target in sorted(targets) if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_a_page_links_is_there(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
