"""Cardiomegaly: the image warped smoothly so that its own heart becomes wider, to an exact cardiothoracic ratio."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from pydantic import Field
from scipy import ndimage
from scipy.interpolate import PchipInterpolator

from cxrsynth.data.findings.chest import LEAST, Chest
from cxrsynth.data.findings.finding import CannotCarryError, Finding, Put, part_of
from cxrsynth.domain.anatomy import CLASSES, cardiothoracic

ENLARGED = 0.5  # the cardiothoracic ratio from which a heart counts as enlarged
ROOM = 0.03  # of the chest's width, that a heart leaves on either side
SPINE = 0.06  # of the chest's width, half of what stays in place about the midline


class Cardiomegaly(Finding):
    """A heart wider than half of the chest.

    Attributes:
        ratio: smallest and largest cardiothoracic ratio.
        most: largest factor that a heart is widened by: a small one cannot become huge without a strange chest.
        grade: part of the ratios that a chest has room for, 0 the smallest; None draws among all.
    """

    name: ClassVar[str] = "cardiomegaly"
    phrases: ClassVar[tuple[str, ...]] = ("cardiomegaly", "enlarged heart", "enlarged cardiac silhouette")
    labels: ClassVar[tuple[str, ...]] = ("cardiomegaly", "enlarged heart")
    sided: ClassVar[bool] = False
    zoned: ClassVar[bool] = False

    ratio: tuple[float, float] = (0.54, 0.68)
    most: float = Field(1.5, gt=1)
    grade: float | None = Field(None, ge=0, le=1)

    def graded(self, severity: float) -> Self:
        """See `Finding`: the cardiothoracic ratio, up to what the chest has room for."""
        return self.model_copy(update={"grade": severity})

    def why_not(self, chest: Chest) -> str:
        """See `Finding`."""
        if len(chest.lungs) < 2:
            return "a cardiothoracic ratio needs both lungs"
        if chest.heart.mean() < LEAST:
            return "there is no heart"
        if chest.ratio >= ENLARGED:
            return f"the heart is enlarged already: cardiothoracic ratio {chest.ratio:.2f}"
        if chest.ratio * self.most < self.ratio[0]:
            return f"the heart is too small: cardiothoracic ratio {chest.ratio:.2f}"
        return ""

    def __call__(self, image: np.ndarray, chest: Chest, rng: np.random.Generator) -> Put:
        """See `Finding`."""
        self.check(chest)
        span = (self.ratio[0], min(self.ratio[1], chest.ratio * self.most))
        wanted = rng.uniform(*(span if self.grade is None else part_of(span, self.grade)))
        aim, best = wanted, None
        for _ in range(4):  # the widest row may lie where the warp fades: look again
            field = self.field(chest, aim / chest.ratio)
            rows = np.broadcast_to(np.arange(chest.shape[0], dtype=np.float32)[:, None], field.shape)
            labels = warped_labels(chest.labels, rows, field)
            now = cardiothoracic(labels)
            if not np.isfinite(now):
                raise CannotCarryError(self.name, "the heart left the chest")
            best = (labels, rows, field, now)
            if abs(now - wanted) < 1.0 / chest.shape[1]:
                break
            aim *= wanted / now
        assert best is not None
        labels, rows, field, now = best
        if now < ENLARGED:
            raise CannotCarryError(self.name, f"the chest has no room for it: ratio {now:.2f}")
        made = ndimage.map_coordinates(image, (rows, field), order=3, mode="nearest").astype(np.float32)
        mask = labels == CLASSES["heart"]
        severity = "mild" if now < 0.57 else "moderate" if now < 0.63 else "severe"
        phrase = self.phrases[rng.choice(3, p=(0.6, 0.25, 0.15))]
        words = f"{severity} {phrase}" if phrase == self.phrases[0] and rng.random() < 0.7 else phrase
        facts = {"severity": severity, "ratio": round(float(now), 4), "ratio_before": round(chest.ratio, 4)}
        return Put(np.clip(made, 0, 1), mask, words, facts, labels)

    def field(self, chest: Chest, factor: float) -> np.ndarray:
        """(H, W) float32: the column each pixel comes from.

        The spine stays, the heart's borders move outwards, mostly to the left as in patients, the lungs between heart
        and chest wall become narrower, and the chest wall stays.
        """
        height, width = chest.shape
        columns, rows = np.flatnonzero(chest.heart.any(axis=0)), np.flatnonzero(chest.heart.any(axis=1))
        outer = np.flatnonzero(chest.inside().any(axis=0))
        first, last = float(outer[0]), float(outer[-1] + 1)
        left, right = float(columns[0]), float(columns[-1] + 1)
        middle, across = (first + last) / 2, last - first
        still_left = max(middle - SPINE * across, left + 0.2 * (right - left))
        still_right = min(middle + SPINE * across, right - 0.3 * (right - left))
        grown = (factor - 1) * (right - left)
        share = np.clip((middle - left) / max(right - left, 1), 0.1, 0.35)  # of the growth goes to the right
        new_left, new_right = left - share * grown, right + (1 - share) * grown
        new_left = max(new_left, first + ROOM * across)
        new_right = min(new_right, last - ROOM * across)
        after = np.array([-width, first, new_left, still_left, still_right, new_right, last, 2 * width], float)
        before = np.array([-width, first, left, still_left, still_right, right, last, 2 * width], float)
        order = np.diff(after) > 0.5
        keep = np.concatenate([[True], order])
        x = np.arange(width) + 0.5
        moved = PchipInterpolator(after[keep], before[keep])(x) - x
        middle_row, reach = (rows[0] + rows[-1]) / 2, (rows[-1] - rows[0]) / 2
        away = np.abs(np.arange(height) - middle_row - 0.12 * reach) / (1.05 * reach)
        strength = np.exp(-(np.clip(away - 0.35, 0, None) ** 2) / 0.55)  # widest a little below the middle
        return ((x - 0.5)[None] + strength[:, None] * moved[None]).astype(np.float32)


def warped_labels(labels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(H, W) uint8 ids at fractional places by the nearest pixel."""
    return np.asarray(ndimage.map_coordinates(labels, (rows, columns), order=0, mode="nearest"), np.uint8)
