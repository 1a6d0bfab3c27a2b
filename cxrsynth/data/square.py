"""Images of any shape as the square images a base was made for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from cxrsynth.records import Row


@dataclass(frozen=True, slots=True)
class Square:
    """How an image becomes square.

    Attributes:
        fit: ``pad`` gives it its own aspect ratio back, in the middle of black; ``squash`` stretches it.
        size: side of the result, pixels.
    """

    fit: Literal["pad", "squash"]
    size: int

    def __call__(self, row: Row, image: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        """(H, W) uint8 image and its mask -> (size, size) uint8 both; the row knows the aspect of a squashed image."""
        width, height = self.box(row, image)
        return (
            self._place(image, width, height, Image.Resampling.LANCZOS),
            None if mask is None else self._place(mask, width, height, Image.Resampling.NEAREST),
        )

    def box(self, row: Row, image: np.ndarray) -> tuple[int, int]:
        """Width and height of the image within the square."""
        if self.fit == "squash":
            return self.size, self.size
        aspect = float(row.get("aspect") or image.shape[1] / image.shape[0])
        if aspect >= 1:
            return self.size, max(1, round(self.size / aspect))
        return max(1, round(self.size * aspect)), self.size

    def _place(self, array: np.ndarray, width: int, height: int, how: Image.Resampling) -> np.ndarray:
        if array.shape != (height, width):
            array = np.asarray(Image.fromarray(array, mode="L").resize((width, height), how))
        canvas = np.zeros((self.size, self.size), np.uint8)
        top, left = (self.size - height) // 2, (self.size - width) // 2
        canvas[top : top + height, left : left + width] = array
        return canvas
