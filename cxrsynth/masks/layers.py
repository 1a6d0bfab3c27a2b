"""What class probabilities say about a pixel: background, one mask per class, one id per pixel.

Two kinds of classes share one array (K, H, W): *competing* classes and the background sum to 1 in every pixel; an
*overlapping* class (an opacity lies in a lung) is weighed against its own absence only and takes nothing from
what lies beneath it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import entr


def background(prob: np.ndarray, competing: np.ndarray) -> np.ndarray:
    """What the competing classes leave over: (K, H, W) float32, (K,) bool -> (H, W) float32 in 0..1."""
    return np.clip(1.0 - prob[competing].sum(axis=0), 0.0, 1.0)


def layers(prob: np.ndarray, competing: np.ndarray) -> np.ndarray:
    """One mask per class, each class against its own absence, so that masks may overlap.

    Returns:
        (K, H, W) bool: where a competing class is likelier than the background, an overlapping one than not.
    """
    absence = np.where(competing[:, None, None], background(prob, competing)[None], 1.0 - prob)
    return prob > absence


def apart(own: np.ndarray, prob: np.ndarray, competing: np.ndarray) -> np.ndarray:
    """Masks of which those of competing classes do not overlap: the likeliest of several keeps the pixel.

    Args:
        own: (K, H, W) bool, as `layers` gives them.
    """
    found = own.copy()
    found[competing] &= np.arange(int(competing.sum()))[:, None, None] == prob[competing].argmax(axis=0)
    return found


def certainty(prob: np.ndarray, competing: np.ndarray) -> np.ndarray:
    """How likely the label of each pixel is: (K, H, W) float32, (K,) bool -> (H, W) float32.

    An overlapping class that is neither there nor absent for sure makes its pixel as uncertain.
    """
    rest = background(prob, competing)
    likeliest = np.max(prob[competing], axis=0, initial=0.0)
    alone = prob[~competing]
    surest = np.min(np.maximum(alone, 1.0 - alone), axis=0, initial=1.0)
    return np.minimum(np.maximum(rest, likeliest), surest)


def uncertainty(prob: np.ndarray, own: np.ndarray) -> float:
    """How much doubt there is about a class, next to its size.

    The binary entropy of the class's final probability, summed over the image, per pixel of its mask: 0 where every
    pixel is decided, 0.1 where a tenth of the mask's size is a coin toss, at most 1. Doubt outside the mask counts as
    much as doubt inside it. Compare images by it for the same class and chain only: a small organ has more rim per
    area.

    Args:
        prob: (H, W) float32 in 0..1.
        own: (H, W) bool, the mask of the class.

    Returns:
        0..1; 1 where there is doubt but no mask, 0 where neither is.
    """
    p = np.clip(prob.astype(np.float64), 0.0, 1.0)
    doubt = float((entr(p) + entr(1.0 - p)).sum() / np.log(2))  # bits
    return min(1.0, doubt / max(int(own.sum()), 1))


def paint(prob: np.ndarray, competing: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """One class id per pixel: the likeliest competing class or background, overlapping classes painted over it.

    Args:
        ids: class id of every k, 1..255; overlapping classes are painted in the order of K.

    Returns:
        (H, W) uint8, 0 background.
    """
    table = np.array([0, *(number for number, competes in zip(ids, competing, strict=True) if competes)], np.uint8)
    scores = np.concatenate([background(prob, competing)[None], prob[competing]])  # (1 + competing, H, W)
    mask = table[scores.argmax(axis=0)]  # a tie is background: argmax takes the first
    own = layers(prob, competing)
    for k in np.flatnonzero(~competing).tolist():
        mask[own[k]] = ids[k]
    return mask
