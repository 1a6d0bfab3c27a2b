"""DenseCRF follows the edges of the picture."""

import numpy as np
from scipy import ndimage

from cxrsynth.masks.crf import Crf


def lung_under_a_shifted_map() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A dark box in a bright picture, and a soft map that is off by three pixels."""
    truth = np.zeros((128, 128), bool)
    truth[32:96, 32:96] = True
    image = np.where(truth, 50, 180) + np.random.default_rng(0).normal(0, 4, truth.shape)
    prob = ndimage.gaussian_filter(np.roll(truth, 3, axis=1).astype(np.float32), 4)[None]
    return image.clip(0, 255).astype(np.uint8), prob, truth


def test_the_border_moves_to_the_edge_in_the_picture() -> None:
    image, prob, truth = lung_under_a_shifted_map()
    wrong_before = ((prob[0] > 0.5) != truth).sum()
    wrong_after = ((Crf()(image, prob)[0] > 0.5) != truth).sum()
    assert wrong_after < 0.5 * wrong_before


def test_without_pairwise_terms_nothing_moves() -> None:
    image, prob, _ = lung_under_a_shifted_map()
    refined = Crf(gaussian_compat=0, bilateral_compat=0, certainty=1.0)(image, prob)
    np.testing.assert_allclose(refined, prob, atol=1e-3)


def test_a_class_without_evidence_stays_absent() -> None:
    image, prob, _ = lung_under_a_shifted_map()
    refined = Crf()(image, np.concatenate([prob, np.zeros_like(prob)]))
    assert refined[1].max() == 0


def test_reach_grows_with_the_picture() -> None:
    """A picture of twice the size gets the same mask, twice as large."""
    image, prob, _ = lung_under_a_shifted_map()
    small = Crf()(image, prob)[0] > 0.5
    big = Crf()(image.repeat(2, 0).repeat(2, 1), prob.repeat(2, 1).repeat(2, 2))[0] > 0.5
    assert (big[::2, ::2] != small).mean() < 0.01
