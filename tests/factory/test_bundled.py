"""The bundled model as it is shipped, from prompt to mask."""

from pathlib import Path

import numpy as np
import pytest

from cxrsynth.factory.plan import make_plan
from cxrsynth.factory.run import run
from cxrsynth.recipe import load
from cxrsynth.store import Store

# Fewer steps than the recipe has show the same anatomy, with less detail.
QUICK = ["sampler.num_inference_steps=8", "sampler.batch=2", "curate.attempts=1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    out = tmp_path_factory.mktemp("bundled") / "lung"
    recipe = load(Path("lung"), {"count": 2, "shard": 2}, QUICK)
    assert run(make_plan(recipe, out, offline=True)).kept > 0
    return Store(out)


def column(mask: np.ndarray) -> float:
    """Mean column, 0 to 1 from the left edge of the picture to the right one."""
    return float(np.nonzero(mask)[1].mean() / mask.shape[1])


def test_the_right_lung_is_on_the_left_of_the_picture_and_the_heart_between(made: Store) -> None:
    ids = made.classes()
    for row in made.rows():
        mask = made.load_mask(row)
        assert mask is not None
        right, heart, left = (column(mask == ids[name]) for name in ("right_lung", "heart", "left_lung"))
        assert right < 0.45 < left
        assert right + 0.05 < heart < left - 0.05
        assert heart > 0.45  # the patient's left, which is the right half of the picture


def test_lungs_are_darker_than_the_heart(made: Store) -> None:
    ids = made.classes()
    for row in made.rows():
        image, mask = made.load_image(row), made.load_mask(row)
        assert image[np.isin(mask, (ids["right_lung"], ids["left_lung"]))].mean() < image[mask == ids["heart"]].mean()
