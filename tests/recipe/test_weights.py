"""A recipe that names weights knows them by what they hold, wherever they lie."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrsynth.errors import MissingError
from cxrsynth.masks.labels import Labelling, make_sample
from cxrsynth.recipe import fingerprint, identity, load, parse
from cxrsynth.records import Draw
from tests.conftest import phantom_body


def body(path: str) -> dict[str, Any]:
    return phantom_body(masks={"refine": [{"use": "sequential", "affinity": {"weights": path}}]})


def test_weights_are_in_the_fingerprint_by_their_content(tmp_path: Path) -> None:
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    one, same, other = (fingerprint(parse(body(str(tmp_path / name))), "") for name in "abc")
    assert one == same
    assert one != other


def test_missing_weights_are_an_error_that_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(MissingError) as caught:
        fingerprint(parse(body(str(tmp_path / "nowhere"))), "")
    assert "train-affinity" in caught.value.hint


def test_a_path_in_a_recipe_is_meant_beside_the_recipe(write_recipe: Any, tmp_path: Path) -> None:
    (tmp_path / "affinity.safetensors").write_bytes(b"weights")
    recipe = load(write_recipe(body("affinity.safetensors")))
    assert recipe.masks.refine[0]["affinity"]["weights"] == str(tmp_path / "affinity.safetensors")


def test_undecided_pixels_are_ignored_on_request() -> None:
    ramp = np.tile(np.linspace(0, 1, 32, dtype=np.float32), (1, 32, 1))
    plan = {"classes": {"heart": 3}, "use": "attention", "normalise": {"use": "joint"}, "refine": ()}
    draw = Draw(np.zeros((32, 32), np.uint8), ramp)
    plain, banded = (make_sample(draw, Labelling(**plan, ignore=ignore)) for ignore in (0.0, 0.8))
    assert set(np.unique(plain.mask)) == {0, 3}
    assert set(np.unique(banded.mask)) == {0, 3, 255}
    decided = banded.mask != 255
    np.testing.assert_array_equal(banded.mask[decided], plain.mask[decided])


def test_only_a_field_that_is_marked_names_a_file(monkeypatch: pytest.MonkeyPatch, write_recipe: Any) -> None:
    from cxrsynth import registry
    from tests.recipe import refiners

    monkeypatch.setitem(registry.table("refiners"), "weighed", f"{refiners.__name__}:Weighed")
    entry = {"use": "weighed", "weights": "mini", "head": "left"}
    recipe = load(write_recipe(phantom_body(masks={"refine": [entry]})))
    assert recipe.masks.refine == [entry]
    assert identity(recipe, "")["masks"]["refine"] == [entry]
