"""How sharp images are next to others: gradient energy and power in bands of spatial frequency.

A blurred image has the right structure and too little of both; a noisy one has too much.
"""

from __future__ import annotations

import numpy as np

# Bands of spatial frequency in cycles an image side, lower end; each band is an octave wide.
BANDS = (8, 16, 32, 64)


def gradient_energy(images: np.ndarray) -> np.ndarray:
    """(N, H, W) of any scale -> (N,) float64: mean square step between neighbouring pixels."""
    x = images.astype(np.float64)
    down, right = np.diff(x, axis=1), np.diff(x, axis=2)
    found: np.ndarray = (down**2).mean(axis=(1, 2)) + (right**2).mean(axis=(1, 2))
    return found


def band_power(images: np.ndarray) -> np.ndarray:
    """(N, S, S) -> (N, 4) float64: power at 8-16, 16-32, 32-64 and 64-128 cycles an image; 0 where S is too small."""
    x = images.astype(np.float64)
    x = x - x.mean(axis=(1, 2), keepdims=True)
    power = np.abs(np.fft.fft2(x)) ** 2
    cycles = np.fft.fftfreq(x.shape[1]) * x.shape[1]
    radius = np.hypot(cycles[:, None], cycles[None, :])
    return np.stack([power[:, (radius >= low) & (radius < 2 * low)].sum(axis=1) for low in BANDS], axis=1)


def relative(made: np.ndarray, real: np.ndarray) -> dict[str, np.ndarray]:
    """Gradient energy and band power of some images as a share of the mean of others; 1 is as sharp.

    Bands that images of this size do not have are left out.

    Args:
        made: (N, S, S) uint8 or float.
        real: (M, S, S), same scale.

    Returns:
        ``gradient_energy``, ``power_8_16`` ... -> (N,) float64, whose mean is the figure.
    """
    found = {"gradient_energy": gradient_energy(made) / gradient_energy(real).mean()}
    for low, mine, theirs in zip(BANDS, band_power(made).T, band_power(real).mean(axis=0), strict=True):
        if theirs:
            found[f"power_{low}_{2 * low}"] = mine / theirs
    return found
