"""The images a segmentation network labels worst, reference masks beside its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from cxrsynth.pages.sheet import Item, contact_sheet

SHOWN = 8


def order_by_worst(table: np.ndarray) -> np.ndarray:
    """(N, K) Dice with NaN for classes that are not there -> indices of the images, lowest mean first."""
    filled = np.where(np.isnan(table), 0, table)
    count = (~np.isnan(table)).sum(axis=1)
    means = np.where(count > 0, filled.sum(axis=1) / np.maximum(count, 1), 1.0)
    return np.argsort(means, kind="stable")


def worst_sheet(
    images: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    names: Sequence[str],
    table: np.ndarray,
    classes: Sequence[str],
    title: str,
) -> Image.Image:
    """One row per image: the image with the reference mask, the image with the network's mask, both with their image.

    Args:
        images: (H, W) uint8 each, worst first.
        truths: (H, W) uint8 each, 1 ... K, 255 unlabelled.
        masks: (H, W) uint8 each, the network's.
        names: key of each image.
        table: (N, K) Dice of these images.
    """
    items = []
    for image, truth, mask, name, row in zip(images, truths, masks, names, table, strict=True):
        scores = ", ".join(f"{klass} {value:.2f}" for klass, value in zip(classes, row, strict=True) if value == value)
        items.append(Item(image, truth, title=name, text="given"))
        items.append(Item(image, mask, title="network", text=f"Dice: {scores}"))
    return contact_sheet(items, columns=2, legend={name: i for i, name in enumerate(classes, 1)}, title=title)
