"""Which labels are learned, and the batches of images that tell of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cxrsynth.data.augment import augmenter
from cxrsynth.data.labelled import Source
from cxrsynth.data.multilabel import MultiLabelImage, gather_multilabel, table_of
from cxrsynth.domain.lexicon import FINDINGS, TRAITS
from cxrsynth.errors import UsageError
from cxrsynth.nets.segmenter import squash
from cxrsynth.train.feed import Draws
from cxrsynth.train.tasks.classify.config import ClassifyConfig


def choose_labels(sources: Sequence[Source], config: ClassifyConfig) -> tuple[str, ...]:
    """The labels asked for, or all of which the train splits have ``least`` images of each kind.

    Raises:
        UsageError: a label that no image, or every image, has; or none is left.
    """
    wanted = config.labels or (*TRAITS, *FINDINGS)
    images = [image for source in sources for image in gather_multilabel(source, "train", wanted, config.negatives)]
    table = table_of(images)
    ones, zeros = (table == 1).sum(axis=0), (table == 0).sum(axis=0)
    if config.labels:
        for label, one, zero in zip(wanted, ones, zeros, strict=True):
            if not one or not zero:
                raise UsageError(
                    f"'{label}': {one} images with it and {zero} without it in the train split, both are needed",
                    "leave it out of --labels, or add a dataset that has both",
                )
        return wanted
    enough = np.minimum(ones, zeros) >= config.least
    if not enough.any():
        raise UsageError(
            f"no label has {config.least} images with it and as many without it", "name --labels, or lower --least"
        )
    return tuple(label for label, kept in zip(wanted, enough, strict=True) if kept)


class MultiLabelFeed(Draws[MultiLabelImage]):
    """Images with what is said about them, augmented."""

    def __init__(
        self,
        images: Sequence[Sequence[MultiLabelImage]],
        weights: Sequence[float],
        config: ClassifyConfig,
        process: int = 0,
    ) -> None:
        super().__init__(images, weights, config, process)
        self.size = config.size
        self.augment = augmenter(config.augment)

    def __getitem__(self, update: int) -> tuple[Tensor, Tensor, list[str]]:
        """(B, 1, S, S) float32 in 0..1, (B, K) float32 of 1, 0 and NaN, and the images' paths."""
        rng = self.rng(update)
        chosen = self.draw(rng)
        empty = np.zeros((self.size, self.size), np.uint8)
        images = [self.augment(squash(image.image(), self.size), empty, rng)[0] for image in chosen]
        x = torch.from_numpy(np.stack(images)[:, None].astype(np.float32) / 255)
        return x, torch.from_numpy(table_of(chosen)), [str(image.path) for image in chosen]
