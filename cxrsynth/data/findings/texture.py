"""Noise with a chosen spectrum, and the physics of attenuation: how a finding enters an image."""

from __future__ import annotations

import numpy as np
from scipy import fft

Shape = tuple[int, ...]
BRIGHTER = 0.35  # of what lies above the tone of soft tissue is kept


def fractal(shape: Shape, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 noise of mean 0 and deviation 1 whose power falls as 1 / f^exponent.

    Args:
        exponent: 0 white, about 1.5 cloudy, above 2.5 only slow waves.
    """
    height, width = shape
    rows = np.fft.fftfreq(height).astype(np.float32)[:, None]
    columns = np.fft.rfftfreq(width).astype(np.float32)[None]
    power = rows * rows + columns * columns
    power[0, 0] = 1.0
    spectrum = rng.standard_normal((2, height, width // 2 + 1), np.float32)
    waves = (spectrum[0] + 1j * spectrum[1]) * power ** np.float32(-exponent / 4)
    waves[0, 0] = 0
    noise = fft.irfft2(waves, s=(height, width))
    return (noise / max(float(noise.std()), 1e-9)).astype(np.float32)


def attenuate(image: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """What an image shows when more (or less) matter lies in the beam.

    ``I' = 1 - (1 - I) exp(-a)``: it saturates by itself where the image is white already, and ribs and vessels stay
    visible through it.

    Args:
        image: (H, W) float32 in 0..1, bright is dense.
        amount: (H, W) float32, the attenuation that is added; below 0 takes some away.

    Returns:
        (H, W) float32 in 0..1.
    """
    return np.clip(1 - (1 - image) * np.exp(-amount), 0, 1).astype(np.float32)


def fill(image: np.ndarray, amount: np.ndarray, dense: float) -> np.ndarray:
    """What an image shows when fluid takes the place of air: hardly more than the soft tissue beside it.

    Where the border of the lung is blurred, tissue and fluid would add up to a bright rim: what is brighter than the
    tissue is drawn together, so that ribs stay visible.

    Args:
        image, amount: as in `attenuate`.
        dense: 0..1, the tone of soft tissue.

    Returns:
        (H, W) float32 in 0..1, nowhere darker than the image.
    """
    bright = attenuate(image, amount)
    drawn_together = np.minimum(bright, dense + BRIGHTER * (bright - dense))
    return np.maximum(image, drawn_together).astype(np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)
