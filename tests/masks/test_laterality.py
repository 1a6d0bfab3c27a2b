"""The right lung is on the left of the picture."""

import numpy as np

from cxrsynth.masks.laterality import Laterality, midline
from cxrsynth.masks.layers import paint

IMAGE = np.zeros((60, 80), np.uint8)
COMPETING = np.ones(2, bool)


def box(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(IMAGE.shape, bool)
    mask[rows, columns] = True
    return mask


LEFT_OF_PICTURE, RIGHT_OF_PICTURE = box(slice(10, 50), slice(10, 34)), box(slice(10, 50), slice(46, 70))


def sides(right: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Label map after the refiner: 1 right lung, 2 left lung."""
    prob = np.stack([right * 0.9, left * 0.9 * ~right]).astype(np.float32)
    return paint(Laterality().named(["right_lung", "left_lung"])(IMAGE, prob), COMPETING, [1, 2])


def test_swapped_lungs_are_swapped_back() -> None:
    mask = sides(right=RIGHT_OF_PICTURE, left=LEFT_OF_PICTURE)
    assert (mask[LEFT_OF_PICTURE] == 1).all()
    assert (mask[RIGHT_OF_PICTURE] == 2).all()


def test_lungs_on_their_sides_stay() -> None:
    mask = sides(right=LEFT_OF_PICTURE, left=RIGHT_OF_PICTURE)
    assert (mask[LEFT_OF_PICTURE] == 1).all()
    assert (mask[RIGHT_OF_PICTURE] == 2).all()


def test_a_patch_of_the_wrong_lung_changes_sides() -> None:
    patch = box(slice(20, 30), slice(50, 60))
    mask = sides(right=LEFT_OF_PICTURE | patch, left=RIGHT_OF_PICTURE & ~patch)
    assert (mask[RIGHT_OF_PICTURE] == 2).all()


def test_one_class_over_both_lungs_is_cut_at_the_midline() -> None:
    bridge = box(slice(20, 25), slice(30, 50))
    mask = sides(right=LEFT_OF_PICTURE | RIGHT_OF_PICTURE | bridge, left=np.zeros_like(bridge))
    assert (mask[LEFT_OF_PICTURE] == 1).all()
    assert (mask[RIGHT_OF_PICTURE] == 2).all()


def test_a_lung_that_reaches_a_little_over_the_midline_keeps_its_tip() -> None:
    tip = box(slice(20, 26), slice(34, 43))
    mask = sides(right=LEFT_OF_PICTURE | tip, left=RIGHT_OF_PICTURE)
    assert (mask[tip] == 1).all()


def test_an_off_centre_image_is_no_error() -> None:
    right, left = box(slice(10, 50), slice(0, 18)), box(slice(10, 50), slice(24, 42))
    assert 17 <= midline(right | left) <= 25
    mask = sides(right=right, left=left)
    assert (mask[right] == 1).all()
    assert (mask[left] == 2).all()


def test_without_names_nothing_changes() -> None:
    prob = np.stack([RIGHT_OF_PICTURE, LEFT_OF_PICTURE]).astype(np.float32)
    np.testing.assert_array_equal(Laterality()(IMAGE, prob), prob)


def test_the_heart_is_left_alone() -> None:
    heart = box(slice(30, 50), slice(35, 60)) * np.float32(0.2)
    prob = np.stack([RIGHT_OF_PICTURE * 0.7, LEFT_OF_PICTURE * 0.7, heart]).astype(np.float32)
    refined = Laterality().named(["right_lung", "left_lung", "heart"])(IMAGE, prob)
    np.testing.assert_array_equal(refined[2], prob[2])
