"""The examples of docs/extending.md work as they stand there."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from cxrsynth import registry
from cxrsynth.curate import build, decide
from cxrsynth.data.findings import FINDINGS, simulate
from cxrsynth.domain.snomed import coded
from cxrsynth.export import export
from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.run import run
from cxrsynth.recipe import parse
from cxrsynth.store import Store
from tests.conftest import phantom_body
from tests.curate.chest import CLASSES, chest
from tests.small_dataset import make
from tests.train import chests

PAGE = Path(__file__).parent.parent / "docs/extending.md"
YAML = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
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
        ("generators", "discs", "mine:Discs"),
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


def test_the_generator_makes_a_dataset_in_any_batch(mine: Any, tmp_path: Path) -> None:
    bodies = [
        phantom_body(generator="discs", sampler={"height": 64, "width": 64, "batch": batch}, curate={"checks": []})
        for batch in (1, 3)
    ]
    images = []
    for number, body in enumerate(bodies):
        assert run(make_plan(parse({**body, "count": 3}), tmp_path / str(number))).kept == 3
        store = Store(tmp_path / str(number))
        images.append([store.load_image(row) for row in store.rows()])
    np.testing.assert_array_equal(*images)


def test_the_finding_is_put_in_with_its_mask_and_words(mine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FINDINGS, "granuloma", mine.Granuloma)
    image, labels = chests.chest(0, 128)
    made = simulate(image, labels, np.random.default_rng(0), kinds=["granuloma"])
    mask = made.masks["granuloma"]
    assert mask.any()
    assert not mask[labels == 0].any()
    assert made.image[mask].mean() > image[mask].mean() + 10
    assert "granuloma in the" in made.words


def test_the_organ_is_a_class_of_a_recipe(tmp_path: Path) -> None:
    (body,) = (yaml.safe_load(text) for text in YAML)
    assert run(make_plan(parse(body), tmp_path / "d")).kept == 2
    store = Store(tmp_path / "d")
    assert all(set(np.unique(store.load_mask(row))) == {0, 1, 2} for row in store.rows())
    assert coded("right_clavicle")[1].meaning == "right clavicle"
