"""A label map made into another one: smooth warp, scale, shift, and a heart of the cardiothoracic ratio asked for.

Label maps are (H, W) uint8 with the ids of `cxrsynth.domain.anatomy.CLASSES`. No torch: pool workers and tests use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from cxrsynth.domain.anatomy import CLASSES, cardiothoracic
from cxrsynth.errors import UsageError

GRID = 96  # side of the grid the warp is integrated on; it is smooth, so a coarse grid holds it
SQUARINGS = 6
HEART = CLASSES["heart"]
ROOM = 0.02  # of the chest's width, that a heart leaves on either side
FADE = 0.12  # of the height, over which the stretch of a heart fades out above and below it
ASPECT = 0.03  # label maps whose sides are in another proportion than the image's would be stretched


def resized(mask: np.ndarray, height: int, width: int, what: str = "the label map") -> np.ndarray:
    """(h, w) ids -> (height, width) ids by the nearest pixel.

    Raises:
        UsageError: its sides are in another proportion.
    """
    if abs(np.log(mask.shape[1] / mask.shape[0] * height / width)) > ASPECT:
        raise UsageError(
            f"{what} has {mask.shape[1]} x {mask.shape[0]} pixels, the image {width} x {height}: other proportions",
            f"squash or pad it to {width} x {height}",
        )
    if mask.shape == (height, width):
        return mask
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def deform(mask: np.ndarray, how: Mapping[str, Any]) -> np.ndarray:
    """Deform a label map as a Spec says.

    Args:
        mask: (H, W) uint8.
        how: ``seed``, ``warp``, ``smooth`` (fractions of the width), ``scale`` and ``shift`` (rows, columns),
            ``ctr`` (None leaves the heart).

    Returns:
        (H, W) uint8, every class of ``mask`` still there.

    Raises:
        UsageError: a class left the image.
    """
    height, width = mask.shape
    field = warp(how["seed"], how["warp"], how["smooth"])  # (2, GRID, GRID), fractions
    y, x = np.mgrid[:height, :width].astype(np.float64)
    u, v = (y + 0.5) / height, (x + 0.5) / width
    at = np.stack([u * GRID - 0.5, v * GRID - 0.5])
    moved = np.stack([ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in field])
    # Where each pixel of the new map comes from: scaled and shifted about the middle, then warped.
    source_u = (u - 0.5 - how["shift"][0]) / how["scale"][0] + 0.5 + moved[0]
    source_v = (v - 0.5 - how["shift"][1]) / how["scale"][1] + 0.5 + moved[1]
    found = sample(mask, source_u * height - 0.5, source_v * width - 0.5)
    if how.get("ctr") is not None:
        found = with_heart(found, how["ctr"])
    gone = [name for name, number in CLASSES.items() if (mask == number).any() and not (found == number).any()]
    if gone:
        raise UsageError(f"the deformed label map has lost its {gone[0].replace('_', ' ')}", "deform less")
    return found


def warp(seed: int, amount: float, smooth: float) -> np.ndarray:
    """A smooth, invertible displacement: a stationary velocity field, integrated by scaling and squaring.

    (Arsigny et al., MICCAI 2006.)

    Args:
        amount: deviation of the velocity, of the width.
        smooth: deviation of the Gaussian that smooths it, of the width.

    Returns:
        (2, GRID, GRID) float64, rows and columns, fractions of the image.
    """
    rng = np.random.default_rng(seed)
    rough = rng.standard_normal((2, GRID, GRID))
    velocity = np.stack([ndimage.gaussian_filter(part, smooth * GRID, mode="wrap") for part in rough])
    velocity *= amount / max(float(velocity.std()), 1e-12)
    step = velocity * GRID / 2**SQUARINGS
    here = np.mgrid[:GRID, :GRID].astype(np.float64)
    for _ in range(SQUARINGS):
        step = step + np.stack([ndimage.map_coordinates(part, here + step, order=1, mode="nearest") for part in step])
    return step / GRID


def sample(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Ids at fractional places: each class by linear interpolation, then the strongest, so that borders stay smooth."""
    numbers = [0, *CLASSES.values()]
    strength = np.stack(
        [
            ndimage.map_coordinates(
                (mask == number).astype(np.float32), (rows, columns), order=1, mode="constant", cval=float(number == 0)
            )
            for number in numbers
        ]
    )
    return np.array(numbers, np.uint8)[strength.argmax(axis=0)]


def with_heart(mask: np.ndarray, ratio: float) -> np.ndarray:
    """The label map with its heart made as wide as ``ratio`` times the chest, as far as the chest has room.

    Columns are stretched at the height of the heart and left alone above and below it. The lungs' inner borders move
    along, so that nothing tears; the chest stays as wide as it was. The heart grows about the middle of the chest, and
    so mostly to the left, as it does in patients.
    """
    found = mask
    for _ in range(4):  # pixels are whole, and the widest row may lie where the stretch fades: look again
        now = cardiothoracic(found)
        if not np.isfinite(now) or abs(now - ratio) < 0.5 / found.shape[1]:
            break
        found = _stretched(found, ratio / now)
    return found


def _stretched(mask: np.ndarray, factor: float) -> np.ndarray:
    height, width = mask.shape
    heart, lungs = mask == HEART, (mask == CLASSES["right_lung"]) | (mask == CLASSES["left_lung"])
    columns, rows = np.flatnonzero(heart.any(axis=0)), np.flatnonzero(heart.any(axis=1))
    chest = np.flatnonzero(lungs.any(axis=0))
    first, last = float(chest[0]), float(chest[-1] + 1)
    left, right = float(columns[0]), float(columns[-1] + 1)
    middle, least = (first + last) / 2, ROOM * (last - first)
    wanted_left = max(middle - (middle - left) * factor, first + least)
    wanted_right = min(middle + (right - middle) * factor, last - least)
    outer = [min(first, left - 1, wanted_left - 1), max(last, right + 1, wanted_right + 1)]
    before = [outer[0] - width, outer[0], left, right, outer[1], outer[1] + width]
    after = [outer[0] - width, outer[0], wanted_left, wanted_right, outer[1], outer[1] + width]
    x = np.arange(width) + 0.5
    moved = np.interp(x, after, before) - x  # where each new column comes from
    beyond = np.maximum(rows[0] - np.arange(height), np.arange(height) - rows[-1]) / (FADE * height)
    near = 1 - np.clip(beyond, 0, 1)
    strength = near * near * (3 - 2 * near)  # 1 at the height of the heart, smoothly 0 beyond
    y, _ = np.mgrid[:height, :width].astype(np.float64)
    return sample(mask, y, (x - 0.5)[None] + strength[:, None] * moved[None])
