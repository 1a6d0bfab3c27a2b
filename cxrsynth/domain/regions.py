"""Where a finding shall lie: words, a box or a mask file, resolved against an image's own label map.

Label maps are (H, W) uint8 with the ids of `cxrsynth.domain.anatomy.CLASSES`.
The patient's right is on the left of the image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from cxrsynth.data.masks import MaskError, read_mask
from cxrsynth.domain.anatomy import CLASSES
from cxrsynth.errors import UsageError

Box = tuple[float, float, float, float]

ZONES = {
    "upper": ("upper", "apical", "apex", "top"),
    "mid": ("mid", "middle"),
    "lower": ("lower", "basal", "base", "basilar"),
}
PARTS = {
    "angle": ("costophrenic angle", "costophrenic sulcus", "cp angle"),
    "hilum": ("hilum", "hilar", "perihilar"),
    "retrocardiac": ("retrocardiac", "behind the heart"),
    "heart": ("heart", "cardiac silhouette"),
    "lung": ("lung", "lungs", "lung field", "field", "zone", "hemithorax", "lobe", "apex", "base"),
}
WORDS = (
    "'left lower zone', 'right upper lung', 'both lungs', 'right costophrenic angle', 'left hilum', 'retrocardiac', "
    "'heart'"
)
MARGIN = 0.06  # how far the body reaches beyond lungs and heart, as a fraction of the width


@dataclass(frozen=True, slots=True)
class Place:
    """Words, understood.

    Attributes:
        part: a key of `PARTS`.
        sides: ``right_lung``, ``left_lung`` or both.
        zone: a key of `ZONES`, or None for all of it.
    """

    part: str
    sides: tuple[str, ...]
    zone: str | None = None


def parse(words: str) -> Place:
    """Understand the words for a region.

    Raises:
        UsageError: they name no place in a chest.
    """
    text = " ".join(words.lower().split())
    part = next((part for part, names in PARTS.items() if any(_has(text, name) for name in names)), None)
    zone = next((zone for zone, names in ZONES.items() if any(_has(text, name) for name in names)), None)
    if part is None and zone is not None:
        part = "lung"
    if part is None:
        raise UsageError(f"'{words}' names no place in a chest", f"for example: {WORDS}")
    sides = tuple(f"{side}_lung" for side in ("right", "left") if _has(text, side))
    if part == "retrocardiac":
        sides = ("left_lung",)
    return Place(part, sides or ("right_lung", "left_lung"), zone if part == "lung" else None)


def resolve(words: str, mask: np.ndarray) -> np.ndarray:
    """The pixels that words name in an image.

    Zones are thirds of a lung's height; the costophrenic angle is the lower outer corner of a lung.

    Args:
        mask: (H, W) uint8 label map.

    Returns:
        (H, W) bool, at least one pixel.

    Raises:
        UsageError: the words name no place, or one that this image does not have.
    """
    place = parse(words)
    found = np.zeros(mask.shape, bool)
    if place.part == "heart":
        found |= mask == CLASSES["heart"]
    elif place.part == "retrocardiac":
        heart = mask == CLASSES["heart"]
        columns = np.flatnonzero(heart.any(axis=0))
        if len(columns):
            # Two thirds of the heart lie on the left of the spine.
            found |= heart & (np.arange(mask.shape[1])[None] > columns[0] + (columns[-1] - columns[0]) / 3)
    else:
        for side in place.sides:
            found |= _in_lung(place, side, mask)
    if not found.any():
        missing = "heart" if place.part in ("heart", "retrocardiac") else " or ".join(place.sides).replace("_", " ")
        raise UsageError(f"'{words}' is nowhere in this image: its label map has no {missing}", f"words: {WORDS}")
    return found


def box_region(box: Box, mask: np.ndarray) -> np.ndarray:
    """A box (left, top, right, bottom), fractions of the image, as (H, W) bool.

    Raises:
        UsageError: it is no box, or lies outside the body.
    """
    left, top, right, bottom = box
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise UsageError(
            f"the box {list(box)} is not left, top, right, bottom in 0..1", "for example: 0.55,0.5,0.85,0.8"
        )
    height, width = mask.shape
    found = np.zeros(mask.shape, bool)
    found[round(top * height) : max(round(bottom * height), round(top * height) + 1),
          round(left * width) : max(round(right * width), round(left * width) + 1)] = True  # fmt: skip
    return inside_body(found, mask, f"the box {list(box)}")


def file_region(path: Path, mask: np.ndarray) -> np.ndarray:
    """A mask file, 0 outside and anything else inside, as (H, W) bool.

    Raises:
        UsageError: it cannot be read, has another size than the image, is empty, or lies outside the body.
    """
    try:
        pixels, _ = read_mask(path)
    except MaskError as error:
        raise UsageError(f"{path}: {error}", "a region is a gray PNG, 0 outside, 255 inside") from error
    if pixels.shape != mask.shape:
        raise UsageError(
            f"{path} has {pixels.shape[1]} x {pixels.shape[0]} pixels, the image {mask.shape[1]} x {mask.shape[0]}",
            "draw the region on the image it is meant for",
        )
    if not pixels.any():
        raise UsageError(f"{path} is empty", "a region is a PNG, 0 outside, 255 inside")
    return inside_body(pixels > 0, mask, str(path))


def inside_body(region: np.ndarray, mask: np.ndarray, what: str) -> np.ndarray:
    """The region as it is, if it meets the body.

    Raises:
        UsageError: it lies outside.
    """
    if not (region & body(mask)).any():
        raise UsageError(f"{what} lies outside the body", f"words are safer: {WORDS}")
    return region


def body(mask: np.ndarray) -> np.ndarray:
    """(H, W) label map -> (H, W) bool: the convex hull of lungs and heart with a margin around it.

    Raises:
        UsageError: the label map is empty.
    """
    from scipy import ndimage
    from scipy.spatial import ConvexHull

    rows, columns = np.nonzero(mask)
    if len(rows) < 3 or len(np.unique(rows)) < 2 or len(np.unique(columns)) < 2:
        raise UsageError("the label map is empty: there is no body to place a finding in", "give one with lungs")
    points = np.stack([columns, rows], axis=1)
    corners = points[ConvexHull(points).vertices]
    canvas = Image.new("1", (mask.shape[1], mask.shape[0]))
    ImageDraw.Draw(canvas).polygon([(int(x), int(y)) for x, y in corners], fill=1, outline=1)
    hull = np.asarray(canvas)
    grown: np.ndarray = ndimage.distance_transform_edt(~hull) <= MARGIN * mask.shape[1]
    return grown


def blob(region: np.ndarray, seed: int) -> np.ndarray:
    """A ragged patch somewhere in a region, as an opacity has it.

    Args:
        region: (H, W) bool, at least one pixel.
        seed: decides place, size and outline.

    Returns:
        (H, W) bool within the region, one piece in most cases, never empty.
    """
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    # Not at the very rim: the centre has at least half of the depth there is.
    rows, columns = np.nonzero(depth >= 0.5 * depth.max())
    pick = int(rng.integers(len(rows)))
    radius = float(np.sqrt(region.sum() / np.pi))
    tall, wide = radius * rng.uniform(0.55, 0.95, size=2)
    coarse = rng.standard_normal((12, 12)).astype(np.float32)
    ragged = np.asarray(Image.fromarray(coarse).resize(region.shape[::-1], Image.Resampling.BICUBIC))
    y, x = np.mgrid[: region.shape[0], : region.shape[1]]
    reach = np.hypot((y - rows[pick]) / max(tall, 1.0), (x - columns[pick]) / max(wide, 1.0))
    patch = region & (reach + 0.2 * ragged < 1.0)
    return patch if patch.any() else region


def _in_lung(place: Place, side: str, mask: np.ndarray) -> np.ndarray:
    lung = mask == CLASSES[side]
    if not lung.any():
        return lung
    height, width = mask.shape
    rows, columns = np.flatnonzero(lung.any(axis=1)), np.flatnonzero(lung.any(axis=0))
    down = (np.arange(height)[:, None] - rows[0] + 0.5) / (rows[-1] - rows[0] + 1)  # 0 apex to 1 base
    across = (np.arange(width)[None] - columns[0] + 0.5) / (columns[-1] - columns[0] + 1)
    outwards = 1 - across if side == "right_lung" else across  # 0 mediastinum to 1 chest wall
    if place.part == "angle":
        part: np.ndarray = lung & (down > 0.7) & (outwards > 0.45)
        return part
    if place.part == "hilum":
        return np.asarray(lung & (down > 0.3) & (down < 0.65) & (outwards < 0.4))
    thirds = {"upper": (0.0, 1 / 3), "mid": (1 / 3, 2 / 3), "lower": (2 / 3, 1.0), None: (0.0, 1.0)}
    first, last = thirds[place.zone]
    return np.asarray(lung & (down >= first) & (down <= last))


def _has(text: str, word: str) -> bool:
    return re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", text) is not None


def edge(region: np.ndarray, width: float) -> np.ndarray:
    """(H, W) bool -> (H, W) float32: 1 in the region, smoothly down to 0 at ``width`` pixels from it."""
    if width <= 0 or not region.any():
        return region.astype(np.float32)
    near = np.clip(1 - ndimage.distance_transform_edt(~region) / (width + 1), 0, 1)
    return np.asarray(near * near * (3 - 2 * near), np.float32)
