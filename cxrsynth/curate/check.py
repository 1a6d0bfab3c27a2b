"""What all checks share: a frozen config that is called, and the words for its verdict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from cxrsynth.records import Sample, Verdict

# The smallest and the largest value that is kept; None where there is no bound.
Limits = tuple[float | None, float | None]


class BaseCheck(BaseModel, ABC):
    """A check: its fields are the recipe's parameters, calling it checks a sample.

    A reason is ``<check>.<what>``, machine-readable and stable: people filter by it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def mentions(self) -> set[str]:
        """Names of classes that the recipe wrote into this check, to be compared with the recipe's classes."""
        return set()

    def limits(self, classes: Sequence[str]) -> dict[str, Limits]:
        """Score -> what is kept, for people who look at the scores of a dataset.

        Args:
            classes: names of the recipe's classes.
        """
        return {}

    @abstractmethod
    def __call__(self, sample: Sample, kept: list[Sample]) -> Verdict:
        """Check a sample, given what the shard has kept so far."""


def centre(mask: np.ndarray) -> float | None:
    """Mean column of a mask, 0 (left edge) to 1 (right edge of the image); None if it is empty."""
    columns = mask.sum(axis=0)
    if not columns.any():
        return None
    return float((columns * (np.arange(mask.shape[1]) + 0.5)).sum() / columns.sum() / mask.shape[1])


def layer(sample: Sample, name: str) -> np.ndarray | None:
    """(H, W) bool mask of a class, or None where the recipe has no such class."""
    names = list(sample.classes)
    return sample.layers[names.index(name)] if name in names else None
