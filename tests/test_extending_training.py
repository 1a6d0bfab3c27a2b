"""The code of docs/extending.md runs as it stands."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from tests.train import chests

PAGE = Path(__file__).parents[1] / "docs/extending.md"


def section(title: str) -> str:
    """The Python code under a heading."""
    part = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```python\n(.*?)```", part, re.S))


@pytest.fixture(scope="module")
def training() -> Any:
    module = ModuleType("extending_training")
    sys.modules[module.__name__] = module  # dataclasses and pydantic look their module up
    exec(compile(section("A training"), str(PAGE), "exec"), module.__dict__)
    return module


def test_the_training_learns_and_keeps_its_best_weights(training: Any, tmp_path: Path) -> None:
    data = chests.make(tmp_path / "chests")
    config = training.TurnedConfig(updates=40, look_every=10, batch=8, lr=0.01, warmup=2, ema=0.8)
    out = training.train_turned(data, tmp_path / "run", config, "cpu")
    with safe_open(out, "np") as file:
        figures = json.loads(file.metadata()["figures"])
    assert figures["updates"] == 40
    log = [json.loads(line) for line in (tmp_path / "run/turned_log.jsonl").read_text().splitlines()]
    assert max(line.get("accuracy", 0) for line in log) == 1.0


def test_the_training_goes_on_after_a_break_to_the_same_weights(training: Any, tmp_path: Path) -> None:
    data = chests.make(tmp_path / "chests")
    config = training.TurnedConfig(updates=4, look_every=2, checkpoint_minutes=1e-6)

    def break_off(done: int, total: int, figures: dict[str, float]) -> None:
        if done == 3:
            raise KeyboardInterrupt

    whole = training.train_turned(data, tmp_path / "whole", config, "cpu")
    with pytest.raises(KeyboardInterrupt):
        training.train_turned(data, tmp_path / "parts", config, "cpu", break_off)
    parts = training.train_turned(data, tmp_path / "parts", config, "cpu")
    one, other = load_file(whole), load_file(parts)
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)
