"""The examples of docs/extending.md work as they stand there."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cxrsynth import registry
from cxrsynth.curate import build, decide
from cxrsynth.export import export
from cxrsynth.recipe import parse
from tests.conftest import phantom_body
from tests.curate.chest import CLASSES, chest
from tests.small_dataset import make

PAGE = Path(__file__).parent.parent / "docs/extending.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8").split("\n## A training\n")[0], re.DOTALL)


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of all examples, its classes known to the registry as entry points would make them."""
    module = ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", module)
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), module.__dict__)
    for kind, name, place in (
        ("refiners", "sharpen", "mine:Sharpen"),
        ("checks", "bright", "mine:Bright"),
        ("exports", "list", "mine:List"),
    ):
        monkeypatch.setitem(registry.table(kind), name, place)
    return module


def test_the_refiner_stands_in_a_recipe_and_shrinks_masks(mine: Any) -> None:
    recipe = parse(phantom_body(masks={"refine": [{"use": "sharpen", "power": 2}]}))
    assert recipe.masks.refine == [{"use": "sharpen", "power": 2.0}]
    prob = np.full((2, 4, 4), 0.5, np.float32)
    assert float(mine.Sharpen(power=2)(np.zeros((4, 4), np.uint8), prob).max()) == 0.25


def test_the_check_rejects_with_its_reason(mine: Any) -> None:
    checks = build([{"use": "bright", "least": 255}], list(CLASSES))
    assert decide(chest(), [], checks).reason == "bright.dark"


def test_the_exporter_lists_every_image(mine: Any, tmp_path: Path) -> None:
    found = export(make(tmp_path / "data"), "list", tmp_path / "list")
    assert found.format == "list"
    assert len((tmp_path / "list/list.txt").read_text().splitlines()) == sum(found.images.values())
