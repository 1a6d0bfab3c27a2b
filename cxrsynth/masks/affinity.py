"""The random walk as a refiner."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from cxrsynth.auxiliary_files import NetworkFile, auxiliary_file
from cxrsynth.masks.layers import background
from cxrsynth.masks.refiner import Named
from cxrsynth.masks.walk import affinities, resize, spread, transition

EPSILON = 1e-8
# Percentile of a plane that counts as its peak: no single hot pixel decides.
PEAK = 99.5


class Affinity(Named):
    """Random walk over affinities that a network has learned, or over gray levels (psa, CVPR 2018, section 3.3).

    Attributes:
        weights: file that ``cxrsynth train-affinity`` wrote, or ``mini`` for the bundled one; its sha256 is part of the
            fingerprint. Without weights neighbours are alike as far as their gray levels are.
        beta: power of the affinities; higher keeps the walk within sharper edges.
        steps: how often the walk takes a step. psa takes 2**8 on photographs; on validation radiographs lungs gained
            from one or two steps, and every further one cost the heart, whose lower edge hardly shows.
        radius: neighbours nearer than this are joined, in places of the grid.
        stride: pixels between places without weights; a weights file brings its own.
        restore: whether every class and the background get their peak back after the walk. A long walk thins a small
            organ out over its surroundings long before it forgets where the organ ends.
        device: where the walk is computed: None on the CPU by scipy, or ``cuda``, which long walks on fine grids need.
        contrast: gray levels (of 255) after which the affinity of two places has fallen to 1/e, without weights.
    """

    weights: Annotated[str | None, NetworkFile("weights")] = None
    beta: float = Field(8.0, gt=0, le=64)
    steps: int = Field(2, ge=1, le=4096)
    radius: int = Field(5, ge=2, le=16)
    stride: Literal[4, 8] = 4
    contrast: float = Field(60.0, gt=0)
    restore: bool = True
    device: Literal["cpu", "cuda"] | None = None

    def __call__(self, image: np.ndarray, prob: np.ndarray) -> np.ndarray:
        """(H, W) uint8, (K, H, W) float32 -> (K, H, W) float32 in 0..1.

        Raises:
            MissingError: the weights are not there or are none.
        """
        if not prob.any():
            return prob.copy()
        features = self._features(image)  # (C, h, w)
        height, width = features.shape[1:]
        matrix = transition(affinities(features, self.radius), height, width, self.radius, self.beta)
        competing = self.competing(len(prob))
        rest = background(prob, competing)[None]
        planes = np.concatenate([prob, rest, 1.0 - prob[~competing]])  # what is, what is not, what is not beside others
        walked = spread(planes, matrix, height, width, self.steps, self.device)
        if self.restore:
            before, after = (np.percentile(one[:, ::2, ::2], PEAK, axis=(1, 2)) for one in (planes, walked))
            walked *= (before / np.maximum(after, EPSILON)).astype(np.float32)[:, None, None]
        count = len(prob)
        total = np.where(competing[:, None, None], walked[:count][competing].sum(axis=0) + walked[count], 1.0)
        total[~competing] = walked[:count][~competing] + walked[count + 1 :]
        return (walked[:count] / np.maximum(total, EPSILON)).astype(np.float32)

    def _features(self, image: np.ndarray) -> np.ndarray:
        """What the places of the grid are compared by: (C, h, w) float32."""
        if self.weights is not None:
            from cxrsynth.nets.affinity import features

            return features(auxiliary_file(self.weights), image)
        height, width = (-(-side // self.stride) for side in image.shape)
        return resize(image, height, width)[None] / np.float32(self.contrast)
