"""Pieces, islands and holes."""

import numpy as np
import pytest

from cxrsynth.masks.layers import paint
from cxrsynth.masks.morphology import Morphology

IMAGE = np.zeros((60, 60), np.uint8)


def prob(*masks: np.ndarray, sure: float = 0.9) -> np.ndarray:
    return np.stack(masks).astype(np.float32) * sure


def box(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(IMAGE.shape, bool)
    mask[rows, columns] = True
    return mask


BIG, SMALL, SPECK = box(slice(5, 35), slice(5, 25)), box(slice(40, 50), slice(40, 50)), box(slice(55, 56), slice(5, 6))


def test_only_the_largest_component_is_kept() -> None:
    refined = Morphology(keep=1)(IMAGE, prob(BIG | SMALL))
    np.testing.assert_array_equal(refined[0] > 0.5, BIG)


def test_a_class_keeps_as_many_components_as_it_may_have() -> None:
    refiner = Morphology(keep={"heart": 1}).named(["heart", "opacity"])
    refined = refiner(IMAGE, np.concatenate([prob(BIG | SMALL, sure=0.4), prob(BIG | SMALL, sure=0.4)]))
    assert not refined[0][SMALL].any()
    assert (refined[1][SMALL] > 0).all()


def test_zero_keeps_all_components_but_islands() -> None:
    refined = Morphology(keep=0, min_area=0.001)(IMAGE, prob(BIG | SMALL | SPECK))
    np.testing.assert_array_equal(refined[0] > 0.5, BIG | SMALL)


def test_what_is_removed_becomes_background() -> None:
    refined = Morphology(keep=1)(IMAGE, prob(BIG | SMALL))
    assert (refined[:, SMALL] == 0).all()


def test_a_hole_is_filled() -> None:
    hole = box(slice(15, 20), slice(10, 15))
    refined = Morphology(keep=1)(IMAGE, prob(BIG & ~hole))
    np.testing.assert_array_equal(refined[0] > 0.5, BIG)
    assert refined.max() <= 1


def test_a_hole_stays_where_holes_are_wanted() -> None:
    hole = box(slice(15, 20), slice(10, 15))
    refined = Morphology(keep=1, holes=False)(IMAGE, prob(BIG & ~hole))
    assert not (refined[0] > 0.5)[hole].any()


def test_a_hole_that_another_class_occupies_is_no_hole() -> None:
    hole = box(slice(15, 20), slice(10, 15))
    mask = paint(Morphology(keep=0)(IMAGE, prob(BIG & ~hole, hole)), np.ones(2, bool), [1, 2])
    assert (mask[hole] == 2).all()


def test_an_island_inside_another_class_is_filled_by_that_class() -> None:
    inside = box(slice(15, 20), slice(10, 15))
    lung, heart = inside | SMALL | box(slice(40, 58), slice(40, 50)), BIG & ~inside
    mask = paint(Morphology(keep=1)(IMAGE, prob(lung, heart)), np.ones(2, bool), [1, 2])
    assert (mask[inside] == 2).all()


def test_holes_of_an_overlapping_class_are_filled_without_touching_the_class_beneath() -> None:
    hole = box(slice(15, 20), slice(10, 15))
    refiner = Morphology(keep=0).named(["lung", "opacity"], ["opacity"])
    before = prob(BIG, BIG & ~hole)
    refined = refiner(IMAGE, before)
    assert (refined[1][hole] > 0.5).all()
    np.testing.assert_array_equal(refined[0], before[0])


@pytest.mark.parametrize("area", [-0.1, 1.0])
def test_an_impossible_area_is_refused(area: float) -> None:
    with pytest.raises(ValueError, match="min_area"):
        Morphology(min_area=area)
