"""One real radiograph: where it lies, what is known about it, and how it becomes a square gray image.

A layout says which images there are (`SourceImage`); reading pixels and fixing tone is the same for all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cxrsynth.data import masks
from cxrsynth.data.classes import Colour
from cxrsynth.data.dicom import is_dicom, read_header
from cxrsynth.data.dicom_fields import turn_of
from cxrsynth.data.dicom_masks import paint
from cxrsynth.data.paths import trouble
from cxrsynth.data.upright import UPRIGHT, Turn
from cxrsynth.ingest.scan import Found
from cxrsynth.records import Row

# Class names in the order of their ids. The V7 lungs include what lies behind the heart: another definition, so
# another class, and never one name for both.
CLASSES: dict[str, dict[str, str]] = {
    "standard": {"right_lung": "right lung", "left_lung": "left lung", "heart": "heart"},
    "v7": {"right_lung_v7": "right lung", "left_lung_v7": "left lung"},
}
SMALLEST_SIDE = 32
# A strip is a panorama of teeth or a band of a scanner, no chest.
LONGEST_SIDE = 8.0
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
        path: the image.
        row: what is known about it: prompt, split, patient, source, licence and all other useful columns.
        mask: its mask, or None where nobody labelled it.
        labels: pixel value in the mask -> class name, for example ``{1: "right_lung"}``.
        box: (left, top, right, bottom) of the content, without image borders, in pixels of the image; None for all.
        colours: colour in the mask -> pixel value, where its classes are colours.
        reason: why it is refused without being opened; empty for all others.
        notes: what is known to be not as it should be, though it can be used.
    """

    key: str
    path: Path
    row: Row
    mask: Path | None = None
    labels: dict[int, str] = field(default_factory=dict)
    box: tuple[int, int, int, int] | None = None
    colours: dict[Colour, int] = field(default_factory=dict)
    reason: str = ""
    notes: tuple[str, ...] = ()


class Layout(Protocol):
    """Knows how a kind of folder is arranged.

    Attributes:
        root: the folder.
        options: what was chosen of it; part of the identity of the result.
        notes: what is not as it should be with the folder as a whole; filled by `images`.
        found: what lies in the folder, where the layout looked through it.
    """

    root: Path
    options: dict[str, Any]
    notes: list[str]

    @property
    def found(self) -> Found | None: ...

    def images(self) -> Iterator[SourceImage]:
        """All images, in an order that does not depend on the machine."""
        ...

    def classes(self) -> list[dict[str, Any]]:
        """``[{"id": 1, "name": "right_lung", "phrase": "right lung"}, ...]`` for the masks of these images."""
        ...


def read_gray(path: Path) -> tuple[np.ndarray, list[str]]:
    """Read an image as (H, W) float32 of any range, with notes on what had to be fixed.

    Raises:
        UnreadableError: missing, empty, corrupt, in colour, or too small; the message names which.
    """
    why = trouble(path)
    if why:
        raise UnreadableError(why)
    if path.stat().st_size == 0:
        raise UnreadableError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                if getattr(opened, "n_frames", 1) > 1:
                    raise UnreadableError("several frames; expected one")
                upright = ImageOps.exif_transpose(opened)  # a phone stores the image as it held it
                mode = upright.mode
                array = np.asarray(
                    upright.convert("RGB") if mode in ("P", "RGBA", "LA", "PA", "CMYK", "YCbCr") else upright
                )
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        raise UnreadableError("not an image") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UnreadableError("more pixels than any radiograph") from None
    except Exception as error:  # a decoder that is given garbage may raise anything
        raise UnreadableError(f"corrupt image: {error}") from None
    notes = []
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UnreadableError("pixels that are no numbers (NaN or infinite)")
    if array.ndim == 3:
        channels = array.astype(np.float32)
        spread = colour(channels)
        if spread > COLOUR_TOLERANCE:
            raise UnreadableError(f"in colour: channels differ by {spread:.0f} of 255 on average")
        array = channels.mean(axis=2)
        notes.append("gray stored as colour")
    elif array.dtype != np.uint8:
        # Tone is stretched per image anyway, so deeper images lose nothing that 8 bits could hold.
        notes.append(f"{array.dtype} tone mapped to 8 bits")
    if min(array.shape) < SMALLEST_SIDE:
        raise UnreadableError(f"only {array.shape[1]}x{array.shape[0]} pixels")
    if max(array.shape) > LONGEST_SIDE * min(array.shape):
        raise UnreadableError(f"{array.shape[1]}x{array.shape[0]} pixels: a strip, no radiograph")
    return array.astype(np.float32), notes


