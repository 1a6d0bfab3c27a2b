"""Class probabilities from a small head on the network's features, fitted on a few labelled images.

After DatasetDM (Wu et al., NeurIPS 2023, section 3.3). The head itself needs the network and runs with it
(`cxrsynth.nets.mask_head`); what it says of an image is kept, and this refiner puts it in the place of attention.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from cxrsynth.auxiliary_files import NetworkFile, about, auxiliary_file, read_name
from cxrsynth.masks.layers import background
from cxrsynth.masks.refiner import Sighted
from cxrsynth.masks.walk import resize
from cxrsynth.records import Asked


class MaskHead(Sighted):
    """Replaces the probabilities of the classes that a head knows.

    A class that the head does not know keeps what the head leaves over for the background; one that the presence
    gate took for absent stays absent.

    Attributes:
        head: file that ``cxrsynth train-mask-head`` wrote, or ``mini`` for the bundled one; its sha256 is part of the
            fingerprint. The file says on how many labelled images it was fitted.
        balance: share of the head, 1 the head alone to 0 what came before alone.
    """

    head: Annotated[str, NetworkFile("head")] = "mini"
    balance: float = Field(1.0, ge=0, le=1)

    @property
    def asks(self) -> Asked:
        """The head."""
        return Asked(heads=(self.head,))

    def __call__(self, image: np.ndarray, prob: np.ndarray) -> np.ndarray:
        """(H, W) uint8, (K, H, W) float32 -> (K, H, W) float32 in 0..1.

        Raises:
            MissingError: the weights are not there or are none.
            UsageError: the network was not asked for this head.
        """
        path = auxiliary_file(self.head, "head")
        classes = about(path, "head")["classes"]
        said = self.read(read_name(path))  # (C, h, w)
        part = self.box(*image.shape)
        height, width = (edge.stop - edge.start for edge in part)
        planes = np.zeros((len(classes), *image.shape), np.float32)
        planes[(slice(None), *part)] = [resize(one, height, width) for one in said]
        planes /= np.maximum(planes.sum(axis=0, keepdims=True), 1.0)  # half precision has rounded the sums
        competing = self.competing(len(prob))
        there = prob.max(axis=(1, 2), initial=0.0) > 0
        known = {k: c for c, name in enumerate(classes) if (k := self.index(name)) is not None}
        rest = background(planes, np.ones(len(planes), bool))
        found = np.where(competing[:, None, None], prob * rest, prob)
        for k, c in known.items():
            found[k] = planes[c] if there[k] else 0.0
        return (self.balance * found + (1 - self.balance) * prob).astype(np.float32)
