"""How hard the images of a dataset are, and how often each is taken then."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cxrsynth.data.patients import DatasetImage
from cxrsynth.store import Row

# A row's score: 1 - Dice of its label and of a network that did not learn from it, mean of the classes.
DISAGREEMENT = "disagreement"


def disagreement_of(row: Row) -> float | None:
    """The score of a row, 0..1; None where nobody measured it."""
    value = (row.get("scores") or {}).get(DISAGREEMENT)
    return None if value is None else min(max(float(value), 0.0), 1.0)


def chances_of(images: Sequence[DatasetImage], hardness: float) -> np.ndarray | None:
    """(N,) float64, the chance of each image; None where none of them was measured, or none is hard at all.

    A part ``1 - hardness`` of the draws takes all images alike, so that none is forgotten; the rest takes them in
    proportion to their disagreement. An image that was not measured counts as the mean of the others.
    """
    scores = np.array([np.nan if (value := disagreement_of(image.row)) is None else value for image in images], float)
    known = ~np.isnan(scores)
    if not known.any() or not scores[known].sum():
        return None
    scores = np.where(known, scores, scores[known].mean())
    chances = (1 - hardness) / len(scores) + hardness * scores / scores.sum()
    return np.asarray(chances / chances.sum())
