"""The batches of a training. A batch is a function of (seed, update), so a resumed training sees the same ones."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Generic

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from cxrsynth.data.patients import AnyImage
from cxrsynth.train.checkpoint import step_rng
from cxrsynth.train.update_config import UpdateConfig


class Draws(Dataset[tuple[Tensor, Tensor, list[str]]], Generic[AnyImage]):
    """Which images a batch holds. Item ``i`` is the whole batch of update ``i``, whichever process reads it.

    Args:
        images: one list per dataset.
        weights: share of the draws of each dataset.
        process: number of the process in a training on several GPUs; each has its own batches.
    """

    def __init__(
        self, images: Sequence[Sequence[AnyImage]], weights: Sequence[float], config: UpdateConfig, process: int = 0
    ) -> None:
        self.images = [list(part) for part in images]
        self.shares = np.asarray(weights, float) / sum(weights)
        self.config = config
        self.process = process

    def __len__(self) -> int:
        return self.config.updates

    def rng(self, update: int) -> np.random.Generator:
        """All random numbers of a batch come from here."""
        return step_rng(self.config.seed, update, self.process)

    def draw(self, rng: np.random.Generator) -> list[AnyImage]:
        """The images of a batch, chosen with replacement: a dataset by its share, then any of its images."""
        which = rng.choice(len(self.images), size=self.config.batch, p=self.shares)
        return [self.images[i][rng.integers(len(self.images[i]))] for i in which]


def obey_parent(worker: int) -> None:
    """Start of a reading process: Ctrl-C is the training's to answer, and the training may end this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
