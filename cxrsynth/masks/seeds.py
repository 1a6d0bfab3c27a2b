"""Pixels that attention is sure of, and nothing else: what an AffinityNet may learn from without any human mask.

DiffuMask (Wu et al., ICCV 2023, section 3.2, and its public code): a threshold adapted to the image; a high and a low
background constant around it; DenseCRF on the labels of both. What stays foreground under the high constant is
foreground, what stays background under the low one is background, the rest is disputed.
"""

from __future__ import annotations

import numpy as np

from cxrsynth.masks.attention import Joint, upsample
from cxrsynth.masks.crf import Crf
from cxrsynth.masks.threshold import labels
from cxrsynth.records import IGNORE

BINS = np.arange(0.45, 0.535, 0.01)
MARGIN_HIGH, MARGIN_LOW = 0.04, 0.02
SMALLEST, STEP, FLOOR, CEILING = 0.06, 0.03, 0.3, 0.75


def strength(maps: np.ndarray, height: int, width: int, joint: Joint) -> np.ndarray:
    """How strongly any class that is there claims a pixel: (K, h, w) raw maps -> (H, W) float32 in 0..1."""
    raw = upsample(maps, height, width)
    there = joint(maps, height, width, np.ones(len(maps), bool)).presence >= max(joint.presence, 1e-8)
    if not there.any():
        return np.zeros((height, width), np.float32)
    floor, peak = np.percentile(raw[there], (joint.floor, joint.peak), axis=(1, 2))[..., None, None]
    scaled = (raw[there] - floor) / np.maximum(peak - floor, 1e-8)
    return np.clip(scaled.max(axis=0), 0.0, 1.0).astype(np.float32)


def constants(claim: np.ndarray, band: float = 1.0) -> tuple[float, float]:
    """The low and the high background constant of an image.

    Args:
        claim: (H, W) float32 in 0..1, as `strength` gives it.
        band: how far the high constant lies above the adapted threshold, as a share of DiffuMask's distance.

    Returns:
        (low, high): under ``low`` only sure background is left, over ``high`` only sure foreground.
    """
    counts, edges = np.histogram(claim, BINS)
    theta = float(edges[counts.argmax()])
    while (claim > theta).mean() < SMALLEST and theta > FLOOR:
        theta -= STEP
    while (claim > theta).mean() > 1 - SMALLEST and theta < CEILING:
        theta += STEP
    above, below = claim[claim > theta], claim[claim <= theta]
    high = float(above.mean()) - MARGIN_HIGH if above.size else theta
    low = float(below.mean()) + MARGIN_LOW if below.size else theta
    # A nearly binary map would put the low constant above the high one.
    return min(max(low, 0.01), theta), theta + band * max(min(high, 0.99) - theta, 0.0)


def confident(image: np.ndarray, maps: np.ndarray, joint: Joint, crf: Crf, band: float = 1.0) -> np.ndarray:
    """The pixels of one image that are beyond dispute.

    Args:
        image: (H, W) uint8.
        maps: (K, h, w) float32, raw attention of the competing classes.
        joint: how maps become probabilities; its background is replaced by the two constants.
        crf: random field for both labellings, sure of a label as far as its ``certainty``.
        band: as in `constants`.

    Returns:
        (H, W) uint8: 0 background, k + 1 class k, 255 disputed.
    """
    height, width = image.shape
    everything = np.ones(len(maps), bool)
    low, high = constants(strength(maps, height, width, joint), band)
    found = []
    for constant in (low, high):
        prob = joint.model_copy(update={"background": constant})(maps, height, width, everything).prob
        rough = labels(prob, everything)
        hard = np.stack([rough == k + 1 for k in range(len(maps))]).astype(np.float32)
        found.append(labels(crf(image, hard), everything))
    generous, strict = found
    seeds = np.full(image.shape, IGNORE, np.uint8)
    seeds[generous == 0] = 0
    sure = (strict > 0) & (strict == generous)
    seeds[sure] = strict[sure]
    return seeds
