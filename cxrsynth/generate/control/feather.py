"""Where an image is held and where it is free, and how a generated region is put back."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cxrsynth.domain.regions import edge


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


def paste(image: np.ndarray, drawn: np.ndarray, region: np.ndarray, severity: float, feather: float) -> np.ndarray:
    """The image with a region of another one; farther than ``feather`` (of the width) from it no pixel changes.

    Args:
        image: (H, W) uint8.
        drawn: (H, W) uint8.
        region: (H, W) bool.
        severity: opacity of the new region, 0 to 1.

    Returns:
        (H, W) uint8.
    """
    weight = severity * edge(region, feather * image.shape[1])
    mixed = image + weight * (drawn.astype(np.float32) - image)
    return np.asarray(np.rint(mixed).clip(0, 255), np.uint8)
