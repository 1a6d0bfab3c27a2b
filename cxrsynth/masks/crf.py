"""Fully connected conditional random field: pixels that lie close and look alike get alike labels.

Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011,
section 2 (the two kernels) and 3 (mean field).
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from pydensecrf.densecrf import DenseCRF
from pydensecrf.utils import create_pairwise_bilateral, create_pairwise_gaussian

from cxrsynth.masks.refiner import Named

# Under this a class is taken for absent: it keeps its probabilities and costs no label in the field.
ABSENT = 0.05
# Keeps log(0) out of the unary; the same value as the library's own softmax helper.
CLIP = 1e-5
# Rows of the image that distances are given for.
REFERENCE = 256


class Crf(Named):
    """DenseCRF with a gray bilateral kernel.

    The bilateral kernel sees the one gray channel of a radiograph; repeating it three times would triple the weight of
    contrast. Competing classes and the background share one field; an overlapping class gets a two-label field.
    The reach is short: what is common for photographs (60 pixels) leaks over the heart's border, follows ribs, and
    makes masks of radiographs worse. Distances are pixels of an image of 256 rows and grow with the image, so that a
    recipe may change its size.

    Attributes:
        iterations: mean-field steps.
        gaussian_sxy: reach of the smoothness kernel, pixels.
        gaussian_compat: weight of the smoothness kernel.
        bilateral_sxy: reach of the appearance kernel, pixels.
        bilateral_srgb: gray levels (of 255) within which two pixels look alike.
        bilateral_compat: weight of the appearance kernel.
        certainty: how far the incoming probabilities are believed, 0 (not at all) to 1 (as they are).
    """

    iterations: int = Field(5, ge=1, le=100)
    gaussian_sxy: float = Field(3.0, gt=0)
    gaussian_compat: float = Field(1.0, ge=0)
    bilateral_sxy: float = Field(8.0, gt=0)
    bilateral_srgb: float = Field(15.0, gt=0)
    bilateral_compat: float = Field(3.0, ge=0)
    certainty: float = Field(0.8, gt=0, le=1)

    def __call__(self, image: np.ndarray, prob: np.ndarray) -> np.ndarray:
        """(H, W) uint8, (K, H, W) float32 -> (K, H, W) float32 in 0..1."""
        refined = prob.copy()
        competing = self.competing(len(prob))
        seen = prob.max(axis=(1, 2), initial=0.0) > ABSENT
        if not seen.any():
            return refined
        kernels = self._kernels(image)
        together = np.flatnonzero(competing & seen)
        if together.size:
            refined[np.flatnonzero(competing & ~seen)] = 0.0  # the field knows nothing of them: the sum has to stay 1
            refined[together] = self._infer(kernels, prob[together])
        for k in np.flatnonzero(~competing & seen):
            refined[k] = self._infer(kernels, prob[k : k + 1])[0]
        return refined

    def _kernels(self, image: np.ndarray) -> list[tuple[np.ndarray, float]]:
        """Features (D, H*W) float32 and weight of each kernel; shared by all fields of one image."""
        scale = image.shape[0] / REFERENCE
        gaussian = create_pairwise_gaussian((self.gaussian_sxy * scale,) * 2, image.shape)
        bilateral = create_pairwise_bilateral((self.bilateral_sxy * scale,) * 2, self.bilateral_srgb, image)
        both = [(gaussian, self.gaussian_compat), (bilateral, self.bilateral_compat)]
        return [(np.ascontiguousarray(features), weight) for features, weight in both if weight > 0]

    def _infer(self, kernels: list[tuple[np.ndarray, float]], prob: np.ndarray) -> np.ndarray:
        """(k, H, W) probabilities without background -> the same after mean field with background as label 0."""
        rest = np.clip(1.0 - prob.sum(axis=0, keepdims=True), 0.0, 1.0)
        full = np.concatenate([rest, prob])  # (1 + k, H, W)
        full = self.certainty * full + (1.0 - self.certainty) / len(full)
        field = DenseCRF(full[0].size, len(full))
        unary = -np.log(np.clip(full, CLIP, 1.0)).reshape(len(full), -1)
        field.setUnaryEnergy(np.ascontiguousarray(unary, np.float32))
        for features, weight in kernels:
            field.addPairwiseEnergy(features, compat=weight)
        marginals = np.asarray(field.inference(self.iterations), np.float32).reshape(full.shape)
        return np.clip(marginals[1:], 0.0, 1.0)
