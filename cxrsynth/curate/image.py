"""Checks that look at the image alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from pydantic import Field

from cxrsynth.curate.check import BaseCheck, Limits
from cxrsynth.records import KEEP, Sample, Verdict


class Finite(BaseCheck):
    """The image consists of numbers and shows something.

    Reasons: ``finite.nan``, ``finite.constant``, ``finite.contrast``. Score: ``contrast``, the distance between the
    2nd and the 98th percentile, 0..1.

    Attributes:
        contrast: smallest contrast of an image worth keeping.
    """

    contrast: float = Field(0.15, ge=0, le=1)

    def limits(self, classes: Sequence[str]) -> dict[str, Limits]:
        """See `BaseCheck.limits`."""
        return {"contrast": (self.contrast, None)}

    def __call__(self, sample: Sample, kept: list[Sample]) -> Verdict:
        """Check a sample."""
        low, high = np.percentile(sample.image, (2.0, 98.0))
        scores = {"contrast": round(float(high - low) / 255.0, 4)}
        if not sample.finite:
            return Verdict(False, "finite.nan", scores)
        if sample.image.min() == sample.image.max():
            return Verdict(False, "finite.constant", scores)
        if scores["contrast"] < self.contrast:
            return Verdict(False, "finite.contrast", scores)
        return Verdict(True, "", scores)


class Duplicate(BaseCheck):
    """The image is not nearly one that this shard has kept already.

    All chest images correlate, so what the image has in common with its own blurred self is taken away first and
    the rest is compared. Images of different people then stay below 0.85, a copy with other noise or tone lies above
    0.97. Reason: ``duplicate.shard``. Score: ``duplicate``, the highest correlation with a kept image.

    Attributes:
        most: correlation, -1..1, from which two images count as one.
        size: side of the thumbnails that are compared, pixels.
    """

    most: float = Field(0.95, gt=0, le=1)
    size: int = Field(32, ge=8, le=256)

    def limits(self, classes: Sequence[str]) -> dict[str, Limits]:
        """See `BaseCheck.limits`."""
        return {"duplicate": (None, self.most)}

    def __call__(self, sample: Sample, kept: list[Sample]) -> Verdict:
        """Check a sample."""
        if not kept:
            return KEEP
        own = self._detail(sample.image)
        highest = max(float((own * self._detail(other.image)).sum()) for other in kept)
        scores = {"duplicate": round(highest, 4)}
        return Verdict(True, "", scores) if highest < self.most else Verdict(False, "duplicate.shard", scores)

    def _detail(self, image: np.ndarray) -> np.ndarray:
        """(H, W) uint8 -> (size, size) float64 thumbnail without its coarse shape, of norm 1 (0 if constant)."""
        small = Image.fromarray(image).convert("F").resize((self.size, self.size), Image.Resampling.BOX)
        coarse = small.resize((self.size // 4,) * 2, Image.Resampling.BOX)
        detail = np.asarray(small, np.float64) - np.asarray(
            coarse.resize(small.size, Image.Resampling.BICUBIC), np.float64
        )
        norm = float(np.linalg.norm(detail))
        return detail / norm if norm > 0 else detail