def colour(channels: np.ndarray) -> float:
    """How much the channels of a (H, W, 3) float32 image differ on average, in its own units, a tint not counted."""
    means = channels.mean(axis=(0, 1))
    if means.min() > 0 and means.max() / means.min() <= TINT:
        channels = channels * (means.mean() / means)
    return float((channels.max(axis=2) - channels.min(axis=2)).mean())


def stretch(array: np.ndarray, tone: tuple[float, float] = TONE) -> np.ndarray:
    """(H, W) float32 -> (H, W) float32 in 0..255: the image's own percentiles become black and white.

    Raises:
        UnreadableError: the image has a single tone.
    """
    low, high = (float(value) for value in np.percentile(array, tone))
    if not np.isfinite([low, high]).all() or high - low < 1e-6:
        raise UnreadableError("no contrast: a single tone")
    return np.clip((array - low) * (255.0 / (high - low)), 0, 255)


def square(array: np.ndarray, size: int) -> np.ndarray:
    """(H, W) float32 in 0..255 -> (size, size) uint8, squashed: the row keeps the aspect ratio."""
    picture = Image.fromarray(array.astype(np.float32), mode="F").resize((size, size), Image.Resampling.LANCZOS)
    return np.clip(np.asarray(picture).round(), 0, 255).astype(np.uint8)


def read_mask(
    image: SourceImage, ids: dict[str, int], shape: tuple[int, int], size: int, turn: Turn = UPRIGHT
) -> tuple[np.ndarray, list[str]]:
    """The mask of an image as (size, size) uint8 ids of this dataset's classes, and notes.

    Args:
        ids: class name -> id in the dataset.
        shape: (H, W) of the image before cropping; a mask of another size belongs to something else.
        turn: what made the image upright.

    Raises:
        UnreadableError: missing, corrupt, another shape, or with values that no class stands for.
    """
    if image.mask is None:
        raise UnreadableError("mask is missing")
    notes: list[str] = []
    try:
        if is_dicom(image.mask):
            values = read_segments(image.mask, image, shape)
        else:
            values, notes = masks.read_mask(image.mask, image.labels, shape=shape, colours=image.colours)
    except masks.MaskError as error:
        raise UnreadableError(str(error)) from None
    table = np.zeros(256, np.uint8)
    for value, name in image.labels.items():
        table[value] = ids[name]
    labels = Image.fromarray(np.ascontiguousarray(turn.mask(crop(table[values], image.box))), mode="L")
    return np.asarray(labels.resize((size, size), Image.Resampling.NEAREST)), notes


def read_segments(mask: Path, image: SourceImage, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 ids of a DICOM segmentation, turned as the header of its image asks for.

    Raises:
        MaskError: corrupt, or of another shape.
    """
    painted = paint(mask, {name: value for value, name in image.labels.items()})
    values = turn_of(read_header(image.path)).mask(painted)
    if values.shape != shape:
        wanted, given = f"{shape[1]}x{shape[0]}", f"{values.shape[1]}x{values.shape[0]}"
        raise masks.MaskError(f"mask has {given} pixels, its image {wanted}")
    return values


def crop(array: np.ndarray, box: tuple[int, int, int, int] | None) -> np.ndarray:
    """(H, W) -> the part inside ``box``, clipped to the image."""
    if box is None:
        return array
    left, top, right, bottom = box
    inside = array[max(top, 0) : bottom, max(left, 0) : right]
    if min(inside.shape) < SMALLEST_SIDE:
        raise UnreadableError(f"content box {box} leaves {inside.shape[1]}x{inside.shape[0]} pixels")
    return inside
