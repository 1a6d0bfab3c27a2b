"""DenseCRF and random walk together: one after the other, or each correcting the other.

The two ways of Pi and Shan (arXiv 2503.07209): *affinity followed by DenseCRF*, and *cross-fusion of DenseCRF and
affinity*. The paper has no public code; the second is read as the selection step of DiffuMask (ICCV 2023, section 3.3)
followed by the product of both posteriors.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from cxrsynth.masks.affinity import Affinity
from cxrsynth.masks.crf import Crf
from cxrsynth.masks.layers import background
from cxrsynth.masks.refiner import Named
from cxrsynth.masks.threshold import agreeing, labels, reweight, weights


class Sequential(Named):
    """The walk first, then DenseCRF on what it gives.

    Attributes:
        affinity: parameters of the walk.
        crf: parameters of the random field.
    """

    affinity: Affinity = Field(default_factory=Affinity)
    crf: Crf = Field(default_factory=Crf)

    def __call__(self, image: np.ndarray, prob: np.ndarray) -> np.ndarray:
        """(H, W) uint8, (K, H, W) float32 -> (K, H, W) float32 in 0..1."""
        walked = self.affinity.named(*self.names)(image, prob)
        return self.crf.named(*self.names)(image, walked)


class Cross(Named):
    """DenseCRF and walk side by side on the same probabilities, each selecting and correcting the other.

    The walk selects the background's weight for the random field: the one whose labels, before the field, agree best
    with the walk's. (DiffuMask runs the field for each of twenty weights; here it runs once.) The field corrects the
    walk and the walk the field: the product of both posteriors, normalised again, is the result, and may go round.

    Attributes:
        affinity: parameters of the walk.
        crf: parameters of the random field.
        select: whether the background's weight is selected for each image.
        reach: largest factor on the background's probability that is tried, either way.
        tried: how many weights are tried.
        balance: share of the walk in the product, 0 the field alone to 1 the walk alone.
        rounds: how often it goes round.
    """

    affinity: Affinity = Field(default_factory=Affinity)
    crf: Crf = Field(default_factory=Crf)
    select: bool = True
    reach: float = Field(4.0, gt=1)
    tried: int = Field(21, ge=3, le=101)
    balance: float = Field(0.5, ge=0, le=1)
    rounds: int = Field(1, ge=1, le=5)

    def __call__(self, image: np.ndarray, prob: np.ndarray) -> np.ndarray:
        """(H, W) uint8, (K, H, W) float32 -> (K, H, W) float32 in 0..1."""
        walk, field = (part.named(*self.names) for part in (self.affinity, self.crf))
        competing = self.competing(len(prob))
        for _ in range(self.rounds):
            walked = walk(image, prob)
            start = prob
            if self.select and competing.any():
                target = labels(walked, competing)
                chosen = agreeing(prob, target, competing, weights(self.reach, self.tried))
                start = np.where(competing[:, None, None], reweight(prob, competing, chosen), prob)
            prob = product(field(image, start), walked, competing, self.balance)
        return prob


def product(first: np.ndarray, second: np.ndarray, competing: np.ndarray, balance: float) -> np.ndarray:
    """The normalised product of two posteriors, background included.

    At a balance of one half both count in full: where they agree they become surer, where they disagree the surer one
    wins. Towards 0 the second, towards 1 the first counts less and less, as a power that goes to 0.

    Args:
        first: (K, H, W) float32 in 0..1.
        second: as ``first``.
        competing: (K,) bool; each other class is weighed against its own absence.

    Returns:
        (K, H, W) float32 in 0..1.
    """
    one, two = min(1.0, 2 - 2 * balance), min(1.0, 2 * balance)

    def both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.maximum(a, 1e-6) ** one * np.maximum(b, 1e-6) ** two

    found = np.where((first > 0) | (second > 0), both(first, second), 0.0)
    rest = both(background(first, competing), background(second, competing))
    together = found / (found[competing].sum(axis=0) + rest)[None]
    alone = found / (found + both(1.0 - first, 1.0 - second))
    return np.where(competing[:, None, None], together, alone).astype(np.float32)
