"""Where an image is held and where it is free, and how a generated region is put back."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cxrsynth.data.findings.texture import attenuate
from cxrsynth.domain.regions import edge

# Where an image is nearly white, no ratio is to be trusted: so much light passes everywhere, and so much attenuation is
# taken away or added at most.
FLOOR = 0.08
MOST = (-1.2, 2.5)


def hold(mask: np.ndarray, inside: float, outside: float, soft: float) -> np.ndarray:
    """The weight M of the anatomy controller.

    Args:
        mask: (H, W) ids; organs are held with ``inside``, the rest with ``outside``.
        soft: width of the border between the two, of the width; it lies outside the organs, whose edges are held.

    Returns:
        (H, W) float32.
    """
    weight = edge(mask > 0, soft * mask.shape[1])
    return np.asarray(outside + (inside - outside) * weight, np.float32)


def to_grid(weights: list[np.ndarray], size: tuple[int, int], how: str) -> Tensor:
    """(H, W) weights of a batch -> (B, 1, h, w) float32 on the grid of the latents; ``how``: area or max."""
    stacked = torch.from_numpy(np.stack(weights).astype(np.float32))[:, None]
    return F.adaptive_max_pool2d(stacked, size) if how == "max" else F.interpolate(stacked, size=size, mode="area")


def transfer(image: np.ndarray, before: np.ndarray, after: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """An image with the attenuation that lies between two others.

    ``I' = 1 - (1 - I) ((1 - after) / (1 - before)) ** weight``: matter is added or taken away where the two differ, so
    ribs and vessels of the image run through, and what an autoencoder blurs in both is not blurred in the image.

    Args:
        image: (H, W) uint8.
        before, after: (H, W) uint8, a reconstruction of the image, and the same with the change.
        weight: (H, W) float32, 0 leaves the image as it is, 1 adds the whole difference.

    Returns:
        (H, W) uint8.
    """
    passed = [1 - one.astype(np.float32) / 255 + FLOOR for one in (before, after)]
    added = np.clip(np.log(passed[0]) - np.log(passed[1]), *MOST)
    changed = attenuate(image.astype(np.float32) / 255, weight * added)
    # Where nothing is added no pixel changes, not even by rounding.
    return np.where(weight > 0, np.rint(changed * 255), image).astype(np.uint8)
