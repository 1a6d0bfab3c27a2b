"""How well a map of a phrase fits the place of a finding: four figures, each with what chance gives.

A map is (H, W) float, higher where the phrase looks; target and region are (H, W) bool, and only the region counts.
Pointing game: Zhang et al., ECCV 2016. Mean IoU over thresholds and contrast-to-noise ratio: Boecking et al. (BioViL),
ECCV 2022.
"""

from __future__ import annotations

import numpy as np

from cxrsynth.statistics import auroc

METRICS = ("pointing", "miou", "cnr", "auroc")
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


def figures(score: np.ndarray, target: np.ndarray, region: np.ndarray) -> dict[str, float]:
    """All of `METRICS` of one map; NaN where the target fills none or all of the region."""
    values, inside = score[region].astype(np.float64), target[region]
    if not inside.any() or inside.all():
        return dict.fromkeys(METRICS, float("nan"))
    return {
        "pointing": pointing(values, inside),
        "miou": mean_iou(values, inside),
        "cnr": contrast(values, inside),
        "auroc": auroc(np.stack([values, inside], axis=1)),
    }


def chance(target: np.ndarray, region: np.ndarray) -> dict[str, float]:
    """What a map gives that is the same everywhere: the target's share of the region, no contrast, a coin's AUROC."""
    share = float(target[region].mean()) if region.any() else float("nan")
    return {"pointing": share, "miou": share, "cnr": 0.0, "auroc": 0.5}


def pointing(values: np.ndarray, inside: np.ndarray) -> float:
    """Whether the highest value lies in the target; where several are highest, their share that does.

    Args:
        values: (N,) of the region's pixels.
        inside: (N,) bool.
    """
    return float(inside[values >= values.max()].mean())


def mean_iou(values: np.ndarray, inside: np.ndarray) -> float:
    """IoU of target and what lies above a threshold of the map stretched to 0..1, averaged over `THRESHOLDS`.

    A map without any contrast marks everything.
    """
    low, high = float(values.min()), float(values.max())
    stretched = (values - low) / (high - low) if high > low else np.ones_like(values)
    found = []
    for threshold in THRESHOLDS:
        marked = stretched >= threshold
        found.append((marked & inside).sum() / (marked | inside).sum())
    return float(np.mean(found))


def contrast(values: np.ndarray, inside: np.ndarray) -> float:
    """(mean inside - mean outside) / sqrt(variance inside + variance outside).

    It has a sign: a map that looks away from the target is below 0. 0 for a map without any contrast.
    """
    spread = float(np.sqrt(values[inside].var() + values[~inside].var()))
    return float(values[inside].mean() - values[~inside].mean()) / spread if spread > 0 else 0.0
