"""Is a synthetic image a copy of a training image? Measured by what lies between real images of different people.

A synthetic image is suspicious when it is nearer to a training image than every held-out real image is: in the features
of the autoencoder, or by its pixels. Held-out patients are not in training, so their distance is what chance gives; the
share of suspicious images is then at most about 1 / n per measure without any copying.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from cxrsynth.evaluate.distances import distances
from cxrsynth.evaluate.features import FeatureNet
from cxrsynth.evaluate.images import Group
from cxrsynth.evaluate.results import Record, record
from cxrsynth.statistics import bootstrap

SIDE = 32


def correlation(first: np.ndarray, second: np.ndarray, side: int = SIDE) -> np.ndarray:
    """(N, H, W), (M, H, W) uint8 -> (N, M) correlation of what images of ``side`` pixels have beyond their coarse
    shape.

    All chests are alike in the coarse; without it, images of different people correlate little and copies fully.
    """

    def detail(images: np.ndarray) -> np.ndarray:
        grid = F.adaptive_avg_pool2d(torch.from_numpy(images[:, None].astype(np.float32)), side)
        coarse = F.interpolate(F.avg_pool2d(grid, 4), size=(side, side), mode="bilinear", align_corners=False)
        rest = (grid - coarse).flatten(1).numpy()
        return rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-6)

    return detail(first) @ detail(second).T


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest training image of every image of a group.

    Attributes:
        distance: (N,) to the nearest training image, in features.
        by_distance: (N,) its index.
        likeness: (N,) correlation with the most similar training image, by pixels.
        by_likeness: (N,) its index.
    """

    distance: np.ndarray
    by_distance: np.ndarray
    likeness: np.ndarray
    by_likeness: np.ndarray


@dataclass(frozen=True, slots=True)
class Privacy:
    """What the check found.

    Attributes:
        generated: of the synthetic images.
        real: of the held-out real images, the yardstick.
        suspicious: (N,) bool, synthetic images that are nearer to training than every held-out image.
    """

    generated: Nearest
    real: Nearest
    suspicious: np.ndarray


def nearest(part: Group, train: Group, net: FeatureNet) -> Nearest:
    """The nearest training images."""
    apart = distances(part.features(net), train.features(net))
    alike = correlation(part.images, train.images)
    return Nearest(apart.min(axis=1), apart.argmin(axis=1), alike.max(axis=1), alike.argmax(axis=1))


def check_privacy(generated: Group, held_out: Group, train: Group, net: FeatureNet) -> Privacy:
    """Compare synthetic images with the training images, calibrated on held-out real ones."""
    ours, theirs = nearest(generated, train, net), nearest(held_out, train, net)
    return Privacy(ours, theirs, (ours.distance < theirs.distance.min()) | (ours.likeness > theirs.likeness.max()))


def memorisation(found: Privacy, generated: Group, train: Group) -> list[Record]:
    """Nearest training image of synthetic and of held-out real images, and the share of suspicious ones."""
    records = []
    for label, part in ((generated.name, found.generated), ("real", found.real)):
        where, n = ("images", label, train.name), len(part.distance)
        closest, most = float(part.distance.min()), float(part.likeness.max())
        for metric, figures in (
            ("nearest_train_distance", bootstrap(part.distance)),
            ("least_train_distance", (closest, closest, closest)),
            ("nearest_train_correlation", bootstrap(part.likeness)),
            ("highest_train_correlation", (most, most, most)),
        ):
            records.append(record(*where, metric, figures, n, "copies"))
    share = bootstrap(found.suspicious.astype(float))
    records.append(
        record("images", generated.name, train.name, "suspicious_share", share, len(found.suspicious), "copies")
    )
    return records
