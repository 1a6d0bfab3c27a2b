"""The anatomy of a frontal chest image: its classes, and what is measured on their masks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# The anatomy that can be imposed, and its ids in every atlas.
CLASSES = {"right_lung": 1, "left_lung": 2, "heart": 3}


def cardiothoracic(mask: np.ndarray, ids: Mapping[str, int] = CLASSES) -> float:
    """Widest heart over widest chest (outer edges of the lungs); NaN where a lung or the heart is missing.

    Args:
        mask: (H, W) class ids.
        ids: class name -> id, with all names of `CLASSES`.
    """
    if not all((mask == ids[name]).any() for name in CLASSES):
        return float("nan")
    heart = np.flatnonzero((mask == ids["heart"]).any(axis=0))
    chest = np.flatnonzero(((mask == ids["right_lung"]) | (mask == ids["left_lung"])).any(axis=0))
    return float((heart[-1] - heart[0] + 1) / (chest[-1] - chest[0] + 1))


def sided(name: str) -> bool:
    """Whether a class has a side: ``left_lung`` has one, and a mirrored image would have it on the wrong one."""
    return not {"left", "right"}.isdisjoint(name.lower().replace("-", "_").replace(" ", "_").split("_"))
