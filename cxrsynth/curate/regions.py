"""Checks that look at the masks one class at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field, field_validator

from cxrsynth.curate.check import BaseCheck, Limits
from cxrsynth.records import Sample, Verdict

# Fractions of the image, wider than any image with reference masks in two public sets (right lung 0.064..0.219, left
# lung 0.034..0.246, heart 0.054..0.181): a child's image with much of the arms on it is smaller, emphysema larger.
PLAUSIBLE: dict[str, tuple[float, float]] = {
    "right_lung": (0.04, 0.35),
    "left_lung": (0.03, 0.35),
    "lungs": (0.08, 0.65),
    "heart": (0.02, 0.25),
    "cardiomegaly": (0.03, 0.30),
    "opacity": (0.002, 0.30),
    "effusion": (0.002, 0.30),
}


class Present(BaseCheck):
    """Every required class is there. Reason: ``present.<class>``.

    Attributes:
        pixels: fewest pixels that count as there.
    """

    pixels: int = Field(16, ge=1)

    def __call__(self, sample: Sample, kept: list[Sample]) -> Verdict:
        """Check a sample."""
        for name, own in zip(sample.classes, sample.layers, strict=True):
            if name in sample.required and own.sum() < self.pixels:
                return Verdict(False, f"present.{name}")
        return Verdict(True)


class Area(BaseCheck):
    """Every class that is there covers a plausible part of the image. Reasons: ``area.<class>.small``, ``.large``.

    An absent class is none of this check's business. Scores: ``area.<class>``, fraction of the image.

    Attributes:
        ranges: class name -> smallest and largest fraction; what the recipe names is added to the defaults.
    """

    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)

    @field_validator("ranges")
    @classmethod
    def _ordered(cls, ranges: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for name, (low, high) in ranges.items():
            if not 0 <= low < high <= 1:
                raise ValueError(f"the range of '{name}' is not two fractions, smallest first")
        return ranges

    def mentions(self) -> set[str]:
        """Names of classes that the recipe wrote into this check."""
        return set(self.ranges)

    def limits(self, classes: Sequence[str]) -> dict[str, Limits]:
        """See `BaseCheck.limits`."""
        ranges = PLAUSIBLE | self.ranges
        return {f"area.{name}": ranges[name] for name in classes if name in ranges}

    def __call__(self, sample: Sample, kept: list[Sample]) -> Verdict:
        """Check a sample."""
        ranges = PLAUSIBLE | self.ranges
        areas = {name: float(own.mean()) for name, own in zip(sample.classes, sample.layers, strict=True)}
        scores = {f"area.{name}": round(area, 5) for name, area in areas.items()}
        for name, area in areas.items():
            low, high = ranges.get(name, (0.0, 1.0))
            if 0 < area < low:
                return Verdict(False, f"area.{name}.small", scores)
            if area > high:
                return Verdict(False, f"area.{name}.large", scores)
        return Verdict(True, "", scores)


class Stability(BaseCheck):
    """A mask does not hang on the exact threshold: its IoU at a higher and a lower one is large.

    What the labelling measured before refinement counts (score ``stability.<class>``): refined probabilities are so
    decided that they look stable whatever they were made from. A sample without that score (other people's
    probabilities) is measured here. Reason: ``stability.<class>``.

    Attributes:
        least: smallest IoU, 0..1, of a mask worth keeping.
        step: distance of the two thresholds from 0.5, for samples that carry no score.
    """

    least: float = Field(0.4, ge=0, le=1)
    step: float = Field(0.2, gt=0, lt=0.5)

    def limits(self, classes: Sequence[str]) -> dict[str, Limits]:
        """See `BaseCheck.limits`."""
        return {f"stability.{name}": (self.least, None) for name in classes}

    def __call__(self, sample: Sample, kept: list[Sample]) -> Verdict:
        """Check a sample."""
        scores: dict[str, float] = {}
        for name, own, prob in zip(sample.classes, sample.layers, sample.prob, strict=True):
            if own.any():
                key = f"stability.{name}"
                scores[key] = sample.scores.get(key, round(self._iou(prob), 4))
        for key, value in scores.items():
            if value < self.least:
                return Verdict(False, key, scores)
        return Verdict(True, "", scores)

    def _iou(self, prob: np.ndarray) -> float:
        """(H, W) probabilities -> IoU of the masks at both thresholds; the higher mask lies in the lower one."""
        return float((prob > 0.5 + self.step).sum() / max(int((prob > 0.5 - self.step).sum()), 1))
