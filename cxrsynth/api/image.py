"""One image with its labels, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cxrsynth.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """A chest X-ray with its masks. The patient's right is on the left of the image.

    Attributes:
        image: (H, W) uint8, 0 black to 255 white.
        mask: (H, W) uint8 class ids, 0 background, 255 undecided; None where nobody has labelled it.
        classes: class name -> id in the mask.
        prompt: the text it was generated from, or that describes it.
        scores: figures of labelling and curation, for example ``{"area.heart": 0.12}`` (a fraction of the image).
        key: its name in the dataset.
        split: ``train``, ``val`` or ``test``.
        fields: what the prompt was filled with, for example ``{"view": "PA"}``.
        layers: class name -> (H, W) bool where classes overlap; empty where they do not.
        row: everything the dataset says of it.
    """

    image: np.ndarray
    mask: np.ndarray | None
    classes: Mapping[str, int]
    prompt: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    key: str = ""
    split: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    layers: Mapping[str, np.ndarray] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def region(self, name: str) -> np.ndarray:
        """(H, W) bool, where a class is; all false where it is not seen.

        Example:
            >>> import cxrsynth
            >>> chest = cxrsynth.generate("phantom", n=1)[0]
            >>> bool(chest.region("heart").any())
            True

        Raises:
            UsageError: no such class, or an image without labels.
        """
        if name not in self.classes:
            raise UsageError(f"there is no class '{name}'", f"its classes: {', '.join(self.classes)}")
        if self.mask is None:
            raise UsageError(f"{self.key or 'the image'} has no mask", "look at .mask first")
        found: np.ndarray = self.layers[name] if name in self.layers else self.mask == self.classes[name]
        return found

    def overlay(self) -> Image:
        """The image with the outlines of its classes and a legend, to look at."""
        from cxrsynth.pages.sheet import Item, contact_sheet

        layers = {self.classes[name]: region for name, region in self.layers.items() if region.any()}
        item = Item(self.image, self.mask, layers or None, title=self.key, text=self.prompt)
        return contact_sheet([item], columns=1, cell=max(self.image.shape), legend=dict(self.classes))

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        from cxrsynth.pages.sheet import encode

        return encode(self.overlay())

    def __repr__(self) -> str:
        height, width = self.image.shape
        told = ", ".join(self.classes) if self.mask is not None else "no mask"
        return f"LabelledImage({self.key!r}, {width}x{height}, {told})"
