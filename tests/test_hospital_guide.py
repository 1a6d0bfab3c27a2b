"""The guide to one's own hospital: its commands run as they stand there, one after the other, made small."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cxrsynth.cli import app
from tests.compare.test_own_tests import hospital
from tests.train.chests import make

TEXT = (Path(__file__).parent.parent / "docs/guide/hospital.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
# What makes a command small: the same data and networks, few updates, one arm.
FEWER = {
    "compare": (
        "--set train.updates=2 --set train.batch=2 --set train.size=32 --set seeds=[0] --set real_patients=[0] "
        "--set arms=[real] --device cpu"
    ),
    "train-seg": "--updates 2 --batch 2 --size 32 --encoder resnet18 --device cpu",
}


def test_the_commands_of_the_guide_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hospital(Path("hospital"))
    make(Path("data/real"), splits="ttttvs")
    make(Path("data/montgomery"), splits="ss", size=96, source="montgomery")
    make(Path("out/benchmark/lung"), splits="ttttv", source="generated")
    assert len(LINES) == 4
    for line in LINES:
        words = shlex.split(line)
        result = CliRunner().invoke(app, [*words[1:], *shlex.split(FEWER.get(words[1], ""))])
        assert result.exit_code == 0, (line, result.output, result.exception)
    assert "lung:mine" in Path("out/compare/lung/compare.csv").read_text()
    assert "mine" in Path("out/compare/lung/report.html").read_text()
