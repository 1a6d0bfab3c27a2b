"""Every command in the README and the guides works as it stands there, made small; every link leads somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
# In this order: a later one works on what an earlier one made.
GUIDES = [ROOT / f"docs/guide/{name}.md" for name in ("generate", "control", "label", "findings", "train", "curate")]
# Guides whose examples have a test of their own.
ELSEWHERE = {ROOT / f"docs/guide/{name}.md" for name in ("dicom", "export", "hospital", "models", "scale")}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(path.read_text() for path in [ROOT / "README.md", *GUIDES])
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
LINES = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
OURS = [line for line in LINES if line.startswith("cxrsynth ")]


# Four steps of the bundled model, whatever comes out; what it makes in all of them is looked at in `make demo`.
QUICK = {"CXRSYNTH_COUNT": "2", "CXRSYNTH_SET": "sampler.batch=2 sampler.num_inference_steps=4 curate.checks=[]"}
SMALLER = {"--count 8 ": "--count 2 ", "--count 16 ": "--count 3 ", "-n 4": "-n 2", "--updates 10 ": "--updates 2 "}


@pytest.mark.timeout(900)
def test_the_commands_of_the_readme_run_one_after_the_other(tmp_path: Path) -> None:
    for line in OURS:
        for words, fewer in SMALLER.items():
            line = line.replace(words, fewer)
        done = cli(*shlex.split(line)[1:], cwd=tmp_path, env=QUICK)
        assert done.returncode == 0, (line, done.stderr[-2000:])
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
