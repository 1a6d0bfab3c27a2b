"""Images as data URIs, small enough that a page holds hundreds of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image

from cxrsynth.pages import sheet


def fitting(shape: tuple[int, ...], longest: int) -> tuple[int, int]:
    """(H, W, ...) of an image -> (width, height) with the longest side at most ``longest``."""
    scale = min(1.0, longest / max(shape[:2]))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def image(image: np.ndarray, size: tuple[int, int], quality: int = 82) -> str:
    """(H, W) uint8 -> JPEG data URI; for looking only, labels are never stored like this."""
    picture = Image.fromarray(image, mode="L").resize(size, Image.Resampling.LANCZOS)
    return _uri(picture, "JPEG", quality=quality, optimize=True)


def region(inside: np.ndarray, class_id: int, size: tuple[int, int]) -> str:
    """(H, W) bool -> transparent PNG data URI: a soft fill and a crisp rim in the colour of the class."""
    shape = sheet.fit(inside, size)
    levels = shape.astype(np.uint8)
    levels[sheet.outline(shape, max(1, round(min(size) / 220)))] = 2
    picture = Image.fromarray(levels, mode="P")
    picture.putpalette([0, 0, 0, *sheet.colour(class_id), *sheet.colour(class_id)])
    return _uri(picture, "PNG", transparency=bytes([0, 72, 255]), bits=2, optimize=True)


def average(images: Iterable[tuple[np.ndarray, Mapping[int, np.ndarray]]], side: int = 256) -> str:
    """The mean image, and where each class lies in at least half of them.

    Args:
        images: (H, W) uint8 and class id -> (H, W) bool of the labelled images.
        side: every image is squeezed to (side, side).

    Returns:
        PNG data URI; empty without images.
    """
    total, labelled = np.zeros((side, side), dtype=np.float64), 0
    seen: dict[int, np.ndarray] = {}
    for image, regions in images:
        total += np.asarray(Image.fromarray(image, mode="L").resize((side, side)), dtype=np.float64)
        labelled += 1
        for class_id, inside in regions.items():
            seen[class_id] = seen.get(class_id, np.zeros((side, side))) + sheet.fit(inside, (side, side))
    if not labelled:
        return ""
    mean = (total / labelled).round().astype(np.uint8)
    layers = {class_id: votes * 2 >= labelled for class_id, votes in seen.items()}
    return _uri(sheet.mark_right(sheet.overlay(mean, None, layers=layers)), "PNG", optimize=True)


def _uri(picture: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
