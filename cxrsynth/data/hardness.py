"""How hard the images of a dataset are, and how often each is taken then."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cxrsynth.data.patients import DatasetImage
from cxrsynth.records import Row

# A row's score: how far its label is from what a network sees that did not learn from it; 1 is the average.
HARDNESS = "hardness"


def hardness_of(row: Row) -> float | None:
    """The score of a row, 0 or more; None where nobody measured it."""
    value = (row.get("scores") or {}).get(HARDNESS)
    return None if value is None else max(float(value), 0.0)


def chances_of(images: Sequence[DatasetImage], hardness: float) -> np.ndarray | None:
    """(N,) float64, the chance of each image; None where none of them was measured, or none is hard at all.

    A part ``1 - hardness`` of the draws takes all images alike, so that none is forgotten; the rest takes them in
    proportion to their score. An image that was not measured counts as the mean of the others.
    """
    scores = np.array([np.nan if (value := hardness_of(image.row)) is None else value for image in images], float)
    known = ~np.isnan(scores)
    if not known.any() or not scores[known].sum():
        return None
    scores = np.where(known, scores, scores[known].mean())
    chances = (1 - hardness) / len(scores) + hardness * scores / scores.sum()
    return np.asarray(chances / chances.sum())
