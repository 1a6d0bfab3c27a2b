"""Walk, random field and both together."""

import numpy as np
import pytest

from cxrsynth.masks.affinity import Affinity
from cxrsynth.masks.crf import Crf
from cxrsynth.masks.fusion import Cross, Sequential, product
from cxrsynth.masks.threshold import Adaptive, agreeing, agreement, labels, reweight, weights

ONE = np.ones(1, bool)
WALK = Affinity(steps=64)


def disc(size: int = 96, radius: float = 30) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(rows, columns) < radius


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A dark disc on bright ground, its exact mask, and a blurred, too small, leaning probability of it."""
    truth = disc()
    noise = np.random.default_rng(0).normal(0, 5, truth.shape)
    image = (np.where(truth, 60, 180) + noise).clip(0, 255).astype(np.uint8)
    rows, columns = np.mgrid[:96, :96] - 47.5
    prob = 0.95 / (1 + np.exp((np.hypot(rows - 5, columns + 4) - 24) / 4))
    return image, truth, prob[None].astype(np.float32)


def dice(prob: np.ndarray, truth: np.ndarray) -> float:
    mask = prob[0] > 0.5
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


@pytest.mark.parametrize(
    "refiner", [WALK, Sequential(affinity=WALK), Cross(affinity=WALK), Cross(affinity=WALK, rounds=2)], ids=repr
)
def test_a_blurred_map_is_generated_to_the_edges_of_the_picture(refiner: Affinity | Sequential | Cross) -> None:
    image, truth, prob = scene()
    assert dice(refiner(image, prob), truth) > dice(prob, truth) + 0.05


def test_sequential_is_the_walk_and_then_the_field() -> None:
    image, _, prob = scene()
    np.testing.assert_array_equal(Sequential()(image, prob), Crf()(image, Affinity()(image, prob)))


def test_cross_without_selection_is_the_product_of_field_and_walk() -> None:
    image, _, prob = scene()
    by_hand = product(Crf()(image, prob), Affinity()(image, prob), ONE, 0.5)
    np.testing.assert_array_equal(Cross(select=False)(image, prob), by_hand)


@pytest.mark.parametrize(("balance", "which"), [(0.0, 0), (1.0, 1)])
def test_the_balance_goes_from_the_field_alone_to_the_walk_alone(balance: float, which: int) -> None:
    image, _, prob = scene()
    alone = (Crf()(image, prob), Affinity()(image, prob))[which]
    np.testing.assert_allclose(Cross(select=False, balance=balance)(image, prob), alone, atol=1e-5)


def test_the_surer_posterior_wins_the_product() -> None:
    sure, unsure = np.full((1, 1, 1), 0.95, np.float32), np.full((1, 1, 1), 0.4, np.float32)
    assert product(sure, unsure, ONE, 0.5)[0, 0, 0] > 0.5
    assert product(1 - sure, unsure, ONE, 0.5)[0, 0, 0] < 0.5


def test_the_weight_is_found_whose_mask_is_the_target() -> None:
    prob = np.linspace(0, 1, 100, dtype=np.float32).reshape(1, 1, 100)
    target = (prob[0] > 0.75).astype(np.uint8)  # a class needs three times the background's odds
    chosen = agreeing(prob, target, ONE, weights(4, 41))
    assert chosen == pytest.approx(3, rel=0.1)
    assert agreement(labels(reweight(prob, ONE, chosen), ONE), target, 1) > 0.97


def test_a_background_of_weight_one_changes_nothing() -> None:
    prob = np.random.default_rng(0).random((3, 8, 8)).astype(np.float32) / 3
    np.testing.assert_allclose(reweight(prob, np.array([True, True, False]), 1.0), prob, atol=1e-6)


def test_adaptive_moves_the_boundary_into_the_widest_gap() -> None:
    prob = np.zeros((1, 20, 20), np.float32)
    prob[0, :, :10] = 0.38  # an organ that attention only half believes in
    prob[0, :, 10:] = np.linspace(0.02, 0.1, 10)
    refined = Adaptive()(np.zeros((20, 20), np.uint8), prob)
    assert (refined[0, :, :10] > 0.5).all()
    assert (refined[0, :, 10:] < 0.5).all()
