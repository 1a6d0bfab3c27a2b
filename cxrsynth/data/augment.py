"""Augmentation of images with their masks: the one place that knows albumentations."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import cv2
import numpy as np

# The library asks the network for a newer version of itself when it is imported; this project opens no connection
# that nobody asked for.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A

from cxrsynth.data.config import SegmentAugment
from cxrsynth.records import IGNORE

Augment = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def augmenter(config: SegmentAugment) -> Augment:
    """A function that changes an image and its mask, as the random numbers it is given say.

    Returns:
        (image (H, W) uint8, mask (H, W) uint8, rng) -> the same shapes and types. What comes in from outside the
        image is black and marked 255: nobody labelled it.
    """
    # Threads of OpenCV would fight with torch's for the same cores over images that take a millisecond.
    cv2.setNumThreads(0)
    tones = [
        A.RandomGamma(gamma_limit=(100 * (1 - config.gamma), 100 * (1 + config.gamma)), p=config.tone_p),
        # Much more light than that burns the heart's edge out: images are stretched to full range already.
        A.RandomBrightnessContrast(
            brightness_limit=config.contrast / 2, contrast_limit=config.contrast, p=config.tone_p
        ),
        A.GaussNoise(std_range=(0.0, config.noise), p=config.tone_p if config.noise else 0.0),
    ]
    chain = A.Compose(
        [
            A.HorizontalFlip(p=config.flip),
            A.Affine(
                scale=(1 - config.scale, 1 + config.scale),
                translate_percent=(-config.shift, config.shift),
                rotate=(-config.rotate, config.rotate),
                interpolation=cv2.INTER_LINEAR,
                mask_interpolation=cv2.INTER_NEAREST,
                fill=0,
                fill_mask=IGNORE,
                p=config.p,
            ),
            *tones,
        ]
    )

    def apply(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        # One stream for all steps of the chain: `set_random_seed` would give each the same numbers, and an image that
        # is turned to the left would always become darker.
        chain.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        changed = chain(image=image, mask=mask)
        return changed["image"], changed["mask"]

    return apply
