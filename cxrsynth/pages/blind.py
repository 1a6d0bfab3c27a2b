"""A blind sheet: images of several origins in random order, numbered; which is which stands in a key of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cxrsynth.encoding import dumps
from cxrsynth.errors import UsageError
from cxrsynth.files import write_atomic
from cxrsynth.pages.sheet import Item, contact_sheet, save

COLUMNS, CELL = 4, 256


@dataclass(frozen=True, slots=True)
class Shown:
    """One image.

    Attributes:
        image: (H, W) uint8.
        key: where it comes from, for the key file only.
    """

    image: np.ndarray
    key: str


def blind(groups: Mapping[str, Sequence[Shown]], seed: int = 0) -> tuple[Image.Image, list[dict[str, str]]]:
    """RGB sheet, and for each number on it ``{"number", "group", "key"}``.

    Nothing on the sheet tells groups apart: all images are shown at one size, without labels.

    Args:
        groups: origin -> its images; of each as many as of the smallest, so that guessing has one answer.

    Raises:
        UsageError: fewer than two groups have an image.
    """
    there = {name: images for name, images in groups.items() if images}
    if len(there) < 2:
        raise UsageError("a blind sheet needs images of two origins", "generate or simulate images first")
    least = min(len(images) for images in there.values())
    rng = np.random.default_rng(seed)
    chosen = [(name, images[i]) for name, images in there.items() for i in rng.permutation(len(images))[:least]]
    mixed = [chosen[i] for i in rng.permutation(len(chosen))]
    items = [Item(_square(shown.image), title=str(number)) for number, (_, shown) in enumerate(mixed, start=1)]
    key = [{"number": str(i), "group": name, "key": shown.key} for i, (name, shown) in enumerate(mixed, start=1)]
    return contact_sheet(items, columns=COLUMNS, cell=CELL), key


def write_blind(groups: Mapping[str, Sequence[Shown]], path: Path, seed: int = 0) -> None:
    """Write the sheet as PNG, and the key beside it as ``NAME.key.json``: open it after you have guessed."""
    sheet, key = blind(groups, seed)
    write_atomic(path.with_suffix(".key.json"), dumps(key))
    save(sheet, path)


def _square(image: np.ndarray) -> np.ndarray:
    """(CELL, CELL) uint8: other sizes would tell origins apart."""
    if image.shape == (CELL, CELL):
        return image
    return np.asarray(Image.fromarray(image, mode="L").resize((CELL, CELL), Image.Resampling.LANCZOS))
