"""Batches of labelled images: which images, and what an update sees of them."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
import torch
from torch import Tensor

from cxrsynth.data.patients import AnyImage


@dataclass(frozen=True, slots=True)
class Batch:
    """What an update sees.

    Attributes:
        x: (B, 1, S, S) float32 in 0..1.
        target: (B, ...) what the network shall say.
        names: of the images or masks, for an error message.
    """

    x: Tensor
    target: Tensor
    names: list[str]

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(self.x.to(device), self.target.to(device), self.names)


class Draw(Generic[AnyImage]):
    """Which images a batch holds.

    Args:
        images: one list per dataset.
        weights: share of the draws of each dataset.
    """

    def __init__(self, images: Sequence[Sequence[AnyImage]], weights: Sequence[float]) -> None:
        self.images = [list(part) for part in images]
        self.shares = np.asarray(weights, float) / sum(weights)

    def __call__(self, rng: np.random.Generator, count: int) -> list[AnyImage]:
        """Images chosen with replacement: a dataset by its share, then any of its images."""
        which = rng.choice(len(self.images), size=count, p=self.shares)
        return [self.images[i][rng.integers(len(self.images[i]))] for i in which]


def obey_parent(worker: int) -> None:
    """Start of a reading process: Ctrl-C is the training's to answer, and the training may end this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
