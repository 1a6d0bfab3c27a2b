"""A plain labelled chest for the tests of checks."""

from dataclasses import replace

import numpy as np

from cxrsynth.records import Sample

CLASSES = {"right_lung": 1, "left_lung": 2, "heart": 3}
SIZE = 64


def chest(
    seed: int = 0, *, empty: bool = False, constant: bool = False, swapped: bool = False, finite: bool = True
) -> Sample:
    """Two dark boxes and a heart between them, all classes required."""
    layers = np.zeros((3, SIZE, SIZE), bool)
    layers[0, 14:48, 10:26] = True
    layers[1, 14:48, 40:56] = True
    layers[2, 30:48, 26:40] = True
    image = np.random.default_rng(seed).normal(170, 12, (SIZE, SIZE))
    image[layers[0] | layers[1]] -= 110
    if swapped:
        layers = layers[[1, 0, 2]]
    if empty:
        layers = np.zeros_like(layers)
    if constant:
        image[:] = 90
    return sample(layers, image.clip(0, 255).astype(np.uint8), finite)


def sample(layers: np.ndarray, image: np.ndarray | None = None, finite: bool = True) -> Sample:
    """A sample with these layers, (3, 64, 64) bool."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for k, layer in enumerate(layers):
        mask[layer] = k + 1
    image = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE), np.uint8) if image is None else image
    return Sample(
        image, mask, layers.astype(np.float32) * 0.95, layers, dict(CLASSES), finite=finite, required=tuple(CLASSES)
    )


def without(good: Sample, name: str) -> Sample:
    """The sample with one class empty."""
    layers = good.layers.copy()
    layers[list(CLASSES).index(name)] = False
    return replace(good, layers=layers)
