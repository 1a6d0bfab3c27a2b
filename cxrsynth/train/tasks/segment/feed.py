"""Batches of images with masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cxrsynth.data.augment import augmenter
from cxrsynth.data.labelled import LabelledImage
from cxrsynth.nets.segmenter import squash
from cxrsynth.train.feed import Draws
from cxrsynth.train.tasks.segment.config import SegmentConfig


class Feed(Draws[LabelledImage]):
    """Images with their masks, augmented."""

    def __init__(
        self,
        images: Sequence[Sequence[LabelledImage]],
        weights: Sequence[float],
        config: SegmentConfig,
        process: int = 0,
    ) -> None:
        super().__init__(images, weights, config, process)
        self.size = config.size
        self.augment = augmenter(config.augment)

    def __getitem__(self, update: int) -> tuple[Tensor, Tensor, list[str]]:
        """(B, 1, S, S) float32 in 0..1, (B, S, S) int64 labels with 255 for unlabelled, and the masks' paths."""
        rng = self.rng(update)
        chosen = self.draw(rng)
        pixels, masks = [], []
        for image in chosen:
            array, mask = self.augment(*read(image, self.size), rng)
            pixels.append(array)
            masks.append(mask)
        x = torch.from_numpy(np.stack(pixels)[:, None].astype(np.float32) / 255)
        return x, torch.from_numpy(np.stack(masks).astype(np.int64)), [str(image.mask_path) for image in chosen]


def read(image: LabelledImage, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask at the size of the network: (size, size) uint8 both."""
    mask = image.mask()
    if mask.shape != (size, size):
        mask = np.asarray(Image.fromarray(mask, mode="L").resize((size, size), Image.Resampling.NEAREST))
    return squash(image.image(), size), mask
