"""Augmentation of images with their masks: the one place that knows albumentations."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

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
    steps = nnunet() if config.style == "nnunet" else plain(config)
    chain = A.Compose([A.HorizontalFlip(p=config.flip), *elastic(config), *steps])

    def apply(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        # One stream for all steps of the chain: `set_random_seed` would give each the same numbers, and an image that
        # is turned to the left would always become darker.
        chain.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        changed = chain(image=image, mask=mask)
        return changed["image"], changed["mask"]

    return apply


# What geometry does to an image and its mask; what comes in from outside is nobody's label.
WARP: dict[str, Any] = {
    "interpolation": cv2.INTER_LINEAR,
    "mask_interpolation": cv2.INTER_NEAREST,
    "fill": 0,
    "fill_mask": IGNORE,
}


def elastic(config: SegmentAugment) -> list[A.BasicTransform]:
    """A smooth deformation by some 3 pixels."""
    warp = A.ElasticTransform(alpha=100, sigma=10, border_mode=cv2.BORDER_CONSTANT, p=config.elastic, **WARP)
    return [warp] if config.elastic else []


def plain(config: SegmentAugment) -> list[A.BasicTransform]:
    """Small changes of place and tone, as the configuration says."""
    return [
        A.Affine(
            scale=(1 - config.scale, 1 + config.scale),
            translate_percent=(-config.shift, config.shift),
            rotate=(-config.rotate, config.rotate),
            p=config.p,
            **WARP,
        ),
        A.RandomGamma(gamma_limit=(100 * (1 - config.gamma), 100 * (1 + config.gamma)), p=config.tone_p),
        # Much more light than that burns the heart's edge out: images are stretched to full range already.
        A.RandomBrightnessContrast(
            brightness_limit=config.contrast / 2, contrast_limit=config.contrast, p=config.tone_p
        ),
        A.GaussNoise(std_range=(0.0, config.noise), p=config.tone_p if config.noise else 0.0),
    ]


def nnunet() -> list[A.BasicTransform | A.BaseCompose]:
    """The training transforms of nnU-Net v2, with its chances and strengths (its ``get_training_transforms``).

    Different here: turns of 15 degrees in place of 180, because a chest is upright; no mirroring (see ``flip``); gamma
    does not restore mean and deviation; noise, which nnU-Net adds to images of deviation 1, is scaled to that of
    radiographs, about 0.23 of full scale; brightness only falls, because 8 bits would cut off what it adds, and with it
    the edge of the heart.
    """
    gamma = (70.0, 150.0)
    return [
        A.Affine(rotate=(-15, 15), p=0.2, **WARP),
        A.Affine(scale=(0.7, 1.4), keep_ratio=True, p=0.2, **WARP),
        A.GaussNoise(std_range=(0.0, 0.07), p=0.1),
        A.GaussianBlur(sigma_limit=(0.5, 1.0), blur_limit=0, p=0.2),
        A.MultiplicativeNoise(multiplier=(0.75, 1.0), p=0.15),
        # Contrast about the image's own mean; a gray image has no hue or saturation to change.
        A.ColorJitter(brightness=(1, 1), contrast=(0.75, 1.25), saturation=(1, 1), hue=(0, 0), p=0.15),
        A.Downscale(
            scale_range=(0.5, 1.0),
            interpolation_pair={"downscale": cv2.INTER_NEAREST, "upscale": cv2.INTER_CUBIC},
            p=0.25,
        ),
        A.Sequential([A.InvertImg(p=1), A.RandomGamma(gamma_limit=gamma, p=1), A.InvertImg(p=1)], p=0.1),
        A.RandomGamma(gamma_limit=gamma, p=0.3),
    ]
