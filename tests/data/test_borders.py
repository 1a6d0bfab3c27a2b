"""The borders around an image are found, and nothing else is taken for one."""

from collections.abc import Callable

import numpy as np
import pytest

from cxrsynth.data.borders import content, unframed
from tests.small_dataset import chest


def test_black_borders_are_cut_off_before_the_image_is_read() -> None:
    image = np.maximum(chest(0, 64)[0], 40)
    framed = np.zeros((100, 120), np.uint8)
    framed[20:84, 30:94] = image
    np.testing.assert_array_equal(framed[content(framed)], image)
    assert content(image) == (slice(0, 64), slice(0, 64))
    assert content(np.zeros((50, 40), np.uint8)) == (slice(0, 50), slice(0, 40))


def test_the_dark_gray_border_of_a_photograph_is_cut_off_too() -> None:
    image = np.maximum(chest(0, 64)[0], 60)
    photo = np.random.default_rng(0).normal(16, 3, (100, 120)).clip(0, 30).astype(np.uint8)
    photo[20:84, 30:94] = image
    assert content(photo) == (slice(20, 84), slice(30, 94))


def framed(border: int) -> np.ndarray:
    """(100, 120) uint8, a chest in a border of one tone."""
    picture = np.full((100, 120), border, np.uint8)
    picture[20:84, 30:94] = chest(0, 64)[0].clip(60, 200)
    return picture


@pytest.mark.parametrize("border", [0, 255])
def test_black_and_white_borders_are_cut_off_before_an_image_is_judged(border: int) -> None:
    picture = framed(border)
    np.testing.assert_array_equal(unframed(picture), picture[20:84, 30:94])


@pytest.mark.parametrize("turn", [np.fliplr, np.flipud, np.transpose, lambda image: 255 - image])
def test_a_turned_or_inverted_picture_keeps_the_same_part(turn: Callable[[np.ndarray], np.ndarray]) -> None:
    picture = framed(0)
    np.testing.assert_array_equal(unframed(turn(picture)), turn(picture[20:84, 30:94]))


@pytest.mark.parametrize("picture", [np.zeros((40, 40)), np.repeat([[0], [255]], 40, axis=0) * np.ones(40)])
def test_a_picture_that_is_all_border_stays_whole(picture: np.ndarray) -> None:
    assert unframed(picture).shape == picture.shape
