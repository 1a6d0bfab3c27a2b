"""Propagation along the network's own self-attention: training-free, and no look at the picture's gray levels.

Dataset-Diffusion (Nguyen et al., NeurIPS 2023, section 3.2, equation 5): M = S^k A. The self-attention S of a middle
level says which places the network holds for parts of one thing; what is said of a place is said of those as well.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from cxrsynth.masks.layers import background
from cxrsynth.masks.refiner import Sighted
from cxrsynth.masks.walk import resize
from cxrsynth.records import Asked


class SelfAttention(Sighted):
    """Spreads class probabilities along self-attention, averaged over layers and heads of one level.

    Only the change goes from the coarse grid to the picture: an edge that is finer than the grid stays where the
    network finds nothing to change. The map of a 16 x 16 grid takes 130 kB on disk before compression, that of a
    32 x 32 grid 2 MB.

    Attributes:
        level: grid that is read, 1 the latent grid, 2 half of it; at most 1024 places.
        power: how often the map is applied; Dataset-Diffusion takes 4.
        share: how much of the change is carried out.
    """

    level: int = Field(2, ge=1, le=16)
    power: int = Field(1, ge=1, le=64)
    share: float = Field(0.5, gt=0, le=1)

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
        matrix = attention.reshape(height * width, -1)
        matrix = matrix / matrix.sum(axis=1, keepdims=True)  # half precision has rounded the sums
        competing, count = self.competing(len(prob)), len(prob)
        planes = np.concatenate([prob, background(prob, competing)[None], 1.0 - prob[~competing]])
        part = (slice(None), *self.box(*image.shape))
        covered = planes[part]
        before = np.stack([resize(one, height, width) for one in covered]).reshape(len(planes), -1).T  # (N, P)
        after = before
        for _ in range(self.power):
            after = matrix @ after
        change = ((after - before) * np.float32(self.share)).T.reshape(len(planes), height, width)
        moved = covered + np.stack([resize(one, *covered.shape[1:]) for one in change])
        planes[part] = np.clip(moved, 0.0, 1.0)
        total = np.where(competing[:, None, None], planes[:count][competing].sum(axis=0) + planes[count], 1.0)
        total[~competing] = planes[:count][~competing] + planes[count + 1 :]
        return (planes[:count] / np.maximum(total, 1e-8)).astype(np.float32)
