"""What these guides and the notebook say runs as it stands there, in its order."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import datasets
import pytest
from typer.testing import CliRunner

from cxrsynth.cli import app
from cxrsynth.data.dicom_seg import read_segmentation
from cxrsynth.data.pseudonym import VARIABLE

GUIDES = Path(__file__).parent.parent / "docs" / "guide"
BLOCK = re.compile(r"```(bash|python)\n(.*?)```", re.DOTALL)
RUN_HERE = ("export.md", "dicom.md")
LONGEST = 5  # lines of a reader's code


def blocks(name: str) -> list[tuple[str, str]]:
    """(language, text) of the blocks that run, in order."""
    return [(found.group(1), found.group(2)) for found in BLOCK.finditer((GUIDES / name).read_text(encoding="utf-8"))]


@pytest.mark.parametrize("guide", RUN_HERE)
def test_a_guide_runs_block_by_block(guide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "a secret of the tests")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for language, text in blocks(guide):
        if language == "python":
            exec(compile(text, guide, "exec"), {})
            continue
        for line in text.splitlines():
            result = CliRunner().invoke(app, shlex.split(line)[1:])
            assert result.exit_code == 0, (line, result.output, result.exception)
    for path in (tmp_path / "out").glob("labelled-dicom/*"):
        regions = read_segmentation(path)  # of the bundled model
        assert {name for name, region in regions.items() if region.any()} == {"right_lung", "left_lung", "heart"}
    assert (guide == "dicom.md") == (tmp_path / "out/labelled-dicom").is_dir()


def test_code_of_readers_is_short() -> None:
    code = [text for guide in RUN_HERE for language, text in blocks(guide) if language == "python"]
    assert len(code) >= 10
    assert [text for text in code if sum(bool(line.strip()) for line in text.splitlines()) > LONGEST] == []


def test_the_notebook_runs_cell_by_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    book = json.loads((GUIDES.parent / "quickstart.ipynb").read_text(encoding="utf-8"))
    shared: dict[str, object] = {}
    cells = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    for number, source in enumerate(cells, start=1):
        exec(compile(source, f"quickstart.ipynb, cell {number}", "exec"), shared)
