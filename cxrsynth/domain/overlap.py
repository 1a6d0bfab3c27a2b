"""How well two masks agree: the one Dice."""

from __future__ import annotations

import numpy as np


def dice(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Dice of masks, (..., H, W) bool twice -> (...) float64.

    NaN where both are empty: such a pair says nothing and is left out of every mean.
    """
    total = first.sum(axis=(-2, -1)) + second.sum(axis=(-2, -1))
    both = 2.0 * (first & second).sum(axis=(-2, -1))
    return np.asarray(np.where(total > 0, both / np.maximum(total, 1), np.nan))
