"""A check that knows what was imposed."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from cxrsynth.curate.check import BaseCheck, Limits
from cxrsynth.records import Sample, Verdict

SCORE = "agreement."


class Agreement(BaseCheck):
    """What attention sees is where it was imposed: two sources that know nothing of each other.

    The labelling measured it (score ``agreement.<class>``, Dice); without a ``control:`` block there is no such
    score and nothing to object to. Reason: ``agreement.<class>``.

    Attributes:
        least: smallest Dice, 0..1.
        classes: only these; all that were imposed when empty.
    """

    least: float = Field(0.7, ge=0, le=1)
    classes: tuple[str, ...] = ()

    def mentions(self) -> set[str]:
        """Names of classes that the recipe wrote into this check."""
        return set(self.classes)

    def limits(self, classes: Sequence[str]) -> dict[str, Limits]:
        """See `BaseCheck.limits`."""
        return {f"{SCORE}{name}": (self.least, None) for name in self.classes or classes}

    def __call__(self, sample: Sample, kept: list[Sample]) -> Verdict:
        """Check a sample."""
        for key, value in sample.scores.items():
            name = key.removeprefix(SCORE)
            if key.startswith(SCORE) and (not self.classes or name in self.classes) and value < self.least:
                return Verdict(False, key)
        return Verdict(True)
