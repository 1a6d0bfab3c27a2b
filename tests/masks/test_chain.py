"""Recipe entries become refiners, applied in order."""

import numpy as np
import pytest

from cxrsynth.errors import RecipeError
from cxrsynth.masks import chain
from cxrsynth.masks.morphology import Morphology


def test_refiners_are_applied_in_the_order_of_the_recipe() -> None:
    image, prob = np.zeros((4, 4), np.uint8), np.full((1, 4, 4), 0.25, np.float32)
    steps = [lambda image, prob: prob * 2, lambda image, prob: prob + 0.1]
    assert chain.refine(image, prob, steps)[0, 0, 0] == pytest.approx(0.6)


def test_an_empty_chain_changes_nothing() -> None:
    prob = np.random.default_rng(0).random((2, 4, 4), np.float32)
    np.testing.assert_array_equal(chain.refine(np.zeros((4, 4), np.uint8), prob, []), prob)


def test_the_chain_fills_in_the_names_of_the_classes() -> None:
    built = chain.build([{"use": "morphology", "keep": {"heart": 1}}], ["heart", "opacity"], ("opacity",))[0]
    assert isinstance(built, Morphology)
    assert built.index("opacity") == 1
    assert built.competing(2).tolist() == [True, False]


def test_an_unknown_refiner_is_an_error_that_names_the_right_ones() -> None:
    with pytest.raises(RecipeError, match="crf, cross, laterality, mask_head, morphology"):
        chain.build([{"use": "crff"}], ["heart"])


def test_a_value_out_of_range_is_an_error_that_names_the_field() -> None:
    with pytest.raises(RecipeError, match="iterations"):
        chain.build([{"use": "crf", "iterations": 0}], ["heart"])


def test_an_entry_without_a_name_is_an_error() -> None:
    with pytest.raises(RecipeError, match="use"):
        chain.build([{"iterations": 5}], ["heart"])


def test_a_recipe_cannot_set_the_class_names_of_a_refiner() -> None:
    with pytest.raises(RecipeError, match="classes"):
        chain.build([{"use": "crf", "classes": ["heart"]}], ["heart"])
