"""What the built-in refiners share: a frozen config that is called, and that may know the names of the classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, PrivateAttr

from cxrsynth.errors import UsageError
from cxrsynth.records import BOX, Asked


class Named(BaseModel, ABC):
    """Base of refiners: the fields are the recipe's parameters, the class names are filled in by the chain.

    The names are no field, so a recipe cannot set them and they appear in no resolved recipe.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    _classes: tuple[str, ...] = PrivateAttr(())
    _overlap: frozenset[str] = PrivateAttr(frozenset())

    @abstractmethod
    def __call__(self, image: np.ndarray, prob: np.ndarray) -> np.ndarray:
        """(H, W) uint8, (K, H, W) float32 -> (K, H, W) float32 in 0..1."""

    def named(self, classes: Sequence[str], overlap: Sequence[str] = ()) -> Self:
        """A copy that knows the classes in the order of K, and which of them overlap others."""
        copy = self.model_copy()
        copy._classes, copy._overlap = tuple(classes), frozenset(overlap)
        return copy

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What `named` was given: classes in the order of K, and which of them overlap others."""
        return self._classes, tuple(name for name in self._classes if name in self._overlap)

    def competing(self, count: int) -> np.ndarray:
        """(count,) bool: which classes compete with each other; all of them where no names are known."""
        if not self._classes:
            return np.ones(count, bool)
        return np.array([name not in self._overlap for name in self._classes], bool)

    def index(self, name: str) -> int | None:
        """The k of a class, or None where the recipe has no such class."""
        return self._classes.index(name) if name in self._classes else None


class Sighted(Named):
    """Base of refiners that look at what the network saw in the image, not at the image alone.

    The generator answers what a chain asks (`asks`); the answers are kept with the maps, so that another chain can
    use them later without a network.
    """

    _reads: dict[str, np.ndarray] = PrivateAttr(default_factory=dict)

    @property
    @abstractmethod
    def asks(self) -> Asked:
        """What the generator has to answer."""

    def given(self, reads: Mapping[str, np.ndarray]) -> Self:
        """A copy that knows the answers for one image, as `Draw` holds them."""
        copy = self.model_copy()
        copy._reads = dict(reads)
        return copy

    def read(self, name: str) -> np.ndarray:
        """One answer, float32.

        Raises:
            UsageError: it was not asked for when the image was generated or read.
        """
        if name not in self._reads:
            kept = ", ".join(self._reads) or "nothing"
            raise UsageError(
                f"the network was not asked for '{name}' when this image was made (kept beside the maps: {kept})",
                "name this refiner with the same settings in the recipe of generate or annotate",
            )
        return self._reads[name].astype(np.float32)

    def box(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of an image of this size that the answers cover."""
        top, bottom, left, right = self._reads.get(BOX, np.array([0.0, 1.0, 0.0, 1.0])).astype(float)
        return slice(round(top * height), round(bottom * height)), slice(round(left * width), round(right * width))
