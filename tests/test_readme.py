"""Every command in the README works as it stands there, made small."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
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


def test_there_are_commands_in_the_readme() -> None:
    assert len(OURS) > 10


def test_every_make_target_of_the_readme_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= targets
    assert [target for target in sorted(targets) if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_every_file_the_readme_links_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []
