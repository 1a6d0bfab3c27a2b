"""Where the image lies in its picture: black borders of a scanner or detector, white ones of an inverted image."""

from __future__ import annotations

import numpy as np

# A row or column belongs to the border of an image if this share of it is as dark as the rim of the picture. The border
# that a scanner leaves is black; that of a photograph is dark gray with noise.
BORDER, BLACK, DARKEST = 0.985, 8, 32
# Pixels along the shorter side that are enough to see a border.
THINNED = 128


def content(picture: np.ndarray) -> tuple[slice, slice]:
    """(H, W) uint8 -> rows and columns without dark borders; an image that is nearly all dark is left alone."""
    edge = max(1, min(picture.shape) // 50)
    rim = np.concatenate([side.ravel() for whole in (picture, picture.T) for side in (whole[:edge], whole[-edge:])])
    dark = picture <= min(np.percentile(rim, 99) + BLACK, DARKEST)
    inside = []
    for axis in (1, 0):
        kept = np.flatnonzero(dark.mean(axis=axis) < BORDER)
        whole = slice(0, picture.shape[1 - axis])
        inside.append(slice(int(kept[0]), int(kept[-1]) + 1) if len(kept) > whole.stop // 3 else whole)
    return inside[0], inside[1]


def unframed(image: np.ndarray) -> np.ndarray:
    """(H, W) of any range -> (h, w) float32: fewer pixels, without dark borders and without bright ones.

    Turned or inverted images keep the same part.
    """
    step = max(1, min(image.shape) // THINNED)
    small: np.ndarray = image[::step, ::step].astype(np.float32)
    low, high = np.percentile(small, (1, 99))
    if not high > low:
        return small
    toned = np.clip((small - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    boxes = zip(content(toned), content(255 - toned), strict=True)
    rows, columns = (slice(max(one.start, other.start), min(one.stop, other.stop)) for one, other in boxes)
    part: np.ndarray = small[rows, columns]
    return part if part.shape[0] > small.shape[0] // 3 and part.shape[1] > small.shape[1] // 3 else small
