"""Sharpness is measured next to real images: blur loses it, noise adds too much."""

import numpy as np
import pytest
from scipy import ndimage

from cxrsynth.data.sharpness import relative


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([ndimage.gaussian_filter(rng.normal(128, 90, (256, 256)), 1.0) for _ in range(4)])


def shares(made: np.ndarray, real: np.ndarray) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in relative(made, real).items()}


def test_the_same_images_are_as_sharp_as_themselves(images: np.ndarray) -> None:
    assert shares(images, images) == pytest.approx(dict.fromkeys(shares(images, images), 1.0))


def test_blur_takes_the_highest_band_most(images: np.ndarray) -> None:
    found = shares(ndimage.gaussian_filter(images, (0, 1.5, 1.5)), images)
    assert found["power_8_16"] > 0.7
    assert found["power_64_128"] < 0.1
    assert found["gradient_energy"] < 0.5


def test_noise_shows_in_the_highest_band(images: np.ndarray) -> None:
    noisy = images + np.random.default_rng(1).normal(0, 20, images.shape)
    found = shares(noisy, images)
    assert found["power_64_128"] > 1.5
    assert found["power_8_16"] == pytest.approx(1, abs=0.1)


def test_bands_that_small_images_do_not_have_are_left_out() -> None:
    small = np.random.default_rng(0).normal(128, 30, (2, 64, 64))
    assert "power_64_128" not in relative(small, small)
