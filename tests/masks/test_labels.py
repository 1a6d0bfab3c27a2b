"""A draw becomes a sample."""

import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cxrsynth.errors import RecipeError, UsageError
from cxrsynth.generate.phantom import Phantom
from cxrsynth.masks.labels import Labelling, make_sample
from cxrsynth.records import Draw, Spec
from tests.conftest import phantom_body

ANATOMY = {"right_lung": 1, "left_lung": 2, "heart": 3}
CHAIN = ({"use": "crf"}, {"use": "laterality"}, {"use": "morphology"})


def labelling(classes: dict[str, int] | None = None, **changes: Any) -> Labelling:
    body = {"use": "attention", "normalise": {"use": "joint"}, "refine": CHAIN, "classes": classes or ANATOMY}
    return Labelling(**{**body, **changes})


def draw(prompt: str, classes: dict[str, int] | None = None, seed: int = 1) -> Draw:
    names = list(classes or ANATOMY)
    spec = Spec(0, "000000000", prompt, "", {name: name for name in names}, {}, seed, "train")
    return Phantom(height=128, width=128).draw([spec])[0]


def dice(one: np.ndarray, two: np.ndarray) -> float:
    return float(2 * (one & two).sum() / (one.sum() + two.sum()))


@pytest.mark.parametrize("prompt", ["normal chest", "cardiomegaly, AP", "child"])
def test_attention_labels_agree_with_the_exact_masks(prompt: str) -> None:
    drawn = draw(prompt)
    assert drawn.control is not None
    sample = make_sample(drawn, labelling())
    assert [dice(sample.mask == k + 1, truth) > 0.9 for k, truth in enumerate(drawn.control)] == [True] * 3


def test_control_labels_are_the_exact_masks() -> None:
    drawn = draw("normal chest")
    assert drawn.control is not None
    sample = make_sample(drawn, labelling(use="control"))
    for k, truth in enumerate(drawn.control):
        np.testing.assert_array_equal(sample.mask == k + 1, truth)
        np.testing.assert_array_equal(sample.layers[k], truth)


def test_of_overlapping_control_masks_the_later_class_is_painted_and_both_keep_their_layer() -> None:
    control = np.ones((2, 8, 8), bool)
    drawn = Draw(np.zeros((8, 8), np.uint8), np.zeros((2, 1, 1), np.float32), control)
    sample = make_sample(drawn, labelling({"right_lung": 1, "heart": 3}, use="control"))
    assert (sample.mask == 3).all()
    assert sample.layers.all()
    assert sample.prob.sum(axis=0).max() <= 1


def test_control_labels_without_control_masks_are_an_error() -> None:
    with pytest.raises(UsageError, match="imposed"):
        make_sample(replace(draw("normal chest"), control=None), labelling(use="control"))


def test_an_opacity_lies_in_its_lung() -> None:
    classes = {**ANATOMY, "opacity": 4}
    drawn = draw("opacity in the right lower zone", classes)
    assert drawn.control is not None
    sample = make_sample(drawn, labelling(classes, overlap=("opacity",)))
    assert dice(sample.mask == 4, drawn.control[3]) > 0.6
    assert dice(sample.layers[0], drawn.control[0]) > 0.9
    assert (sample.layers[0] & sample.layers[3]).any()


def test_a_finding_that_is_not_there_has_no_mask() -> None:
    classes = {**ANATOMY, "opacity": 4, "effusion": 5, "cardiomegaly": 6}
    sample = make_sample(
        draw("no effusion", classes), labelling(classes, overlap=("opacity", "effusion", "cardiomegaly"))
    )
    assert not sample.layers[3:].any()
    assert sample.scores["presence.opacity"] < 0.1 < sample.scores["presence.heart"]


def test_scores_name_every_class() -> None:
    scores = make_sample(draw("normal chest"), labelling()).scores
    assert set(scores) == {
        f"{what}.{name}" for what in ("presence", "stability", "area", "uncertainty") for name in ANATOMY
    }
    assert all(0 <= value <= 1 for value in scores.values())


def test_what_is_required_travels_with_the_sample() -> None:
    assert make_sample(draw("normal chest"), labelling(), ("heart",)).required == ("heart",)


def test_the_same_draw_gives_the_same_bits() -> None:
    one, two = (make_sample(draw("normal chest"), labelling()) for _ in range(2))
    np.testing.assert_array_equal(one.mask, two.mask)
    np.testing.assert_array_equal(one.prob, two.prob)


def test_maps_for_other_classes_are_an_error() -> None:
    with pytest.raises(UsageError, match="3 maps for 1 classes"):
        make_sample(draw("normal chest"), labelling({"heart": 1}))


def test_a_typo_in_the_chain_is_an_error_before_anything_is_drawn() -> None:
    with pytest.raises(RecipeError, match="iterations"):
        labelling(refine=({"use": "crf", "iteration": 5},))


def test_it_travels_to_another_process() -> None:
    copy = pickle.loads(pickle.dumps(labelling()))
    drawn = draw("normal chest")
    np.testing.assert_array_equal(make_sample(drawn, copy).mask, make_sample(drawn, labelling()).mask)


def test_a_recipe_says_how_to_label() -> None:
    from cxrsynth.recipe import parse

    classes = [*phantom_body()["classes"], {"name": "opacity", "id": 9, "phrase": "opacity", "overlap": True}]
    told = Labelling.from_recipe(parse(phantom_body(classes=classes, masks={"refine": ["morphology"]})))
    assert told.classes == {**ANATOMY, "opacity": 9}
    assert told.overlap == ("opacity",)
    assert [entry["use"] for entry in told.refine] == ["morphology"]


def test_pool_workers_start_without_torch() -> None:
    code = (
        "import sys, cxrsynth.masks.labels, cxrsynth.curate, cxrsynth.generate.phantom; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
