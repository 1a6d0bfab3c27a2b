"""The anatomy of a frontal chest image: its classes, and what is measured on their masks."""

from __future__ import annotations

import numpy as np

# The anatomy that can be imposed, and its ids in every atlas.
CLASSES = {"right_lung": 1, "left_lung": 2, "heart": 3}


def cardiothoracic(mask: np.ndarray) -> float:
    """Widest heart over widest chest (outer edges of the lungs); NaN where one is missing."""
    heart = np.flatnonzero((mask == CLASSES["heart"]).any(axis=0))
    chest = np.flatnonzero(((mask == CLASSES["right_lung"]) | (mask == CLASSES["left_lung"])).any(axis=0))
    if not len(heart) or not len(chest):
        return float("nan")
    return float((heart[-1] - heart[0] + 1) / (chest[-1] - chest[0] + 1))
