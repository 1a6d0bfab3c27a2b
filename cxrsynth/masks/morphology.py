"""Shape of the masks: one piece per organ, no islands, no holes."""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy import ndimage

from cxrsynth.masks.layers import background, layers
from cxrsynth.masks.refiner import Named


class Morphology(Named):
    """Keeps the largest components of every class and fills their holes.

    A pixel that is taken from a class gives that class's probability to the background (to "absent" for an overlapping
    class); a hole that is filled gives the background's probability to the class around it. A hole that another
    competing class occupies is no hole. All islands go first, so that what they leave can be filled.

    Attributes:
        keep: how many components a class may have, largest first: one number for all classes, or class name -> number.
            A class that is not named may have any number, as with 0.
        min_area: components smaller than this fraction of the image are removed.
        holes: whether enclosed background is filled.
    """

    keep: int | dict[str, int] = Field(default_factory=lambda: {"right_lung": 1, "left_lung": 1, "heart": 1})
    min_area: float = Field(0.001, ge=0, lt=1)
    holes: bool = True

    def __call__(self, image: np.ndarray, prob: np.ndarray) -> np.ndarray:
        """(H, W) uint8, (K, H, W) float32 -> (K, H, W) float32 in 0..1."""
        refined = prob.copy()
        competing = self.competing(len(prob))
        for k, own in enumerate(layers(prob, competing)):
            refined[k][own & ~self._kept(own, self._count(k))] = 0.0
        if self.holes:
            self._fill(refined, competing)
        return refined

    def _count(self, k: int) -> int:
        if isinstance(self.keep, int):
            return self.keep
        return self.keep.get(self._classes[k], 0) if self._classes else 0

    def _kept(self, own: np.ndarray, count: int) -> np.ndarray:
        """(H, W) bool -> the part of it in the ``count`` largest components (0: all) that are not islands."""
        pieces, found = ndimage.label(own)
        sizes = np.bincount(pieces.ravel(), minlength=found + 1)
        sizes[0] = 0  # the background is no component
        order = np.argsort(sizes, kind="stable")[::-1][: count or found]
        chosen = np.zeros(found + 1, bool)
        chosen[order] = (sizes[order] >= self.min_area * own.size) & (sizes[order] > 0)
        return chosen[pieces]

    def _fill(self, prob: np.ndarray, competing: np.ndarray) -> None:
        """Fill holes in place; the background is taken anew for every class, for each fill changes it."""
        for k, competes in enumerate(competing):
            own = layers(prob, competing)
            hole = ndimage.binary_fill_holes(own[k]) & ~own[k]
            if competes:
                hole &= ~own[competing].any(axis=0)
                prob[k] += np.where(hole, background(prob, competing), 0.0).astype(np.float32)
            else:
                prob[k] = np.where(hole, 1.0 - prob[k], prob[k])
