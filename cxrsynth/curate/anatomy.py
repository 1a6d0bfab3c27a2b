"""Checks that know what a chest looks like. The patient's right is on the left of the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from cxrsynth.curate.check import BaseCheck, Limits, centre, layer
from cxrsynth.records import KEEP, Sample, Verdict


class Laterality(BaseCheck):
    """The right lung is on the left of the image, the heart between the lungs.

    Reasons: ``laterality.lungs``, ``laterality.heart``. Scores: ``laterality.lungs``, the distance of the lungs'
    centroids as a fraction of the width, negative if they are swapped; ``laterality.heart``, where the heart's centroid
    lies between theirs, 0 at the right lung's to 1 at the left lung's.

    Attributes:
        right: class on the image's left.
        left: class on the image's right.
        heart: class between the two.
        apart: smallest distance of the lungs' centroids.
        slack: how near to a lung's centroid the heart's may come, 0..0.5.
    """

    right: str = "right_lung"
    left: str = "left_lung"
    heart: str = "heart"
    apart: float = Field(0.15, ge=0, le=1)
    slack: float = Field(0.15, ge=0, le=0.5)

    def mentions(self) -> set[str]:
        """Names of classes that the recipe wrote into this check; the usual ones may be missing."""
        return {self.right, self.left, self.heart} - {"right_lung", "left_lung", "heart"}

    def limits(self, classes: Sequence[str]) -> dict[str, Limits]:
        """See `BaseCheck.limits`."""
        return {"laterality.lungs": (self.apart, None), "laterality.heart": (self.slack, 1 - self.slack)}

    def __call__(self, sample: Sample, kept: list[Sample]) -> Verdict:
        """Check a sample; a class that is missing or empty cannot be on the wrong side."""
        masks = (layer(sample, name) for name in (self.right, self.left, self.heart))
        right, left, heart = (None if mask is None else centre(mask) for mask in masks)
        if right is None or left is None:
            return KEEP
        scores = {"laterality.lungs": round(left - right, 4)}
        if left - right < self.apart:
            return Verdict(False, "laterality.lungs", scores)
        if heart is not None:
            place = (heart - right) / (left - right)
            scores["laterality.heart"] = round(place, 4)
            if not self.slack <= place <= 1 - self.slack:
                return Verdict(False, "laterality.heart", scores)
        return Verdict(True, "", scores)


class Border(BaseCheck):
    """The lungs are in the image: they touch few of its sides. Reason: ``border.sides``. Score: ``border.sides``.

    Attributes:
        classes: whose union is looked at.
        sides: most sides that may be touched.
        share: part of a side's length from which it counts as touched.
    """

    classes: tuple[str, ...] = ("right_lung", "left_lung", "lungs")
    sides: int = Field(2, ge=0, le=4)
    share: float = Field(0.05, ge=0, lt=1)

    def mentions(self) -> set[str]:
        """Names of classes that the recipe wrote into this check; the usual ones may be missing."""
        return set(self.classes) - {"right_lung", "left_lung", "lungs"}

    def limits(self, classes: Sequence[str]) -> dict[str, Limits]:
        """See `BaseCheck.limits`."""
        return {"border.sides": (None, float(self.sides))}

    def __call__(self, sample: Sample, kept: list[Sample]) -> Verdict:
        """Check a sample."""
        lungs = np.zeros(sample.image.shape, bool)
        for name in self.classes:
            mask = layer(sample, name)
            if mask is not None:
                lungs |= mask
        edges = (lungs[0], lungs[-1], lungs[:, 0], lungs[:, -1])
        touched = sum(float(edge.mean()) > self.share for edge in edges)
        scores = {"border.sides": float(touched)}
        return Verdict(touched <= self.sides, "" if touched <= self.sides else "border.sides", scores)
