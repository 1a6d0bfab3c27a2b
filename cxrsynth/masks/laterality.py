"""Right and left by geometry: attention confuses the two lungs, the midline does not.

The patient's right is on the left of the image.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy import ndimage

from cxrsynth.masks.layers import layers
from cxrsynth.masks.refiner import Named


def midline(lungs: np.ndarray) -> int:
    """The column of the mediastinum: (H, W) bool lung field of both sides -> the column with the least lung.

    Looked for in the middle of the lungs' own extent, not of the image, so that an off-centre image is no error.
    """
    profile = ndimage.gaussian_filter1d(lungs.sum(axis=0).astype(np.float64), lungs.shape[1] / 64, mode="nearest")
    columns = np.flatnonzero(lungs.any(axis=0))
    first, last = int(columns[0]), int(columns[-1])
    start, stop = first + (last - first) * 3 // 10, first + (last - first) * 7 // 10 + 1
    valley = profile[start:stop]
    # The middle of the valley floor, not its first column: the floor is as wide as the mediastinum.
    floor = np.flatnonzero(valley <= valley.min() + 0.05 * lungs.shape[0])
    return start + int(floor[len(floor) // 2])


class Laterality(Named):
    """Moves what lies on the wrong side of the midline to the other lung, component by component.

    A component that lies almost wholly on the wrong side moves as a whole; one that has a good part on either side is
    cut at the midline; one that only reaches over (a rotated image, a hyperinflated lung) stays. Without both classes
    in the recipe, or without any lung in the image, nothing changes.

    Attributes:
        right: class on the image's left.
        left: class on the image's right.
        cut: share of a component on the smaller side above which it is cut at the midline.
    """

    right: str = "right_lung"
    left: str = "left_lung"
    cut: float = Field(0.15, gt=0, lt=0.5)

    def __call__(self, image: np.ndarray, prob: np.ndarray) -> np.ndarray:
        """(H, W) uint8, (K, H, W) float32 -> (K, H, W) float32 in 0..1."""
        refined = prob.copy()
        right, left = self.index(self.right), self.index(self.left)
        if right is None or left is None:
            return refined
        own = layers(prob, self.competing(len(prob)))
        if not (own[right] | own[left]).any():
            return refined
        beyond = np.arange(image.shape[1])[None] >= midline(own[right] | own[left])  # (1, W), the image's right
        for source, target, wrong in ((right, left, beyond), (left, right, ~beyond)):
            moved = self._wrong(own[source], wrong)
            # Both from the original: a pixel that both lungs claim changes hands, it is not moved twice.
            refined[target][moved] += prob[source][moved]
            refined[source][moved] -= prob[source][moved]
        return np.clip(refined, 0.0, 1.0)

    def _wrong(self, own: np.ndarray, wrong: np.ndarray) -> np.ndarray:
        """(H, W) bool, (1, W) bool columns of the other side -> the pixels that have to move."""
        pieces, found = ndimage.label(own)
        sizes = np.bincount(pieces.ravel(), minlength=found + 1)
        astray = np.bincount(pieces[np.broadcast_to(wrong, own.shape)], minlength=found + 1)
        share = astray / np.maximum(sizes, 1)
        share[0] = 0.0
        whole, part = share > 1.0 - self.cut, (share >= self.cut) & (share <= 1.0 - self.cut)
        return whole[pieces] | (part[pieces] & wrong)
