"""Propagation along the network's own self-attention: training-free, and no look at the image's gray levels.

Self-attention of a middle level says which places the network holds for parts of one thing; what is said of a place is
said of those as well. Two readings. Dataset-Diffusion (Nguyen et al., NeurIPS 2023, section 3.2): M = S^k A, a place
hands over to the places it looks at. DiffSeg (Tian et al., CVPR 2024, section 3.2): places belong together if they look
at the same places. In a small model trained on radiographs alone the lungs look at each other rather than at
themselves, so that only the second holds.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from cxrsynth.masks.layers import background
from cxrsynth.masks.refiner import Sighted
from cxrsynth.masks.walk import resize
from cxrsynth.records import Asked

EPSILON = 1e-8
# Percentile of a plane that counts as its peak.
PEAK = 99.5


class SelfAttention(Sighted):
    """Spreads class probabilities along self-attention, averaged over layers and heads of one level.

    Only the change goes from the coarse grid to the image: an edge that is finer than the grid stays where the
    network finds nothing to change. The map of a 16 x 16 grid takes 130 kB on disk before compression, that of a
    32 x 32 grid 2 MB.

    Attributes:
        level: grid that is read, 1 the latent grid, 2 half of it; at most 1024 places.
        reading: ``same``: places that look at the same places belong together; ``looks``: a place and what it looks at.
        temperature: of ``same``: distance of two places' attention at which they hardly belong together any more, as a
            share of the mean distance.
        power: how often it is applied; Dataset-Diffusion takes 4.
        share: how much of the change is carried out.
        restore: whether every class and the background get their peak back, which spreading lowers.
    """

    level: int = Field(2, ge=1, le=16)
    reading: Literal["same", "looks"] = "same"
    temperature: float = Field(0.05, gt=0, le=1)
    power: int = Field(1, ge=1, le=64)
    share: float = Field(0.5, gt=0, le=1)
    restore: bool = True

    @property
    def asks(self) -> Asked:
        """Self-attention of one level."""
        return Asked(levels=(self.level,))

    def __call__(self, image: np.ndarray, prob: np.ndarray) -> np.ndarray:
        """(H, W) uint8, (K, H, W) float32 -> (K, H, W) float32 in 0..1.

        Raises:
            UsageError: the network was not asked for this level.
        """
        if not prob.any():
            return prob.copy()
        attention = self.read(f"self_{self.level}")  # (h, w, h, w)
        height, width = attention.shape[:2]
        matrix = self._matrix(attention.reshape(height * width, -1))
        competing, count = self.competing(len(prob)), len(prob)
        planes = np.concatenate([prob, background(prob, competing)[None], 1.0 - prob[~competing]])
        part = (slice(None), *self.box(*image.shape))
        covered = planes[part]
        before = np.stack([resize(one, height, width) for one in covered]).reshape(len(planes), -1).T  # (N, P)
        after = before
        for _ in range(self.power):
            after = matrix @ after
        if self.restore:
            was, now = (np.percentile(one, PEAK, axis=0) for one in (before, after))
            after = after * (was / np.maximum(now, EPSILON)).astype(np.float32)
        change = ((after - before) * np.float32(self.share)).T.reshape(len(planes), height, width)
        moved = covered + np.stack([resize(one, *covered.shape[1:]) for one in change])
        planes[part] = np.clip(moved, 0.0, 1.0)
        total = np.where(competing[:, None, None], planes[:count][competing].sum(axis=0) + planes[count], 1.0)
        total[~competing] = planes[:count][~competing] + planes[count + 1 :]
        return (planes[:count] / np.maximum(total, EPSILON)).astype(np.float32)

    def _matrix(self, attention: np.ndarray) -> np.ndarray:
        """(N, N) float32 attention of each place -> (N, N) float32 that says how much each place takes over from all.

        Rows sum to 1, so that what all places agree on stays.
        """
        matrix = attention / attention.sum(axis=1, keepdims=True)  # half precision has rounded the sums
        if self.reading == "same":
            root = np.sqrt(matrix)
            distance = np.clip(1.0 - root @ root.T, 0.0, None)  # squared Hellinger distance
            np.fill_diagonal(distance, 0.0)
            matrix = np.exp(-distance / max(self.temperature * float(distance.mean()), EPSILON))
            matrix /= matrix.sum(axis=1, keepdims=True)
        return matrix.astype(np.float32)
