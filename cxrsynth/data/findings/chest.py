"""What a finding has to know of the image it is put into: lungs, heart, sizes and tone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

from cxrsynth.data.findings.texture import sigmoid
from cxrsynth.domain.anatomy import CLASSES, cardiothoracic

SIDES = ("right", "left")
LEAST = 0.01  # of the image: a smaller lung or heart was not found
OVER = 4.0  # pixels at a width of 256, over which a density fades beyond the lung
BEYOND = 2.0  # pixels at a width of 256, from the outer border of the lung outwards
RIM = 1.4  # pixels at a width of 256, the softness of the lungs' border


@dataclass(frozen=True, slots=True)
class Lung:
    """One lung.

    Attributes:
        mask: (H, W) bool.
        soft: (H, W) float32 in 0..1, the same with a soft border.
        over: (H, W) float32 in 0..1, 1 in the lung and fading over heart and diaphragm, which have lung before and
            behind them: what lies there hides their borders. The chest wall is left out.
        top, bottom, start, stop: first and last + 1 row and column.
        down: (H, 1) float32, 0 at the apex to 1 at the base, beyond outside.
        out: (H, W) float32, 0 at the inner to 1 at the outer border of the lung in each row; 0 to 1 over the whole lung
            in rows without lung.
    """

    mask: np.ndarray
    soft: np.ndarray
    over: np.ndarray
    top: int
    bottom: int
    start: int
    stop: int
    down: np.ndarray
    out: np.ndarray

    @property
    def width(self) -> int:
        """Columns from border to border."""
        return self.stop - self.start

    @property
    def height(self) -> int:
        """Rows from apex to base."""
        return self.bottom - self.top


@dataclass(frozen=True, slots=True)
class Chest:
    """The anatomy of one image, measured once for all findings.

    Attributes:
        labels: (H, W) uint8 ids of `cxrsynth.domain.atlas.CLASSES`.
        lungs: ``right`` and ``left``, those that are there.
        heart: (H, W) bool.
        water: attenuation that makes this image's lung as bright as its heart: the unit of density.
        dense: 0..1, tone of the heart: of soft tissue.
        grain: deviation of the finest detail within the lungs, 0..1.
        unit: pixels per pixel of an image 256 wide.
        within: (H, W) bool, where the middle of a finding shall lie; None anywhere in the lungs.
    """

    labels: np.ndarray
    lungs: dict[str, Lung]
    heart: np.ndarray
    water: float
    dense: float
    grain: float
    unit: float
    within: np.ndarray | None = None
    _ratio: list[float] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def of(cls, image: np.ndarray, labels: np.ndarray) -> Chest:
        """Measure.

        Args:
            image: (H, W) float32 in 0..1.
            labels: (H, W) uint8 ids of `cxrsynth.domain.atlas.CLASSES`; others count as background.
        """
        unit = labels.shape[1] / 256
        lungs = {}
        for side in SIDES:
            mask = labels == CLASSES[f"{side}_lung"]
            if mask.mean() >= LEAST:
                lungs[side] = _lung(mask, side, unit)
        heart = labels == CLASSES["heart"]
        inside = np.isin(labels, [CLASSES["right_lung"], CLASSES["left_lung"]])
        lung = float(np.median(image[inside])) if inside.any() else 0.4
        dense = float(np.median(image[heart])) if heart.any() else 0.8
        water = float(np.log((1 - min(lung, 0.85)) / (1 - min(dense, 0.92))))
        detail = image - ndimage.gaussian_filter(image, 1.0 * unit)
        grain = float(np.abs(detail[inside]).mean()) * 1.25 if inside.any() else 0.01
        return cls(labels, lungs, heart, float(np.clip(water, 0.0, 1.8)), dense, grain, unit)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.labels.shape[0], self.labels.shape[1]

    @property
    def ratio(self) -> float:
        """Cardiothoracic ratio; NaN where lungs or heart are missing."""
        if not self._ratio:
            self._ratio.append(cardiothoracic(self.labels))
        return self._ratio[0]

    def limited(self, within: np.ndarray) -> Chest:
        """The same chest, findings asked to lie within (H, W) bool."""
        return replace(self, within=within)

    def inside(self) -> np.ndarray:
        """(H, W) bool, both lungs."""
        found = np.zeros(self.shape, bool)
        for lung in self.lungs.values():
            found |= lung.mask
        return found


def _lung(mask: np.ndarray, side: str, unit: float) -> Lung:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, start, stop = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    height, width = mask.shape
    down = ((np.arange(height, dtype=np.float32) + 0.5 - top) / (bottom - top))[:, None]
    first = np.where(mask.any(axis=1), mask.argmax(axis=1), start).astype(np.float32)
    last = np.where(mask.any(axis=1), width - mask[:, ::-1].argmax(axis=1), stop).astype(np.float32)
    across = (np.arange(width, dtype=np.float32)[None] + 0.5 - first[:, None]) / np.maximum(last - first, 1)[:, None]
    out = 1 - across if side == "right" else across  # the patient's right is on the left of the image
    soft = ndimage.gaussian_filter(mask.astype(np.float32), RIM * unit)
    wide = np.clip(2 * ndimage.gaussian_filter(mask.astype(np.float32), OVER * unit), 0, 1)
    # A little beyond the outer border: a mask that ends within the lung would leave a dark line along the ribs.
    within = _within_wall(first if side == "right" else last, rows, width, side, unit)
    over = (wide * sigmoid((within + BEYOND * unit) / (1.2 * unit))).astype(np.float32)
    return Lung(mask, soft, over, top, bottom, start, stop, down, out)


def _within_wall(border: np.ndarray, rows: np.ndarray, width: int, side: str, unit: float) -> np.ndarray:
    """(H, W) float32 pixels from a lung's outer border inwards; smooth, also above the apex and below the base.

    Args:
        border: (H,) column of the outer border; known in ``rows`` only.
    """
    everywhere = np.interp(np.arange(len(border)), rows, border[rows])
    smooth = ndimage.gaussian_filter1d(everywhere, 2 * unit, mode="nearest")
    columns = np.arange(width, dtype=np.float32)[None] + 0.5
    away = columns - smooth[:, None] if side == "right" else smooth[:, None] - columns
    return np.asarray(away, np.float32)
