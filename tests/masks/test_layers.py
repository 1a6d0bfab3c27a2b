"""Probabilities become ids and layers."""

import numpy as np
import pytest

from cxrsynth.masks.layers import apart, layers, paint, uncertainty


def planes(*values: float) -> np.ndarray:
    """One value for each class, the same in all pixels."""
    return np.stack([np.full((2, 2), value, np.float32) for value in values])


def test_the_likeliest_class_is_painted() -> None:
    assert (paint(planes(0.3, 0.6), np.ones(2, bool), [5, 9]) == 9).all()


def test_background_wins_a_tie() -> None:
    assert (paint(planes(0.5), np.ones(1, bool), [1]) == 0).all()


def test_an_overlapping_class_is_painted_over_the_one_beneath_and_both_keep_their_layer() -> None:
    competing = np.array([True, False])
    prob = planes(0.9, 0.7)
    assert (paint(prob, competing, [1, 4]) == 4).all()
    assert layers(prob, competing).all()


def test_of_two_overlapping_classes_the_later_one_is_on_top() -> None:
    assert (paint(planes(0.6, 0.9, 0.8), np.array([True, False, False]), [1, 2, 3]) == 3).all()


def test_an_unlikely_overlapping_class_is_not_painted() -> None:
    assert (paint(planes(0.9, 0.4), np.array([True, False]), [1, 4]) == 1).all()


def test_layers_of_competing_classes_may_overlap() -> None:
    assert layers(planes(0.45, 0.35), np.ones(2, bool)).all()


def test_stored_layers_of_competing_classes_lie_apart_and_findings_stay() -> None:
    prob = np.array([0.5, 0.4, 0.9], np.float32)[:, None, None]
    competing = np.array([True, True, False])
    np.testing.assert_array_equal(apart(layers(prob, competing), prob, competing)[:, 0, 0], [True, False, True])


def test_id_254_survives() -> None:
    mask = paint(planes(0.9), np.ones(1, bool), [254])
    assert mask.dtype == np.uint8
    assert (mask == 254).all()


def test_uncertainty_counts_coin_tosses_next_to_the_mask_that_they_surround() -> None:
    prob = np.zeros((10, 10), np.float32)
    prob[:5] = 1.0
    own = prob > 0.5
    assert uncertainty(prob, own) == 0
    prob[5, :] = 0.5  # ten pixels of doubt beside fifty of the mask
    assert uncertainty(prob, own) == pytest.approx(0.2)
    assert uncertainty(np.full((10, 10), 0.4, np.float32), np.zeros((10, 10), bool)) == 1
    assert uncertainty(np.zeros((10, 10), np.float32), np.zeros((10, 10), bool)) == 0
