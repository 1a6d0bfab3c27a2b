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


@pytest.mark.timeout(900)
def test_the_commands_of_the_readme_run_one_after_the_other(tmp_path: Path) -> None:
    launcher = tmp_path / "bin" / "cxrsynth"
    launcher.parent.mkdir()
    # As pip writes it: the guard matters, because spawned processes import the script again.
    body = "from cxrsynth.cli import main\nif __name__ == '__main__':\n    main()\n"
    launcher.write_text(f"#!{sys.executable}\n{body}")
    launcher.chmod(0o755)
    small = {"CXRSYNTH_COUNT": "2", "CXRSYNTH_SET": "sampler.batch=2"}
    env = {**os.environ, **small, "PATH": f"{launcher.parent}:{os.environ['PATH']}", "NO_COLOR": "1"}
    for line in OURS:
        line = line.replace("--count 8 ", "--count 2 ").replace("--count 16 ", "--count 3 ")
        result = subprocess.run(line, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, f"{line}\n{result.stderr}"
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
