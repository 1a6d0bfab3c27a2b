"""One real radiograph: where it lies, what is known about it, and how it becomes a square gray picture.

A layout says which images there are (`SourceImage`); reading pixels and fixing tone is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cxrsynth.store import Row

# Class names in the order of their ids. The V7 lungs include what lies behind the heart: another definition, so
# another class, and never one name for both.
CLASSES: dict[str, dict[str, str]] = {
    "standard": {"right_lung": "right lung", "left_lung": "left lung", "heart": "heart"},
    "v7": {"right_lung_v7": "right lung", "left_lung_v7": "left lung"},
}
SMALLEST_SIDE = 32
# JPEG colour noise of a gray image stays below this mean difference between channels (of 255).
COLOUR_TOLERANCE = 4.0
# A photograph of a light box has the colour of its lamp: one channel may be brighter throughout, by this at most.
TINT = 1.5
TONE = (1.0, 99.0)


class UnreadableError(Exception):
    """An image or mask that cannot be used; the message is the machine-readable reason."""


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image that a layout found; nothing has been read yet.

    Attributes:
        key: file stem in the dataset, unique.
        path: the picture.
        row: what is known about it: prompt, split, patient, source, licence and all other useful columns.
        mask: its mask, or None where nobody labelled it.
        labels: pixel value in the mask -> class name, for example ``{1: "right_lung"}``.
        box: (left, top, right, bottom) of the content, without image borders, in pixels of the picture; None for all.
    """

    key: str
    path: Path
    row: Row
    mask: Path | None = None
    labels: dict[int, str] = field(default_factory=dict)
    box: tuple[int, int, int, int] | None = None


class Layout(Protocol):
    """Knows how a kind of folder is arranged."""

    options: dict[str, Any]

    def images(self) -> Iterator[SourceImage]:
        """All images, in an order that does not depend on the machine."""
        ...

    def classes(self) -> list[dict[str, Any]]:
        """``[{"id": 1, "name": "right_lung", "phrase": "right lung"}, ...]`` for the masks of these images."""
        ...


def read_gray(path: Path) -> tuple[np.ndarray, list[str]]:
    """Read a picture as (H, W) float32 of any range, with notes on what had to be fixed.

    Raises:
        UnreadableError: missing, empty, corrupt, in colour, or too small; the message names which.
    """
    try:
        if path.stat().st_size == 0:
            raise UnreadableError("empty file")
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)  # a phone stores the picture as it held it
            mode = upright.mode
            array = np.asarray(
                upright.convert("RGB") if mode in ("P", "RGBA", "LA", "PA", "CMYK", "YCbCr") else upright
            )
    except FileNotFoundError:
        raise UnreadableError("file is missing") from None
    except UnidentifiedImageError:
        raise UnreadableError("not a picture") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableError(f"corrupt picture: {error}") from None
    notes = []
    if array.ndim == 3:
        channels = array.astype(np.float32)
        spread = colour(channels)
        if spread > COLOUR_TOLERANCE:
            raise UnreadableError(f"in colour: channels differ by {spread:.0f} of 255 on average")
        array = channels.mean(axis=2)
        notes.append("gray stored as colour")
    elif array.dtype != np.uint8:
        # Tone is stretched per image anyway, so deeper pictures lose nothing that 8 bits could hold.
        notes.append(f"{array.dtype} tone mapped to 8 bits")
    if min(array.shape) < SMALLEST_SIDE:
        raise UnreadableError(f"only {array.shape[1]}x{array.shape[0]} pixels")
    return array.astype(np.float32), notes


def colour(channels: np.ndarray) -> float:
    """How much the channels of a (H, W, 3) float32 picture differ on average, in its own units, a tint not counted."""
    means = channels.mean(axis=(0, 1))
    if means.min() > 0 and means.max() / means.min() <= TINT:
        channels = channels * (means.mean() / means)
    return float((channels.max(axis=2) - channels.min(axis=2)).mean())


def stretch(array: np.ndarray, tone: tuple[float, float] = TONE) -> np.ndarray:
    """(H, W) float32 -> (H, W) float32 in 0..255: the image's own percentiles become black and white.

    Raises:
        UnreadableError: the picture has a single tone.
    """
    low, high = (float(value) for value in np.percentile(array, tone))
    if not np.isfinite([low, high]).all() or high - low < 1e-6:
        raise UnreadableError("no contrast: a single tone")
    return np.clip((array - low) * (255.0 / (high - low)), 0, 255)


def square(array: np.ndarray, size: int) -> np.ndarray:
    """(H, W) float32 in 0..255 -> (size, size) uint8, squashed: the row keeps the aspect ratio."""
    picture = Image.fromarray(array.astype(np.float32), mode="F").resize((size, size), Image.Resampling.LANCZOS)
    return np.clip(np.asarray(picture).round(), 0, 255).astype(np.uint8)


def read_image(image: SourceImage, size: int) -> tuple[np.ndarray, list[str], tuple[int, int]]:
    """An image as (size, size) uint8, notes, and (width, height) of its content before squashing.

    Raises:
        UnreadableError: as in `read_gray` and `stretch`.
    """
    array, notes = read_gray(image.path)
    array = crop(array, image.box)
    return square(stretch(array), size), notes, (array.shape[1], array.shape[0])


def read_mask(image: SourceImage, ids: dict[str, int], shape: tuple[int, int], size: int) -> np.ndarray:
    """The mask of an image as (size, size) uint8 ids of this dataset's classes.

    Args:
        ids: class name -> id in the dataset.
        shape: (H, W) of the image's picture before cropping; a mask of another aspect belongs to something else.

    Raises:
        UnreadableError: missing, corrupt, another shape, or with values that no class stands for.
    """
    assert image.mask is not None
    try:
        with Image.open(image.mask) as opened:
            values = np.asarray(opened)
    except FileNotFoundError:
        raise UnreadableError("mask is missing") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableError(f"mask is corrupt: {error}") from None
    if values.ndim != 2:
        raise UnreadableError("mask is in colour; expected class ids in one channel")
    if values.shape != shape:
        raise UnreadableError(f"mask has {values.shape[1]}x{values.shape[0]} pixels, its image {shape[1]}x{shape[0]}")
    strange = sorted(set(np.unique(values).tolist()) - {0} - set(image.labels))
    if strange:
        raise UnreadableError(f"mask has values {strange[:5]} that no class stands for")
    table = np.zeros(256, np.uint8)
    for value, name in image.labels.items():
        table[value] = ids[name]
    labels = Image.fromarray(crop(table[values], image.box), mode="L")
    return np.asarray(labels.resize((size, size), Image.Resampling.NEAREST))


def crop(array: np.ndarray, box: tuple[int, int, int, int] | None) -> np.ndarray:
    """(H, W) -> the part inside ``box``, clipped to the picture."""
    if box is None:
        return array
    left, top, right, bottom = box
    inside = array[max(top, 0) : bottom, max(left, 0) : right]
    if min(inside.shape) < SMALLEST_SIDE:
        raise UnreadableError(f"content box {box} leaves {inside.shape[1]}x{inside.shape[0]} pixels")
    return inside
