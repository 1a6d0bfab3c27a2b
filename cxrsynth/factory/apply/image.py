"""One image between its own size and the size the model sees: shrink it, place its maps, enlarge its labels."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

from cxrsynth.masks.labels import Labelling, make_sample
from cxrsynth.masks.layers import apart, certainty, layers, paint
from cxrsynth.masks.walk import resize
from cxrsynth.records import IGNORE, Draw, Sample

Labelled = tuple[np.ndarray, np.ndarray | None, dict[str, float]]


def shrink(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) uint8 -> (height, width) uint8 as the model was trained: squashed, not cropped."""
    if picture.shape == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def embed(maps: np.ndarray, box: tuple[slice, slice], shape: tuple[int, ...]) -> np.ndarray:
    """Maps of a part of an image -> maps of the whole image, 0 outside the part.

    Args:
        maps: (K, h, w) float32 of ``box``.
        shape: (H, W) of the image.

    Returns:
        (K, h', w') float32; the same array where the part is the whole.
    """
    rows, columns = box
    if (rows.stop - rows.start, columns.stop - columns.start) == shape:
        return maps
    size = (2 * maps.shape[1], 2 * maps.shape[2])  # twice as fine: the part fills less of the grid now
    y0, y1 = (round(edge * size[0] / shape[0]) for edge in (rows.start, rows.stop))
    x0, x1 = (round(edge * size[1] / shape[1]) for edge in (columns.start, columns.stop))
    whole = np.zeros((len(maps), *size), np.float32)
    whole[:, y0:y1, x0:x1] = [resize(one, y1 - y0, x1 - x0) for one in maps]
    return whole


def fractions(box: tuple[slice, slice], shape: tuple[int, ...]) -> np.ndarray:
    """A part of an image as `Draw` says it: (4,) float32 top, bottom, left, right, 0..1 of its sides."""
    rows, columns = box
    edges = (rows.start, rows.stop, columns.start, columns.stop)
    return np.array(edges, np.float32) / np.repeat(np.array(shape, np.float32), 2)


def label_one(draw: Draw, labelling: Labelling, shape: tuple[int, int]) -> Labelled:
    """Label one image at the size the model sees, and bring the labels to the size of the image.

    Args:
        draw: (h, w) uint8 image with its maps.
        shape: (H, W) of the image.

    Returns:
        (H, W) uint8 class ids; (K, H, W) bool where classes overlap, or None; scores.
    """
    sample: Sample = make_sample(draw, labelling)
    competing = labelling.competing
    # Probabilities are enlarged, not labels: the rim of a mask is smooth and no id lies between two others.
    prob = np.stack([resize(one, *shape) for one in sample.prob]) if shape != draw.image.shape else sample.prob
    mask = paint(prob, competing, list(labelling.classes.values()))
    if labelling.ignore:
        mask[certainty(prob, competing) < labelling.ignore] = IGNORE
    return mask, None if competing.all() else apart(layers(prob, competing), prob, competing), sample.scores


def seed_of(seed: int, image: np.ndarray) -> int:
    """63-bit seed of an image's noise, from its pixels: its place among the others does not matter."""
    found = hashlib.sha256(f"{seed} {image.shape} ".encode() + image.tobytes()).digest()
    return int.from_bytes(found[:8], "big") >> 1
